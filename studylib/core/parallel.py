"""Processes that make one run together: which of them this one is, and what they tell each other.
One that is alone is the first of one."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import parent_process
from threading import Thread

import psutil

from studylib.core.errors import StudyError
from studylib.core.libraries import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
PARENT_SECONDS = 1.0  # between looks at a parent that is no process of Python's
ORPHANED = 1  # exit code


def count() -> int:
    """How many there are."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def first() -> bool:
    """Whether this is the one that writes files."""
    return count() == 1 or torch.distributed.get_rank() == 0


def shard(items: Sequence) -> Sequence:
    """This one's part of what all have to do."""
    return (
        items[torch.distributed.get_rank() :: count()]
        if torch.distributed.is_initialized()
        else items
    )


def all_reduce(values: Sequence[float], device: torch.device) -> list[float]:
    """Sums over all."""
    if count() == 1:
        return list(values)
    total = torch.tensor(values, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(total)
    return total.tolist()


def all_gather(value: object) -> list:
    """What all have, in their order."""
    if count() == 1:
        return [value]
    every: list = [None] * count()
    torch.distributed.all_gather_object(every, value)
    return every


@contextmanager
def together(device: torch.device) -> Iterator[None]:
    """Within, this process is one of those that `torchrun` has begun."""
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
        torch.distributed.barrier()  # one that leaves before the others aborts them
    finally:
        torch.distributed.destroy_process_group()


def end_with_parent() -> None:
    """End this process when its parent ends, however that ends: no signal handler runs when a
    parent is killed."""
    Thread(target=_end_after_parent, args=(os.getppid(),), daemon=True).start()


def _end_after_parent(began_under: int) -> None:
    if (parent := parent_process()) is not None:
        parent.join()  # waits on a pipe that the system closes
    else:  # torchrun's
        while os.getppid() == began_under:
            time.sleep(PARENT_SECONDS)
    os._exit(ORPHANED)


def divides(rows: int) -> None:
    """Raise StudyError unless so many rows can be shared out evenly."""
    if rows % count():
        raise StudyError(
            f"{rows} contexts a step cannot be shared by {count()} processes: take a multiple of"
            " them."
        )


def keep_memory() -> None:
    """Where the C library is glibc, keep what tensors leave for the next ones until it is given
    back."""
    _glibc("mallopt", M_MMAP_THRESHOLD, 2**30)
    _glibc("mallopt", M_TRIM_THRESHOLD, 2**31 - 1)


def give_back() -> None:
    """Give back what is kept, where it is glibc that keeps it; and what torch keeps on a GPU."""
    _glibc("malloc_trim", 0)
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def make_room() -> None:
    """Give back what is kept, where less than a quarter of the machine's memory is left: tensors of
    many sizes leave holes that grow."""
    memory = psutil.virtual_memory()
    if memory.available < memory.total / 4:
        give_back()


def _glibc(function: str, *numbers: int) -> None:
    """Call a function of the C library, where it is glibc."""
    with suppress(AttributeError, OSError, TypeError):
        getattr(ctypes.CDLL(None), function)(*numbers)
