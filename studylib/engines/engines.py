"""Who computes the runs of a plan: this machine, a Ray cluster or Slurm, each behind the interface
of `concurrent.futures`.

with opened(machine) as pool:
    complete(runs, Store(), machine, pool, done=print)

An engine is told nothing but which run to make, and runs are the same whichever made them.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import parent_process
from pathlib import Path

from studylib.core.errors import StudyError, redacted
from studylib.core.filesystem import NoRoom
from studylib.core.libraries import torch
from studylib.core.machine import Machine
from studylib.core.progress import Progress, watched
from studylib.engines import distributed
from studylib.engines.clusters import EngineFailure, Ray, Slurm, on_cards
from studylib.engines.local import Here, Processes
from studylib.models import parts
from studylib.runs import budget, inputs, kinds
from studylib.store.run import Run
from studylib.store.store import Store

OPTIONS = {
    "local": {"workers"},
    "ray": {"address", "retries"},
    "slurm": None,
}  # of slurm all that submitit's `update_parameters` knows
MEMORY = ("MemoryError", "allocate memory", "out of memory")  # in what Python, torch and CUDA say
TRIES = 3  # of a run whose process died
# Ends of the names of submitit's options that a job's script would run, or take as they are,
# whatever cluster's they are.
COMMANDS = ("setup", "teardown", "srun_args", "additional_parameters")


@dataclass(frozen=True)
class Task:
    """One run to make, as a worker gets it: the same bits whatever engine it belongs to, in as many
    threads as the run is planned with."""

    run: Run
    root: Path
    machine: Machine

    def __call__(self) -> None:
        """Make the run in the store."""
        store = Store(self.root)
        if self.machine.processes > 1 and self.run.kind in distributed.SHARED:
            return distributed.complete(self.run, store, self.machine)
        inputs.prepare(self.machine)
        several = watched() and parent_process() is not None  # who would draw over one another
        store.complete(self.run, kinds.make(store, Progress(quiet=several)), self._needed)

    def _needed(self) -> float:
        """Bytes of disk that the run takes while it is made."""
        took = kinds.took(budget.SHARED, self.run)
        return took.disk + took.work


def check(machine: Machine) -> None:
    """Raise StudyError for an option that is unknown, and for an engine or a device that is not
    there."""
    known = OPTIONS[machine.engine]
    if known is not None and (unknown := sorted(set(machine.engine_options) - known)):
        raise StudyError(
            f"engine_options: {machine.engine} has no option {unknown[0]!r}: it knows"
            f" {', '.join(sorted(known))}."
        )
    _harmless(machine)
    for name, package in (("ray", "ray"), ("slurm", "submitit")):
        if machine.engine == name and find_spec(package) is None:
            raise StudyError(f"engine {name} needs {package}: pip install -e '.[{name}]'.")
    if machine.engine == "local":  # others may have what this machine has not
        parts.device(machine.device)
    workers = machine.engine_options.get("workers", 1)
    if machine.engine == "local" and (type(workers) is not int or workers < 1):
        raise StudyError(
            f"engine_options: workers must be a whole number of at least 1, not {workers!r}."
        )


def _harmless(machine: Machine) -> None:
    """Raise StudyError for options by which a file of parameters, which may be a stranger's, would
    run commands or choose who computes."""
    options = machine.engine_options
    if machine.engine == "ray" and options.get("address", "auto") != "auto":
        raise StudyError(
            "engine_options: address must be auto: set RAY_ADDRESS, in your own surroundings, to"
            " say which cluster that is."
        )
    for name, value in options.items() if machine.engine == "slurm" else ():
        if (
            name.endswith(COMMANDS)
            or not isinstance(value, str | int | float)
            or "\n" in f"{name}{value}"
        ):
            raise StudyError(
                f"engine_options: {name} must be a number or one line of text, and no command:"
                " Slurm's script would run it."
            )


@contextmanager
def opened(machine: Machine) -> Iterator[Executor]:
    """The engine, ready to be given work; afterwards it is left, and what is still going on there
    is stopped."""
    check(machine)
    begin: dict[str, Callable[..., Executor]] = {"local": _local, "ray": Ray, "slurm": Slurm}
    pool = begin[machine.engine](machine, **machine.engine_options)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class Pools(ExitStack):
    """The engine of the last machine that was asked for: notebooks whose machine is the same share
    its processes, which take seconds to begin."""

    machine: Machine | None = None

    def of(self, machine: Machine) -> Executor:
        """The engine of a machine; that of another one is left."""
        if machine != self.machine:
            self.leave()
            self.executor, self.machine = self.enter_context(opened(machine)), machine
        return self.executor

    def leave(self) -> None:
        """Leave the engine: whoever asks next has a new one."""
        self.machine = None
        self.close()


def _local(machine: Machine, workers: int | None = None) -> Executor:
    """As many processes as there are groups of GPUs, or as are asked for; one is this process."""
    count = torch.cuda.device_count() if on_cards(machine) else 0
    groups = [
        ",".join(map(str, range(first, first + machine.processes)))
        for first in range(0, count - machine.processes + 1, machine.processes)
    ]
    if workers and groups and workers > len(groups):  # the others would wait for a GPU for ever
        raise StudyError(
            f"engine_options: {workers} workers need as many groups of {machine.processes} GPUs:"
            f" there are {len(groups)}."
        )
    workers = workers or max(1, len(groups))
    return Here() if workers == 1 else Processes(workers, groups)


def complete(
    runs: Iterable[Run], store: Store, machine: Machine, pool: Executor, done: Callable[[Run], None]
) -> None:
    """Make the runs that are missing, each as soon as all that it needs is there; `done` is told of
    each, one after the other.

    A run that fails stops only those that need it; one whose process died is tried again. Raises
    StudyError at the end, naming what failed and why; at once where the disk is full.
    """
    missing = {run.planned: run for run in runs if store.result(run) is None}
    needs = {p: {need.planned for need in r.ancestry()} - {p} for p, r in missing.items()}
    going: dict[Future, Run] = {}
    failed: list[str] = []
    tried: Counter[str] = Counter()
    while missing or going:
        unfinished = missing.keys() | {run.planned for run in going.values()}
        for planned in [planned for planned in missing if not needs[planned] & unfinished]:
            run = missing.pop(planned)
            tried[planned] += 1
            going[pool.submit(Task(run, store.root.parent, machine))] = run
            if isinstance(pool, Here):
                break  # it is there already, and to be told
        for future in wait(going, return_when=FIRST_COMPLETED).done:
            run, error = going.pop(future), future.exception()
            if error is None:
                done(run)
            elif isinstance(error, NoRoom | EngineFailure):
                raise error  # no other run would fare better
            elif isinstance(error, BrokenProcessPool) and tried[run.planned] < TRIES:
                missing[run.planned] = run  # it may have been another one's process that died
            else:
                failed.append(f"{run.label} ({_reason(run, error, store)})")
                missing = {p: r for p, r in missing.items() if run.planned not in needs[p]}
    if failed:
        raise _failure(failed, len(needs) - len(tried))


def _failure(failed: Sequence[str], untried: int) -> StudyError:
    """The error that names what failed and why, and says how many runs were not tried."""
    waited = f"; {untried} runs that need {'it' if len(failed) == 1 else 'them'} were not tried"
    return StudyError(
        f"Failed: {'; '.join(failed)}{waited if untried else ''}. All others are there; the same"
        " command tries again."
    )


def _reason(run: Run, error: BaseException, store: Store) -> str:
    """Why a run failed, as it noted itself; else what its engine says."""
    state, why = store.state(run)
    if isinstance(error, BrokenProcessPool):
        why = (
            "its process died: the system ends one that takes more memory than there is, see `study"
            " plan`"
        )
    elif state != "failed":
        why = (
            str(error)
            if isinstance(error, StudyError)
            else redacted(f"{type(error).__name__}: {error}")
        )
    if any(sign in why for sign in MEMORY):
        why = (
            "there is not enough memory for it: take a smaller `micro_batch_size`, and see `study"
            " plan`"
        )
    return " ".join(why.split()).rstrip(".")
