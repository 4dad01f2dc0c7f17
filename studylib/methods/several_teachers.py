"""Several teachers, after the Romanian BERTs.  Avram et al. 2022, arXiv:2112.12650

    L = 5 mean_i T² KL(p_i ‖ q) + 2 CE + mean_i (1 − cos(s, h_i))                    T 2

Here: the recipe of DistilBERT (its published settings: weights 5, 2 and 1, T 2) with the mean over
teachers i of both terms that compare. KL and the loss of the text are means over answer tokens; the
cosine of the last hidden states is a mean over all tokens of a row, the student's states through a
trained projection for each teacher whose width differs. With one teacher it is DistilBERT's loss.
In the notebook `methods` the teachers are fine-tuned in different orders of the same questions.
That all terms are averaged over teachers with equal weights is assumed. The tables show label
loyalty (`agreement`) and probability loyalty to the first teacher.
Left out: masked language modelling on a pretraining corpus, regression loyalty.
Source: from memory.
Run: study run params/tiny/methods.yaml --only several_teachers
Test: tests/methods/test_several_teachers.py
"""

from __future__ import annotations

from collections.abc import Sequence

from studylib.core.libraries import torch, transformers
from studylib.data.packing import Pack
from studylib.methods import features
from studylib.methods.base import Method, Signals
from studylib.methods.divergences import forward_kl
from studylib.methods.objective import cross_entropy
from studylib.methods.options import Positive
from studylib.methods.views import Teacher, View


class SeveralTeachers(Method):
    """Distributions, hidden states and text, the mean over all teachers that are given."""

    signals = Signals(teachers=-1, what="hidden", online=True)

    def __init__(
        self,
        *,
        divergence: Positive = 5.0,
        text: Positive = 2.0,
        cosine: Positive = 1.0,
        temperature: Positive = 2.0,
    ):
        self.divergence, self.text, self.cosine = divergence, text, cosine
        self.temperature = temperature

    @property
    def weights(self) -> dict[str, float]:
        """Those of DistilBERT, unless others are given."""
        return {
            "mean_kl": self.divergence,
            "cross_entropy": self.text,
            "hidden_cosine": self.cosine,
        }

    def student(self, model: transformers.PreTrainedModel, teachers: Sequence[Teacher]) -> None:
        """Leave the model as it is; make a projection to each teacher's width beside it."""
        self.state.projections = torch.nn.ModuleList(
            features.bridge(model, teacher.model) for teacher in teachers
        )

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """KL and cross-entropy per answer token, 1 − cos per token of a row."""
        kls = [
            forward_kl(student.logits, teacher.logits, temperature=self.temperature)
            for teacher in teachers
        ]
        return {
            "mean_kl": torch.stack(kls).mean(0),
            "cross_entropy": cross_entropy(student.logits, student.targets),
            "hidden_cosine": torch.stack(
                [
                    self._cosines(student.at("all"), teacher.at("all"), number)
                    for number, teacher in enumerate(teachers)
                ]
            ).mean(0),
        }

    def _cosines(self, student: View, teacher: View, number: int) -> torch.Tensor:
        """1 − cos of the last hidden states at all tokens of all rows, to the teacher of this
        number."""
        states, targets = (torch.cat(view.hidden_rows(-1)) for view in (student, teacher))
        with torch.autocast(states.device.type, enabled=False):
            projected = self.state.projections[number](states.float())
            return features.hidden_cosine(projected, targets)

    def count(self, term: str, rows: Sequence[Pack]) -> float:
        """All tokens of the rows for states, else their answer tokens."""
        if term == "hidden_cosine":
            return sum(len(row.ids) for row in rows)
        return super().count(term, rows)
