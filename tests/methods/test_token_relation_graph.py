"""TRG: each term by loops over the tokens of each row."""

import math

import pytest
import torch
from miniatures import model, packs
from short_training import VOCABULARY, teacher_of

from studylib.methods import stages
from studylib.methods.token_relation_graph import TokenRelationGraph
from studylib.training import loop

ROWS = packs()[:3]


def states(net, row):
    """Hidden states after each block, (T, d), of a row on its own."""
    view = loop.student_view(net, [row], VOCABULARY, inner=True, trained=False)
    return [view.at("all").hidden_rows(layer)[0] for layer in (1, 2, 3, 4)]


def cosines(left, right):
    """(T, T), pair by pair."""
    return [
        [
            (a @ b / math.sqrt((a @ a).item() * (b @ b).item())).item()
            for b in right.double().unbind()
        ]
        for a in left.double().unbind()
    ]


def softmax(values):
    total = sum(math.exp(value) for value in values)
    return [math.exp(value) / total for value in values]


def by_loops(student, teacher, neighbours, temperature):
    """The sums of the three terms over the tokens of one row, at one layer."""
    within_s, within_t = cosines(student, student), cosines(teacher, teacher)
    across, sums = cosines(student, teacher), [0.0, 0.0, 0.0]
    for i in range(len(student)):
        others = sorted((j for j in range(len(student)) if j != i), key=lambda j: -within_t[i][j])
        near = others[:neighbours]
        p = softmax([within_t[i][j] / temperature for j in near])
        q = softmax([within_s[i][j] / temperature for j in near])
        sums[0] += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        sums[1] -= math.log(softmax([value / temperature for value in across[i]])[i])
        gaps = [(within_s[i][j] - within_t[i][j]) ** 2 for j in range(len(student))]
        sums[2] += sum(gaps) / len(gaps)
    return sums


def test_each_term_is_its_mean_over_tokens_and_blocks():
    method = TokenRelationGraph(neighbours=5, temperature=0.5, weight=2.0)
    nets = model("llama"), model("llama", seed=1)
    teacher = teacher_of(method, nets[1])
    method.student(nets[0], [teacher])
    rows = sorted(ROWS, key=lambda row: len(row.ids))[:2]
    values = loop.backward(nets[0], rows, method, [teacher], VOCABULARY)
    sums, tokens = torch.zeros(3), sum(len(row.ids) for row in rows)
    for row in rows:
        for student, taught_by in zip(*(states(net, row) for net in nets), strict=True):
            sums += torch.tensor(by_loops(student, taught_by, 5, 0.5)) / 4
    local, contrast, context = (sums / tokens).tolist()
    assert values["neighbour_kl"] == pytest.approx(local, rel=1e-3)
    assert values["mi_alpha"] == pytest.approx(contrast, rel=1e-4)
    assert values["token_relation"] == pytest.approx(context, rel=1e-4)
    plain = values["forward_kl"] + 0.5 * values["cross_entropy"]
    assert values["loss"] == pytest.approx(plain + 2 * (local + contrast + context), rel=1e-3)


def test_all_but_the_contrast_and_the_labels_are_0_where_the_student_is_the_teacher():
    method, net = TokenRelationGraph(), model("gpt_neox")
    values = loop.backward(net, ROWS, method, [teacher_of(method, net)], VOCABULARY)
    for term in ("forward_kl", "neighbour_kl", "token_relation"):
        assert values[term] == pytest.approx(0, abs=1e-6)
    assert values["mi_alpha"] > 0.01, "tokens of one row are not all unlike"


def test_only_the_contrast_needs_equal_widths():
    method, net = TokenRelationGraph(), model("llama", hidden_size=24)
    teacher = teacher_of(method, model("llama", seed=1))
    method.student(net, [teacher])
    assert list(method.objective.projections) == ["mi_alpha"]
    values = loop.backward(net, ROWS, method, [teacher], VOCABULARY)
    assert math.isfinite(values["loss"])
    assert all(layer.weight.grad.norm() > 0 for layer in method.objective.projections["mi_alpha"])


def test_a_later_stage_goes_on_with_the_projections_of_an_earlier_one():
    stage = {"steps": 1, "method": "token_relation_graph"}
    curriculum = stages.Curriculum(stages.parse([stage, stage]))
    first, second = curriculum.methods
    curriculum.student(model("llama", hidden_size=24), [teacher_of(first, model("llama", seed=1))])
    assert second.objective.projections["mi_alpha"] is first.objective.projections["mi_alpha"]
