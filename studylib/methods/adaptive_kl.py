"""AKL: adaptive KL.  Wu et al. 2024, arXiv:2404.02657;
wutaiqiang/LLM_KD_AKL: AKL.py

    L = w KL(p ‖ q) + (1 − w) KL(q ‖ p) + gold CE            mu 0.5
    w = Σ |p − q| over the head / Σ |p − q| over all tokens

Here: p is the teacher and q the student at answer tokens. The head is the fewest of the teacher's
tokens that hold `mu` of its mass: forward KL weighs more where most of the gap lies there. No
gradient flows through w. In the official code the token that crosses `mu` belongs to the tail,
unless it is the first. Gold answers weigh 0.5, as in plain distillation; what they weigh in the
paper is not known here.
Left out: nothing else.  Source: code.
Run: study run params/tiny/methods.yaml --only adaptive_kl
Test: tests/methods/test_adaptive_kl.py
"""

from __future__ import annotations

from collections.abc import Sequence

from studylib.core.libraries import torch
from studylib.methods import divergences
from studylib.methods.base import Method
from studylib.methods.objective import cross_entropy
from studylib.methods.options import Share
from studylib.methods.views import View, mean_logits


class AdaptiveKl(Method):
    """Forward and reverse KL by where the gap lies, and gold answers beside them."""

    def __init__(self, *, mu: Share = 0.5, gold: Share = 0.5):
        self.mu, self.gold = mu, gold

    @property
    def weights(self) -> dict[str, float]:
        """`gold` for gold answers."""
        return {"cross_entropy": self.gold}

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """Both per token, in nats."""
        target = mean_logits(teachers)
        return {
            "adaptive_kl": divergences.adaptive_kl(student.logits, target, mu=self.mu),
            "cross_entropy": cross_entropy(student.logits, student.targets),
        }
