"""A system of the bench in a process of its own: what one does to memory, threads and warnings is
not the others'.

with SystemProcess(partial(matched, Gkd, model, machine, False), folder, limit=8e9) as trl:
    trl.call(Gkd.run, prompts)

All wait while one works. A process that needs more memory than its limit, or dies, is a failure
with a reason; the others go on.
"""

import os
import re
import resource
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Self

import torch

from studylib.bench.baselines import Match, System
from studylib.core import parallel
from studylib.core.errors import StudyError, sentence_of
from studylib.core.machine import Machine
from studylib.engines.engines import MEMORY
from studylib.models import loading
from studylib.runs import inputs

Make = Callable[[Path], System]
SYSTEM: list[System] = []  # that of this process
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Failure(Exception):
    """Why a system can go on no more."""


class SystemProcess:
    """A system in a process of its own, with at most `limit` bytes of memory. `failure` says why it
    can go on no more, and is empty while it can."""

    def __init__(self, make: Make, folder: Path, limit: float):
        self.limit, self.failure = limit, ""
        folder.mkdir()
        self.pool = ProcessPoolExecutor(
            1, get_context("spawn"), initializer=_bound, initargs=(int(limit), folder / "log")
        )
        self.ready = self.pool.submit(_make, make, folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()

    def call(self, work: Callable[..., Any], *given: Any) -> Any:
        """`work(system, *given)` in its process. Raises Failure where that, or an earlier call,
        failed."""
        if not self.failure:
            try:
                self.ready.result()
                return self.pool.submit(_work, work, *given).result()
            except BrokenProcessPool:
                self.failure = "its process was ended"
            except Failure as error:
                self.failure = str(error)
                if any(word in self.failure for word in MEMORY):
                    self.failure = f"it needs more than {self.limit / 1e9:.1f} GB of memory"
        raise Failure(self.failure)


def _bound(limit: int, log: Path) -> None:
    """Bound the memory of this process, which ends with its parent, and write what it prints to a
    file."""
    parallel.end_with_parent()
    written = os.open(log, os.O_CREAT | os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(written, stream)
    warnings.simplefilter("ignore")
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _make(make: Make, folder: Path) -> None:
    """Make this process that of a system."""
    with _failing():
        SYSTEM.append(make(folder))


def _work(work: Callable[..., Any], *given: Any) -> Any:
    with _failing():
        return work(SYSTEM[0], *given)


@contextmanager
def _failing() -> Iterator[None]:
    """Raise Failure for an error of any library's kind, which may not come through a pipe."""
    try:
        yield
    except StudyError as error:
        raise Failure(sentence_of(error)) from None
    except Exception as error:
        raise Failure(": ".join(filter(None, (type(error).__name__, sentence_of(error))))) from None


def matched(
    system: type[System], model: Path, machine: Machine, as_study: bool, folder: Path
) -> System:
    """A system for the teacher that is stored in a folder; with the study's settings of the memory
    allocator, or as anyone's program."""
    if as_study:  # on the processor, as the others
        inputs.prepare(machine.model_copy(update={"device": "cpu"}))
    torch.set_num_threads(machine.threads)
    teacher, tokenizer = loading.load_folder(model)
    return system(Match(teacher.eval(), tokenizer, teacher.config.num_hidden_layers // 2), folder)


def held() -> float:
    """Bytes of memory that this process holds."""
    return _status("VmRSS")


def forget_most() -> None:
    """Count the most from what is held now."""
    CLEAR.write_text("5")


def most_held() -> float:
    """The most bytes of memory that this process has held since. `getrusage` would count that of
    the process which started it, too."""
    return _status("VmHWM")


def _status(name: str) -> float:
    line = re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())
    return 1e3 * int(line[1]) if line else float("nan")
