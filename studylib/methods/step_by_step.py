"""Distilling step-by-step.  Hsieh et al. 2023, arXiv:2305.02301;
google-research/distilling-step-by-step: model_utils.py (TaskPrefixTrainer)

    L = alpha CE(gold) + (1 − alpha) CE(rationale)          alpha 0.5, lr 5e-5, 10,000 steps

Here: two tasks in one pack. The question as it is asked is answered by the gold answer; after
`explain: ` it is answered by a rationale. The rationale is the evidence: of the context's
sentences the one that makes the gold answer most likely to the teacher when it reads nothing else.
At test the rationale is dropped, so answering costs what it did. Each term is a mean over its own
tokens.
Left out: T5, the prefix `predict: ` (the question is asked as everywhere), written rationales.
Source: paper and code.
Run: study run params/tiny/methods.yaml --only step_by_step
Test: tests/methods/test_step_by_step.py
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from studylib.core.libraries import torch
from studylib.data import examples as data_examples
from studylib.data.examples import GOLD, Example
from studylib.data.packing import Pack
from studylib.methods.base import Ask, Method, Signals
from studylib.methods.objective import cross_entropy
from studylib.methods.options import Share
from studylib.methods.views import View

RATIONALE = "rationale"
EXPLAIN = "explain: "
SENTENCE = re.compile(r".+?(?:[.!?](?=\s)|[。！？।؟۔]|$)\s*", re.DOTALL)


class StepByStep(Method):
    """Answer, and explain by the sentence that says so."""

    signals = Signals(what="text")
    version = 2  # terms have other names, which learning curves hold

    def __init__(self, *, alpha: Share = 0.5):
        self.alpha = alpha

    @property
    def weights(self) -> dict[str, float]:
        """alpha for answers, the rest for rationales."""
        return {GOLD: self.alpha, RATIONALE: 1 - self.alpha}

    def data(self, examples: list[Example], ask: Ask) -> list[Example]:
        """Each example as it is, and beside it its rationale."""
        candidates = [
            (replace(example, id=f"{example.id} {n}", context=sentence), number)
            for number, example in enumerate(examples)
            for n, sentence in enumerate(sentences(example.context))
        ]
        scores = ask.log_likelihood([candidate for candidate, _ in candidates], model="teacher")
        best: dict[int, tuple[float, str]] = {}
        for (candidate, number), score in zip(candidates, scores, strict=True):
            if number not in best or score > best[number][0]:
                best[number] = score, candidate.context
        explained = []
        for number, example in enumerate(examples):
            rationale = data_examples.with_target(
                example,
                best[number][1],
                id=f"{example.id} {RATIONALE}",
                role=RATIONALE,
                question=EXPLAIN + example.question,
            )
            explained += [example, rationale]
        return explained

    def generates(self, decision: str) -> dict[str, float]:
        """The teacher reads each context's sentences, which takes about as much as to answer."""
        return {"teacher": 1.0} if decision == "data" else {}

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """Cross-entropy per token of answers and of rationales."""
        values = cross_entropy(student.logits, student.targets)
        rationale = student.where(RATIONALE)[student.sequences]
        return {GOLD: values[~rationale], RATIONALE: values[rationale]}

    def count(self, term: str, rows: Sequence[Pack]) -> float:
        """The tokens of a term's answers."""
        return sum(
            length
            for row in rows
            for length, sequence_role in zip(row.target_lengths, row.roles, strict=True)
            if sequence_role == term
        )


def sentences(text: str) -> list[str]:
    """The sentences of a text, by the marks that end them; a text without any is one."""
    return [part.strip() for part in SENTENCE.findall(text) if part.strip()] or [text]
