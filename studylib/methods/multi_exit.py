"""Multi-exit self-distillation, after ModularStarEncoder.  2025, arXiv:2503.03008

    L = sum over exits i of (i/L) CE_i                       exits at 4, 9, 18, 27, 36 of L = 36

Here: exits after every quarter of the blocks, each read by the model's own final norm and output
head. The student answers by any exit; the last one is the plain model. Each exit's loss is a mean
over answer tokens.  Left out: code search, layer-index embeddings.  Source: at second hand.
Run: study run params/tiny/methods.yaml --only multi_exit  Test: tests/methods/test_multi_exit.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from studylib.core.libraries import torch, transformers
from studylib.methods.base import Method, Signals
from studylib.methods.objective import cross_entropy
from studylib.methods.views import View
from studylib.models import parts

QUARTERS = {"exit 1/4": 1, "exit 2/4": 2, "exit 3/4": 3, "": 4}


class MultiExit(Method):
    """Gold answers at every exit, the later the heavier."""

    signals = Signals(teachers=0, what="hidden")
    ways = tuple(reversed(QUARTERS))

    @property
    def weights(self) -> dict[str, float]:
        """The share of the blocks that an exit is after."""
        return {_term(quarter): quarter / 4 for quarter in QUARTERS.values()}

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """Cross-entropy per token at each exit."""
        return {
            _term(quarter): cross_entropy(
                student.exit(blocks(student.depth, quarter)), student.targets
            )
            for quarter in QUARTERS.values()
        }

    def share(self, way: str) -> float:
        """That of its blocks, the output head left out."""
        return QUARTERS[way] / 4

    def answer(
        self,
        model: transformers.PreTrainedModel,
        way: str,
        plain: Callable[[transformers.PreTrainedModel], Any],
    ) -> Any:
        """By the blocks up to an exit."""
        with parts.shortened(model, blocks(len(parts.layers(model)), QUARTERS[way])):
            return plain(model)


def blocks(depth: int, quarter: int) -> int:
    """The blocks up to the exit after so many quarters; at least one."""
    return max(1, round(depth * quarter / 4))


def _term(quarter: int) -> str:
    return f"exit_{quarter}"
