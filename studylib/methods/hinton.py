"""Knowledge distillation by soft and hard targets.  Hinton et al. 2015, arXiv:1503.02531

    L = T² KL(p_T ‖ q_T) + hard CE(gold)                     T 2, hard 0.5

Here: p_T and q_T are the teacher's and the student's distributions at answer tokens, their logits
divided by T. The KL stands for the paper's cross-entropy with soft targets, which has the same
gradient; T² keeps that gradient's size whatever T is. As the paper advises, gold answers weigh
less than soft targets; T and the weight are those of its speech experiments (§4, from memory). At
T = 1 it is plain distillation. To see what fidelity is worth, the teacher's logits can be
disturbed: `noise` is the standard deviation of what is added to each of them, the same whenever
the row is met.
Left out: ensembles as teachers, specialists.  Source: at second hand (§2).
Run: study run params/tiny/methods.yaml --only hinton      Test: tests/methods/test_hinton.py
"""

from __future__ import annotations

from collections.abc import Sequence

from studylib.core.libraries import torch
from studylib.data.packing import Pack
from studylib.methods.base import Method
from studylib.methods.divergences import forward_kl
from studylib.methods.objective import cross_entropy
from studylib.methods.options import NotNegative, Positive, Share
from studylib.methods.views import View, mean_logits


class Hinton(Method):
    """Softened distributions of the teacher, and gold answers beside them."""

    def __init__(self, *, temperature: Positive = 2.0, hard: Share = 0.5, noise: NotNegative = 0.0):
        self.temperature, self.hard, self.noise = temperature, hard, noise

    @property
    def weights(self) -> dict[str, float]:
        """`hard` for gold answers."""
        return {"cross_entropy": self.hard}

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """Both per token, in nats; the first times T²."""
        target, how = mean_logits(teachers), {"temperature": self.temperature}
        if self.noise:
            target = target + self.noise * noise_of(student.rows, target)
        return {
            "softened_kl": forward_kl(student.logits, target, **how),
            "cross_entropy": cross_entropy(student.logits, student.targets),
        }


def noise_of(rows: Sequence[Pack], logits: torch.Tensor) -> torch.Tensor:
    """Standard normal numbers for logits (N, V) at the answers of some rows; those of a row are its
    own, whatever else is beside it."""
    drawn = [
        torch.randn(
            len(row.answers.at),
            logits.shape[1],
            generator=torch.Generator().manual_seed(int(row.digest[:8], 16)),
        )
        for row in rows
    ]
    return torch.cat(drawn).to(logits.device)
