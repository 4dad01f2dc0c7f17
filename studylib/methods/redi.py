"""REDI: reinforcement distillation, stage 2.  Xu et al. 2025, arXiv:2505.24850;
Tim-Siu/reinforcement-distillation: trl/trl/trainer/dpo2_trainer.py (loss_type reinforce)

    L = −log p(y+|x)/|y+| + alpha log p(y−|x)/|y−|          alpha 0.8, lr 1e-6, 1 epoch, after SFT

Here: y+ is the gold answer, y− a wrong answer that the teacher gives when it samples; both are
branches of one pack. Each term is a mean over its own answers in a step. Both log-probabilities are
logged: where the chosen one falls with the rejected one, the student collapses.
Left out: reasoning traces.  Source: paper and code.
Run: study run params/tiny/methods.yaml --only redi        Test: tests/methods/test_redi.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from studylib.core.libraries import torch
from studylib.data import examples as data_examples
from studylib.data.examples import Example
from studylib.data.packing import Pack
from studylib.methods.base import Ask, Method, Signals
from studylib.methods.options import Count, Positive, Share
from studylib.methods.views import View

CHOSEN, REJECTED = "chosen", "rejected"


class Redi(Method):
    """Raise the likelihood of gold answers, and lower that of the teacher's wrong ones."""

    signals = Signals(what="text")
    unit = "sequence"
    gold_first = 0.5

    def __init__(self, *, alpha: Share = 0.8, samples: Count = 4, temperature: Positive = 1.0):
        self.alpha, self.samples, self.temperature = alpha, samples, temperature

    @property
    def weights(self) -> dict[str, float]:
        """1 for chosen answers, alpha for rejected ones."""
        return {CHOSEN: 1.0, REJECTED: self.alpha}

    def data(self, examples: list[Example], ask: Ask) -> list[Example]:
        """Each example as it is, and beside it the first wrong answer among the teacher's."""
        drawn = ask.answers(
            examples, model="teacher", number=self.samples, temperature=self.temperature
        )
        pairs = []
        for example, answers in zip(examples, drawn, strict=True):
            pairs.append(replace(example, role=CHOSEN))
            wrong = [text for text in answers if text and not ask.right(example, text)]
            if wrong:
                named = {"id": f"{example.id} {REJECTED}", "role": REJECTED}
                pairs.append(data_examples.with_target(example, wrong[0], **named))
        return pairs

    def generates(self, decision: str) -> dict[str, float]:
        """The teacher's samples, before training."""
        return {"teacher": self.samples} if decision == "data" else {}

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """−log p(y+)/|y+| and log p(y−)/|y−|, per answer."""
        mean = student.per_sequence(student.log_probs) / student.lengths
        return {
            CHOSEN: -mean[student.where(CHOSEN)],
            REJECTED: mean[student.where(REJECTED)],
        }

    def count(self, term: str, rows: Sequence[Pack]) -> float:
        """The answers of a term's role."""
        return sum(row.roles.count(term) for row in rows)
