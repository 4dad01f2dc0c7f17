"""The kinds of run. Each is a file: how it is planned, made, and what it takes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from studylib.core import parallel
from studylib.core.progress import Progress
from studylib.runs import (
    answers,
    cost,
    cut,
    examples,
    layers,
    loyalty,
    lr_search,
    states,
    student,
    teacher,
    vocabulary,
)
from studylib.runs.budget import Budget, Took
from studylib.store.run import Run
from studylib.store.store import Store


class Kind(Protocol):
    """What a kind's file has, beside its plan."""

    def build(self, run: Run, folder: Path, store: Store, bar: Progress) -> dict:
        """Make the run into its folder, and return facts about it."""

    def cost(self, work: Budget, run: Run) -> Took:
        """What making it takes."""


KINDS: Mapping[str, Kind] = {
    "teacher": teacher,
    "states": states,
    "layers": layers,
    "vocabulary": vocabulary,
    "cut": cut,
    "examples": examples,
    "lr_search": lr_search,
    "student": student,
    "answers": answers,
    "loyalty": loyalty,
    "cost": cost,
}


def make(store: Store, progress: Progress) -> Callable[[Run, Path], dict]:
    """The function that makes any run, for `Store.complete`."""

    def maker(run: Run, folder: Path) -> dict:
        with progress.run(run.label) as bar:
            facts = KINDS[run.kind].build(run, folder, store, bar)
        parallel.give_back()  # what this run has left is not the next one's
        return facts

    return maker


def took(work: Budget, run: Run) -> Took:
    """What a run takes. Raises StudyError for a model whose size is not known before it is
    fetched."""
    return KINDS[run.kind].cost(work, run)
