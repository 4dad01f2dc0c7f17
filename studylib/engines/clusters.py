"""Engines that compute elsewhere, behind the interface of `concurrent.futures`: a Ray cluster, and
Slurm by submitit.

Whatever they wait for has an end, or is said: a scheduler that refuses, a cluster that is not
there, a job that is lost.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from itertools import chain
from threading import Event, Lock, Thread
from typing import Any

from studylib.core.errors import StudyError, redacted, sentence_of
from studylib.core.filesystem import home
from studylib.core.libraries import torch
from studylib.core.machine import Machine
from studylib.core.progress import say
from studylib.engines.local import Here

SECONDS = 0.5  # between looks at what a cluster has done
LOST = 1800.0  # seconds after which a job that Slurm does not know is given up
COMMAND_SECONDS = 60.0  # that a command of Slurm may take
CLUSTER_SECONDS = 60.0  # that joining a Ray cluster may take
NODE_SECONDS = 600.0  # that a Ray cluster which scales may take to begin a node
QUIET_RAY = {"include_dashboard": False, "log_to_driver": False, "configure_logging": False}
# what workers elsewhere are told of this one's surroundings
PASSED = ("STUDY_HOME", "HF_HOME", "HF_HUB_OFFLINE")


class EngineFailure(StudyError):
    """The engine can compute nothing any more."""


class Ray(Executor):
    """A Ray cluster, that at `address` or one of this machine; a run whose node dies is made again
    on another one."""

    def __init__(self, machine: Machine, address: str | None = None, retries: int = 3):
        import ray

        self.ray, self.owns_cluster = ray, not ray.is_initialized()
        if self.owns_cluster:
            _check_cluster(address)
            ray.init(address=address, **QUIET_RAY)
        cards = machine.processes if on_cards(machine) else 0
        _wait_for_node(
            ray, {"CPU": machine.threads, "GPU": cards}, NODE_SECONDS if _named(address) else 0
        )
        environment = {"OMP_NUM_THREADS": str(machine.threads)} | {
            name: os.environ[name] for name in PASSED if name in os.environ
        }
        self.call = ray.remote(_call).options(
            num_cpus=machine.threads,
            num_gpus=cards,
            max_retries=retries,
            runtime_env={"env_vars": environment},
        )

    def submit(self, call: Callable, /, *args: object, **kwargs: object) -> Future:
        """Call somewhere in the cluster."""
        return self.call.remote(call, args, kwargs).future()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster; what was begun there is stopped."""
        if self.owns_cluster:
            self.ray.shutdown()


def _named(address: str | None) -> str:
    """What names a cluster that is there already; nothing where one of this machine is begun."""
    named = os.environ.get("RAY_ADDRESS")
    return f"RAY_ADDRESS {named}" if named else "`address: auto`" if address else ""


def _check_cluster(address: str | None) -> None:
    """Raise StudyError where the named cluster cannot be joined: Ray itself would try for long, and
    then end this process."""
    if not (whose := _named(address)):
        return
    joining = f"import ray; ray.init(address={address!r}, **{QUIET_RAY!r})"
    try:
        subprocess.run(
            [sys.executable, "-c", joining],
            capture_output=True,
            timeout=CLUSTER_SECONDS,
            check=True,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        raise EngineFailure(
            f"engine ray: there is no cluster at {whose}: begin one by `ray start --head`, or name"
            " another."
        ) from None


def _wait_for_node(ray: Any, needed: Mapping[str, int], seconds: float) -> None:
    """Wait for a node that has room for a run, as one that scales may have to begin it. Raises
    StudyError where none comes."""
    end, waits = time.monotonic() + seconds, False
    while not any(_fits(node, needed) for node in ray.nodes()):
        shortage = f"no node with {needed['CPU']} processors and {needed['GPU']} GPUs"
        if time.monotonic() >= end:
            raise EngineFailure(
                f"engine ray: the cluster has {shortage}: lower `threads` or `processes`, or add"
                " such a node."
            )
        if not waits:
            say(
                f"The Ray cluster has {shortage} yet: waiting up to {seconds / 60:.0f} minutes for"
                " one."
            )
        waits = True
        time.sleep(SECONDS)


def _fits(node: Mapping, needed: Mapping[str, int]) -> bool:
    return node["Alive"] and all(
        node["Resources"].get(name, 0) >= count for name, count in needed.items()
    )


def _call(call: Callable, args: tuple, kwargs: dict) -> object:
    return call(*args, **kwargs)


@dataclass(frozen=True)
class Several:
    """Tasks that one job makes one after the other; one that fails does not stop the others."""

    tasks: Sequence[Callable[[], None]]

    def __call__(self) -> list[BaseException | None]:
        """Make all; return what each failed with, if it did."""
        here = Here()
        return [here.submit(task).exception() for task in self.tasks]

    def checkpoint(self) -> object:
        """What submitit is to submit again when Slurm takes the node or the time is over: what is
        done stays, the rest goes on."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Slurm(Executor):
    """Slurm by submitit, or by its stand-in on this machine (`cluster: local`): what is ready at
    the same time is dealt out to one array, as many of whose jobs as `jobs` says go on at once;
    each starts Python once."""

    def __init__(
        self, machine: Machine, cluster: str = "slurm", jobs: int = 16, **parameters: object
    ):
        import submitit

        gpus = {"gpus_per_node": machine.processes} if on_cards(machine) else {}
        self.most, self.ended = jobs, Event()
        self.waiting: list[tuple[Future, Callable[[], None]]] = []
        self.running: dict[submitit.Job, list[Future]] = {}
        try:
            self.jobs = submitit.AutoExecutor(home() / "slurm", cluster=cluster)
            self.jobs.update_parameters(
                **{"cpus_per_task": machine.threads * machine.processes, "name": "study"}
                | gpus
                | parameters
            )
        except (NameError, TypeError, ValueError, AssertionError, RuntimeError) as error:
            raise StudyError(
                f"engine_options: submitit does not take them ({sentence_of(error)}): see its"
                " AutoExecutor."
            ) from error
        self.failure: EngineFailure | None = None
        self.lock = Lock()  # of `waiting` and `failure`
        self.known: dict[submitit.Job, float] = {}  # when Slurm last knew of a job
        Thread(target=self._watch, daemon=True).start()

    def submit(self, call: Callable, /, *args: object, **kwargs: object) -> Future:
        """Call in a job."""
        future: Future = Future()
        with self.lock:
            if self.failure is not None:
                future.set_exception(self.failure)
            else:
                self.waiting.append((future, partial(call, *args, **kwargs)))
        return future

    def _watch(self) -> None:
        """Submit and collect until the end; whatever fails here, everybody who waits is told of
        it."""
        try:
            while not self.ended.wait(SECONDS):
                self._deal_out()
                self._collect()
        except Exception as error:  # whatever submitit makes of what Slurm's commands do
            failure = EngineFailure(
                f"engine slurm: {_first_line(error)}: see {self.jobs.folder}, `sbatch` and `sacct`."
            )
            with self.lock:
                self.failure = failure
                futures = [future for future, _ in self.waiting]
                futures += chain.from_iterable(self.running.values())
            for future in futures:
                if not future.done():
                    future.set_exception(failure)

    def _deal_out(self) -> None:
        """Submit what waits as one array, if there is room for its jobs."""
        free, waiting = self.most - len(self.running), list(self.waiting)
        if free <= 0 or not waiting:
            return
        dealt = [waiting[start::free] for start in range(min(free, len(waiting)))]
        with self.jobs.batch():
            submitted = [
                (
                    self.jobs.submit(Several([task for _, task in share])),
                    [future for future, _ in share],
                )
                for share in dealt
            ]
        self.running |= dict(submitted)
        with self.lock:
            del self.waiting[: len(waiting)]
        say(
            f"{len(submitted)} jobs are submitted; `squeue` tells what they wait for,"
            f" {self.jobs.folder} has their logs."
        )

    def _collect(self) -> None:
        """Tell of the jobs that are done."""
        for job, futures in list(self.running.items()):
            if job.done():
                died = job.exception()
                errors = [died] * len(futures) if died else job.result()
                del self.running[job]
                for future, error in zip(futures, errors, strict=True):
                    future.set_exception(error) if error else future.set_result(None)
            else:
                self._check_known(job)

    def _check_known(self, job: Any) -> None:
        """Raise RuntimeError for a job that left no result and of which Slurm has known nothing for
        long."""
        now = time.monotonic()
        if self.known.setdefault(job, now) + LOST > now:
            return
        if job.state == "UNKNOWN" and not _queued(job.job_id):
            raise RuntimeError(
                f"job {job.job_id} left no result, and Slurm has not known it for {LOST / 60:.0f}"
                " minutes"
            )
        self.known[job] = now

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop looking; jobs that go on are cancelled."""
        self.ended.set()
        for job in self.running:
            job.cancel(check=False)


def _queued(job: str) -> bool:
    """Whether `squeue` lists a job; clusters that keep no accounts have nothing else to ask."""
    try:
        listing = subprocess.run(
            ["squeue", "--noheader", "--jobs", job], capture_output=True, timeout=COMMAND_SECONDS
        )
        return bool(listing.stdout.strip())
    except (OSError, subprocess.TimeoutExpired):
        return False


def _first_line(error: BaseException) -> str:
    """What an error of others says, without the commands and traces that follow."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" -")]
    return redacted(lines[0] if lines else type(error).__name__).rstrip(".")


def on_cards(machine: Machine) -> bool:
    """Whether runs compute on GPUs."""
    return machine.device == "cuda" or (machine.device == "auto" and torch.cuda.is_available())
