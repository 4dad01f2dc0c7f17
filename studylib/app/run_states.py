"""Which runs of a plan are done, exported, missing or failed.

overview(plan)
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from studylib.app import origins, rows
from studylib.experiments.plans import Plan
from studylib.store import exports
from studylib.store.run import Run, ordered
from studylib.store.store import Store


def overview(plan: Plan, store: Store | None = None) -> pd.DataFrame:
    """Every run of the plan: kind, what it is, whether it is done, and its key once that is
    known."""
    store = (store or Store()).snapshot()
    return pd.DataFrame(
        {
            "kind": run.kind,
            "run": run.label,
            "state": store.state(run)[0],
            "key": store.key(run) or "",
        }
        for run in plan.runs
    )


def states(plan: Plan, folder: Path, store: Store) -> list[tuple[Run, str, str]]:
    """Every run of the plan with its state and why (`Store.state`), or `exported` if the store does
    not have it and `folder` shows what came of it, with the versions that it was made with if they
    are not today's."""
    store, exported = store.snapshot(), exports.records(folder, "runs.csv")
    stored = [(run, *store.state(run)) for run in plan.runs]
    return [
        (run, "exported", origins.change(run, exported[run.planned]))
        if state == "missing" and run.planned in exported
        else (run, state, why)
        for run, state, why in stored
    ]


def to_compute(states: Sequence[tuple[Run, str, str]]) -> list[Run]:
    """Of all runs of a plan (`states`) those that are neither done nor exported, and what these
    need, exported or not, that is not done."""
    done = {run.planned for run, state, _ in states if state == "done"}
    missing = [run for run, state, _ in states if state not in ("done", "exported")]
    needed = ordered(missing, skip=lambda run: run.planned in done)
    return list({run.planned: run for run in needed}.values())


def lacking(folder: Path) -> bool:
    """Whether there are rows in `folder` of runs that the store does not have: they come from
    another machine, or the store is gone."""
    return not all(
        (Store().root / "answers" / key / "result.json").exists()
        for table in exports.tables(folder, "rows.parquet", ["run"])
        for key in table.run.unique()
    )


def superseded(plan: Plan, folder: Path) -> bool:
    """Whether rows in `folder` or beside it are of versions that are not today's, and the store has
    no newer ones."""
    return any(state == "exported" and why for _, state, why in states(plan, folder, Store()))


def showable(plan: Plan, folder: Path) -> bool:
    """Whether there are any rows to show, in the store or in `folder`."""
    store, exported = Store().snapshot(), exports.exported(folder, "rows.parquet")
    return any(asked.planned in exported or rows.is_answered(asked, store) for asked in plan.asked)
