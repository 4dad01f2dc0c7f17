"""Completing a plan: its missing runs are made, and what each adds to the exported tables is
appended at once.

complete(plan, folder=folder)
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from studylib.app import conflicts, curves, origins, rows
from studylib.core.progress import Runs
from studylib.engines import engines
from studylib.experiments.plans import Plan
from studylib.runs import inputs
from studylib.store import exports
from studylib.store.run import Run
from studylib.store.store import Store


def complete(
    plan: Plan,
    store: Store | None = None,
    folder: Path | None = None,
    pools: engines.Pools | None = None,
) -> None:
    """Make whatever runs of the plan are missing, by the plan's engine, which is left again unless
    it is of `pools`; what a run adds to the exported tables is appended to `folder` as soon as it
    is done. Raises StudyError where the exported tables are of other weights or of another plan,
    and, when all else is done, for runs that failed."""
    store = store or Store()
    records = conflicts.check_weights(plan, store, folder)
    engines.check(plan.machine)
    conflicts.check_plan(pd.DataFrame([asked.called for asked in plan.asked]), folder)
    missing = [run for run in plan.runs if store.result(run) is None]
    inputs.rehearse(missing)
    if not missing:
        return
    store.open()
    title = f"{folder.name} ({folder.parent.name})" if folder is not None else "all"
    tables = _Tables(folder, _by_run(plan), records) if folder is not None else None
    with Runs(title, [run.kind for run in missing]) as shown, engines.Pools() as closing:

        def keep(run: Run) -> None:
            now = store.snapshot()
            if tables is not None:
                tables.keep(run, now)
            shown.done(run.kind, (now.result(run) or {"seconds": 0.0})["seconds"])

        engines.complete(missing, store, plan.machine, (pools or closing).of(plan.machine), keep)


def _by_run(plan: Plan) -> dict[str, Plan]:
    """By what was planned, the part of the plan that a run completes: the model that it trains, the
    answers that have rows by it."""
    parts: dict[str, Plan] = defaultdict(lambda: replace(plan, trained=[], asked=[], costs=[]))
    for pair in plan.trained:
        parts[pair[0].planned].trained.append(pair)
    for asked in plan.asked:
        for run in filter(None, (asked.answers, asked.loyalty)):
            parts[run.planned].asked.append(asked)
    return parts


@dataclass
class _Tables:
    """The exported tables in a folder, to which finished runs add: the part of the plan that each
    run completes, weights that were exported before, and the runs whose origins are `listed`."""

    folder: Path
    parts: Mapping[str, Plan]
    records: Mapping[str, Sequence[conflicts.Record]]
    listed: set[str] = field(default_factory=set)

    def keep(self, run: Run, store: Store) -> None:
        """Append rows, their origins and curves that a run completes, as far as they are there.
        Raises StudyError for weights other than those exported before."""
        conflicts.check_run(run, store, self.records.get(run.planned, []), self.folder)
        part = self.parts[run.planned]
        answered = replace(
            part, asked=[asked for asked in part.asked if rows.is_answered(asked, store)]
        )
        added = {"rows.parquet": rows.rows(answered, store)} if answered.asked else {}
        added |= {"learning.csv": curves.curves(part, store)} if part.trained else {}
        new = [each for each in answered.runs if each.planned not in self.listed]
        kept = {"runs": origins.origins(answered, store, runs=new)} if new else {}
        added |= {f"{name}.csv": table for name, table in exports.timed(kept).items()}
        if added:
            exports.append(self.folder, run.planned, added)
            self.listed |= {each.planned for each in new}
