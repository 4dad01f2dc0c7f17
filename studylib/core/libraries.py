"""torch and transformers, which take seconds to load, loaded by whoever uses them first: planning
and reporting do without.

from studylib.core.libraries import torch, transformers
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any


class _Library:
    """A module that is loaded when an attribute of it is first asked for."""

    def __init__(self, load: Callable[[], ModuleType]):
        self._load = load

    @cached_property
    def _module(self) -> ModuleType:
        return self._load()

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._module, attribute)


def _torch() -> ModuleType:
    import torch

    return torch


def _transformers() -> ModuleType:
    """Without bars and warnings: what it warns of on loading is refused here."""
    import transformers
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    return transformers


if TYPE_CHECKING:
    import torch as torch
    import transformers as transformers
else:
    torch, transformers = _Library(_torch), _Library(_transformers)


@contextmanager
def without_gradients() -> Iterator[None]:
    """Within, or in a function that it decorates, no gradients are kept. `torch.no_grad` as a
    decorator would load torch with the module."""
    with torch.no_grad():
        yield


def save_file(
    tensors: dict[str, torch.Tensor], file: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write tensors as safetensors."""
    from safetensors.torch import save_file

    save_file(tensors, file, metadata)


def load_file(file: Path) -> Mapping[str, torch.Tensor]:
    """The tensors of a safetensors file."""
    from safetensors.torch import load_file

    return load_file(file)
