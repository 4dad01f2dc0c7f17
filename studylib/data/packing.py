"""Packs: one context with all its questions in one row, the shared prefix once, a branch per
question.

Exact: a branch sees the prefix and itself, and its positions go on from the prefix, so every hidden
state is what it would be with one question per row. Try it: python -m pytest
tests/data/test_packing.py
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np

from studylib.core.filesystem import digest
from studylib.core.libraries import torch
from studylib.data.examples import GOLD
from studylib.data.prompts import Branch, Prompt

Numbers = TypeVar("Numbers", list[int], "torch.Tensor")


@dataclass(frozen=True)
class Places(Generic[Numbers]):
    """Where next tokens are learnt (N,), and those tokens (N,)."""

    at: Numbers
    targets: Numbers


@dataclass(frozen=True)
class Pack:
    """One row: token ids, positions and branch number per token (0 is the prefix), and what is
    learnt where: the answers' tokens (EOS included), or all next tokens, those after the prefix
    once per branch; and what each branch asks."""

    ids: list[int]
    positions: list[int]
    branches: list[int]
    answers: Places[list[int]]
    all: Places[list[int]]
    asked: tuple[Branch, ...]

    @property
    def question_ids(self) -> tuple[str, ...]:
        """Those of its branches."""
        return tuple(branch.question.id for branch in self.asked)

    @property
    def roles(self) -> tuple[str, ...]:
        """The part that each answer plays in a loss."""
        return tuple(getattr(branch.question, "role", GOLD) for branch in self.asked)

    @property
    def target_lengths(self) -> tuple[int, ...]:
        """The tokens of each answer, EOS included."""
        return tuple(len(branch.target) for branch in self.asked)

    @cached_property
    def digest(self) -> str:
        """Names the row by its questions, inputs and targets."""
        return digest(
            [self.question_ids, self.ids, self.branches, self.answers.at, self.answers.targets]
        )


def pack(prompt: Prompt) -> Pack:
    """Lay a prompt out as one row. The last token of an answer (EOS) is a target but no input."""
    ids, positions, branches = (
        list(prompt.prefix),
        list(range(len(prompt.prefix))),
        [0] * len(prompt.prefix),
    )
    answers, every = Places([], []), Places(list(range(len(ids) - 1)), ids[1:])
    for number, branch in enumerate(prompt.branches, start=1):
        first, tokens = len(ids), branch.given + branch.target[:-1]
        answers.at.extend(range(first + len(branch.given) - 1, first + len(tokens)))
        answers.targets.extend(branch.target)
        every.at.extend([len(prompt.prefix) - 1, *range(first, first + len(tokens))])
        every.targets.extend(branch.given + branch.target)
        positions += range(len(prompt.prefix), len(prompt.prefix) + len(tokens))
        branches += [number] * len(tokens)
        ids += tokens
    return Pack(ids, positions, branches, answers, every, tuple(prompt.branches))


def select(row: Pack, chosen: Iterable[int]) -> Pack:
    """The row with some of its branches alone (counted from 0)."""
    return with_branches(row, [row.asked[number] for number in chosen])


def prefix(row: Pack) -> list[int]:
    """The tokens that all questions of a row see."""
    return row.ids[: row.branches.count(0)]


def with_branches(row: Pack, branches: Iterable[Branch]) -> Pack:
    """The context of a row with these questions and answers."""
    return pack(Prompt(prefix(row), list(branches)))


@dataclass(frozen=True)
class Batch:
    """Rows padded on the right: ids, positions and branches (B, T), these -1 on padding, the places
    of answers and of all next tokens in the flattened (B·T) tokens, the length of each row."""

    ids: torch.Tensor
    positions: torch.Tensor
    branches: torch.Tensor
    answers: Places[torch.Tensor]
    all: Places[torch.Tensor]
    lengths: tuple[int, ...]

    @cached_property
    def mask(self) -> torch.Tensor:
        """(B, 1, T, T) True where attention may look."""
        return branch_mask(self.branches)

    def to(self, device: torch.device) -> Batch:
        """The same on another device; to a GPU from pinned memory, so that nothing waits for the
        copy."""
        if self.ids.device == device:
            return self
        pinned = device.type == "cuda" and self.ids.device.type == "cpu"

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            return (tensor.pin_memory() if pinned else tensor).to(device, non_blocking=True)

        return replace(
            self,
            ids=moved(self.ids),
            positions=moved(self.positions),
            branches=moved(self.branches),
            answers=Places(moved(self.answers.at), moved(self.answers.targets)),
            all=Places(moved(self.all.at), moved(self.all.targets)),
        )

    @property
    def real(self) -> torch.Tensor:
        """(B, T) True on tokens, not on padding."""
        return self.branches >= 0


def collate(packs: Sequence[Pack]) -> Batch:
    """Stack packs. Padded places are masked by length, never by their token."""
    lengths = tuple(len(p.ids) for p in packs)
    return Batch(
        padded([p.ids for p in packs]),
        padded([p.positions for p in packs]),
        padded([p.branches for p in packs], -1),
        _stacked([p.answers for p in packs], max(lengths)),
        _stacked([p.all for p in packs], max(lengths)),
        lengths,
    )


def padded(rows: Sequence[Sequence[int]], filling: int = 0) -> torch.Tensor:
    """Rows of numbers, filled up on the right, (B, T)."""
    return torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(row, dtype=torch.long) for row in rows],
        batch_first=True,
        padding_value=filling,
    )


def _stacked(rows: Sequence[Places[list[int]]], length: int) -> Places[torch.Tensor]:
    """The places of all rows in the flattened tokens."""
    return Places(
        torch.tensor(
            [number * length + place for number, row in enumerate(rows) for place in row.at],
            dtype=torch.long,  # also where nothing is asked
        ),
        torch.tensor([target for row in rows for target in row.targets], dtype=torch.long),
    )


def branch_mask(branches: torch.Tensor) -> torch.Tensor:
    """(B, T) branch numbers, -1 on padding -> (B, 1, T, T): True where a query (row) may see a key
    (column).

    A token sees earlier ones of the prefix and of its own branch. Padding sees itself, so that no
    row is empty.
    """
    causal = torch.ones(
        branches.shape[1], branches.shape[1], dtype=torch.bool, device=branches.device
    ).tril()
    return (causal & visible(branches, branches)) | torch.eye(
        branches.shape[1], dtype=torch.bool, device=branches.device
    )


def visible(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Branch numbers of queries (B, Q) and of keys (B, K) -> (B, 1, Q, K): True on keys of the
    prefix and of the same branch."""
    return ((key[:, None] == 0) | (key[:, None] == query[:, :, None]))[:, None]


def schedule(
    lengths: Sequence[int], *, size: int, steps: int, seed: int, window: int = 16
) -> list[list[int]]:
    """The order of training: `steps` batches of `size` indices, alike in length within a batch.

    Every epoch shuffles anew, and leaves out by chance what fills no batch; within windows of
    `window` batches rows are sorted by length, then the batches shuffled. Depends on nothing but
    its arguments.
    """
    rng = np.random.default_rng(seed)
    size = min(size, len(lengths))
    batches: list[list[int]] = []
    while len(batches) < steps:
        order, epoch = rng.permutation(len(lengths))[: len(lengths) - len(lengths) % size], []
        for start in range(0, len(order), size * window):
            near = sorted(
                order[start : start + size * window], key=lambda index: (lengths[index], index)
            )
            epoch += [[int(i) for i in near[j : j + size]] for j in range(0, len(near), size)]
        batches += [epoch[i] for i in rng.permutation(len(epoch))]
    return batches[:steps]
