"""Distiller: InfoNCE at alpha = 1 by a loop, and which blocks are paired."""

import math

import pytest
import torch
from miniatures import model, packs
from short_training import VOCABULARY
from torch.nn.functional import cosine_similarity

from studylib.core.errors import StudyError
from studylib.data.packing import collate
from studylib.methods import options, stages
from studylib.methods.distiller import Distiller, paired
from studylib.methods.objective import Objective
from studylib.methods.views import Teacher
from studylib.models import parts, prune
from studylib.training import loop

KEPT = [1, 3]  # blocks of a teacher of four


def pair():
    """A student of two blocks, and its teacher, which runs beside it; those that it was cut to."""
    whole = model("llama", seed=1)
    student = prune.cut(whole, KEPT)
    with torch.no_grad():
        for weight in student.parameters():
            weight.mul_(1.1)
    return student, Teacher(parts.output_of(whole, VOCABULARY), model=whole, aligned=[2, 3])


def info_nce(student, teacher, temperature):
    """Written out over tokens: −log of the share of a token's own teacher state, summed."""
    total = 0.0
    for i in range(len(student)):
        scores = (cosine_similarity(student[i : i + 1], teacher) / temperature).exp()
        total -= math.log((scores[i] / scores.sum()).item())
    return total


def states(net, row):
    with torch.no_grad():
        return [layer[0] for layer in parts.layer_states(net, collate([row]))]


@pytest.mark.parametrize(
    ("mapping", "blocks"), [("kept", [2, 3]), ("skip", [1, 3]), ("last", [2, 3])]
)
def test_at_alpha_one_the_inner_loss_is_info_nce_of_paired_blocks(mapping, blocks):
    (student, teacher), rows = pair(), packs()[:2]
    method = Distiller(alpha=1.0, mapping=mapping, weight=0.25, temperature=0.2)
    method.student(student, [teacher])
    values = loop.backward(student, rows, method, [teacher], VOCABULARY, 1)
    total = 0.0
    for row in rows:
        both = states(student, row), states(teacher.model, row)
        for layer, block in enumerate(blocks):
            total += info_nce(both[0][layer + 1], both[1][block + 1], 0.2) / len(blocks)
    expected = total / sum(len(row.ids) for row in rows)
    assert values["mi_alpha"] == pytest.approx(expected, rel=1e-4)
    assert values["loss"] == pytest.approx(
        values["forward_kl"] + 0.5 * values["cross_entropy"] + 0.25 * expected, rel=1e-5
    )


def test_kept_and_last_differ_where_other_blocks_were_kept():
    """Of a student that stands for the teacher's first blocks."""
    (student, teacher), rows, losses = pair(), packs()[:1], {}
    teacher = Teacher(teacher.head, model=teacher.model, aligned=[0, 1])
    for mapping in ("kept", "skip", "last"):
        method = Distiller(mapping=mapping)
        with torch.no_grad():
            losses[mapping] = loop.backward(student, rows, method, [teacher], VOCABULARY)
    assert len({round(values["mi_alpha"], 4) for values in losses.values()}) == 3
    assert len({values["forward_kl"] for values in losses.values()}) == 1


def test_a_view_that_was_looked_at_before_is_paired_all_the_same():
    (student, teacher), rows = pair(), packs()[:1]
    seen = loop.student_view(student, rows, VOCABULARY, True)
    first, second = (teacher.view(rows, seen.batch, True) for _ in range(2))
    second.at("all")
    method = Distiller(mapping="skip")
    values = [method.loss(seen, [view])["mi_alpha"].item() for view in (first, second)]
    assert values[0] == values[1] != Distiller().loss(seen, [second])["mi_alpha"].item()


def test_alpha_and_temperature_are_those_of_the_loss():
    (student, teacher), rows = pair(), packs()[:1]
    losses = {}
    for alpha in (0.0, 0.5, 1.0):
        for temperature in (0.5, 1.0):
            plain = {"alpha": alpha, "temperature": temperature}
            (stage,) = stages.parse([{"steps": 1, "losses": {"mi_alpha": plain}}])
            values = [
                loop.backward(student, rows, method, [teacher], VOCABULARY)["mi_alpha"]
                for method in (Distiller(**plain), stage.method())
            ]
            assert values[0] == pytest.approx(values[1], rel=1e-6)
            losses[alpha, temperature] = values[0]
    assert len({round(value, 4) for value in losses.values()}) == 6


def test_blocks_are_spread_evenly_or_taken_from_the_end():
    assert paired("skip", 3, 12) == [3, 7, 11] and paired("last", 3, 12) == [9, 10, 11]
    assert paired("skip", 4, 6) == [1, 2, 4, 5] and paired("last", 6, 6) == list(range(6))
    assert paired("skip", 6, 6) == list(range(6))
    assert paired("skip", 6, 4) == [0, 1, 1, 2, 3, 3], "a student that is deeper than its teacher"


def test_a_teacher_with_too_few_blocks_has_no_last_ones():
    deep, shallow = model("llama"), prune.cut(model("llama", seed=1), KEPT)
    teacher = Teacher(parts.output_of(shallow, VOCABULARY), model=shallow, aligned=[0, 0, 1, 1])
    Distiller(mapping="skip").student(deep, [teacher])
    with pytest.raises(StudyError, match="the student has 4 blocks, its teacher only 2: take"):
        Distiller(mapping="last").student(deep, [teacher])


def test_where_widths_differ_projections_are_trained_beside_the_student():
    _, teacher = pair()
    narrow = model("llama", hidden_size=16, num_hidden_layers=2)
    method = Distiller(mapping="skip")
    method.student(narrow, [teacher])
    loop.backward(narrow, packs()[:1], method, [teacher], VOCABULARY)
    gradients = [weight.grad for weight in method.state.parameters()]
    assert [tuple(grad.shape) for grad in gradients] == [(32, 16)] * 2
    assert all(grad.abs().sum() > 0 for grad in gradients)


def test_it_is_called_by_its_name_with_its_options():
    (stage,) = stages.parse(
        [{"steps": 2, "method": "distiller", "options": {"mapping": "skip", "alpha": "0.5"}}]
    )
    assert stage.title == "distiller(mapping=skip, alpha=0.5)"
    assert stage.online and stage.uses_teacher and stage.prototype.versions == {"distiller": 1}
    with pytest.raises(StudyError, match="mapping of distiller must be 'kept', 'skip' or 'last'"):
        options.check("distiller", Distiller, {"mapping": "first"})


@pytest.mark.parametrize(("inner", "soft"), [("hidden_mse", "jsd"), ("mi_alpha", "reverse_kl")])
def test_other_losses_are_those_of_an_objective(inner, soft):
    (student, teacher), rows = pair(), packs()[:2]
    named = {"weight": 0.5} | ({"alpha": 0.9, "temperature": 0.1} if inner == "mi_alpha" else {})
    losses = {soft: 1.0, "cross_entropy": 0.5, inner: named}
    chosen, written = Distiller(inner=inner, soft=soft, weight=0.5), Objective(losses=losses)
    values = []
    for method in (chosen, written):
        method.student(student, [teacher])
        values.append(loop.backward(student, rows, method, [teacher], VOCABULARY, 1))
    assert values[0] == values[1] and {inner, soft} < values[0].keys()
