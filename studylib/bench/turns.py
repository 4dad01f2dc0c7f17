"""Contestants that take turns at the same work, each by the setting that is fastest for it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any

from studylib.bench.baselines import Setting, System, Took
from studylib.bench.contestant import Contestant, Failure, Make
from studylib.data.prompts import Prompt
from studylib.models.parts import Precision

OURS = "ours"


class Turns(ExitStack):
    """Contestants by name, ours among them: it must not fail, of the others `failures` says why
    they did."""

    def __init__(self, title: str, makes: Mapping[str, Make], folder: Path, limit: float):
        super().__init__()
        self.title, self.settings = title, dict[str, Setting]()
        (folder / title).mkdir()
        self.contestants = {
            name: self.enter_context(Contestant(make, folder / title / name, limit))
            for name, make in makes.items()
        }

    @property
    def failures(self) -> dict[str, str]:
        """Why contestants can go on no more, by name."""
        every = self.contestants.items()
        return {name: contestant.failure for name, contestant in every if contestant.failure}

    def ours(self, work: Callable[..., Any], *given: Any) -> Any:
        """`work(system, *given)` for ours. Raises Failure where it cannot."""
        return self.contestants[OURS].call(work, *given)

    def each(self, work: Callable[..., Any], *given: Any) -> dict[str, Any]:
        """The same for all that can, one after the other. Raises Failure for ours."""
        done = {}
        for name, contestant in self.contestants.items():
            try:
                done[name] = contestant.call(work, *given)
            except Failure:
                if name == OURS:
                    raise
        return done

    def tune(self, prompts: Sequence[Prompt], precisions: Sequence[Precision], rows: int) -> None:
        """Warm up, and leave each with the fastest of its settings: of these precisions, and of the
        first `rows` of its numbers of rows at a time. Raises Failure for ours."""
        self.each(_run, prompts)  # the very first step is slow by any setting
        self.settings = self.each(_tune, prompts, precisions, rows)

    def rounds(self, chosen: Sequence[Sequence[Prompt]], say: Callable[[str], None]) -> dict:
        """Seconds of each round's work by contestant, and of what it is prepared by; whose answers
        are ours, as a share of all; the questions of each round. Raises Failure for ours."""
        every = [self._round(number, prompts, say) for number, prompts in enumerate(chosen, 1)]
        kept = [name for name in self.contestants if name not in self.failures]
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

    def _round(
        self, number: int, prompts: Sequence[Prompt], say: Callable[[str], None]
    ) -> dict[str, Took]:
        done = self.each(_run, prompts)
        took = ", ".join(f"{name} {took.seconds:.2f}" for name, took in done.items())
        say(f"Round {number} of {self.title}: {questions(prompts)} questions; seconds: {took}")
        return done


def questions(prompts: Sequence[Prompt]) -> int:
    """How many questions these contexts have."""
    return sum(len(prompt.branches) for prompt in prompts)


def _same(answers: Sequence[str], others: Sequence[str]) -> int:
    return sum(first == second for first, second in zip(answers, others, strict=True))


def _run(system: System, prompts: Sequence[Prompt]) -> Took:
    return system.run(prompts)


def _tune(
    system: System, prompts: Sequence[Prompt], precisions: Sequence[Precision], rows: int
) -> Setting:
    """Leave the system with its fastest setting, and return that."""
    settings, seconds = [Setting(*pair) for pair in product(precisions, system.rows[:rows])], []
    for system.setting in settings:
        seconds.append(system.run(prompts).seconds if len(settings) > 1 else 0.0)
    system.setting = settings[seconds.index(min(seconds))]
    return system.setting
