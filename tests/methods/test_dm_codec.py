"""DM-Codec: the formula on random tensors, and several teachers."""

import math

import pytest
import torch
from miniatures import model, packs
from short_training import VOCABULARY, teacher_of

from studylib.methods import stages
from studylib.methods.dm_codec import DmCodec
from studylib.methods.features import axis_cosine
from studylib.training import loop

AT_BEST = math.log(1 + math.exp(-1))


def by_loops(student, teacher):
    """−mean over features of log σ(cos) along the tokens, number by number."""
    total = 0.0
    for s, t in zip(student.double().T.tolist(), teacher.double().T.tolist(), strict=True):
        product = sum(a * b for a, b in zip(s, t, strict=True))
        sizes = math.sqrt(sum(a * a for a in s) * sum(b * b for b in t))
        total += math.log(1 + math.exp(-product / sizes))
    return total / student.shape[1]


@pytest.mark.parametrize(("tokens", "width"), [(7, 5), (3, 11)])
def test_the_formula_on_random_tensors(tokens, width):
    random = torch.Generator().manual_seed(tokens)
    student, teacher = torch.randn(2, tokens, width, generator=random).unbind()
    values = axis_cosine(student, teacher)
    assert values.shape == (tokens,)
    torch.testing.assert_close(values, torch.full((tokens,), by_loops(student, teacher)))


def test_it_sees_each_features_course_and_not_its_size():
    random = torch.Generator().manual_seed(0)
    teacher = torch.randn(6, 4, generator=random)
    scaled = (teacher * torch.tensor([0.1, 1.0, 3.0, 20.0])).requires_grad_()
    values = axis_cosine(scaled, teacher)
    torch.testing.assert_close(values, torch.full((6,), AT_BEST))
    values.sum().backward()
    torch.testing.assert_close(scaled.grad, torch.zeros(6, 4), atol=1e-5, rtol=0)
    opposite = torch.full((6,), math.log(1 + math.e))
    torch.testing.assert_close(axis_cosine(-teacher, teacher), opposite)
    assert axis_cosine(teacher.roll(1, 0), teacher)[0] > AT_BEST + 0.1, "tokens have their places"


def term(net, rows, *nets, weight=1.0):
    """The values of a step, by these teachers."""
    method = DmCodec(weight=weight)
    teachers = [teacher_of(method, other) for other in nets]
    method.student(net, teachers)
    return loop.backward(net, rows, method, teachers, VOCABULARY, 2)


def test_it_is_the_mean_over_tokens_blocks_and_teachers():
    rows, nets = packs()[:3], [model("llama", seed=seed) for seed in (0, 1, 2)]
    total, tokens = 0.0, sum(len(row.ids) for row in rows)
    for row in rows:
        views = [
            loop.student_view(net, [row], VOCABULARY, inner=True, trained=False).at("all")
            for net in nets
        ]
        for layer in (1, 2, 3, 4):
            student, *others = (view.hidden_rows(layer)[0] for view in views)
            for other in others:
                total += len(row.ids) * by_loops(student, other) / 8
    values = term(*([nets[0], rows, *nets[1:]]), weight=3.0)
    assert values["axis_cosine"] == pytest.approx(total / tokens, rel=1e-5)
    expected = values["cross_entropy"] + 3 * values["axis_cosine"]
    assert values["loss"] == pytest.approx(expected, rel=1e-5)


def test_several_equal_teachers_are_as_their_own():
    rows, net, teacher = packs()[:2], model("llama"), model("llama", seed=1)
    single, both = term(net, rows, teacher), term(net, rows, teacher, teacher)
    assert both == pytest.approx(single, rel=1e-6)
    assert term(net, rows, net)["axis_cosine"] == pytest.approx(AT_BEST, rel=1e-5)


def test_each_teacher_has_projections_to_its_width_which_a_later_stage_shares():
    stage = {"steps": 1, "method": "dm_codec"}
    curriculum = stages.Curriculum(stages.parse([stage, stage]))
    first, second = curriculum.methods
    student = model("llama", hidden_size=24)
    sizes = {"hidden_size": 40}, {"hidden_size": 24}
    teachers = [teacher_of(first, model("llama", seed=1, **size)) for size in sizes]
    curriculum.student(student, teachers)
    wide, equal = (objective.projections for objective in first.objectives)
    assert [tuple(layer.weight.shape) for layer in wide["axis_cosine"]] == [(40, 24)] * 4
    assert not equal
    assert second.objectives[0].projections["axis_cosine"] is wide["axis_cosine"]
    loop.backward(student, packs()[:2], second, teachers, VOCABULARY)
    assert all(layer.weight.grad.norm() > 0 for layer in wide["axis_cosine"])
