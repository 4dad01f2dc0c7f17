"""DistiLLM: skewed KL.  Ko et al. 2024, arXiv:2402.03898;
jongwooko/distillm: distillm/losses.py, finetune.py

    L = KL(p ‖ α p + (1 − α) q) + gold CE                    α 0.1, gold 0, 10 to 20 epochs

Here: p is the teacher and q the student at answer tokens; α, the `skew`, bounds the loss by
−log α where the student misses what the teacher says. In the `reverse` direction it is
KL(q ‖ α q + (1 − α) p): the official scripts take the forward one for the smallest GPT-2 student,
the reverse one for larger students. Beside it gold answers weigh 0.5, as in plain distillation.
Left out: the adaptive off-policy part, which learns from the student's own samples, kept in a
replay buffer and drawn more often after its dev loss has risen; the official cross-entropy of
pretraining text (OpenWebText), which stands there in the place of gold answers.
Source: code.
Run: study run params/tiny/methods.yaml --only distillm    Test: tests/methods/test_distillm.py
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from studylib.core.libraries import torch
from studylib.methods.base import Method
from studylib.methods.divergences import skewed_forward_kl, skewed_reverse_kl
from studylib.methods.objective import cross_entropy
from studylib.methods.options import BelowOne, Share
from studylib.methods.views import View, mean_logits

Direction = Literal["forward", "reverse"]


class Distillm(Method):
    """KL to a mixture with the other side, and gold answers beside it."""

    def __init__(
        self, *, direction: Direction = "forward", skew: BelowOne = 0.1, gold: Share = 0.5
    ):
        self.direction, self.skew, self.gold = direction, skew, gold

    @property
    def weights(self) -> dict[str, float]:
        """`gold` for gold answers."""
        return {"cross_entropy": self.gold}

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """Both per token, in nats."""
        skewed_kl = skewed_forward_kl if self.direction == "forward" else skewed_reverse_kl
        return {
            "skewed_kl": skewed_kl(student.logits, mean_logits(teachers), skew=self.skew),
            "cross_entropy": cross_entropy(student.logits, student.targets),
        }
