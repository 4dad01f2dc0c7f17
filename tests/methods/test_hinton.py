"""Hinton's distillation: both terms by hand, what T² is for, and plain distillation at T = 1."""

import math

import pytest
import torch
from miniatures import model, packs
from short_training import LOSSES, VOCABULARY, teacher_of
from test_objective import STUDENT, TEACHER, Fixed

from studylib.methods.hinton import Hinton, noise_of
from studylib.methods.objective import Objective
from studylib.methods.views import student_view
from studylib.training import loop

TARGETS = torch.arange(7)


def softened(logits: list[float], temperature: float) -> list[float]:
    """exp(z/T) over its sum, by plain arithmetic."""
    powers = [math.exp(value / temperature) for value in logits]
    return [power / sum(powers) for power in powers]


def terms(method, student=STUDENT):
    return method.loss(Fixed(student, TARGETS), [Fixed(TEACHER)])


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_its_terms_are_those_of_the_paper(temperature):
    values = terms(Hinton(temperature=temperature))
    for n, (student, teacher) in enumerate(zip(STUDENT.tolist(), TEACHER.tolist(), strict=True)):
        p, q = softened(teacher, temperature), softened(student, temperature)
        soft = temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        assert values["softened_kl"][n].item() == pytest.approx(soft, rel=1e-4)
        gold = -math.log(softened(student, 1.0)[n])
        assert values["cross_entropy"][n].item() == pytest.approx(gold, rel=1e-4)


def test_the_loss_of_a_step_is_softened_kl_and_its_share_of_gold_answers():
    method, net, rows = Hinton(temperature=3.0, hard=0.2), model("llama"), packs()[:4]
    teacher = teacher_of(method, model("llama", seed=1))
    soft, gold = [], []
    for row in rows:
        with torch.no_grad():
            student = student_view(net, [row], VOCABULARY, False)
            target = teacher.view([row], student.batch, False).logits
            p, q = (target / 3).softmax(-1), (student.logits / 3).softmax(-1)
            soft += (9 * (p * (p / q).log()).sum(-1)).tolist()
            gold += (-student.log_probs).tolist()
    logged = loop.backward(net, rows, method, [teacher], VOCABULARY, 2)
    expected = sum(soft) / len(soft) + 0.2 * sum(gold) / len(gold)
    assert logged["loss"] == pytest.approx(expected, rel=1e-4)


def test_at_a_high_temperature_the_gradient_is_the_difference_of_logits():
    """§2.1 of the paper: with logits of mean 0 it is (s − z)/V, and T² keeps it from vanishing."""
    student = (STUDENT - STUDENT.mean(-1, keepdim=True)).requires_grad_()
    target = TEACHER - TEACHER.mean(-1, keepdim=True)
    values = Hinton(temperature=300.0).loss(Fixed(student, TARGETS), [Fixed(target)])
    values["softened_kl"].sum().backward()
    expected = (student.detach() - target) / STUDENT.shape[-1]
    torch.testing.assert_close(student.grad, expected, rtol=0.05, atol=2e-3)


def test_nothing_is_left_of_the_soft_term_where_student_is_teacher():
    student = TEACHER.clone().requires_grad_()
    soft = terms(Hinton(), student)["softened_kl"]
    soft.sum().backward()
    torch.testing.assert_close(soft, torch.zeros(7), atol=1e-6, rtol=0)
    torch.testing.assert_close(student.grad, torch.zeros_like(TEACHER), atol=1e-6, rtol=0)


def test_at_a_temperature_of_1_it_is_plain_distillation():
    rows, losses = packs()[:3], []
    for method in (Hinton(temperature=1.0), Objective(losses=LOSSES)):
        teacher = teacher_of(method, model("llama", seed=1))
        losses.append(loop.backward(model("llama"), rows, method, [teacher], VOCABULARY)["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_its_temperature_is_2_and_gold_answers_weigh_a_half_unless_told():
    soft, other = (
        terms(method)["softened_kl"] for method in (Hinton(), Hinton(temperature=2.0, hard=0.5))
    )
    assert torch.equal(soft, other) and Hinton().weights == {"cross_entropy": 0.5}
    assert not torch.allclose(soft, terms(Hinton(temperature=1.0))["softened_kl"], rtol=0.01)


def test_noise_of_a_row_is_its_own_and_as_large_as_was_asked_for():
    rows, logits = packs()[:3], torch.zeros(sum(len(row.answers.at) for row in packs()[:3]), 500)
    drawn = noise_of(rows, logits)
    assert drawn.shape == logits.shape and torch.equal(drawn, noise_of(rows, logits))
    assert drawn.mean().item() == pytest.approx(0, abs=0.05)
    assert drawn.std().item() == pytest.approx(1, abs=0.05)
    first = len(rows[0].answers.at)
    assert torch.equal(noise_of(rows[1:], logits[first:]), drawn[first:])
    assert not torch.equal(drawn[0], drawn[1])


def test_noise_is_added_to_the_teachers_logits():
    net, rows, noise = model("llama"), packs()[:4], 0.7
    teacher = teacher_of(Hinton(), model("llama", seed=1))
    student = student_view(net, rows, VOCABULARY, False)
    target = teacher.view(rows, student.batch, False)
    with torch.no_grad():
        values = Hinton(temperature=1.0, noise=noise).loss(student, [target])
        disturbed = target.logits + noise * noise_of(rows, target.logits)
        p, q = disturbed.softmax(-1), student.logits.softmax(-1)
    torch.testing.assert_close(values["softened_kl"], (p * (p / q).log()).sum(-1))
    micro = loop.backward(net, rows, Hinton(noise=noise), [teacher], VOCABULARY, 1)
    assert micro == pytest.approx(
        loop.backward(net, rows, Hinton(noise=noise), [teacher], VOCABULARY, 4), rel=1e-4
    )
