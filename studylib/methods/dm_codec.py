"""DM-Codec: features along the sequence, of each teacher.  Ahasan et al. 2024, arXiv:2410.15017;
mubtasimahasan/DM-Codec: codec/trainer/loss.py (d_axis_distill_loss)

    L = CE − weight mean over teachers and features d of log σ(cos(s[:, d], t[:, d]))       weight 1

Here: the cosine of each feature runs over the tokens of a row. Each kept block's states are
compared, and rows weigh by their tokens, which are as many in each row of the paper. Projections to
a teacher's width, where it differs, are learnt for each teacher. CE is that of gold answers.
Assumed: the weight; the paper's 120 stands beside the losses of a codec.
Left out: speech, the teachers BERT and HuBERT: those that a run has, one or more, stand for them.
Source: paper and code.
Run: study run params/tiny/methods.yaml --only dm_codec    Test: tests/methods/test_dm_codec.py
"""

from __future__ import annotations

from collections.abc import Sequence

from studylib.core.libraries import torch, transformers
from studylib.data.packing import Pack
from studylib.methods.base import Method, Signals
from studylib.methods.objective import Objective
from studylib.methods.options import Positive
from studylib.methods.views import Teacher, View

AXIS = "axis_cosine"


class DmCodec(Method):
    """Gold answers, and the course of each feature over the tokens as the teachers have it."""

    signals = Signals(teachers=-1, what="hidden", online=True)

    def __init__(self, *, weight: Positive = 1.0):
        self.losses = {"cross_entropy": 1.0, AXIS: weight}
        self.objectives: list[Objective] = []  # by teacher, each with projections to its width

    def initial_state(self) -> torch.nn.Module:
        """Projections, by teacher."""
        return torch.nn.ModuleDict()

    @property
    def weights(self) -> dict[str, float]:
        """1 for the gold answers."""
        return self.losses

    def student(self, model: transformers.PreTrainedModel, teachers: Sequence[Teacher]) -> None:
        """Leave the model as it is; make the projections that each teacher needs."""
        self.objectives = [Objective(losses=self.losses) for _ in teachers]
        for number, (objective, teacher) in enumerate(zip(self.objectives, teachers, strict=True)):
            objective.student(model, [teacher])
            self.state[str(number)] = objective.state

    def follow(self, earlier: Method) -> None:
        """Go on with the projections of an earlier stage."""
        if isinstance(earlier, DmCodec):
            for number, objective in enumerate(self.objectives):
                objective.follow(earlier.objectives[number])

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """Cross-entropy per token of the answers, −log σ(cos) per token of the rows, each the mean
        over teachers."""
        by_teacher = [
            objective.loss(student, [teacher])
            for objective, teacher in zip(self.objectives, teachers, strict=True)
        ]
        return {
            term: torch.stack([values[term] for values in by_teacher]).mean(0)
            for term in self.losses
        }

    def count(self, term: str, rows: Sequence[Pack]) -> float:
        """The tokens of the answers, or of the rows."""
        return self.objectives[0].count(term, rows)
