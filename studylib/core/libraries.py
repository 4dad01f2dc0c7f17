"""torch and transformers, which take seconds to load, loaded by whoever uses them first: planning
and reporting do without.

from studylib.core.libraries import torch, transformers
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any


class _Library:
    """A module that is imported when an attribute of it is first asked for."""

    def __init__(self, name: str):
        self._name = name

    @cached_property
    def _module(self) -> ModuleType:
        module = import_module(self._name)
        if self._name == "transformers":  # what it warns of on loading is refused here
            module.utils.logging.disable_progress_bar()
            module.utils.logging.set_verbosity_error()
        return module

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._module, attribute)


if TYPE_CHECKING:
    import torch as torch
    import transformers as transformers
else:
    torch, transformers = _Library("torch"), _Library("transformers")


@contextmanager
def without_gradients() -> Iterator[None]:
    """Within, or in a function that it decorates, no gradients are kept. `torch.no_grad` as a
    decorator would load torch with the module."""
    with torch.no_grad():
        yield
