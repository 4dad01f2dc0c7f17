"""Notebooks executed by papermill, alone or side by side.

execute(jobs("tiny")[0])
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import ClassVar

from filelock import FileLock
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import ensure_event_loop
from traitlets import default

from studylib.app.notebooks import Job
from studylib.core.errors import StudyError, sentence_of
from studylib.core.filesystem import room, write_text
from studylib.store.store import Store

EXECUTED = 1_000_000  # bytes that an executed notebook takes, about
SIDE_BY_SIDE = 2  # notebooks, each of which keeps one core busy


class InterpreterKernel(AsyncKernelManager):
    """A kernel by the interpreter that runs, whatever another environment has put on Jupyter's path
    under the same name. What it is sent is encrypted, where its version can do that."""

    kernels: ClassVar[list["InterpreterKernel"]] = []  # of this process

    def __init__(self, **options: object):
        super().__init__(**options)
        self.kernels.append(self)

    def kill(self) -> None:
        """End it at once, where it runs."""
        process = getattr(self.provisioner, "process", None)
        if process is not None:
            process.kill()

    @property
    def kernel_spec(self) -> KernelSpec:
        """How it is begun. NumPy has one thread: sums do not depend on the number of cores. Torch
        has threads of its own."""
        return KernelSpec(**get_kernel_dict(), env={"OPENBLAS_NUM_THREADS": "1"})

    @default("transport_encryption")
    def _encrypted(self) -> str:
        return "auto"


@contextmanager
def side_by_side() -> Iterator[Callable[[Job, bool], Future]]:
    """Yields a function that starts `execute` in a thread and returns its future. On exit kernels
    that run are killed, and notebooks that wait are cancelled."""
    pool, futures, stop = ThreadPoolExecutor(SIDE_BY_SIDE), list[Future](), Event()

    def begin(job: Job, compute: bool) -> Future:
        futures.append(pool.submit(_in_a_thread, job, compute, stop))
        return futures[-1]

    try:
        yield begin
    finally:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in futures):
            for kernel in list(InterpreterKernel.kernels):
                kernel.kill()
            time.sleep(0.1)
        InterpreterKernel.kernels.clear()


def _in_a_thread(job: Job, compute: bool, stop: Event) -> None:
    try:
        execute(job, compute, stop)
    finally:
        ensure_event_loop().close()  # which nbclient leaves open


def _literally(path: Path) -> str:
    """A path that papermill takes as it is: it would format what is in braces by the parameters."""
    return str(path).replace("{", "{{").replace("}", "}}")


def execute(job: Job, compute: bool = True, stop: Event | None = None) -> None:
    """Execute the notebook by papermill, to where its job says, unless it is to `stop` before.

    A notebook can look completed after its kernel died: what counts is that every run has a result,
    if it was to `compute`, and the table is newer than the start. Raises StudyError otherwise, and
    filelock's Timeout where it stopped while another process executed the notebook.
    """
    target, table = job.executed, job.folder / "table.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.with_suffix(".lock"))
    with (
        lock.acquire(cancel_check=(stop or Event()).is_set),
        room(target.parent, target.name, lambda: EXECUTED),
    ):
        before = table.stat().st_mtime_ns if table.exists() else 0
        _by_papermill(job, compute)
        undone = [run.label for run in job.plan.runs if compute and Store().result(run) is None]
        if undone or not table.exists() or table.stat().st_mtime_ns == before:
            raise StudyError(
                f"{job.notebook.name} ended without {undone[0] if undone else table}: look into"
                f" {target} and run again."
            )
        if compute:
            write_text(job.noted, job.digest())


def _by_papermill(job: Job, compute: bool) -> None:
    """Raises StudyError for a notebook that raises, or whose kernel dies."""
    import papermill  # takes seconds
    from nbclient.exceptions import DeadKernelError

    try:
        papermill.execute_notebook(
            _literally(job.notebook),
            _literally(job.executed),
            parameters=job.values | {"compute": compute},
            resources={
                "metadata": {"path": str(job.notebook.parent)}
            },  # not `cwd`: all threads have one
            progress_bar=False,
            request_save_on_cell_execute=False,
            kernel_manager_class=InterpreterKernel,
        )
    except papermill.PapermillExecutionError as error:
        raise StudyError(
            f"{job.notebook.name} stopped with {error.ename}: {sentence_of(error.evalue)}. Look"
            f" into {job.executed}."
        ) from error
    except DeadKernelError as error:
        raise StudyError(
            f"{job.notebook.name} stopped, its kernel died: look into {job.executed} and run again."
        ) from error
