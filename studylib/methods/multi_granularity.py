"""Multi-granularity semantic revision, after the paper.  Liu et al. 2024, arXiv:2407.10068

    L = L_SFT + L_DAC + L_span
    L_DAC = KL(p ‖ q) over the classes between two learned quantiles of p, and the target
    L_span = |p_i ⊙ p_i+1 − q_i ⊙ q_i+1|²  for adjacent tokens of a span

Here: p is the teacher, q the student. L_SFT is the loss of gold answers; the other terms look at
these and, beside them in the same row, at answers that the student samples now, for the questions
of a share `on_policy` of the contexts. Sequences are corrected and regenerated (SCRG): of the
tokens that are not the teacher's likeliest, the one of the largest KL(p ‖ q) is replaced by that
one, and the student goes on from there; where all agree the sample stays. A sample has at most
`longest` tokens.
Assumed: a small network reads the `top` largest p and q at the same tokens, and puts out a lower
and an upper bound on the place of a class in p's mass, likeliest first. Its edges are soft
(`edge`). What is clipped shares a bucket, so that the KL is 0 at p = q alone. The network learns
with the student, by L_DAC and a term of its own, −log of the mass of p that it keeps: it clips
classes among which the student is farther off than their mass is worth. A span is an answer with
its end.
Left out: the chunker that finds spans in free text.  Source: at second hand; L2 from memory.
Run: study run params/tiny/methods.yaml --only multi_granularity
Test: tests/methods/test_multi_granularity.py
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from studylib.core.libraries import torch
from studylib.data import examples as data_examples
from studylib.data.examples import GOLD, SAMPLED
from studylib.data.packing import Pack, with_branches
from studylib.data.prompts import Branch
from studylib.methods.base import Ask, Method, Sampler, Signals
from studylib.methods.divergences import inside, pooled_kl
from studylib.methods.objective import cross_entropy
from studylib.methods.options import Count, Positive, Share
from studylib.methods.revisions import revised
from studylib.methods.views import View

HIDDEN = 32  # neurons of the network that sets the bounds
START = (0.05, 0.95)  # its output at first: nearly all is kept


class MultiGranularity(Method):
    """Gold answers, and the teacher's distributions on these and on revised samples."""

    signals = Signals(online=True)
    version = 2
    gold_first = 0.5  # so that what the student samples is worth revising

    def __init__(
        self,
        *,
        on_policy: Share = 0.5,
        longest: Count = 12,
        temperature: Positive = 1.0,
        top: Count = 32,
        edge: Positive = 0.05,
    ):
        self.on_policy, self.longest, self.temperature = on_policy, longest, temperature
        self.top, self.edge = top, edge

    def initial_state(self) -> torch.nn.Module:
        """The network that sets the bounds: the same for all questions to begin with."""
        first = torch.nn.utils.skip_init(torch.nn.Linear, 2 * self.top, HIDDEN)
        last = torch.nn.utils.skip_init(torch.nn.Linear, HIDDEN, 2)
        generator = torch.Generator().manual_seed(self.top)
        with torch.no_grad():
            first.weight.normal_(0, (2 * self.top) ** -0.5, generator=generator)
            first.bias.zero_()
            last.weight.zero_()
            last.bias.copy_(torch.tensor([math.log(mass / (1 - mass)) for mass in START]))
        return torch.nn.Sequential(first, torch.nn.Tanh(), last)

    def generates(self, decision: str) -> dict[str, float]:
        """Each sample of a step is drawn, and drawn again after its correction."""
        return {"student": 2 * self.on_policy} if decision == "batch" else {}

    def batch(self, sampler: Sampler, ask: Ask) -> list[Pack]:
        """The rows of this step, some of them with revised samples beside the gold answers."""
        rows, random = sampler.next(), sampler.random()
        chosen = [n for n in range(len(rows)) if random.random() < self.on_policy]
        asked = [
            with_branches(rows[n], [_as_sampled(branch, sampler.step) for branch in rows[n].asked])
            for n in chosen
        ]
        samples = revised(asked, ask, longest=self.longest, temperature=self.temperature)
        for n, row in zip(chosen, samples, strict=True):
            rows[n] = with_branches(row, [*rows[n].asked, *row.asked])
        return rows

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """Cross-entropy per gold token; clipped KL and −log of the mass that it keeps per token;
        the span relation per pair of tokens."""
        gold, (teacher, *_) = student.where(GOLD)[student.sequences], teachers
        log_q, log_p = (view.logits.float().log_softmax(-1) for view in (student, teacher))
        kept = inside(log_p, *self._bounds(log_p, log_q.detach()), self.edge)
        kept = kept.scatter(-1, student.targets[:, None], 1.0)
        return {
            "cross_entropy": cross_entropy(student.logits[gold], student.targets[gold]),
            "clipped_kl": pooled_kl(log_p, log_q, kept),
            "clipped_mass": -(log_p.exp() * kept).sum(-1).log(),
            "span": span_relation(log_p.exp(), log_q.exp(), student.sequences),
        }

    def _bounds(
        self, log_p: torch.Tensor, log_q: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Where in the teacher's mass the kept classes begin and end, (N,) each, of
        log-probabilities (N, V) of teacher and student; so far outside of it at most that all is
        kept."""
        top = log_p.topk(min(self.top, log_p.shape[1]), -1).indices
        read = [log.gather(-1, top).exp() for log in (log_p, log_q)]
        missing, outside = self.top - top.shape[1], 3 * self.edge
        with torch.autocast(log_p.device.type, enabled=False):
            padded = [torch.nn.functional.pad(values, (0, missing)) for values in read]
            begin, length = self.state(torch.cat(padded, -1)).sigmoid().unbind(-1)
        lower = (1 + 2 * outside) * begin - outside
        return lower, lower + (1 + outside - lower) * length

    def count(self, term: str, rows: Sequence[Pack]) -> float:
        """The tokens of gold answers, the pairs of adjacent tokens, or all tokens."""
        lengths = [
            (length, role)
            for row in rows
            for length, role in zip(row.target_lengths, row.roles, strict=True)
        ]
        if term == "cross_entropy":
            return sum(length for length, role in lengths if role == GOLD)
        return sum(length - (term == "span") for length, _ in lengths)


def span_relation(p: torch.Tensor, q: torch.Tensor, sequences: torch.Tensor) -> torch.Tensor:
    """|p_i ⊙ p_i+1 − q_i ⊙ q_i+1|² of probabilities (N, V) for the P pairs of adjacent tokens of
    one answer, (P,)."""
    pairs = sequences[1:] == sequences[:-1]
    return (p[:-1] * p[1:] - q[:-1] * q[1:])[pairs].square().sum(-1)


def _as_sampled(branch: Branch, step: int) -> Branch:
    """The branch of a question to be answered in a step."""
    question = data_examples.of(branch.question)
    named = replace(question, id=f"{question.id} {SAMPLED} {step}", role=SAMPLED)
    return replace(branch, question=named)
