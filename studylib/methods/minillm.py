"""MiniLLM: reverse KL on the student's own answers.  Gu et al. 2024, arXiv:2306.08543;
microsoft/LMOps: minillm/minillm/losses.py and sampler.py

    L = sum_t KL(q_t ‖ p_t) − R_t+1 log q(y_t),  y ~ q
    R_t+1 = 1/(|y| − t) sum_(s > t) log p(y_s)/q(y_s)       alpha 0.2, lr 5e-6, 5,000 steps

Here: q is the student, p the teacher, y an answer that the student gives now, at a temperature of
1. The reward of a token is log p − log q. The first term (`single_step`) is minus its expectation,
exact by a sum over the vocabulary; the second (`later`) has the policy gradient of the rewards that
come after the token. R is their mean or, without `length_normalised`, their sum: then the expected
gradient of both terms is that of KL(q(y) ‖ p(y)), but for the division by the number of tokens. No
gradient flows through R. Both terms are means over all tokens of a step, as in the official code.
An answer is its first line, in the tokenizer's own tokens, with EOS (`on_policy.sampled`): where
the student drew other tokens for the same text, or was stopped, it is not quite what it drew. In
the comparison gold answers come first, for half of the steps: the paper's first phase.
Left out: sampling from a mixture with the teacher (a share alpha of it) and its importance weights;
PPO's clipping, which is idle where every answer is used for a single step; the loss of pretraining
text. The official code also counts the token's reward itself in R, doubles rewards, clips them at
100, and gives R a mean of 0 and a standard deviation of 1 over a batch.
Source: code; the paper from memory.
Run: study run params/tiny/methods.yaml --only minillm     Test: tests/methods/test_minillm.py
"""

from __future__ import annotations

from collections.abc import Sequence

from studylib.core.libraries import torch
from studylib.data.packing import Pack
from studylib.methods.base import Ask, Method, Sampler, Signals
from studylib.methods.divergences import reverse_kl
from studylib.methods.on_policy import sampled
from studylib.methods.options import Switch
from studylib.methods.views import View


class Minillm(Method):
    """Reverse KL of whole answers, by policy gradient."""

    signals = Signals(online=True)
    gold_first = 0.5

    def __init__(self, *, length_normalised: Switch = True):
        self.length_normalised = length_normalised

    def generates(self, decision: str) -> dict[str, float]:
        """An answer of the student's at every step."""
        return {"student": 1.0} if decision == "batch" else {}

    def batch(self, sampler: Sampler, ask: Ask) -> list[Pack]:
        """The rows of this step with the student's answers."""
        return sampled(sampler.next(), sampler, ask)

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """Reverse KL per token, and −log q(y_t) per token times the rewards after it."""
        (teacher, *_) = teachers
        rewards = (teacher.log_probs - student.log_probs).detach()
        parts = rewards.split(student.lengths.tolist())
        later = torch.cat([rewards_after(part, self.length_normalised) for part in parts])
        return {
            "single_step": reverse_kl(student.logits, teacher.logits),
            "later": -later * student.log_probs,
        }


def rewards_after(rewards: torch.Tensor, normalised: bool) -> torch.Tensor:
    """For each token of an answer the sum, or the mean, of the rewards of the tokens after it, (T,)
    -> (T,); 0 for the last."""
    sums = torch.nn.functional.pad(rewards[1:].flip(0).cumsum(0).flip(0), (0, 1))
    left = torch.arange(len(rewards) - 1, -1, -1, device=rewards.device).clamp_min(1)
    return sums / left if normalised else sums
