"""Notebooks executed by papermill, alone or side by side.

execute(jobs("tiny")[0])
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar
from weakref import WeakSet

from filelock import FileLock
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
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

    begun: ClassVar[WeakSet["InterpreterKernel"]] = WeakSet()

    def __init__(self, **options: object):
        super().__init__(**options)
        self.begun.add(self)

    @property
    def kernel_spec(self) -> KernelSpec:
        """How it is begun. NumPy has one thread, so that it adds up in one order on any machine;
        torch has its own."""
        return KernelSpec(**get_kernel_dict(), env={"OPENBLAS_NUM_THREADS": "1"})

    @default("transport_encryption")
    def _encrypted(self) -> str:
        return "auto"


@contextmanager
def side_by_side() -> Iterator[Callable[[Job, bool], Future]]:
    """To execute notebooks in threads: a function that begins one, as `execute` would. Those that
    still go on when it is left are stopped."""
    pool, begun = ThreadPoolExecutor(SIDE_BY_SIDE), list[Future]()

    def begin(job: Job, compute: bool) -> Future:
        begun.append(pool.submit(_in_a_thread, job, compute))
        return begun[-1]

    try:
        yield begin
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in begun):
            for kernel in InterpreterKernel.begun:
                if isinstance(kernel.provisioner, LocalProvisioner) and kernel.provisioner.process:
                    kernel.provisioner.process.kill()
            time.sleep(0.1)


def _in_a_thread(job: Job, compute: bool) -> None:
    try:
        execute(job, compute)
    finally:
        ensure_event_loop().close()  # which nbclient left open


def _literally(path: Path) -> str:
    """A path that papermill takes as it is: it would format what is in braces by the parameters."""
    return str(path).replace("{", "{{").replace("}", "}}")


def execute(job: Job, compute: bool = True) -> None:
    """Execute the notebook by papermill, to where its job says.

    A notebook can look completed after its kernel died: what counts is that every run has a result,
    if it was to `compute`, and the table is newer than the start. Raises StudyError otherwise.
    """
    target, table = job.executed, job.folder / "table.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")), room(target.parent, target.name, lambda: EXECUTED):
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
            resources={"metadata": {"path": str(job.notebook.parent)}},  # `cwd` is of all threads
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
