"""Several teachers: DistilBERT's loss by hand, averaged over the teachers that are given."""

import pytest
import torch
from miniatures import model, packs
from short_training import VOCABULARY, teacher_of

from studylib.methods.several_teachers import SeveralTeachers
from studylib.methods.views import student_view
from studylib.training import loop


def by_hand(net, teacher, row, temperature):
    """KL and cross-entropy of a row's answer tokens, 1 - cos of all of its tokens."""
    views = [student_view(each, [row], VOCABULARY, True, trained=False) for each in (net, teacher)]
    q, p = ((view.logits / temperature).softmax(-1) for view in views)
    kls = [
        temperature**2 * sum(p[n] * (p[n] / q[n]).log()).item() for n in range(len(row.answers.at))
    ]
    logs = views[0].logits.log_softmax(-1)
    losses = [-logs[n, target].item() for n, target in enumerate(row.answers.targets)]
    states, targets = (view.states()[-1][0] for view in views)
    cosines = [
        1 - (s @ t / (s.norm() * t.norm())).item() for s, t in zip(states, targets, strict=True)
    ]
    assert len(cosines) == len(row.ids)
    return kls, losses, cosines


def step(method, teachers, rows, net):
    served = [teacher_of(method, teacher) for teacher in teachers]
    method.student(net, served)
    return loop.backward(net, rows, method, served, VOCABULARY, 1)


@pytest.mark.parametrize("seeds", [(1,), (1, 2), (3, 1, 2)])
def test_the_loss_is_distilberts_with_the_mean_over_teachers(seeds):
    net, rows = model("llama"), packs()[3:6]
    teachers = [model("llama", seed=seed) for seed in seeds]
    logged = step(SeveralTeachers(), teachers, rows, net)
    sums, counts = [0.0, 0.0, 0.0], [0, 0, 0]
    for teacher in teachers:
        for row in rows:
            for term, values in enumerate(by_hand(net, teacher, row, 2.0)):
                sums[term] += sum(values)
                counts[term] += len(values)
    kl, text, cosine = (total / count for total, count in zip(sums, counts, strict=True))
    assert logged["mean_kl"] == pytest.approx(kl, rel=1e-4)
    assert logged["cross_entropy"] == pytest.approx(text, rel=1e-4)
    assert logged["hidden_cosine"] == pytest.approx(cosine, rel=1e-4)
    assert logged["loss"] == pytest.approx(5 * kl + 2 * text + cosine, rel=1e-4)


def test_the_order_of_teachers_does_not_matter_and_two_equal_ones_are_as_one():
    rows, (first, second) = packs()[3:6], (model("llama", seed=seed) for seed in (1, 2))
    losses = [
        step(SeveralTeachers(), teachers, rows, model("llama"))["loss"]
        for teachers in ([first, second], [second, first], [first], [first, first])
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[2] == pytest.approx(losses[3], rel=1e-6)
    assert losses[0] != pytest.approx(losses[2], rel=1e-3)


def test_what_compares_is_zero_with_zero_gradient_where_student_is_teacher():
    net, rows = model("llama"), packs()[:2]
    method, served = SeveralTeachers(), [teacher_of(SeveralTeachers(), model("llama"))] * 2
    method.student(net, served)
    student = student_view(net, rows, VOCABULARY, True)
    terms = method.loss(student, [teacher.view(rows, student.batch, True) for teacher in served])
    compared = terms["mean_kl"].sum() + terms["hidden_cosine"].sum()
    assert compared.item() == pytest.approx(0, abs=1e-4)
    compared.backward()
    norms = [weight.grad.norm() for weight in net.parameters() if weight.grad is not None]
    assert norms and max(norms) < 1e-3


def test_each_teacher_of_another_width_has_a_projection_that_is_trained():
    method, net = SeveralTeachers(), model("llama")
    widths = (48, 32, 64)
    teachers = [model("llama", hidden_size=width, seed=1) for width in widths]
    step(method, teachers, packs()[:2], net)
    shapes = {tuple(weight.shape): weight.grad.norm() for weight in method.state.parameters()}
    assert shapes.keys() == {(48, 32), (64, 32)} and all(norm > 0 for norm in shapes.values())


def test_weights_and_temperature_are_options():
    rows, net, teacher = packs()[:2], model("llama"), model("llama", seed=1)
    method = SeveralTeachers(divergence=1.0, text=0.5, cosine=0.25, temperature=1.0)
    logged = step(method, [teacher], rows, net)
    kls = [value for row in rows for value in by_hand(net, teacher, row, 1.0)[0]]
    assert logged["mean_kl"] == pytest.approx(sum(kls) / len(kls), rel=1e-4)
    parts = ("mean_kl", 1.0), ("cross_entropy", 0.5), ("hidden_cosine", 0.25)
    expected = sum(weight * logged[name] for name, weight in parts)
    assert logged["loss"] == pytest.approx(expected, rel=1e-5)


def test_states_are_compared_in_single_precision_within_autocast():
    rows, method = packs()[:1], SeveralTeachers()
    served = [teacher_of(method, model("llama", hidden_size=48, seed=1))]
    method.student(net := model("llama"), served)
    student = student_view(net, rows, VOCABULARY, True, trained=False)
    teacher = served[0].view(rows, student.batch, True)
    expected = method._cosines(student.at("all"), teacher.at("all"), 0)
    with torch.autocast("cpu", torch.bfloat16):
        again = method._cosines(student.at("all"), teacher.at("all"), 0)
    assert torch.equal(again, expected)
