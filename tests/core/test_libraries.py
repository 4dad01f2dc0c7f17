"""torch and transformers are loaded by whoever uses them first, and by nobody who only plans."""

import pkgutil
import subprocess
import sys

import pytest
import torch
import transformers
from transformers.utils import logging

from studylib import methods
from studylib.core import libraries
from studylib.core.libraries import without_gradients

PLANNING = (
    "studylib.experiments.experiments",
    "studylib.runs.kinds",
    "studylib.app.cli",
    *(f"studylib.methods.{file.name}" for file in pkgutil.iter_modules(methods.__path__)),
)


def test_the_libraries_are_themselves():
    assert libraries.torch.nn.Linear is torch.nn.Linear
    assert libraries.transformers.AutoConfig is transformers.AutoConfig
    assert logging.get_verbosity() == logging.ERROR
    with pytest.raises(AttributeError, match="no_such_name"):
        libraries.torch.no_such_name  # noqa: B018


def test_what_plans_imports_neither():
    """Each method's file, too: it names torch inside functions and in annotations alone."""
    program = (
        "import sys; from importlib import import_module\n"
        "for name in sys.argv[1:]:\n"
        "    import_module(name)\n"
        "    assert not {'torch', 'transformers'} & set(sys.modules), name\n"
        "from studylib.methods import stages\n"
        "for name, method in stages.known().items():\n"
        "    stages.parse(method.recipe(8))\n"
        "    assert not {'torch', 'transformers'} & set(sys.modules), name\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *PLANNING], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_without_gradients_none_are_kept_within_it_alone():
    weight = torch.ones(2, requires_grad=True)

    @without_gradients()
    def doubled(depth: int) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        return doubled(depth - 1) if depth else 2 * weight

    for _ in range(2):
        assert not doubled(1).requires_grad
        assert torch.is_grad_enabled() and (2 * weight).requires_grad
    with pytest.raises(ZeroDivisionError), without_gradients():
        1 / 0  # noqa: B018
    assert torch.is_grad_enabled()
