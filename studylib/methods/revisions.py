"""Answers that the student samples while it learns, corrected by its teacher.

Try it: python -m pytest tests/methods/test_revisions.py
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from studylib.core.libraries import torch
from studylib.data.packing import Pack, with_branches
from studylib.methods.base import Ask
from studylib.methods.divergences import forward_kl


def with_answers(rows: Sequence[Pack], answers: Sequence[list[int]]) -> list[Pack]:
    """The rows with these answers' tokens in the place of those to learn."""
    given = iter(answers)
    return [
        with_branches(row, [replace(branch, target=next(given)) for branch in row.asked])
        for row in rows
    ]


def revised(
    rows: Sequence[Pack], ask: Ask, *, longest: int, temperature: float = 1.0
) -> list[Pack]:
    """The rows with the student's answers in the place of those to learn: sampled, corrected by the
    teacher at a token, and sampled again after it; of up to `longest` tokens."""
    continued = partial(ask.continued, rows, longest=longest, temperature=temperature)
    begun: list[list[int]] = [[] for row in rows for _ in row.asked]
    samples = continued(begun, number=0)
    if samples:
        student, (teacher, *_) = ask.views(with_answers(rows, samples))
        begun = corrected(student.logits, teacher.logits, samples)
    return with_answers(rows, continued(begun, number=1))


def corrected(
    student: torch.Tensor, teacher: torch.Tensor, samples: Sequence[list[int]]
) -> list[list[int]]:
    """Each sample up to the token at which KL(teacher ‖ student) is largest of those that are not
    the teacher's likeliest, which takes its place; whole where all are. Logits (N, V) are at all
    tokens of all samples."""
    likeliest = teacher.argmax(-1)
    tokens = [token for sample in samples for token in sample]
    errors = likeliest != torch.tensor(tokens, device=likeliest.device)
    distances = forward_kl(student, teacher).masked_fill(~errors, -math.inf)
    sizes, begun = [len(sample) for sample in samples], []
    parts = zip(samples, distances.split(sizes), likeliest.split(sizes), strict=True)
    for sample, distance, better in parts:
        worst = int(distance.argmax())
        agreed = distance[worst].item() == -math.inf
        begun.append(sample if agreed else [*sample[:worst], int(better[worst])])
    return begun
