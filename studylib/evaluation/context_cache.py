"""Key-value cache of contexts whose answers go on. The tokens of a step are laid end to end: linear
layers see no padding. Attention alone pads each context to the most tokens of the step.

cache = ContextCache(keys_and_values, branches)
mask = cache.extend(rows, branches)
with parts.attention_by(model, cache.attend):
    states = parts.following(model, cache, input_ids=ids[None], attention_mask=mask, …)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from studylib.core.libraries import torch, transformers
from studylib.data.packing import visible

HIDDEN = -1  # branch of tokens that no later token sees
ROOM = 64  # columns that are added, beyond those that are needed, when the cache grows


class ContextCache:
    """Key-value cache of G contexts, with the `update` that transformers' models call. It takes the
    layers out of `cache`. `branches` (G, S) name the question of each token: 0 is the context,
    which all see."""

    def __init__(self, cache: transformers.DynamicCache, branches: torch.Tensor):
        self.branches, self.layers = branches, list[tuple[torch.Tensor, torch.Tensor]]()
        while layers := cache.layers:
            layer: Any = layers.pop(0)
            self.layers.append((layer.keys, layer.values))  # (G, groups, S, d) each
        self.used = [branches.shape[1]] * len(branches)
        self.length = branches.shape[1]
        self.step: tuple[torch.Tensor, ...] = ()  # contexts, slots and columns of its tokens

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these contexts alone, in this order."""
        kept = torch.tensor(rows, device=self.branches.device)
        for number, (keys, values) in enumerate(self.layers):
            self.layers[number] = keys[kept], values[kept]
        self.branches, self.used = self.branches[kept], [self.used[row] for row in rows]

    def extend(self, rows: Sequence[int], branches: Sequence[int]) -> torch.Tensor:
        """Take in the tokens of the next step, N in all, by context and branch; those of one
        context stand in their order. Returns the additive attention mask (G, 1, W, S), for up to W
        tokens of a context."""
        before, columns = list(self.used), []
        for row in rows:
            columns.append(self.used[row])
            self.used[row] += 1
        self.length, device = max(self.used), self.branches.device
        self._make_room()
        slots = [column - before[row] for row, column in zip(rows, columns, strict=True)]
        self.step = tuple(torch.tensor((rows, slots, columns), device=device))
        context, slot, column = self.step
        branch = torch.tensor(branches, device=device)
        self.branches[context, column] = branch
        others = self.branches[context, : self.length]  # (N, S)
        sees = visible(branch[:, None], others)[:, 0, 0]
        sees &= torch.arange(self.length, device=device) <= column[:, None]
        mask = torch.zeros(len(self.used), 1, max(slots) + 1, self.length, device=device)
        mask[context, 0, slot] = torch.where(sees, 0.0, -torch.inf)
        return mask

    def hide(self, hidden: torch.Tensor) -> None:
        """Let no later token see those of this step that are `hidden` (N,)."""
        context, _, column = self.step
        self.branches[context[hidden], column[hidden]] = HIDDEN

    def _make_room(self) -> None:
        if self.length > self.branches.shape[1]:
            pad, more = torch.nn.functional.pad, self.length - self.branches.shape[1] + ROOM
            self.branches = pad(self.branches, (0, more), value=HIDDEN)
            for number, (keys, values) in enumerate(self.layers):
                self.layers[number] = pad(keys, (0, 0, 0, more)), pad(values, (0, 0, 0, more))

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *args: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take in a layer's keys and values (1, groups, N, d) of the step; returns all of them, (G,
        groups, S, d) each."""
        context, _, column = self.step
        every = self.layers[layer]
        for held, given in zip(every, (keys, values), strict=True):
            held[context, :, column] = given[0].transpose(0, 1).to(held.dtype)
        return every[0][:, :, : self.length], every[1][:, :, : self.length]

    def attend(
        self,
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor,
        scaling: float | None = None,
        **more: Any,
    ) -> tuple[torch.Tensor, None]:
        """Attention of the step, as transformers' `AttentionInterface` has it: queries (1, heads,
        N, d) -> (1, N, heads, d), without dropout. Query heads that share keys and values need no
        copies of these."""
        (context, slot, _), (contexts, groups, _, size) = self.step, key.shape
        heads, width = query.shape[1], mask.shape[2]
        padded = query.new_zeros(contexts, heads, width, size)
        padded[context, :, slot] = query[0].transpose(0, 1)
        mixed = torch.nn.functional.scaled_dot_product_attention(
            padded.view(contexts, groups, -1, size),
            key,
            value,
            attn_mask=mask.to(query.dtype).repeat(1, 1, heads // groups, 1),
            scale=scaling,
        )
        return mixed.reshape(padded.shape)[context, :, slot][None], None
