"""TAID: temporally adaptive interpolated distillation.  Shing et al. 2025, arXiv:2501.16937;
SakanaAI/TAID: src/distil_losses/taid.py

    L = KL(p_t ‖ q),  p_t = softmax((1 − t) stopgrad(s) + t z)      start 0.4, alpha 5e-4, beta 0.99

Here: s and z are the student's and the teacher's logits at answer tokens. t, the target's share of
the teacher, rises linearly from `start` towards `end` over the stage, and faster while the loss
falls. As in the official code, which updates t with the number of steps that were complete before
the current one, step k of N (from 0) learns at t = start + (end − start) (k − 1)/N at least. What
drives t is the soft cross-entropy against the target; what is logged is the KL, which has the same
gradient and is 0 at its best.  Left out: nothing.  Source: paper and code.
Run: study run params/tiny/methods.yaml --only taid        Test: tests/methods/test_taid.py
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from studylib.core import parallel
from studylib.core.errors import StudyError
from studylib.core.libraries import torch
from studylib.methods import divergences
from studylib.methods.base import Method, buffers
from studylib.methods.options import AboveZero, Share
from studylib.methods.views import View, mean_logits


class Taid(Method):
    """KL to a target that moves from the student to the teacher."""

    version = 2

    def __init__(
        self,
        *,
        start: Share = 0.4,
        end: AboveZero = 1.0,
        alpha: Share = 5e-4,
        beta: Share = 0.99,
    ):
        if start > end:
            raise StudyError(f"start of taid must not be above its end: {start:g} and {end:g}.")
        self.start, self.end, self.alpha, self.beta = start, end, alpha, beta
        self.total, self.tokens = 0.0, 0  # of the step so far

    def initial_state(self) -> torch.nn.Module:
        """The target's share of the teacher, the last loss and its momentum."""
        return buffers(t=self.start, last=math.inf, momentum=0.0)

    @classmethod
    def recipe(cls, steps: int) -> list[dict[str, Any]]:
        """Beside the loss of gold answers, as plain distillation."""
        return [{"steps": steps, "losses": {"taid": 1.0, "cross_entropy": 0.5}}]

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """KL(p_t ‖ q) per token."""
        logits, target, t = student.logits, mean_logits(teachers), self.state.t.item()
        if torch.is_grad_enabled():
            soft = divergences.soft_cross_entropy(logits.detach(), target, t=t)
            self.total += soft.sum().item()
            self.tokens += len(logits)
        return {"taid": divergences.interpolated_kl(logits, target, t=t)}

    def update(self, step: int, steps: int, logged: dict[str, float]) -> None:
        """Move t: by the schedule, or by how much the loss fell, if that is more."""
        total, tokens = parallel.all_reduce([self.total, self.tokens], self.state.t.device)
        loss, self.total, self.tokens = total / max(1, tokens), 0.0, 0
        state = self.state
        if math.isfinite(state.last):
            change = (state.last.item() - loss) / (state.last.item() + 1e-15)
            state.momentum.fill_(self.beta * state.momentum.item() + (1 - self.beta) * change)
            rise = self.alpha / (1 + math.exp(-state.momentum.item()))
            nudged = state.t.item() + rise * (1 - state.t.item())
            scheduled = self.start + (self.end - self.start) * (step / steps)
            state.t.fill_(min(self.end, max(scheduled, nudged)))
        state.last.fill_(loss)
