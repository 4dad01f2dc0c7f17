"""Systems that take turns at the same work, each by the setting that is fastest for it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any

from studylib.bench.baselines import Setting, System, Timed
from studylib.bench.process import Failure, Make, SystemProcess
from studylib.bench.table import OURS
from studylib.data.prompts import Prompt
from studylib.models.precision import Precision

Say = Callable[[str], None]


class Turns(ExitStack):
    """The processes of systems by name, ours among them: it must not fail; of the others `failures`
    says why they did."""

    def __init__(self, title: str, makes: Mapping[str, Make], folder: Path, limit: float, say: Say):
        super().__init__()
        self.title, self.say, self.settings = title, say, dict[str, Setting]()
        self.named: set[str] = set()  # of those that failed
        (folder / title).mkdir()
        self.processes = {
            name: self.enter_context(SystemProcess(make, folder / title / name, limit))
            for name, make in makes.items()
        }

    @property
    def failures(self) -> dict[str, str]:
        """Why systems can go on no more, by name."""
        every = self.processes.items()
        return {name: process.failure for name, process in every if process.failure}

    def ours(self, work: Callable[..., Any], *given: Any) -> Any:
        """`work(system, *given)` for ours. Raises Failure where it cannot."""
        return self.processes[OURS].call(work, *given)

    def each(self, work: Callable[..., Any], *given: Any) -> dict[str, Any]:
        """The same for all that can, one after the other. Raises Failure for ours."""
        done = {}
        for name, process in self.processes.items():
            try:
                done[name] = process.call(work, *given)
            except Failure as failure:
                if name == OURS:
                    raise
                if name not in self.named:
                    self.say(f"{name} failed: {failure}.")
                    self.named.add(name)
        return done

    def tune(self, prompts: Sequence[Prompt], precisions: Sequence[Precision], rows: int) -> None:
        """Warm up, and leave each with the fastest of its settings: of these precisions, and of the
        first `rows` of its numbers of rows at a time. Raises Failure for ours."""
        self.settings = self.each(_tune, prompts, precisions, rows)

    def rounds(self, chosen: Sequence[Sequence[Prompt]]) -> dict:
        """Seconds of each round's work by system, and of what it is prepared by; whose answers
        are ours, as a share of all; the questions of each round. Raises Failure for ours."""
        every = [self._round(number, prompts) for number, prompts in enumerate(chosen, 1)]
        kept = [name for name in self.processes if name not in self.failures]
        counts = [questions(prompts) for prompts in chosen]
        return {
            "questions": counts,
            "settings": {name: str(self.settings[name]) for name in kept},
            "prepared": {name: [took[name].prepared for took in every] for name in kept},
            "seconds": {name: [took[name].seconds for took in every] for name in kept},
            "same": {
                name: sum(_same(took[name].result, took[OURS].result) for took in every)
                / sum(counts)
                for name in kept
                if isinstance(every[0][name].result, list)
            },
        }

    def _round(self, number: int, prompts: Sequence[Prompt]) -> dict[str, Timed]:
        done = self.each(_run, prompts)
        took = ", ".join(f"{name} {took.seconds:.2f}" for name, took in done.items())
        self.say(f"Round {number} of {self.title}: {questions(prompts)} questions; seconds: {took}")
        return done


def questions(prompts: Sequence[Prompt]) -> int:
    """How many questions these contexts have."""
    return sum(len(prompt.branches) for prompt in prompts)


def _same(answers: Sequence[str], others: Sequence[str]) -> int:
    return sum(first == second for first, second in zip(answers, others, strict=True))


def _run(system: System, prompts: Sequence[Prompt]) -> Timed:
    return system.run(prompts)


def _tune(
    system: System, prompts: Sequence[Prompt], precisions: Sequence[Precision], rows: int
) -> Setting:
    """Leave the system with its fastest setting, and return that; one by which it fails is left
    out. Raises the error of the last one where it fails by all."""
    settings = [Setting(*pair) for pair in product(precisions, system.rows[:rows])]
    seconds, failed = dict[Setting, float](), Exception()
    # the very first step is slow by any setting: by the one that needs the least memory it is made
    for system.setting in (settings[-1], *(settings if len(settings) > 1 else ())):
        try:
            seconds[system.setting] = system.run(prompts).seconds
        except Exception as error:  # out of memory, which is of any library's kind
            failed = error
    if not seconds:
        raise failed
    system.setting = min(seconds, key=seconds.__getitem__)
    return system.setting
