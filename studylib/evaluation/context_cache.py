"""Keys and values of contexts, with room for what follows in each. The tokens of a step are laid
end to end: none of them is padding.

cache = ContextCache(keys_and_values, branches)
mask = cache.extend(rows, branches)
with parts.attention_by(model, cache.attend):
    states = parts.following(model, cache, input_ids=ids[None], attention_mask=mask, …)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from studylib.core.libraries import torch, transformers

HIDDEN = -1  # the branch of what no question sees
ROOM = 64  # tokens of a context that there is more room for, when there is too little


class ContextCache:
    """A cache of G contexts, as models of transformers fill it. `branches` (G, S) name the question
    that each token belongs to; 0 is the context, which all see."""

    def __init__(self, cache: transformers.DynamicCache, branches: torch.Tensor):
        layers: list[Any] = cache.layers
        self.layers = [(layer.keys, layer.values) for layer in layers]  # (G, groups, S, d) each
        self.branches = branches
        self.used = torch.full_like(branches[:, 0], branches.shape[1])

    def keep(self, rows: Sequence[int]) -> None:
        """Leave out all contexts but these."""
        kept = torch.tensor(rows, device=self.branches.device)
        self.layers = [(keys[kept], values[kept]) for keys, values in self.layers]
        self.branches, self.used = self.branches[kept], self.used[kept]

    def extend(self, rows: torch.Tensor, branches: torch.Tensor) -> torch.Tensor:
        """Note the tokens of the next step, by the contexts and branches (N,) of each, those of one
        context after one another. Returns what is added to their scores (G, 1, W, S), W being the
        most of a context: 0, or -inf where a token does not see another."""
        counts = rows.bincount(minlength=len(self.used))
        slots = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
        columns = self.used[rows] + slots
        self.step, self.used = (rows, slots, columns), self.used + counts
        self.length = int(self.used.max())
        self._make_room()
        self.branches[rows, columns] = branches
        others = self.branches[rows, : self.length]  # (N, S)
        sees = (others == 0) | (others == branches[:, None])
        sees &= torch.arange(others.shape[1], device=rows.device) <= columns[:, None]
        shape = len(self.used), 1, int(counts.max()), others.shape[1]
        mask = torch.zeros(shape, device=rows.device)
        mask[rows, 0, slots] = torch.where(sees, 0.0, -torch.inf)
        return mask

    def hide(self, hidden: torch.Tensor) -> None:
        """Let no later token see those of this step that are `hidden` (N,)."""
        rows, _, columns = self.step
        self.branches[rows[hidden], columns[hidden]] = HIDDEN

    def _make_room(self) -> None:
        if self.length > self.branches.shape[1]:
            pad, more = torch.nn.functional.pad, self.length - self.branches.shape[1] + ROOM
            self.branches = pad(self.branches, (0, more), value=HIDDEN)
            self.layers = [
                (pad(keys, (0, 0, 0, more)), pad(values, (0, 0, 0, more)))
                for keys, values in self.layers
            ]

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *args: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take in a layer's keys and values (1, groups, N, d) of the step; returns all of them, (G,
        groups, S, d) each."""
        rows, _, columns = self.step
        for held, given in zip(self.layers[layer], (keys, values), strict=True):
            held[rows, :, columns] = given[0].transpose(0, 1).to(held.dtype)
        keys, values = self.layers[layer]
        return keys[:, :, : self.length], values[:, :, : self.length]

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
        N, d) -> (1, N, heads, d), without dropout. Heads that share keys and values ask them
        together."""
        (rows, slots, _), (contexts, groups, _, size) = self.step, key.shape
        heads, width = query.shape[1], mask.shape[2]
        asked = query.new_zeros(contexts, heads, width, size)
        asked[rows, :, slots] = query[0].transpose(0, 1)
        mixed = torch.nn.functional.scaled_dot_product_attention(
            asked.view(contexts, groups, -1, size),
            key,
            value,
            attn_mask=mask.to(query.dtype).repeat(1, 1, heads // groups, 1),
            scale=scaling,
        )
        return mixed.view(asked.shape)[rows, :, slots][None], None
