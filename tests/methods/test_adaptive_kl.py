"""AKL: written out as the official code sorts it, and that no gradient flows through the weight."""

import math

import pytest
import torch
from miniatures import model, packs
from short_training import VOCABULARY, teacher_of
from test_objective import STUDENT, TEACHER, Fixed

from studylib.methods.adaptive_kl import AdaptiveKl
from studylib.training import loop

TARGETS = torch.arange(7)


def adaptive(method, student=STUDENT, teacher=TEACHER):
    return method.loss(Fixed(student, TARGETS), [Fixed(teacher)])["adaptive_kl"]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def shares(mu: float) -> list[float]:
    """The share of the gap in the head of each position, by both distributions in the order of the
    teacher's."""
    values = []
    for p, q in zip(TEACHER.softmax(-1).tolist(), STUDENT.softmax(-1).tolist(), strict=True):
        pairs = sorted(zip(p, q, strict=True), reverse=True)
        gaps = [abs(a - b) for a, b in pairs]
        head = next(n for n in range(1, 12) if sum(a for a, _ in pairs[:n]) >= mu - 1e-9)
        values.append(sum(gaps[:head]) / sum(gaps))
    return values


@pytest.mark.parametrize("mu", [0.2, 0.5, 0.9])
def test_its_divergence_weighs_both_directions_by_where_the_gap_is(mu):
    values = adaptive(AdaptiveKl(mu=mu))
    distributions = (logits.softmax(-1).tolist() for logits in (TEACHER, STUDENT))
    for n, (share, p, q) in enumerate(zip(shares(mu), *distributions, strict=True)):
        expected = share * kl(p, q) + (1 - share) * kl(q, p)
        assert values[n].item() == pytest.approx(expected, rel=1e-4)


def test_mu_is_a_half_unless_told():
    assert torch.equal(adaptive(AdaptiveKl()), adaptive(AdaptiveKl(mu=0.5)))
    assert not torch.equal(adaptive(AdaptiveKl()), adaptive(AdaptiveKl(mu=0.9)))


def test_no_gradient_flows_through_the_weight():
    """That of both KLs with the weight as a number."""
    student, plain = STUDENT.clone().requires_grad_(), STUDENT.clone().requires_grad_()
    adaptive(AdaptiveKl(), student).sum().backward()
    log_p, log_q = TEACHER.log_softmax(-1), plain.log_softmax(-1)
    weight = torch.tensor(shares(0.5))
    forward = (log_p.exp() * (log_p - log_q)).sum(-1)
    reverse = (log_q.exp() * (log_q - log_p)).sum(-1)
    (weight * forward + (1 - weight) * reverse).sum().backward()
    torch.testing.assert_close(student.grad, plain.grad, rtol=1e-4, atol=1e-5)


def test_a_student_that_is_the_teacher_has_neither_loss_nor_gradient():
    student = TEACHER.clone().requires_grad_()
    values = adaptive(AdaptiveKl(), student)
    values.sum().backward()
    torch.testing.assert_close(values, torch.zeros(7), atol=1e-6, rtol=0)
    torch.testing.assert_close(student.grad, torch.zeros_like(TEACHER), atol=1e-6, rtol=0)


def test_gold_answers_have_their_weight():
    method = AdaptiveKl(gold=0.25)
    teacher = teacher_of(method, model("llama", seed=1))
    logged = loop.backward(model("llama"), packs()[:3], method, [teacher], VOCABULARY, 2)
    expected = logged["adaptive_kl"] + 0.25 * logged["cross_entropy"]
    assert logged["loss"] == pytest.approx(expected, rel=1e-6)
    assert logged["cross_entropy"] > 0
