"""GKD: its divergence by loops over the vocabulary, and in which steps the student answers."""

import math

import pytest
import torch
from miniatures import model, packs
from short_training import VOCABULARY, asker, teacher_of

from studylib.methods import gkd, stages
from studylib.methods.base import Sampler
from studylib.methods.gkd import Gkd
from studylib.methods.views import student_view
from studylib.training import loop

ROWS = packs()


def sampler(steps=4, step=0, seed=0):
    return Sampler(ROWS, [[0, 6, 11]] * steps, seed=seed, step=step)


def on_policy_rows(method, student):
    return method.batch(sampler(), asker(method, student))


def divergence(p, q, beta):
    """Of two lists of probabilities, term by term."""
    total = 0.0
    for a, b in zip(p, q, strict=True):
        mixed = beta * a + (1 - beta) * b
        total += beta * a * math.log(a / mixed) + (1 - beta) * b * math.log(b / mixed)
    return total


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_the_loss_is_the_mean_divergence_at_the_students_tokens(beta):
    method, net, teacher = Gkd(beta=beta, on_policy=1.0), model("llama"), model("llama", seed=1)
    rows, values = on_policy_rows(method, net), []
    for row in rows:
        with torch.no_grad():
            views = [student_view(each, [row], VOCABULARY, False) for each in (teacher, net)]
            teacher_p, student_p = (view.logits.double().softmax(-1).tolist() for view in views)
        values += [divergence(p, q, beta) for p, q in zip(teacher_p, student_p, strict=True)]
    logged = loop.backward(net, rows, method, [teacher_of(method, teacher)], VOCABULARY, 2)
    assert len(values) == sum(len(branch.target) for row in rows for branch in row.asked)
    assert logged["jsd"] == pytest.approx(sum(values) / len(values), rel=1e-4)


def test_the_gradient_on_the_students_answers_does_not_depend_on_micro_batches():
    method, teacher, gradients = Gkd(on_policy=1.0), model("llama", seed=1), []
    rows = on_policy_rows(method, model("llama"))
    for micro in (0, 1, 2):
        net = model("llama")
        loop.backward(net, rows, method, [teacher_of(method, teacher)], VOCABULARY, micro)
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-3, atol=1e-6)


def test_a_student_that_is_its_teacher_learns_nothing():
    method, net = Gkd(on_policy=1.0), model("llama")
    rows = on_policy_rows(method, net)
    logged = loop.backward(net, rows, method, [teacher_of(method, model("llama"))], VOCABULARY)
    assert logged["loss"] == pytest.approx(0, abs=1e-6)
    assert all(p.grad.abs().max() < 1e-6 for p in net.parameters())


def answered(share, steps=400, seed=0):
    """In which of so many steps the student answers."""
    method = Gkd(on_policy=share)
    rows = [sampler(steps, step, seed) for step in range(steps)]
    return [method.batch(row, None) == "answers" for row in rows]


@pytest.fixture
def silent(monkeypatch):
    """No model is asked: steps on the student's answers are only marked."""
    monkeypatch.setattr(gkd, "sampled", lambda *given, temperature: "answers")


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_student_answers_in_its_share_of_steps(share, silent):
    steps = answered(share)
    error = math.sqrt(share * (1 - share) / len(steps))  # of a mean of independent draws
    assert sum(steps) / len(steps) == pytest.approx(share, abs=3 * error)


def test_which_steps_depends_on_seed_and_step_alone(silent):
    steps = answered(0.5)
    assert answered(0.5) == steps != answered(0.5, seed=1)
    assert Gkd().batch(sampler(8, step=5), None) == ("answers" if steps[5] else sampler().next())


def test_steps_on_gold_answers_have_the_rows_of_all_trainings():
    rows = Gkd(on_policy=0.0).batch(sampler(), None)
    assert [row.digest for row in rows] == [ROWS[number].digest for number in (0, 6, 11)]


def test_the_temperature_is_that_of_sampling(monkeypatch):
    seen = []
    monkeypatch.setattr(gkd, "sampled", lambda *given, temperature: seen.append(temperature))
    Gkd(on_policy=1.0, temperature=0.7).batch(sampler(), None)
    assert seen == [0.7]


def test_the_teacher_runs_beside_the_student_where_that_answers():
    assert Gkd().signals.online and not Gkd(on_policy=0.0).signals.online
    first, second = stages.parse(Gkd.recipe(7))
    assert (first.steps, second.steps) == (3, 4)
    assert first.title == "cross_entropy" and second.online
