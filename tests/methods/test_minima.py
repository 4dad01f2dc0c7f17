"""MiniMA: its loss written out over all tokens of rows."""

import pytest
import torch
from miniatures import model, packs
from short_training import VOCABULARY, teacher_of
from test_objective import STUDENT, TEACHER, Fixed

from studylib.data.packing import collate
from studylib.methods.minima import Minima
from studylib.models import parts
from studylib.training import loop


def log_probabilities(net, row):
    """Of all next tokens of a row, at every place that predicts one, (N, V)."""
    with torch.no_grad():
        states = parts.hidden_states(net, collate([row]))[0, row.all.at]
        return parts.head(net, states, VOCABULARY).log_softmax(-1)


@pytest.mark.parametrize("soft", [0.5, 0.2])
def test_the_loss_is_that_of_the_text_and_of_the_teacher_at_all_tokens(soft):
    method, rows = Minima(soft=soft) if soft != 0.5 else Minima(), packs()[:5]
    net, taught_by = model("llama"), model("llama", seed=1)
    text, taught = [], []
    for row in rows:
        log_q, log_p = log_probabilities(net, row), log_probabilities(taught_by, row)
        for n, target in enumerate(row.all.targets):
            text.append(-log_q[n, target].item())
            taught.append(-(log_p[n].exp() * log_q[n]).sum().item())
    assert len(text) > 3 * sum(len(row.answers.at) for row in rows), "of contexts, too"
    logged = loop.backward(net, rows, method, [teacher_of(method, taught_by)], VOCABULARY, 2)
    expected_text, expected_taught = sum(text) / len(text), sum(taught) / len(taught)
    assert logged["text_cross_entropy"] == pytest.approx(expected_text, rel=1e-4)
    assert logged["soft_cross_entropy"] == pytest.approx(expected_taught, rel=1e-4)
    expected = (1 - soft) * expected_text + soft * expected_taught
    assert logged["loss"] == pytest.approx(expected, rel=1e-4)


def test_at_the_teacher_the_soft_term_is_its_entropy_and_has_no_gradient():
    student = TEACHER.clone().requires_grad_()
    values = Minima().loss(Fixed(student, torch.arange(7)), [Fixed(TEACHER)])
    values["soft_cross_entropy"].sum().backward()
    p = TEACHER.softmax(-1)
    torch.testing.assert_close(values["soft_cross_entropy"], -(p * p.log()).sum(-1))
    torch.testing.assert_close(student.grad, torch.zeros_like(TEACHER), atol=1e-6, rtol=0)


def test_elsewhere_its_gradient_is_the_difference_of_distributions():
    student = STUDENT.clone().requires_grad_()
    values = Minima().loss(Fixed(student, torch.arange(7)), [Fixed(TEACHER)])
    values["soft_cross_entropy"].sum().backward()
    torch.testing.assert_close(student.grad, STUDENT.softmax(-1) - TEACHER.softmax(-1))


def test_states_at_all_tokens_are_what_it_needs():
    assert Minima().positions == Minima().signals.at == "all" and not Minima().signals.online
