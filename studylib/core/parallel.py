"""Processes that make one run together: which of them this one is, and what they tell each other.
One that is alone is the first of one."""

import ctypes
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import parent_process
from threading import Thread
from typing import Any

import psutil
import torch
import torch.distributed as dist
from torch import nn

from studylib.core.errors import StudyError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
PARENT_SECONDS = 1.0  # between looks at a parent that is no process of Python's
ORPHANED = 1  # exit code


def count() -> int:
    """How many there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def first() -> bool:
    """Whether this is the one that writes files."""
    return not dist.is_initialized() or dist.get_rank() == 0


def share(items: Sequence) -> Sequence:
    """This one's part of what all have to do."""
    return items[dist.get_rank() :: count()] if dist.is_initialized() else items


def summed(values: Sequence[float], device: torch.device) -> list[float]:
    """Sums over all."""
    if count() == 1:
        return list(values)
    total = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return total.tolist()


def joined(value: object) -> list:
    """What all have, in their order."""
    if count() == 1:
        return [value]
    every: list = [None] * count()
    dist.all_gather_object(every, value)
    return every


class Whole(nn.Module):
    """Modules whose weights several processes share, each a part of every one (FSDP2, Zhao et al.,
    2023, arXiv:2304.11277, in torch's own `fully_shard`: Accelerate would add a configuration of
    its own and nothing that is needed here).

    All that reads weights is called through it: `whole(call, ...)` gathers those outside blocks,
    and each block's when it is their turn.
    """

    def __init__(self, blocks: Iterable[nn.Module], **modules: nn.Module):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        shard((*blocks, self))

    def forward(self, call: Callable, *given: object) -> object:
        """Whatever `call` returns."""
        return call(*given)


def plain(module: nn.Module) -> dict[str, Any] | None:
    """A module's weights in one piece on the first process, if they are shared."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return (
        get_model_state_dict(
            module, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
        )
        if count() > 1
        else None
    )


def shard(modules: Iterable[nn.Module]) -> None:
    """Share the weights of some modules, a module that holds others after them."""
    if count() == 1:
        return
    from torch.distributed.device_mesh import init_device_mesh  # seconds that one process saves
    from torch.distributed.fsdp import fully_shard

    first, *others = modules
    mesh = init_device_mesh(next(first.parameters()).device.type, (count(),))
    for module in (first, *others):
        fully_shard(module, mesh=mesh, reshard_after_forward=True)


@contextmanager
def together(device: torch.device) -> Iterator[None]:
    """Within, this process is one of those that `torchrun` has begun."""
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
        dist.barrier()  # one that leaves before the others aborts them
    finally:
        dist.destroy_process_group()


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
    """Give back what is kept, where it is glibc that keeps it."""
    _glibc("malloc_trim", 0)


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
