"""GKD: generalised knowledge distillation.  Agarwal et al. 2024, arXiv:2306.13649;
huggingface/trl: trl/experimental/gkd/gkd_trainer.py

    L = beta KL(p_T ‖ m) + (1 − beta) KL(p_S ‖ m),  m = beta p_T + (1 − beta) p_S
    y ~ p_S(·|x) with probability lambda, else the answer of the data set
                                                   beta 0.5, lambda 0.5, temperature 0.9 in TRL

Here: x is a question with its context. With probability `on_policy` (lambda) all questions of a
step are answered by the student as it is then, and teacher and student are compared on these
answers, else on the gold ones. An answer is its first line, in the tokenizer's own tokens, with EOS
(`on_policy.sampled`); no gradient flows through sampling. The temperature is that of sampling, 1 as
in the paper; the loss has none. As in TRL the loss is a mean over all answer tokens of a step; the
paper's is one over answers of means over their tokens. In the comparison gold answers come first,
for half of the steps: the paper starts from a student that was fine-tuned. The ends of beta are
forward and reverse KL.
Left out: reinforcement learning beside it.
Source: code; the paper from memory.
Run: study run params/tiny/methods.yaml --only gkd         Test: tests/methods/test_gkd.py
"""

from __future__ import annotations

from collections.abc import Sequence

from studylib.core.libraries import torch
from studylib.data.packing import Pack
from studylib.methods.base import Ask, Method, Sampler, Signals
from studylib.methods.divergences import jsd
from studylib.methods.on_policy import sampled
from studylib.methods.options import Positive, Share
from studylib.methods.views import View


class Gkd(Method):
    """Generalised JSD on the student's answers in some steps, and on gold ones in the others."""

    gold_first = 0.5

    def __init__(self, *, beta: Share = 0.5, on_policy: Share = 0.5, temperature: Positive = 1.0):
        self.beta, self.on_policy, self.temperature = beta, on_policy, temperature
        self.signals = Signals(online=on_policy > 0)

    def generates(self, decision: str) -> dict[str, float]:
        """The student's answers in its share of steps."""
        return {"student": self.on_policy} if decision == "batch" else {}

    def batch(self, sampler: Sampler, ask: Ask) -> list[Pack]:
        """The rows of this step, in a share of steps with the student's answers."""
        rows = sampler.next()
        if sampler.random().random() >= self.on_policy:
            return rows
        return sampled(rows, sampler, ask, temperature=self.temperature)

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """Generalised JSD per token."""
        return {"jsd": jsd(student.logits, teachers[0].logits, beta=self.beta)}
