"""Results that must not stand beside one another: of other weights, or of another plan.

check_weights(plan, store, folder)
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from studylib.core import versions
from studylib.core.errors import StudyError
from studylib.experiments.plans import Plan
from studylib.store import exports
from studylib.store.exports import IDENTITY
from studylib.store.run import Run
from studylib.store.store import Store

TRAINED_KINDS = ("teacher", "student")


# What was exported of a run: the digest of what it made, and the versions that made it.
Record = tuple[str, str]


def check_weights(plan: Plan, store: Store, folder: Path | None) -> dict[str, list[Record]]:
    """Raise StudyError if a trained model was exported with other weights than the store has, and
    by the same versions: its scores must not stand beside these. Returns the records of all that
    was exported to `folder` or to one that shares results with it, by what was planned."""
    records = defaultdict[str, list[Record]](list)
    if folder is None:
        return records
    for place in exports.sharing(folder):
        for table in exports.tables(place, "runs.csv"):
            for line in table.itertuples():
                records[line.planned].append((line.digest, getattr(line, "versions", "")))
    now = store.snapshot()
    for run, _ in plan.trained:
        check_run(run, now, records[run.planned], folder)
    return records


def check_run(run: Run, store: Store, records: Sequence[Record], folder: Path) -> None:
    """The same for one run, by the `records` of it."""
    result = store.result(run) if run.kind in TRAINED_KINDS else None
    if result is not None and any(
        digest != result["digest"]
        for digest, made_by in records
        if not versions.outdated(made_by, versions.written(run.versions))
    ):
        raise StudyError(
            f"{folder.parent} has results of another {run.label} than {store.folder(run)}, trained"
            " on another machine or by other versions, and the two must not be mixed: move that"
            " folder away, or have the runs elsewhere (STUDY_HOME)."
        )


def check_plan(asked: pd.DataFrame, folder: Path | None) -> None:
    """Raise StudyError where `folder` shows answers, and none of those that are `asked` for: all
    that it shows would go."""
    if folder is None or not (folder / "rows.parquet").exists():
        return
    # the language is known from the questions only
    names = [name for name in IDENTITY if name in asked and name != "language"]
    shown, planned = (
        set(table[names].drop_duplicates().itertuples(index=False, name=None))
        for table in (exports.read(folder / "rows.parquet", names), asked)
    )
    if shown and not shown & planned:
        raise StudyError(
            f"{folder} shows other models and test sets, none of those of this plan: give the plan"
            " a `profile` of its own."
        )
