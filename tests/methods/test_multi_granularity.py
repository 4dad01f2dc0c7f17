"""Multi-granularity revision: each term by hand on three classes, the bounds, and the rows."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from miniatures import model, packs
from short_training import VOCABULARY, asker, teacher_of

from studylib.data.packing import schedule, with_branches
from studylib.methods import revisions
from studylib.methods.base import Sampler
from studylib.methods.divergences import inside
from studylib.methods.multi_granularity import SAMPLED, MultiGranularity, span_relation
from studylib.methods.views import student_view
from studylib.training import loop

P = torch.tensor([[0.7, 0.1, 0.2], [0.2, 0.5, 0.3]])
Q = torch.tensor([[0.4, 0.3, 0.3], [0.1, 0.3, 0.6]])


def test_the_span_relation_by_hand():
    """Two answers of three and two tokens; no pair reaches from one answer into the other."""
    p = torch.tensor([[0.5, 0.5], [0.2, 0.8], [1.0, 0.0], [0.3, 0.7], [0.6, 0.4]])
    q = torch.tensor([[0.4, 0.6], [0.5, 0.5], [0.9, 0.1], [0.3, 0.7], [0.6, 0.4]])
    expected = [
        (0.10 - 0.20) ** 2 + (0.40 - 0.30) ** 2,
        (0.20 - 0.45) ** 2 + (0.00 - 0.05) ** 2,
        0.0,
    ]
    values = span_relation(p, q, torch.tensor([0, 0, 0, 1, 1]))
    assert values.tolist() == pytest.approx(expected, abs=1e-6)


def views(p, q, targets, roles):
    """Student and teacher on answers of three tokens that have these distributions."""
    sequences = torch.arange(len(roles)).repeat_interleave(len(targets) // len(roles))
    student = SimpleNamespace(
        logits=q.log().requires_grad_(),
        targets=torch.tensor(targets),
        sequences=sequences,
        where=lambda role: torch.tensor([each == role for each in roles]),
    )
    return student, SimpleNamespace(logits=p.log())


def bounded(lower, upper):
    """A method of sharp edges whose network puts out these bounds."""
    method = MultiGranularity(edge=1e-5)
    with torch.no_grad():
        begin, length = (lower + 3e-5) / (1 + 6e-5), (upper - lower) / (1 + 3e-5 - lower)
        method.state[2].bias.copy_(torch.tensor([begin, length]).logit())
    return method


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_the_terms_on_three_tokens_of_a_gold_and_of_a_sampled_answer():
    """The bounds keep what lies between 0.1 and 0.9 of the teacher's mass."""
    p = [[0.92, 0.03, 0.05], [0.2, 0.5, 0.3], [0.3, 0.25, 0.45]]
    q = [[0.4, 0.3, 0.3], [0.1, 0.3, 0.6], [0.5, 0.3, 0.2]]
    targets = [0, 1, 2, 1, 0, 2]
    student, teacher = views(
        *(torch.tensor(each * 2) for each in (p, q)), targets, ["gold", SAMPLED]
    )
    values = bounded(0.1, 0.9).loss(student, [teacher])
    gold = [-math.log(q[n][t]) for n, t in enumerate(targets[:3])]
    assert values["cross_entropy"].tolist() == pytest.approx(gold, rel=1e-5)
    # the first one's classes lie at 0.46, 0.985 and 0.945: the first alone is kept, or with the
    # second where that is the target; the second one's at 0.9, 0.25 and 0.65 (0.9 is half kept,
    # or the target); the third one's at 0.6, 0.875 and 0.225
    first = kl([0.92, 0.08], [0.4, 0.6])
    assert values["clipped_kl"][[0, 3]].tolist() == pytest.approx([first, kl(p[0], q[0])], rel=1e-4)
    assert values["clipped_mass"][[0, 3]].tolist() == pytest.approx(
        [-math.log(0.92), -math.log(0.95)], rel=1e-4
    )
    expected = [kl(p[n], q[n]) for n in (2, 1, 2)]
    assert values["clipped_kl"][[2, 4, 5]].tolist() == pytest.approx(expected, rel=1e-4)
    assert values["clipped_mass"][[2, 4, 5]].tolist() == pytest.approx([0.0] * 3, abs=1e-5)
    pairs = [
        sum((p[n][v] * p[n + 1][v] - q[n][v] * q[n + 1][v]) ** 2 for v in range(3)) for n in (0, 1)
    ]
    assert values["span"].tolist() == pytest.approx(pairs * 2, rel=1e-4)


def test_what_is_clipped_is_pooled_and_the_target_is_kept():
    """Of four classes the two least likely lie outside of the bounds, at 0.96 and 0.99."""
    p, q = [0.5, 0.44, 0.04, 0.02], [0.4, 0.3, 0.1, 0.2]
    pooled, apart = kl([0.5, 0.44, 0.06], [0.4, 0.3, 0.3]), kl(p, q)
    for target, expected, kept in ((0, pooled, 0.94), (2, apart, 0.98), (3, apart, 0.96)):
        student, teacher = views(torch.tensor([p]), torch.tensor([q]), [target], ["gold"])
        values = bounded(0.1, 0.95).loss(student, [teacher])
        assert values["clipped_kl"].item() == pytest.approx(expected, rel=1e-4)
        assert values["clipped_mass"].item() == pytest.approx(-math.log(kept), rel=1e-4)


@pytest.mark.parametrize(
    ("tail", "clipped"),
    [
        ([0.194, 0.002, 0.002, 0.002], True),  # 0.41 nats within it, worth more than -log 0.8
        ([0.07, 0.05, 0.04, 0.04], False),
        ([0.5, 0.15, 0.1, 0.1], False),  # far too likely, but its shape is as it should be
    ],
)
def test_the_bounds_learn_to_clip_what_costs_more_than_its_mass(tail, clipped):
    p, method = torch.tensor([[0.5, 0.3, 0.05, 0.05, 0.05, 0.05]]), MultiGranularity(top=6)
    head = [(1 - sum(tail)) * share for share in (0.6, 0.4)]
    student, teacher = views(p, torch.tensor([head + tail]), [0], ["gold"])
    optimizer = torch.optim.Adam(method.state.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        values = method.loss(student, [teacher])
        (values["clipped_kl"] + values["clipped_mass"]).sum().backward()
        optimizer.step()
    with torch.no_grad():
        kept = inside(p.log(), *method._bounds(p.log(), student.logits), method.edge)[0]
    assert (kept[:2] > 0.9).all()
    assert (kept[2:].mean().item() < 0.35) == clipped
    assert (kept[2:].mean().item() > 0.9) == (not clipped)


def test_the_mass_that_is_kept_does_not_move_the_student():
    student, teacher = views(P, Q, [0, 1], ["gold"])
    method = MultiGranularity()
    method.loss(student, [teacher])["clipped_mass"].sum().backward()
    assert student.logits.grad is None
    assert method.state[2].bias.grad.abs().sum() > 0


def test_the_network_reads_both_models_and_is_the_same_whatever_was_drawn_before():
    method = MultiGranularity(top=4)
    torch.rand(3)
    for weight, again in zip(
        method.state.parameters(), MultiGranularity(top=4).state.parameters(), strict=True
    ):
        assert torch.equal(weight, again)
    with torch.no_grad():
        method.state[2].weight.fill_(1.0)
        lower, upper = method._bounds(P.log(), Q.log())
        read = [[0.7, 0.2, 0.1, 0, 0.4, 0.3, 0.3, 0], [0.5, 0.3, 0.2, 0, 0.3, 0.6, 0.1, 0]]
        begin, length = method.state(torch.tensor(read)).sigmoid().unbind(-1)
    torch.testing.assert_close(lower, 1.3 * begin - 0.15)
    torch.testing.assert_close(upper, lower + (1.15 - lower) * length)


def test_zero_and_zero_gradient_where_student_is_teacher():
    student, teacher = views(P, P, [0, 1], ["gold"])
    values = MultiGranularity().loss(student, [teacher])
    compared = values["clipped_kl"].sum() + values["span"].sum()
    assert compared.item() == pytest.approx(0, abs=1e-6)
    compared.backward()
    torch.testing.assert_close(student.logits.grad, torch.zeros(2, 3), atol=1e-6, rtol=0)
    assert (values["clipped_mass"] > 0).all()


def sampler(step=0):
    rows = packs()
    order = schedule([len(row.ids) for row in rows], size=4, steps=8, seed=0)
    return Sampler(rows, order, seed=0, step=step)


def test_revised_samples_stand_beside_the_gold_answers():
    method = MultiGranularity(on_policy=1.0, longest=3)
    ask = asker(method)
    rows, unchanged = method.batch(sampler(), ask), sampler().next()
    for row, before in zip(rows, unchanged, strict=True):
        count = len(before.asked)
        pairs = zip(row.asked[count:], before.asked, strict=True)
        asked = [replace(branch, target=gold.target) for branch, gold in pairs]
        (sample,) = revisions.revised([with_branches(before, asked)], ask, longest=3)
        assert row.roles == ("gold",) * count + (SAMPLED,) * count
        assert row.asked[:count] == before.asked
        assert [b.target for b in row.asked[count:]] == [b.target for b in sample.asked]
        assert [b.given for b in row.asked[count:]] == [b.given for b in before.asked]
        assert len({*row.question_ids}) == 2 * count
        assert all(1 <= len(b.target) <= 3 for b in row.asked[count:])


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.5, 5, 27), (1.0, 32, 32)])
def test_the_share_of_contexts_that_are_asked(share, least, most):
    method = MultiGranularity(on_policy=share, longest=1)
    ask = asker(method)
    steps = [method.batch(sampler(step), ask) for step in range(8)]
    assert least <= sum(SAMPLED in row.roles for rows in steps for row in rows) <= most
    again = method.batch(sampler(3), ask)
    assert [row.digest for row in again] == [row.digest for row in steps[3]]


def test_each_term_is_a_mean_over_its_units():
    """Of rows with gold answers alone and with samples, whatever the micro-batches."""
    method, net = MultiGranularity(longest=3), model("llama")
    teachers = [teacher_of(method, model("llama", seed=1))]
    rows = method.batch(sampler(3), asker(method))
    assert len({SAMPLED in row.roles for row in rows}) == 2
    sums, counts = dict.fromkeys(("cross_entropy", "clipped_kl", "clipped_mass", "span"), 0.0), {}
    for row in rows:
        student = student_view(net, [row], VOCABULARY, False, trained=False)
        values = method.loss(student, [teachers[0].view([row], student.batch, True)])
        for name in sums:
            sums[name] += values[name].sum().item()
            counts[name] = counts.get(name, 0) + len(values[name])
    logged = loop.backward(net, rows, method, teachers, VOCABULARY, 2)
    for name in sums:
        assert method.count(name, rows) == counts[name], name
        assert logged[name] == pytest.approx(sums[name] / counts[name], rel=1e-4, abs=1e-6)
    assert logged["loss"] == pytest.approx(sum(logged[name] for name in sums), rel=1e-5)
    gold = sum(len(b.target) for row in rows for b in row.asked if SAMPLED not in b.question.id)
    assert counts["cross_entropy"] == gold < counts["clipped_kl"]
    assert counts["span"] == counts["clipped_kl"] - sum(len(row.asked) for row in rows)


def test_gold_answers_come_first_in_the_comparison():
    first, second = MultiGranularity.recipe(240)
    assert (first["steps"], second["steps"]) == (120, 120)
    assert second["method"] == "multi_granularity" and first["losses"] == {"cross_entropy": 1.0}
