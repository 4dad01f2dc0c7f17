"""Completing a plan: its missing runs are made, and what each adds to the exported tables is
appended at once.

complete(plan, folder=folder)
"""

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
    tables = _Tables(folder, plan, records) if folder is not None else None
    with Runs(title, [run.kind for run in missing]) as shown, engines.Pools() as closing:

        def keep(run: Run) -> None:
            now = store.snapshot()
            if tables is not None:
                tables.keep(run, now)
            shown.done(run.kind, (now.result(run) or {"seconds": 0.0})["seconds"])

        engines.complete(missing, store, plan.machine, (pools or closing).of(plan.machine), keep)


@dataclass
class _Tables:
    """The exported tables in a folder, to which finished runs of a plan add: weights that were
    exported before, and the runs whose origins are `listed`."""

    folder: Path
    plan: Plan
    records: Mapping[str, Sequence[conflicts.Record]]
    listed: set[str] = field(default_factory=set)

    def keep(self, run: Run, store: Store) -> None:
        """Append what a run completes: rows, their origins and curves. Raises StudyError for
        weights other than those exported before."""
        conflicts.check_run(run, store, self.records.get(run.planned, []), self.folder)
        part = self._part(run, store)
        added = {"rows.parquet": rows.rows(part, store)} if part.asked else {}
        added |= {"learning.csv": curves.curves(part, store)} if part.trained else {}
        new = [each for each in part.runs if each.planned not in self.listed]
        kept = {"runs": origins.origins(part, store, runs=new)} if new else {}
        added |= {f"{name}.csv": table for name, table in exports.timed(kept).items()}
        if added:
            exports.append(self.folder, run.planned, added)
            self.listed |= {each.planned for each in new}

    def _part(self, run: Run, store: Store) -> Plan:
        """The part of the plan that a run completes: the model that it trains, and the answers that
        have rows by it, as far as these are there."""
        trained = [pair for pair in self.plan.trained if pair[0].planned == run.planned]
        asked = [
            each
            for each in self.plan.asked
            if run.planned in {need.planned for need in (each.answers, each.loyalty) if need}
            and rows.is_answered(each, store)
        ]
        return replace(self.plan, trained=trained, asked=asked, costs=[])
