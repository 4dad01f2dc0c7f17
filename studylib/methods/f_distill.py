"""f-DISTILL: token-level f-divergences.  Wen et al. 2023, arXiv:2307.15190;
MANGA-UOFA/fdistill: dart/kd.py

    L = D(p, q) + gold CE,  D = ½ Σ |p − q|                  gold 0, lr 1e-4, 12 epochs

Here: p is the teacher and q the student at answer tokens. `divergence` names D: the total
variation distance, or another of the paper's four, forward KL, reverse KL and Jensen-Shannon with
even weights. They are compared on the text to learn: with `targets: sequence_kd` it is the
teacher's, as in the half of the official loss that looks at the teacher's text. Beside it gold
answers weigh 0.5, as in plain distillation.
Left out: the other half, on text that the student samples as it learns; it has a weight of ½ in
the symmetric losses (TVD, JSD), and is all of reverse KL's.  Source: code.
Run: study run params/tiny/methods.yaml --only f_distill   Test: tests/methods/test_f_distill.py
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from studylib.core.libraries import torch
from studylib.methods import divergences
from studylib.methods.base import Method
from studylib.methods.objective import cross_entropy
from studylib.methods.options import Share
from studylib.methods.views import View, mean_logits

Divergence = Literal["total_variation", "forward_kl", "reverse_kl", "jsd"]


class FDistill(Method):
    """An f-divergence from the teacher, and gold answers beside it."""

    def __init__(self, *, divergence: Divergence = "total_variation", gold: Share = 0.5):
        self.divergence, self.gold = divergence, gold

    @property
    def weights(self) -> dict[str, float]:
        """`gold` for gold answers."""
        return {"cross_entropy": self.gold}

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """Both per token, in nats; the total variation distance between 0 and 1."""
        compare = getattr(divergences, self.divergence)
        return {
            self.divergence: compare(student.logits, mean_logits(teachers)),
            "cross_entropy": cross_entropy(student.logits, student.targets),
        }
