"""What the plans of all kinds of run share: inputs, the setting of a seed, versions, and how a run
is named."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from studylib.core import versions
from studylib.data import sources
from studylib.models import loading
from studylib.store.run import Input, Run, ordered


def dataset(label: str, description: Mapping) -> Input:
    """A data set as something to build on."""
    digest = sources.fingerprint(description)  # refuses what is no description
    return Input(
        label, dict(description), digest, sources.identity(description), sources.recipe(description)
    )


def labelled(train: Input) -> Input:
    """A training set without the data sets that are unlabelled, of which no gold answer is
    known."""
    if not sources.unlabelled(train.value):
        return train
    known = {key: value for key, value in train.value.items() if key != "unlabelled"}
    return dataset(train.label, known)


def base_model(reference: str) -> Input:
    """A model from outside as something to build on."""
    return Input(reference, reference, loading.fingerprint(reference))


@dataclass(frozen=True)
class Setting:
    """What all runs of one seed share: data, prompting in training, the seed, and how a training is
    batched and watched."""

    train: Input
    dev: Input
    train_prompt: str
    seed: int
    batch_size: int
    micro_batch_size: int
    precision: str
    num_evals: int
    answer_precision: str = "fp32"

    def questions(self, targets: str = "gold") -> Input:
        """The training set that is read for this text: without what is unlabelled, unless the
        teacher's answers are learnt, too."""
        return self.train if targets in ANSWERED else self.labelled

    @cached_property
    def labelled(self) -> Input:
        """The training set without what is unlabelled."""
        return labelled(self.train)

    def recipe(self, stages: Sequence[Mapping], lr: float, targets: str = "gold") -> dict:
        """The parameters of a training, as its key holds them."""
        return {
            "train_prompt": self.train_prompt,
            "targets": targets,
            "stages": list(stages),
            "lr": lr,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "micro_batch_size": self.micro_batch_size,
            "precision": self.precision,
            "num_evals": self.num_evals,
        }


def asking(mode: str, seed: int, precision: str) -> dict:
    """How a model is asked; float32 is left out, so that keys from before there was another
    precision stay."""
    return {"eval_prompt": mode, "seed": seed} | (
        {"precision": precision} if precision != "fp32" else {}
    )


def mode_of(run: Run) -> str:
    """The way of prompting in which a run asks or trains."""
    return run.parameters.get("eval_prompt") or run.parameters["train_prompt"]


def versions_of(mode: str, *names: str) -> dict[str, int]:
    """The versions of what makes a run that is prompted so: prompts, models, its kind, and what is
    named.

    Answering and scoring are no part of a training: the F1 on dev along the way decides nothing.
    """
    # it splits the words by which a demonstration is found
    finding = ("scoring",) if mode.endswith("retrieved") else ()
    return versions.of("kinds", "sources", "prompts", "packing", "models", *finding, *names)


# The text to learn.
Targets = Literal["gold", "sequence_kd", "filtered", "gold, sequence_kd where withheld"]
_, SEQUENCE_KD, FILTERED, WITHHELD = get_args(Targets)
ANSWERED = (SEQUENCE_KD, WITHHELD)  # by which the teacher's answers are learnt


def base_of(run: Run | Input) -> Input:
    """The model from outside that a run goes back to: a student to what it began as, not to what
    taught it."""
    if isinstance(run, Input):
        return run
    leading = ("base", "init", "model", "student", "teacher")
    return base_of(next(run.needs[name] for name in leading if name in run.needs))


def vocabulary_of(run: Run | Input) -> Run | None:
    """The run that trimmed the vocabulary of a model, if one did."""
    if isinstance(run, Input):
        return None
    trimmed = run.needs.get("vocabulary")
    return trimmed or next(
        (vocabulary_of(run.needs[name]) for name in ("init", "model") if name in run.needs), None
    )


def learning_rate(run: Run, result: Mapping | None = None) -> float:
    """The learning rate of a run: as planned, or as its search chose; missing where that is not
    known."""
    planned = run.parameters.get("lr")
    if isinstance(planned, float):
        return planned
    return result["facts"].get("rate", np.nan) if result is not None else np.nan


def each_run(runs: Iterable[Run]) -> list[Run]:
    """All runs that these build on and these themselves, each once, in an order in which they can
    be made."""
    seen: dict[str, Run] = {}
    for run in ordered(runs):
        seen.setdefault(run.planned, run)
    return list(seen.values())
