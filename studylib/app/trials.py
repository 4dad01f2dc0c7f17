"""Making the trials of a search: what is missing of their runs, by the engine, some trials at once.

with Trials(search, "search hinton (tiny)", batch=2) as trials:
    outcomes = trials([search.trial(chosen)], first=0)

What the store has is only read: so a search that was stopped goes on where it was.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from time import monotonic

from studylib.app import batch, time_budget
from studylib.core.errors import StudyError
from studylib.core.filesystem import NoRoom
from studylib.core.machine import Machine
from studylib.core.progress import Runs, say
from studylib.engines import clusters, engines
from studylib.experiments import search as planned
from studylib.experiments.plans import Plan
from studylib.experiments.search import TRIAL_KINDS, Score, Search, Trial
from studylib.runs import inputs, plan_parts
from studylib.store.run import Run
from studylib.store.store import Store, failure

TRANSIENT = (NoRoom.__name__, engines.EngineFailure.__name__)  # failures that are not a trial's own


@dataclass(frozen=True)
class Outcome:
    """A trial with its score, or why it has none."""

    number: int
    trial: Trial
    score: Score | None
    why: str = ""


class Trials(ExitStack):
    """Makes trials. The engine, and what is shown of it, begin with the first run that is missing;
    `batch` trials are made at once, on this machine by as many workers."""

    def __init__(self, search: Search, title: str, batch: int):
        super().__init__()
        self.search, self.title, self.store = search, title, Store()
        self.machine = _at_once(search.experiment.machine, batch)
        self.shown: Runs | None = None

    def __call__(
        self, trials: Sequence[Trial], *, first: int, later: int = 0, fresh: int = 0
    ) -> list[Outcome]:
        """The outcomes of these trials, numbered from `first`, in their order. `later` trials come
        after them, some with `fresh` seeds. Raises StudyError for failures that are not a trial's
        own: of what all share, of the machine."""
        started = monotonic()
        runs = plan_parts.each_run(run for trial in trials for run in trial.runs)
        store = self.store.snapshot()
        hopeless = {run.planned for run in runs if self.failed(run)}
        missing = [
            run
            for run in runs
            if store.result(run) is None
            and not any(need.planned in hopeless for need in run.ancestry())
        ]
        if missing:
            self._make(trials, missing, later, fresh)
        if self.shown is not None:
            for _ in trials:
                self.shown.done("trial", (monotonic() - started) / len(trials))
        return [
            Outcome(
                number,
                trial,
                planned.score(trial, self.store),
                trial.refused or self._excuse(trial.runs),
            )
            for number, trial in enumerate(trials, first)
        ]

    def _make(self, trials: Sequence[Trial], missing: list[Run], later: int, fresh: int) -> None:
        if self.shown is None:
            for line in batch.needed(self._plan(trials), missing, missing):
                say(line)
            say(time_budget.sentence(self._seconds(trials, missing, later, fresh)))
            self.store.open()
            self.pool = self.enter_context(engines.opened(self.machine))
            shown = Runs(self.title, ["trial"] * (len(trials) + later))
            self.shown = self.enter_context(shown)
        if any(run.kind not in TRIAL_KINDS for run in missing):
            inputs.rehearse(missing)  # trials differ in nothing that is prompted
        try:
            engines.complete(missing, self.store, self.machine, self.pool, lambda run: None)
        except StudyError:
            store = self.store.snapshot()
            if any(store.result(run) is None and not self._excuse([run]) for run in missing):
                raise

    def _plan(self, trials: Sequence[Trial]) -> Plan:
        return replace(self.search.plan(trials), machine=self.machine)

    def _seconds(
        self, trials: Sequence[Trial], missing: Sequence[Run], later: int, fresh: int
    ) -> float:
        """Expected seconds: for what is missing, for later trials, each as long as the defaults,
        and for what fresh seeds need beside."""
        defaults = self.search.trial(self.search.defaults)
        plan = self._plan([*trials, defaults])
        every = plan_parts.each_run(defaults.runs)
        return (
            time_budget.seconds(plan, missing)
            + later * time_budget.seconds(plan, [run for run in every if run.kind in TRIAL_KINDS])
            + fresh
            * time_budget.seconds(plan, [run for run in every if run.kind not in TRIAL_KINDS])
        )

    def failed(self, run: Run) -> str:
        """Why a run of a trial's own failed, as it would again: it diverged, its options do not fit
        the models, it takes too much memory. Nothing if it did not."""
        key = self.store.key(run) if run.kind in TRIAL_KINDS else None
        if key is None or self.store.result(run) is not None:
            return ""
        folder = self.store.folder(run)
        return "" if failure(folder, "type") in TRANSIENT else (failure(folder) or "")

    def _excuse(self, runs: Iterable[Run]) -> str:
        """Why not all of these runs are there, if one of them or of what they build on failed."""
        return next(filter(None, map(self.failed, plan_parts.each_run(runs))), "")


def _at_once(machine: Machine, batch: int) -> Machine:
    """The machine with a worker for each trial of a batch, or as many as it names; an engine
    elsewhere, or one of GPUs, decides by itself."""
    if machine.engine != "local" or clusters.on_cards(machine):
        return machine
    workers = min(batch, machine.engine_options.get("workers", batch))
    options = machine.engine_options | {"workers": workers}
    return Machine(**machine.model_dump() | {"engine_options": options})
