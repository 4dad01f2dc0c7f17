"""Answers that the student samples while it learns, token by token, corrected by its teacher.

Each token takes a pass over the rows whose answers are open, without keys and values kept; so this
is for short answers. Try it: python -m pytest tests/methods/test_revisions.py
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

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
    rows: Sequence[Pack],
    ask: Ask,
    random: np.random.Generator,
    *,
    longest: int,
    temperature: float = 1.0,
) -> list[Pack]:
    """The rows with the student's answers in the place of those to learn: sampled, corrected by the
    teacher at a token, and sampled again after it; of up to `longest` tokens."""
    begun: list[list[int]] = [[] for row in rows for _ in row.asked]
    first, second = random.random((2, len(begun), longest))
    samples = continued(rows, begun, ask, first, temperature)
    if samples:
        student, (teacher, *_) = ask.views(with_answers(rows, samples))
        begun = corrected(student.logits, teacher.logits, samples)
    return with_answers(rows, continued(rows, begun, ask, second, temperature))


def continued(
    rows: Sequence[Pack],
    answers: Sequence[list[int]],
    ask: Ask,
    draws: np.ndarray,
    temperature: float = 1.0,
) -> list[list[int]]:
    """The student's answers to all questions of some rows, each from its tokens so far to its end,
    or to as many tokens as there are `draws`.

    `draws` (S, L) are numbers from 0 to 1 that choose the tokens: the L of an answer are its own,
    whatever else is asked. An answer ends with the token that ends the answer to learn.
    """
    asked = [branch for row in rows for branch in row.asked]
    answers, (_, longest) = [list(tokens) for tokens in answers], draws.shape
    while going := [
        number
        for number, tokens in enumerate(answers)
        if len(tokens) < longest and tokens[-1:] != asked[number].target[-1:]
    ]:
        chosen = [draws[number, len(answers[number])] for number in going]
        logits = _next(rows, answers, going, ask)
        for number, token in zip(going, _drawn(logits / temperature, chosen), strict=True):
            answers[number].append(token)
    return answers


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


def _next(
    rows: Sequence[Pack], answers: Sequence[list[int]], going: Sequence[int], ask: Ask
) -> torch.Tensor:
    """The student's logits (G, V) for the next token of the answers that go on; the target there is
    never read."""
    numbers, open_rows = iter(range(len(answers))), []
    for row in rows:
        branches = [
            replace(branch, target=[*answers[number], 0])
            for branch, number in zip(row.asked, numbers, strict=False)
            if number in going
        ]
        open_rows += [with_branches(row, branches)] if branches else []
    student, _ = ask.views(open_rows)
    with torch.no_grad():
        return student.head(student.hidden(-1)[student.lengths.cumsum(0) - 1])


def _drawn(logits: torch.Tensor, chosen: Sequence[float]) -> list[int]:
    """Of each distribution (G, V) the token at which the sum of probabilities passes a number."""
    up_to = logits.double().softmax(-1).cumsum(-1)
    places = up_to.new_tensor(chosen)[:, None] * up_to[:, -1:]
    tokens = torch.searchsorted(up_to, places, right=True)
    return tokens.clamp_max(logits.shape[1] - 1)[:, 0].tolist()
