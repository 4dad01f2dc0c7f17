"""Rows with answers that the student gives itself, drawn anew at every step.

Try it: python -m pytest tests/methods/test_on_policy.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from studylib.data import examples as data_examples
from studylib.data.examples import SAMPLED
from studylib.data.packing import Pack, with_branches
from studylib.methods.base import Ask, Sampler


def sampled(
    rows: Sequence[Pack], sampler: Sampler, ask: Ask, *, temperature: float = 1.0
) -> list[Pack]:
    """The rows with answers that the student gives now in the place of those to learn.

    Each question is answered by random numbers of its own and of this step. An answer is taken as
    text: its first line, in the tokenizer's own tokens, with EOS after it, even where the student
    was stopped by the longest answer's length.
    """
    questions = [branch.question for row in rows for branch in row.asked]
    asked = [
        replace(data_examples.of(question), id=f"{question.id} {SAMPLED} {sampler.step}")
        for question in questions
    ]
    texts = ask.answers(asked, model="student", temperature=temperature)
    answered = [
        data_examples.with_target(example, text, role=SAMPLED)
        for example, (text,) in zip(asked, texts, strict=True)
    ]
    branches = {branch.question.id: branch for row in ask.rows(answered) for branch in row.asked}
    drawn = (branches[example.id] for example in asked)
    return [with_branches(row, [next(drawn) for _ in row.asked]) for row in rows]
