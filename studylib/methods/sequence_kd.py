"""Sequence-level knowledge distillation.  After Kim and Rush 2016, arXiv:1606.07947

    L = −log p_S(ŷ|x),  ŷ = argmax_y p_T(y|x)                beam of 5, every training sentence

Here: ŷ is the teacher's greedy answer to each training question, right or wrong; the student learns
it and no gold answer. A mean over answer tokens. The same text is learnt by `targets: sequence_kd`
with cross-entropy; here it stands beside other methods in one comparison.
Left out: beam search, the word-level loss beside it, the interpolation with gold answers.
Source: at second hand.
Run: study run params/tiny/methods.yaml --only sequence_kd
Test: tests/methods/test_sequence_kd.py
"""

from __future__ import annotations

from collections.abc import Sequence

from studylib.core.libraries import torch
from studylib.data import examples as data_examples
from studylib.data.examples import SAMPLED, Example
from studylib.methods.base import Ask, Method, Signals
from studylib.methods.objective import cross_entropy
from studylib.methods.views import View


class SequenceKd(Method):
    """Learn the teacher's answers as if they were gold."""

    signals = Signals(what="text")

    def data(self, examples: list[Example], ask: Ask) -> list[Example]:
        """Each question with the teacher's greedy answer as the one to learn."""
        answers = ask.answers(examples, model="teacher")
        return [
            data_examples.with_target(example, text, role=SAMPLED)
            for example, (text,) in zip(examples, answers, strict=True)
        ]

    def generates(self, decision: str) -> dict[str, float]:
        """The teacher's answer, before training."""
        return {"teacher": 1.0} if decision == "data" else {}

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """Cross-entropy per token."""
        return {"cross_entropy": cross_entropy(student.logits, student.targets)}
