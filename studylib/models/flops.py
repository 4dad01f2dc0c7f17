"""FLOPs of a model's passes, counted by torch on a copy on the meta device: the model needs no
weights.

Matrix products count, two FLOPs for each multiplication with its addition; what is done element by
element does not. `FlopCounterMode` counts attention over all pairs of a row's tokens, so that a row
of T tokens takes a T + b T²: rows of two lengths give both. The study counts b for each pair of
tokens that see each other, whether or not a kernel computes the masked pairs, too. The backward
pass is counted as autograd makes it, so frozen weights take no gradient; nothing is recomputed in
it. Blocks whose weights have the same names and shapes are alike: one of them is counted.

counted(prune.hollow(config, 30, None)).training.flops(tokens, pairs, logits)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from studylib.core.libraries import torch, transformers
from studylib.data.packing import collate, pack
from studylib.data.prompts import Prompt
from studylib.models import parts, prune

TOKENS = 16  # of the shorter row that is counted; the other has twice as many


@dataclass(frozen=True)
class Pass:
    """FLOPs of a pass: for each token, for each pair of tokens that see each other, and for each
    token whose logits are computed."""

    token: float
    pair: float
    logit: float

    def flops(self, tokens: float, pairs: float, logits: float) -> float:
        """FLOPs for so many of them."""
        return self.token * tokens + self.pair * pairs + self.logit * logits


class Passes(NamedTuple):
    """A forward pass, and one of training: forward and backward."""

    forward: Pass
    training: Pass


COUNTED: dict[tuple[str, int], Passes] = {}


def counted(model: transformers.PreTrainedModel) -> Passes:
    """The passes of a model, in training of its weights that are not frozen; of a configuration and
    so many weights they are counted once in a process."""
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    key = (model.config.to_json_string(), trained)
    if key not in COUNTED:
        COUNTED[key] = _counted(model)
    return COUNTED[key]


def _counted(model: transformers.PreTrainedModel) -> Passes:
    kinds: list[object] = [
        tuple((name, weight.shape) for name, weight in block.named_parameters())
        for block in parts.layers(model)
    ]
    kinds[0] = "first"  # apart: its input has no gradient where embeddings are frozen
    times = Counter(kinds)
    part = prune.cut(model, [kinds.index(kind) for kind in times])
    part.to("meta")  # type: ignore[arg-type]  # what wraps `to` hides its arguments
    part.set_experts_implementation("batched_mm")  # others depend on where tokens are routed to
    short, long = (_row(part, tokens, list(times.values())) for tokens in (TOKENS, 2 * TOKENS))
    pair = (long - 2 * short) / (2 * TOKENS**2)
    state = torch.empty(1, model.config.hidden_size, device="meta", requires_grad=True)
    head = _products(partial(part.get_output_embeddings(), state))["Global"]
    passes = np.stack([short / TOKENS - TOKENS * pair, pair, head], 1)
    return Passes(*(Pass(*row) for row in passes.tolist()))


def _row(model: transformers.PreTrainedModel, tokens: int, times: Sequence[int]) -> np.ndarray:
    """FLOPs (2,) of the passes of a row without logits, through each block so many `times`."""
    products = _products(
        partial(parts.hidden_states, model, collate([pack(Prompt([0] * tokens, []))]))
    )
    name = f"{type(model.base_model).__name__}.layers"
    return sum(
        ((count - 1) * products[f"{name}.{place}"] for place, count in enumerate(times)),
        products["Global"],
    )


def _products(forward: Callable[[], torch.Tensor]) -> dict[str, np.ndarray]:
    """FLOPs (2,) of a forward pass, and of it with its backward pass, by module and in all."""
    from torch.utils.flop_counter import FlopCounterMode  # loads torch

    with FlopCounterMode(display=False) as counter:
        result = forward()
        reading = counter.get_flop_counts()
        result.sum().backward()
    counts = (reading, counter.get_flop_counts())
    return {
        name: np.array([sum(count.get(name, {}).values()) for count in counts])
        for name in counts[1]
    }
