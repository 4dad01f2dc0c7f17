"""MiniMA: the law of capacity gap.  Zhang et al. 2023, arXiv:2311.07052;
GeneZC/MiniMA: minima/run_distillation_llama_ds.py

    L = (1 − soft) CE − soft Σ p log q                       soft 0.5, T 1, lr 3e-4, 1 epoch

Here: p is the teacher and q the student at all tokens of a row: of the context, of the questions
and of the answers. The soft cross-entropy is the teacher's entropy where the two are equal, not 0.
The law, that a student does best under a teacher of some 2.5 times its size, is fitted on the
teacher sizes of `capacity_gap`. Students are pruned as the paper's are with
`pruning_criterion: gradient` in `training`, as far as neurons go.
Left out: pretraining text; pruned heads and hidden dimensions.  Source: code.
Run: study run params/tiny/methods.yaml --only minima      Test: tests/methods/test_minima.py
"""

from __future__ import annotations

from collections.abc import Sequence

from studylib.core.libraries import torch
from studylib.methods.base import Method, Signals
from studylib.methods.divergences import soft_cross_entropy
from studylib.methods.objective import cross_entropy
from studylib.methods.options import Share
from studylib.methods.views import View, mean_logits


class Minima(Method):
    """The text and the teacher's distributions, at all tokens."""

    signals = Signals(at="all")

    def __init__(self, *, soft: Share = 0.5):
        self.soft = soft

    @property
    def weights(self) -> dict[str, float]:
        """`soft` for the teacher's distributions, the rest for the text."""
        return {"text_cross_entropy": 1 - self.soft, "soft_cross_entropy": self.soft}

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """Both per token, in nats."""
        everywhere = student.at("all")
        target = mean_logits([teacher.at("all") for teacher in teachers])
        return {
            "text_cross_entropy": cross_entropy(everywhere.logits, everywhere.targets),
            "soft_cross_entropy": soft_cross_entropy(everywhere.logits, target),
        }
