"""f-DISTILL: the four divergences by loops over the vocabulary, and the weight of gold answers."""

import math

import pytest
import torch
from miniatures import model, packs
from short_training import LOSSES, VOCABULARY, teacher_of
from test_objective import STUDENT, TEACHER, Fixed

from studylib.core.errors import StudyError
from studylib.methods import stages
from studylib.methods.f_distill import FDistill
from studylib.methods.objective import Objective
from studylib.methods.views import student_view
from studylib.training import loop

TARGETS = torch.arange(7)
# D(p, q) = Σ q f(p/q), by the paper's f of each
GENERATORS = {
    "total_variation": lambda ratio: 0.5 * abs(ratio - 1),
    "forward_kl": lambda ratio: ratio * math.log(ratio),
    "reverse_kl": lambda ratio: -math.log(ratio),
    "jsd": lambda ratio: (
        0.5 * ratio * math.log(2 * ratio / (1 + ratio)) + 0.5 * math.log(2 / (1 + ratio))
    ),
}


def terms(method, student=STUDENT):
    return method.loss(Fixed(student, TARGETS), [Fixed(TEACHER)])


@pytest.mark.parametrize("divergence", GENERATORS)
def test_each_divergence_is_the_f_divergence_of_its_generator(divergence):
    values = terms(FDistill(divergence=divergence))[divergence]
    distributions = (logits.softmax(-1).tolist() for logits in (TEACHER, STUDENT))
    for n, (p, q) in enumerate(zip(*distributions, strict=True)):
        f = GENERATORS[divergence]
        expected = sum(b * f(a / b) for a, b in zip(p, q, strict=True))
        assert values[n].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("divergence", GENERATORS)
def test_nothing_is_left_of_it_where_student_is_teacher(divergence):
    student = TEACHER.clone().requires_grad_()
    values = terms(FDistill(divergence=divergence), student)[divergence]
    values.sum().backward()
    torch.testing.assert_close(values, torch.zeros(7), atol=1e-6, rtol=0)
    torch.testing.assert_close(student.grad, torch.zeros_like(TEACHER), atol=1e-6, rtol=0)


def test_by_default_it_is_the_total_variation_distance_on_answers():
    """On real rows, written out over answer tokens."""
    method, net, rows = FDistill(gold=0.25), model("llama"), packs()[:4]
    teacher = teacher_of(method, model("llama", seed=1))
    distances, gold = [], []
    for row in rows:
        with torch.no_grad():
            student = student_view(net, [row], VOCABULARY, False)
            target = teacher.view([row], student.batch, False)
        p, q = target.logits.softmax(-1), student.logits.softmax(-1)
        distances += (p - q).clamp_min(0).sum(-1).tolist()  # what p has more is half of the gap
        gold += (-student.log_probs).tolist()
    logged = loop.backward(net, rows, method, [teacher], VOCABULARY, 2)
    assert len(distances) == sum(len(row.answers.at) for row in rows)
    assert logged["total_variation"] == pytest.approx(sum(distances) / len(distances), rel=1e-4)
    expected = logged["total_variation"] + 0.25 * sum(gold) / len(gold)
    assert logged["loss"] == pytest.approx(expected, rel=1e-4)


def test_with_forward_kl_it_is_plain_distillation():
    losses = []
    for method in (FDistill(divergence="forward_kl"), Objective(losses=LOSSES)):
        teacher = teacher_of(method, model("llama", seed=1))
        logged = loop.backward(model("llama"), packs()[:3], method, [teacher], VOCABULARY)
        losses.append(logged["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_what_is_no_divergence_of_the_paper_is_refused():
    with pytest.raises(StudyError, match="divergence of f_distill must be 'total_variation', "):
        stages.parse([{"steps": 1, "method": "f_distill", "options": {"divergence": "top_k_kl"}}])
