"""DistiLLM: both directions by loops over the vocabulary, what the skew is for, the weight of gold
answers."""

import math

import pytest
import torch
from miniatures import model, packs
from short_training import VOCABULARY, teacher_of
from test_objective import STUDENT, TEACHER, Fixed

from studylib.core.errors import StudyError
from studylib.methods import stages
from studylib.methods.distillm import Distillm
from studylib.training import loop

P, Q = TEACHER.softmax(-1).tolist(), STUDENT.softmax(-1).tolist()
TARGETS = torch.arange(7)


def skewed(method, student=STUDENT):
    return method.loss(Fixed(student, TARGETS), [Fixed(TEACHER)])["skewed_kl"]


@pytest.mark.parametrize("skew", [0.0, 0.1, 0.6])
@pytest.mark.parametrize(("direction", "pairs"), [("forward", (P, Q)), ("reverse", (Q, P))])
def test_its_divergence_is_that_of_the_paper(direction, pairs, skew):
    """KL from a distribution to what the skew makes of it and the other one."""
    values = skewed(Distillm(direction=direction, skew=skew))
    for n, (from_, to) in enumerate(zip(*pairs, strict=True)):
        expected = sum(
            a * math.log(a / (skew * a + (1 - skew) * b)) for a, b in zip(from_, to, strict=True)
        )
        assert values[n].item() == pytest.approx(expected, rel=1e-4)


def test_by_default_it_is_the_forward_one_with_a_skew_of_a_tenth():
    assert torch.equal(skewed(Distillm()), skewed(Distillm(direction="forward", skew=0.1)))
    assert not torch.equal(skewed(Distillm()), skewed(Distillm(direction="reverse")))


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_the_skew_bounds_the_loss_of_a_student_that_is_wrong_for_sure(direction):
    student = -60 * TEACHER
    assert (skewed(Distillm(direction=direction), student) < -math.log(0.1) + 1e-4).all()
    assert (skewed(Distillm(direction=direction, skew=0.0), student) > 3).any()


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_nothing_is_left_of_it_where_student_is_teacher(direction):
    student = TEACHER.clone().requires_grad_()
    values = skewed(Distillm(direction=direction), student)
    values.sum().backward()
    torch.testing.assert_close(values, torch.zeros(7), atol=1e-6, rtol=0)
    torch.testing.assert_close(student.grad, torch.zeros_like(TEACHER), atol=1e-6, rtol=0)


def test_gold_answers_have_their_weight_and_none_at_0():
    for gold in (0.0, 0.3):
        method = Distillm(gold=gold)
        teacher = teacher_of(method, model("llama", seed=1))
        logged = loop.backward(model("llama"), packs()[:3], method, [teacher], VOCABULARY, 2)
        assert logged["loss"] == pytest.approx(
            logged["skewed_kl"] + gold * logged["cross_entropy"], rel=1e-6
        )


def test_another_direction_is_refused():
    with pytest.raises(StudyError, match="direction of distillm must be 'forward' or 'reverse'"):
        stages.parse([{"steps": 1, "method": "distillm", "options": {"direction": "both"}}])
