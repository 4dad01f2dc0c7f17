"""Packs: one context with all its questions in one row, the shared prefix once, a branch per question.

Exact: a branch sees the prefix and itself, and its positions go on from the prefix, so every hidden state
is what it would be with one question per row. Try it: python -m pytest tests/test_packing.py
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from studylib.prompts import Prompt
from studylib.runs import digest

RECIPE = 1


@dataclass(frozen=True)
class Pack:
    """One row: token ids, positions and branch number per token (0 is the prefix), and what is learnt where.

    `at` are the places whose next token is an answer token (EOS included), `targets` those tokens.
    """

    ids: list[int]
    positions: list[int]
    branches: list[int]
    at: list[int]
    targets: list[int]
    question_ids: tuple[str, ...]

    @cached_property
    def digest(self) -> str:
        """Names the row by its questions, inputs and targets."""
        return digest([self.question_ids, self.ids, self.branches, self.at, self.targets])


def pack(prompt: Prompt) -> Pack:
    """Lay a prompt out as one row. The last token of an answer (EOS) is a target but no input."""
    ids, positions, branches = list(prompt.prefix), list(range(len(prompt.prefix))), [0] * len(prompt.prefix)
    at: list[int] = []
    targets: list[int] = []
    for number, branch in enumerate(prompt.branches, start=1):
        at += range(len(ids) + len(branch.given) - 1, len(ids) + len(branch.given) - 1 + len(branch.target))
        targets += branch.target
        tokens = branch.given + branch.target[:-1]
        positions += range(len(prompt.prefix), len(prompt.prefix) + len(tokens))
        branches += [number] * len(tokens)
        ids += tokens
    return Pack(ids, positions, branches, at, targets, tuple(b.question.id for b in prompt.branches))


def unpack(prompt: Prompt) -> list[Pack]:
    """The same prompt with one question per row: what packing is compared with."""
    return [pack(Prompt(prompt.prefix, [branch])) for branch in prompt.branches]


@dataclass(frozen=True)
class Batch:
    """Rows padded on the right: ids and positions (B, T), mask (B, 1, T, T) True where attention may look,
    `at` (N,) indices into the flattened (B·T) tokens, targets (N,), real (B, T) True on tokens."""

    ids: Tensor
    positions: Tensor
    mask: Tensor
    at: Tensor
    targets: Tensor
    real: Tensor


def collate(packs: Sequence[Pack], padding: int = 0, multiple: int = 1) -> Batch:
    """Stack packs. `padding` is any token id: padded places are masked by length, never by their token."""
    length = max(len(p.ids) for p in packs)
    length += -length % multiple
    ids = torch.full((len(packs), length), padding)
    positions = torch.zeros_like(ids)
    branches = torch.full_like(ids, -1)
    for row, p in enumerate(packs):
        ids[row, : len(p.ids)] = torch.tensor(p.ids)
        positions[row, : len(p.ids)] = torch.tensor(p.positions)
        branches[row, : len(p.ids)] = torch.tensor(p.branches)
    at = torch.tensor([row * length + place for row, p in enumerate(packs) for place in p.at])
    targets = torch.tensor([token for p in packs for token in p.targets])
    return Batch(ids, positions, branch_mask(branches), at, targets, branches >= 0)


def branch_mask(branches: Tensor) -> Tensor:
    """(B, T) branch numbers, -1 on padding -> (B, 1, T, T): True where a query (row) may see a key (column).

    A token sees earlier ones of the prefix and of its own branch. Padding sees itself, so that no row is empty.
    """
    query, key = branches[:, :, None], branches[:, None, :]
    causal = torch.ones(branches.shape[1], branches.shape[1], dtype=torch.bool).tril()
    return ((causal & ((key == 0) | (key == query))) | torch.eye(branches.shape[1], dtype=torch.bool))[:, None]


def schedule(lengths: Sequence[int], *, size: int, steps: int, seed: int, window: int = 16) -> list[list[int]]:
    """The order of training: `steps` batches of `size` indices, alike in length within a batch.

    Every epoch shuffles anew; within windows of `window` batches rows are sorted by length, then the
    batches shuffled. Depends on nothing but its arguments.
    """
    rng = np.random.default_rng(seed)
    size = min(size, len(lengths))
    batches: list[list[int]] = []
    while len(batches) < steps:
        order = rng.permutation(len(lengths))
        epoch = []
        for start in range(0, len(order), size * window):
            near = sorted(order[start : start + size * window], key=lambda index: (lengths[index], index))
            epoch += [[int(i) for i in near[j : j + size]] for j in range(0, len(near) - size + 1, size)]
        batches += [epoch[i] for i in rng.permutation(len(epoch))]
    return batches[:steps]
