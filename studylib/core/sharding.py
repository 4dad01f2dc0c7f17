"""Weights that several processes share, each a part of every one: FSDP2 (Zhao et al., 2023,
arXiv:2304.11277), in torch's own `fully_shard`. Accelerate would add a configuration of its own and
nothing that is needed here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from studylib.core.libraries import torch
from studylib.core.parallel import count


def sharded(blocks: Iterable[torch.nn.Module], **modules: torch.nn.Module) -> torch.nn.ModuleDict:
    """Modules whose weights several processes share.

    All that reads weights is called through it: `sharded(call, ...)` gathers those outside blocks,
    and each block's when it is their turn.
    """

    class Sharded(torch.nn.ModuleDict):  # here, since its base is torch's
        def forward(self, call: Callable, *given: object) -> object:
            return call(*given)

    shared = Sharded(modules)
    shard((*blocks, shared))
    return shared


def plain(module: torch.nn.Module) -> dict[str, Any] | None:
    """A module's weights in one piece on the first process, if they are shared."""
    if count() == 1:
        return None
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(
        module, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )


def shard(modules: Iterable[torch.nn.Module]) -> None:
    """Share the weights of some modules, a module that holds others after them."""
    if count() == 1:
        return
    from torch.distributed.device_mesh import init_device_mesh  # seconds that one process saves
    from torch.distributed.fsdp import fully_shard

    first, *others = modules
    mesh = init_device_mesh(next(first.parameters()).device.type, (count(),))
    for module in (first, *others):
        fully_shard(module, mesh=mesh, reshard_after_forward=True)
