"""Distillation for out-of-distribution generalisation.  Li et al. 2023, arXiv:2307.03135;
xuanlinli17/large_vlm_distillation_ood: main_experiments.py

    L = L_cls + L_vlalign + L_mse + L_cst                            all weights 1
    L_vlalign = KL over the teacher's k likeliest classes, where the teacher is right       k 256
    L_mse = |s − t|²,  L_cst = ½ (InfoNCE(s, t) + InfoNCE(t, s)),  |s| = |t| = 1        tau 0.07

Here: the classes are next tokens, L_cls is the cross-entropy of the gold answer. An item is a
question; the teacher is right where each token of the gold answer, its end included, is the
likeliest to it, so where its greedy answer is the gold one. The classes outside the k share a
bucket; the official code leaves them out. The KL is a mean over all answer tokens, those of wrong
items counting 0; the official code averages over right items. s and t are the last hidden states at
answer tokens of all items, the student's through a trained projection where widths differ. InfoNCE
tells the tokens of a row apart, the official one the images of a batch. What is learnt shows on
test sets of another domain.
Left out: images, captions by a language model.  Source: paper and code.
Run: study run params/tiny/methods.yaml --only vlm_ood     Test: tests/methods/test_vlm_ood.py
"""

from __future__ import annotations

from collections.abc import Sequence

from studylib.core.libraries import torch, transformers
from studylib.methods import features
from studylib.methods.base import Method, Signals
from studylib.methods.divergences import top_k_kl
from studylib.methods.objective import cross_entropy
from studylib.methods.options import Count, Positive
from studylib.methods.views import Teacher, View


class VlmOod(Method):
    """Gold answers, the teacher's likeliest tokens where it is right, and its states everywhere."""

    signals = Signals(what="hidden", online=True)

    def __init__(self, *, k: Count = 256, tau: Positive = 0.07):
        self.k, self.tau = k, tau

    def student(self, model: transformers.PreTrainedModel, teachers: Sequence[Teacher]) -> None:
        """Leave the model as it is; make the projection to the teacher's width beside it."""
        self.state.projection = features.bridge(model, teachers[0].model)

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """Each term per answer token."""
        teacher = teachers[0]
        divergence = top_k_kl(student.logits, teacher.logits, k=self.k)
        distances, contrasts = zip(
            *map(self._on_row, student.hidden_rows(-1), teacher.hidden_rows(-1)), strict=True
        )
        return {
            "cross_entropy": cross_entropy(student.logits, student.targets),
            "top_k_kl": divergence * right(teacher)[teacher.sequences],
            "feature_mse": torch.cat(distances),
            "contrastive": torch.cat(contrasts),
        }

    def _on_row(
        self, student: torch.Tensor, teacher: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Both losses on the states of a row's answer tokens, (T, d) of student and teacher -> (T,)
        each."""
        with torch.autocast(student.device.type, enabled=False):
            states, targets = self.state.projection(student.float()), teacher.float()
            there = features.mi_alpha(states, targets, temperature=self.tau)
            back = features.mi_alpha(targets, states, temperature=self.tau)
            # of states of length 1 it is twice 1 - cos
            return 2 * features.hidden_cosine(states, targets), (there + back) / 2


def right(teacher: View) -> torch.Tensor:
    """(S,) True on the answers all of whose tokens are the likeliest to the teacher."""
    hits = teacher.logits.argmax(-1) == teacher.targets
    return teacher.per_sequence(hits.long()) == teacher.lengths
