"""Distiller: inner layers by mutual information (MI-α), after Distiller.  He et al. 2021,
arXiv:2109.11105

    L = CE + KL(p_T ‖ p_S) + w mean over pairs of blocks of (log T − I_alpha(h_S, h_T))
    I_alpha = 1 + E_joint[f − log g] − E_product[exp f / g],  g = alpha m + (1 − alpha) q
                                                   f a critic, m the mean of exp f, q a baseline

Here: `features.mi_alpha` on the states of all tokens of a row: f is their cosine over
`temperature`, m is over the row's teacher states for each student state, q is 1. At alpha = 1 it is
InfoNCE. `mapping` names the teacher's block for each of the student's: `kept` is the block whose
output it stands for since it was cut, `skip` spreads evenly, `last` takes the last ones. Where
widths differ, states come through trained projections. The losses of plain distillation are beside
it: forward KL, and half the cross-entropy. `inner` names another loss on states, without alpha and
temperature, and `soft` another one on distributions. `study search` chooses among all of these.
Left out: augmentation by new text, mappings by the earth mover's distance, and AutoDistiller, which
predicts the best pipeline over GLUE.  Source: from memory.
Run: study run params/tiny/methods.yaml --only distiller   Test: tests/methods/test_distiller.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from studylib.core.errors import StudyError
from studylib.core.libraries import torch, transformers
from studylib.methods.base import Method
from studylib.methods.objective import Objective
from studylib.methods.options import Positive, Share
from studylib.methods.views import Teacher, View
from studylib.models import parts

Pairing = Literal["kept", "skip", "last"]
Inner = Literal[
    "hidden_mse", "hidden_cosine", "token_relation", "mi_alpha", "neighbour_kl", "axis_cosine"
]
Soft = Literal[
    "forward_kl",
    "reverse_kl",
    "jsd",
    "skewed_forward_kl",
    "skewed_reverse_kl",
    "adaptive_kl",
    "total_variation",
    "top_k_kl",
    "top_p_kl",
]


class Distiller(Objective):
    """Forward KL, cross-entropy, and what states of paired blocks say of each other."""

    title = Method.title
    versions = Method.versions

    def __init__(
        self,
        *,
        alpha: Share = 0.9,
        mapping: Pairing = "kept",
        weight: Positive = 1.0,
        temperature: Positive = 0.1,
        inner: Inner = "mi_alpha",
        soft: Soft = "forward_kl",
    ):
        how = {"alpha": alpha, "temperature": temperature} if inner == "mi_alpha" else {}
        super().__init__(losses={soft: 1.0, "cross_entropy": 0.5, inner: {"weight": weight} | how})
        self.mapping = mapping

    def student(self, model: transformers.PreTrainedModel, teachers: Sequence[Teacher]) -> None:
        """Make projections where they are needed. Raises StudyError where the teacher has too few
        blocks to pair."""
        super().student(model, teachers)
        teacher = teachers[0].model
        assert teacher is not None, "it was asked for"
        depth, teacher_depth = len(parts.layers(model)), len(parts.layers(teacher))
        if self.mapping == "last" and depth > teacher_depth:
            raise StudyError(
                f"mapping last of distiller: the student has {depth} blocks, its teacher only"
                f" {teacher_depth}: take `skip`."
            )

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """Each term per token; that of inner layers for the blocks that `mapping` pairs."""
        teacher = teachers[0]
        if self.mapping != "kept":
            blocks = paired(self.mapping, student.depth, teacher.depth)
            teacher = replace(teacher, aligned=blocks, _others={})
        return super().loss(student, [teacher])


def paired(mapping: str, depth: int, teacher_depth: int) -> list[int]:
    """The teacher's block (from 0) for each of the student's: `skip` takes the last block of each
    of `depth` even parts, `last` the last blocks."""
    if mapping == "last":
        return list(range(teacher_depth - depth, teacher_depth))
    return [-(-(block + 1) * teacher_depth // depth) - 1 for block in range(depth)]
