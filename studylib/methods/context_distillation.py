"""Context distillation: only the teacher reads a demonstration.  After Askell et al. 2021,
arXiv:2112.00861, and Snell et al. 2022, arXiv:2209.15189

    L = KL(p_T(y|c, x) ‖ p_S(y|x)) + gold CE                 c: a demonstration; gold 0.5

Here: the teacher reads a demonstration c before context and question, in the student's form (plain
or chat), the student reads none; they are compared at the tokens of the gold answer, T = 1. The
teacher is that of all methods, fine-tuned without demonstrations. The loss of gold answers has the
weight that it has in plain distillation, so that the teacher's prompt is all that differs. Where
students are trained with the same demonstration, this is plain distillation.
Left out: a student that starts as its teacher; answers that the teacher samples; scratch pads; long
prompts.
Source: from memory.
Run: study run params/tiny/methods.yaml --only context_distillation
Test: tests/methods/test_context_distillation.py
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from studylib.core.libraries import torch
from studylib.methods.base import Method, Signals
from studylib.methods.divergences import forward_kl
from studylib.methods.objective import cross_entropy
from studylib.methods.options import Share
from studylib.methods.views import View

Demonstration = Literal["one-shot", "one-shot random", "one-shot retrieved"]


class ContextDistillation(Method):
    """Forward KL to a teacher that reads a demonstration, and cross-entropy."""

    def __init__(self, *, demonstration: Demonstration = "one-shot", gold: Share = 0.5):
        self.signals, self.gold = Signals(demonstration=demonstration), gold

    @property
    def weights(self) -> dict[str, float]:
        """gold for the cross-entropy."""
        return {"forward_kl": 1.0, "cross_entropy": self.gold}

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """Both per token."""
        return {
            "forward_kl": forward_kl(student.logits, teachers[0].logits),
            "cross_entropy": cross_entropy(student.logits, student.targets),
        }
