"""DDK: domain knowledge is distilled where the student lags.  Liu et al. 2024, arXiv:2407.16154

    L = CE + gamma KL(p_T ‖ p_S)                              gamma 0.2, T 1
    psi_i = r_i exp(ppl_S,i / ppl_T,i),  r_i = alpha psi_i / sum(psi) + (1 − alpha)/N
                                                              alpha 0.5, every 1,000 of 30,000 steps

Here: a domain is the word that a question asks with (who, when, …). Every `every` steps the
perplexities of student and teacher on the dev questions of each domain give the factors r by which
the next steps draw domains; a row is a context with its questions of the domain drawn.
Left out: 15 billion tokens of pretraining text.  Source: paper.
Run: study run params/tiny/methods.yaml --only ddk         Test: tests/methods/test_ddk.py
"""

from __future__ import annotations

from collections.abc import Sequence

from studylib.core.libraries import torch
from studylib.data.packing import Pack, select
from studylib.data.targets import ASKING, traits
from studylib.methods.base import Ask, Method, Sampler, buffers
from studylib.methods.divergences import forward_kl
from studylib.methods.objective import cross_entropy
from studylib.methods.options import Count, Positive, Share
from studylib.methods.views import View

DOMAINS = (*ASKING, "other")


class Ddk(Method):
    """Cross-entropy and KL on questions drawn by how far the student lags behind its teacher."""

    def __init__(
        self,
        *,
        gamma: Positive = 0.2,
        temperature: Positive = 1.0,
        alpha: Share = 0.5,
        every: Count = 20,
    ):
        self.gamma, self.temperature, self.alpha, self.every = gamma, temperature, alpha, every

    def initial_state(self) -> torch.nn.Module:
        """The domains' factors, all the same."""
        return buffers(factors=torch.full((len(DOMAINS),), 1 / len(DOMAINS)))

    @property
    def weights(self) -> dict[str, float]:
        """gamma for the KL."""
        return {"cross_entropy": 1.0, "forward_kl": self.gamma}

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """Both per token."""
        how = {"temperature": self.temperature}
        return {
            "cross_entropy": cross_entropy(student.logits, student.targets),
            "forward_kl": forward_kl(student.logits, teachers[0].logits, **how),
        }

    def batch(self, sampler: Sampler, ask: Ask) -> list[Pack]:
        """As many contexts as in every training, each with its questions of one domain."""
        branches, factors = [_by_domain(row, ask) for row in sampler.rows], self.state.factors
        if sampler.step % self.every == 0:
            perplexities = self._perplexities(ask)
            factors.copy_(domain_factors(factors.cpu(), *perplexities, self.alpha))
        present = [
            number
            for number in range(len(DOMAINS))
            if any(number in domains for domains in branches)
        ]
        chances = factors[present].cpu().numpy()
        random, rows = sampler.random(), []
        for _ in sampler.next():
            domain = random.choice(present, p=chances / chances.sum())
            row = random.choice([n for n, domains in enumerate(branches) if domain in domains])
            rows.append(select(sampler.rows[row], branches[row][domain]))
        return rows

    def _perplexities(self, ask: Ask) -> tuple[torch.Tensor, torch.Tensor]:
        """Those of student and teacher by domain, on dev; equal where dev has no such question."""
        sums, counts = torch.zeros(2, len(DOMAINS)).double(), torch.zeros(len(DOMAINS)).double()
        for row in ask.dev:
            domains = torch.tensor([_domain(ask, question) for question in row.question_ids])
            student, (teacher, *_) = ask.views([row])
            for number, view in enumerate((student, teacher)):
                losses = -view.per_sequence(view.log_probs).cpu().double()
                sums[number].index_add_(0, domains, losses)
            counts.index_add_(0, domains, student.lengths.cpu().double())
        student_perplexity, teacher_perplexity = (sums / counts.clamp_min(1)).exp()
        return student_perplexity, teacher_perplexity


def domain_factors(
    factors: torch.Tensor, student: torch.Tensor, teacher: torch.Tensor, alpha: float
) -> torch.Tensor:
    """The next factors, of these factors and of both perplexities by domain, (N,) each."""
    psi = factors * (student / teacher).exp()
    return alpha * psi / psi.sum() + (1 - alpha) / len(factors)


def _domain(ask: Ask, question: str) -> int:
    return DOMAINS.index(str(traits(ask.questions[question])["asks"]))


def _by_domain(row: Pack, ask: Ask) -> dict[int, list[int]]:
    """The branches of a row by the domain of their questions."""
    branches: dict[int, list[int]] = {}
    for number, question in enumerate(row.question_ids):
        branches.setdefault(_domain(ask, question), []).append(number)
    return branches
