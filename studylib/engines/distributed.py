"""One run by several processes, each on a GPU of its own where there are any."""

import os
import signal
from contextlib import nullcontext
from pathlib import Path
from uuid import uuid4

from studylib.core import parallel
from studylib.core.errors import StudyError
from studylib.core.libraries import torch
from studylib.core.machine import Machine
from studylib.core.progress import Progress
from studylib.runs import inputs, kinds
from studylib.store.run import Run
from studylib.store.store import Store

SIGNALLED = 128  # and the number of the signal: the exit code by which shells tell one
SHARED = (
    "teacher",
    "student",
    "lr_search",
    "states",
    "answers",
)  # the kinds that all work on; the first makes others alone


def complete(run: Run, store: Store, machine: Machine) -> None:
    """Make a run in as many processes as the machine says. Raises StudyError where one of them
    fails."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=machine.processes,
        max_restarts=0,
        run_id=uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        monitor_interval=0.2,
    )
    try:
        elastic_launch(launch, entrypoint=join)(run, store.root.parent, machine)
    # torch's launcher makes one of each signal: the study is to end, and not this run alone
    except SignalException as error:
        raise (
            KeyboardInterrupt
            if error.sigval == signal.SIGINT
            else SystemExit(SIGNALLED + error.sigval)
        ) from error
    except ChildFailedError as error:
        if store.result(run) is not None:
            # what counts is the result: a process that fails on its way out takes nothing from it
            return
        state, why = store.state(run)
        raise StudyError(why if state == "failed" else "one of its processes died") from error


def join(run: Run, root: Path, machine: Machine) -> None:
    """What each process does: make its part of the run."""
    if "RANK" in os.environ:
        parallel.end_with_parent()
    if torch.cuda.is_available() and machine.device != "cpu":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    inputs.prepare(machine)
    with parallel.together(inputs.prepared) if "RANK" in os.environ else nullcontext():
        make(run, Store(root))


def make(run: Run, store: Store) -> None:
    """Make a run unless it is finished: the first process holds its lock and keeps its result, the
    others make it beside."""
    maker = kinds.make(store, Progress(quiet=not parallel.first()))
    if parallel.first():
        begun = []

        def all_make(run: Run, folder: Path) -> dict:
            begun.extend(parallel.all_gather(True))
            return maker(run, folder)

        store.complete(run, all_make)
        if not begun:
            parallel.all_gather(False)
    elif any(parallel.all_gather(False)) and run.kind in SHARED:
        maker(run, store.folder(run))
