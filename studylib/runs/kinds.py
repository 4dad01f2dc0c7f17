"""The kinds of run, planned: for each a function that says what it builds on and all that matters to it.

Planning computes nothing; `makers` makes what is planned here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from studylib.core import sizes, versions
from studylib.data import sources
from studylib.methods import objectives
from studylib.models import loading
from studylib.store.run import Input, Run, ordered


def dataset(label: str, description: Mapping) -> Input:
    """A data set as something to build on."""
    digest = sources.fingerprint(description)  # refuses what is no description
    return Input(label, dict(description), digest, sources.identity(description), sources.recipe(description))


def raw_model(reference: str) -> Input:
    """A model from outside as something to build on."""
    return Input(reference, reference, loading.fingerprint(reference))


@dataclass(frozen=True)
class Setting:
    """What all runs of one seed share: data, prompting in training, the seed, and how a training is batched and watched."""

    train: Input
    dev: Input
    trained: str
    seed: int
    packs: int
    micro: int
    precision: str
    evaluations: int
    answer_precision: str = "fp32"

    def recipe(self, stages: Sequence[Mapping], rate: float, learn: str = "gold") -> dict:
        """The parameters of a training, as its key holds them."""
        batching = {"packs": self.packs, "micro": self.micro, "precision": self.precision, "evaluations": self.evaluations}
        return {"trained": self.trained, "learn": learn, "stages": list(stages), "rate": rate, "seed": self.seed, **batching}


def teacher(raw: Input, setting: Setting, *, steps: int, rate: float, rank: int = 0, label: str) -> Run:
    """The raw model, tuned on gold answers: all of its weights, or low-rank adapters of this `rank`."""
    needs = {"raw": raw, "train": setting.train, "dev": setting.dev}
    recipe = _recipes(setting.trained, "objectives", "training", *(["lora"] if rank else []))
    parameters = setting.recipe(objectives.gold(steps), rate) | ({"lora": rank} if rank else {})
    return Run("teacher", parameters, needs, recipe, f"{label} teacher")


def loyalty(own: Run, teachers: Run, *, label: str) -> Run:
    """How near a student's next-token distributions are to its teacher's at the gold answers of a test set, from both models' `answers`."""
    recipe = _recipes(own.parameters["asked"], "answering", "scoring")
    return Run("loyalty", own.parameters, {"own": own, "teacher's": teachers}, recipe, label)


def cost(asked_model: Run, teacher: Run, dev: Input, pool: Input, *, asked: str, seed: int, precision: str, label: str) -> Run:
    """What a student's answers cost in time, memory and disk beside its teacher's: a few contexts of dev, answered by both in turns."""
    parameters = _asking(asked, seed, precision) | {"contexts": 8, "rounds": 7}
    needs = {"model": asked_model, "teacher": teacher, "test": dev, "pool": pool}
    return Run("cost", parameters, needs, _recipes(asked, "answering"), label)


def layers(taught_by: Run, setting: Setting, *, packs: int, label: str) -> Run:
    """The order in which the teacher's layers can go, down to one, by the answer loss on `packs` rows without them."""
    parameters = {"trained": setting.trained, "seed": setting.seed, "packs": packs}
    needs = {"teacher": taught_by, "train": setting.train}
    return Run("layers", parameters, needs, _recipes(setting.trained, "cutting", "objectives"), f"{label} layer choice")


@dataclass(frozen=True)
class Lesson:
    """What students can learn from one model: its answers and its states on the training questions, asked in the way `prompted`."""

    teacher: Run | Input
    setting: Setting
    prompted: str
    label: str
    kept: dict[str, Run] = field(default_factory=dict)

    def said(self) -> Run:
        """The teacher's answers to the training questions."""
        train, seed, precision = self.setting.train, self.setting.seed, self.setting.answer_precision
        how: dict[str, Any] = dict(asked=self.prompted, seed=seed, precision=precision)
        return self._once("said", lambda label: answers(self.teacher, train, train, **how, label=label))

    def states(self, tokens: str, learn: str) -> Run:
        """The teacher's hidden states on the training rows, at answer positions or at all."""
        parameters = {"trained": self.prompted, "seed": self.setting.seed, "precision": self.setting.precision}
        parameters |= {"tokens": tokens, "learn": learn}
        needs = {"teacher": self.teacher, "train": self.setting.train, **self.text(learn)}
        recipe = _recipes(self.prompted, "teaching", "scoring")  # which says where the teacher is right
        return self._once(f"states at {tokens} tokens, {learn}", lambda label: Run("states", parameters, needs, recipe, label))

    def text(self, learn: str) -> dict[str, Run]:
        """What a run needs besides the training questions to know the text to learn."""
        return {} if learn == "gold" else {"said": self.said()}

    def _once(self, name: str, make: Callable[[str], Run]) -> Run:
        if name not in self.kept:
            self.kept[name] = make(f"{self.label} {name}")
        return self.kept[name]


def cut(start: Run | Input, order: Run, setting: Setting, *, size: sizes.Size, packs: int, label: str) -> Run:
    """`start` cut to `size`, layers going in the `order` that was found on a tuned teacher, and healed on `packs` training rows: the
    raw model, that teacher, or a student that was cut and trained before; this one is healed to the hidden states of the teacher."""
    parameters = {
        "depth": size.layers,
        "neurons": size.neurons,
        "packs": packs,
        "trained": setting.trained,
        "seed": setting.seed,
        "precision": setting.precision,
    }
    needs = {"start": start, "layers": order, "train": setting.train}
    if isinstance(start, Run) and start.kind == "student":
        needs["healed_to"] = order.needs["teacher"]
    return Run("cut", parameters, needs, _recipes(setting.trained, "cutting"), label)


def student(
    start: Run | Input,
    lessons: Sequence[Lesson],
    setting: Setting,
    *,
    stages: Sequence[Mapping],
    learn: str,
    rates: Sequence[float],
    search_steps: int,
    label: str,
) -> Run:
    """`start` (a cut model, or a smaller one from outside) trained through `stages` on the text `learn`; if there are several rates, at the one that a search finds best.

    The text is that of the first lesson; of several, the mean of the teachers' probabilities is learnt.
    """
    parsed = objectives.parse(stages)
    needs = {"start": start, "train": setting.train, "dev": setting.dev, **(lessons[0].text(learn) if lessons else {})}
    for number, lesson in enumerate(lessons, start=1):
        which = f" {number}" if number > 1 else ""
        if any(stage.uses_teacher for stage in parsed):
            needs[f"teacher{which}"] = lesson.teacher
        if tokens := objectives.stored(parsed):
            needs[f"states{which}"] = lesson.states(tokens, learn)
    cut_to = {"depth": start.parameters["depth"]} if isinstance(start, Run) else {}
    parameters = cut_to | setting.recipe(stages, rates[0], learn)
    recipe = _recipes(setting.trained, "cutting", "divergences", "features", "objectives", "teaching", "training", "scoring")
    if any(term.name == "taid" for stage in parsed for term in stage.terms):
        recipe |= versions.of("taid")
    if len(rates) > 1:
        tried = parameters | {"rate": list(rates), "search_steps": search_steps}
        del tried["evaluations"]  # a search is not watched
        needs, parameters["rate"] = needs | {"rate": Run("rate", tried, needs, recipe, f"{label}, rate")}, "searched"
    return Run("student", parameters, needs, recipe, label)


def answers(asked_model: Run | Input, test: Input, pool: Input, *, asked: str, seed: int, precision: str, label: str) -> Run:
    """A model's answers to all questions of a test set, and its hidden states at the gold ones. `pool` serves the demonstration."""
    return Run(
        "answers", _asking(asked, seed, precision), {"model": asked_model, "test": test, "pool": pool}, _recipes(asked, "answering"), label
    )


def _asking(mode: str, seed: int, precision: str) -> dict:
    """How a model is asked; float32 is left out, so that keys from before there was another precision stay."""
    return {"asked": mode, "seed": seed} | ({"precision": precision} if precision != "fp32" else {})


def objective_title(stages: Sequence[Mapping], learn: str = "gold") -> str:
    """An objective's name in tables: its losses, and the text to learn unless that is gold."""
    return objectives.title(objectives.parse(stages)) + ("" if learn == "gold" else f" on text of: {learn}")


def _recipes(mode: str, *names: str) -> dict[str, int]:
    """The versions of what makes a run that is prompted so: prompts, models, its kind, and what is named.

    Answering and scoring are no part of a training: the F1 on dev along the way decides nothing.
    """
    finding = ("scoring",) if mode.endswith("retrieved") else ()  # it splits the words by which a demonstration is found
    return versions.of("kinds", "sources", "prompts", "packing", "models", *finding, *names)


RIGHT = "teacher where right"
WITHHELD = "gold, teacher where withheld"
LEARN = ("gold", "teacher", RIGHT, WITHHELD)


def raw_of(run: Run) -> Input:
    """The model from outside that a run goes back to: a student to what it began as, not to what taught it."""
    need = next(run.needs[name] for name in ("raw", "start", "model", "own", "teacher") if name in run.needs)
    return need if isinstance(need, Input) else raw_of(need)


def rate(run: Run, result: Mapping | None = None) -> float:
    """The learning rate of a run: as planned, or as its search chose; missing where that is not known."""
    planned = run.parameters.get("rate")
    if isinstance(planned, float):
        return planned
    return result["facts"].get("rate", np.nan) if result is not None else np.nan


def each_run(runs: Iterable[Run]) -> list[Run]:
    """All runs that these build on and these themselves, each once, in an order in which they can be made."""
    seen: dict[str, Run] = {}
    for run in ordered(runs):
        seen.setdefault(run.planned, run)
    return list(seen.values())
