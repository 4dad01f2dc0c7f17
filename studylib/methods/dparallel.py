"""dParallel: certainty-forcing distillation, for answers in fewer steps.  Chen et al. 2025,
arXiv:2509.26488; czg1225/dParallel: llada_train.py, generate.py

    L = CE + CE' + w (H + H')                    w 2 (LLaDA) or 1 (Dream), LoRA, lr 2e-5, 6 epochs
    H = entropy at temperature 0.5 where the likeliest token is the right one
    at test: a token is kept if its entropy is at most 0.5 nats, the others are asked again

Here: an added token of the vocabulary is the mask. Of each answer a random number of tokens, maybe
none, is read as it is, the rest as masks; every place predicts its next token, masked or not. The
losses are those of plain distillation (forward KL to the teacher, which reads the answer without
masks, and half the cross-entropy) and w H, each over all answer tokens of a step. The way
`parallel` reads `block` − 1 masks after the last token that is known, so it gets up to `block`
tokens a step: the first, and those after it as long as they are certain. The student is causal, so
the first uncertain token ends a step. Steps are fewer, FLOPs are not: masks are read, too.
Left out: LLaDA's two-way attention and scale, the complementary mask (CE', H'), H at masked places
alone (here at all answer tokens), answers that the student itself gave before.  Source: code.
Run: study run params/tiny/methods.yaml --only dparallel   Test: tests/methods/test_dparallel.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from studylib.core.libraries import torch, transformers
from studylib.data.packing import Pack
from studylib.methods.base import Ask, Method, Sampler
from studylib.methods.divergences import forward_kl
from studylib.methods.objective import cross_entropy
from studylib.methods.options import Count, Positive
from studylib.methods.views import Teacher, View
from studylib.models import parts

PARALLEL = "parallel"


class Dparallel(Method):
    """Plain distillation with masks in the answers, and certainty where the student is right."""

    ways = ("", PARALLEL)

    def __init__(
        self,
        *,
        weight: Positive = 2.0,
        temperature: Positive = 0.5,
        block: Count = 4,
        entropy: Positive = 0.5,
    ):
        self.weight, self.temperature = weight, temperature
        self.block, self.entropy = block, entropy
        self.mask = -1  # the token, once the student has it

    @property
    def weights(self) -> dict[str, float]:
        """w for the entropy."""
        return {"cross_entropy": 0.5, "certainty": self.weight}

    def student(self, model: transformers.PreTrainedModel, teachers: Sequence[Teacher]) -> None:
        """Add the mask token, the last of its vocabulary; several stages share it."""
        if getattr(model.config, "mask_token_id", None) is None:
            parts.add_token(model)
            model.config.mask_token_id = _mask(model)
        self.mask = model.config.mask_token_id

    def batch(self, sampler: Sampler, ask: Ask) -> list[Pack]:
        """The rows of every training, the ends of their answers masked."""
        random = sampler.random()
        return [masked(row, self.mask, random) for row in sampler.next()]

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """Each per token."""
        logits, targets = student.logits, student.targets
        return {
            "forward_kl": forward_kl(logits, teachers[0].logits),
            "cross_entropy": cross_entropy(logits, targets),
            "certainty": certainty(logits, targets, self.temperature),
        }

    def answer(
        self,
        model: transformers.PreTrainedModel,
        way: str,
        plain: Callable[..., Any],
    ) -> Any:
        """A token at a time, or up to `block`."""
        masks = [_mask(model)] * (self.block - 1)
        return plain(model, masks=masks, entropy=self.entropy) if way == PARALLEL else plain(model)


def certainty(logits: torch.Tensor, targets: torch.Tensor, temperature: float) -> torch.Tensor:
    """The entropy of softened distributions where the likeliest token is the target, in nats, and 0
    elsewhere; (N, V) and (N,) -> (N,)."""
    logs = (logits.float() / temperature).log_softmax(-1)
    return -(logs.exp() * logs).sum(-1) * (logits.argmax(-1) == targets)


def masked(row: Pack, mask: int, random: np.random.Generator) -> Pack:
    """The row with masks in the place of each answer's last tokens, maybe of all. What is predicted
    where stays."""
    ids, start = list(row.ids), 0
    for length in row.target_lengths:
        read = row.answers.at[start + 1 : start + length]  # the answer's tokens but its end
        for place in read[random.integers(0, len(read) + 1) :]:
            ids[place] = mask
        start += length
    return replace(row, ids=ids)


def _mask(model: transformers.PreTrainedModel) -> int:
    """The mask token of a student: the last row of its embeddings."""
    return model.config.vocab_size - 1
