"""Losses against closed forms and torch's own."""

import math

import pytest
import torch
from torch.nn.functional import kl_div

from studylib import objectives
from studylib.errors import StudyError

torch.manual_seed(0)
STUDENT, TEACHER = torch.randn(7, 11), torch.randn(7, 11)


def test_forward_kl_of_two_outcomes_in_closed_form():
    p, q = 0.8, 0.3
    logits = [torch.tensor([[math.log(x), math.log(1 - x)]]) for x in (q, p)]
    expected = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert objectives.forward_kl(*logits).item() == pytest.approx(expected, rel=1e-6)


def test_forward_kl_equals_torchs():
    expected = kl_div(STUDENT.log_softmax(-1), TEACHER.log_softmax(-1), reduction="none", log_target=True).sum(-1)
    torch.testing.assert_close(objectives.forward_kl(STUDENT, TEACHER), expected)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_forward_kl_gradient_is_the_difference_of_distributions_times_temperature(temperature):
    student = STUDENT.clone().requires_grad_()
    objectives.forward_kl(student, TEACHER, temperature=temperature).sum().backward()
    expected = temperature * ((STUDENT / temperature).softmax(-1) - (TEACHER / temperature).softmax(-1))
    torch.testing.assert_close(student.grad, expected)


@pytest.mark.parametrize("loss", [*objectives.DIVERGENCES.values(), *objectives.FEATURES.values()])
def test_zero_loss_and_zero_gradient_where_student_is_teacher(loss):
    student = TEACHER.clone().requires_grad_()
    values = loss(student, TEACHER)
    values.sum().backward()
    torch.testing.assert_close(values, torch.zeros(7), atol=1e-6, rtol=0)
    torch.testing.assert_close(student.grad, torch.zeros_like(TEACHER), atol=1e-6, rtol=0)


@pytest.mark.parametrize("loss", objectives.LOSSES.values())
def test_losses_are_computed_in_single_precision(loss):
    other = torch.arange(7) if loss is objectives.cross_entropy else TEACHER.bfloat16()
    assert loss(STUDENT.bfloat16(), other).dtype == torch.float32


def test_cross_entropy_is_minus_the_log_probability():
    targets = torch.arange(7)
    expected = -STUDENT.log_softmax(-1)[torch.arange(7), targets]
    torch.testing.assert_close(objectives.cross_entropy(STUDENT, targets), expected)


def test_hidden_mse_is_relative_to_the_teachers_size():
    teacher = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    student = torch.tensor([[3.0, 9.0], [0.3, 0.9]])
    torch.testing.assert_close(objectives.hidden_mse(student, teacher), torch.ones(2))
    torch.testing.assert_close(objectives.hidden_mse(torch.zeros(2, 2), teacher), torch.ones(2))


@pytest.mark.parametrize(
    ("weights", "word"),
    [
        ({"kl": 1.0}, "kl"),
        ({"forward_kl": 0}, "forward_kl"),
        ({"forward_kl": True}, "forward_kl"),
        ({"forward_kl": "1"}, "forward_kl"),
        ({}, "at least one"),
    ],
)
def test_what_is_no_objective_is_refused(weights, word):
    with pytest.raises(StudyError, match=word):
        objectives.check(weights)


def test_a_mixture_is_named_after_its_parts():
    assert objectives.title({"forward_kl": 1.0, "cross_entropy": 0.5}) == "forward_kl + 0.5 cross_entropy"
