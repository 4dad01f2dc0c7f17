"""Distillation for out-of-distribution generalisation: the mask and each term by hand."""

import math

import pytest
import torch
from miniatures import model, packs
from short_training import VOCABULARY, teacher_of

from studylib.methods.views import student_view
from studylib.methods.vlm_ood import VlmOod, right
from studylib.training import loop


class Guess:
    """A teacher's view of three answers of two, one and two tokens."""

    targets = torch.tensor([1, 2, 0, 3, 1])
    lengths = torch.tensor([2, 1, 2])

    def __init__(self, likeliest):
        self.logits = torch.nn.functional.one_hot(torch.tensor(likeliest), 4).float()

    def per_sequence(self, values):
        return torch.stack([part.sum() for part in values.split(self.lengths.tolist())])


@pytest.mark.parametrize(
    ("likeliest", "expected"),
    [
        ([1, 2, 0, 3, 1], [True, True, True]),
        ([1, 0, 0, 3, 1], [False, True, True]),
        ([0, 2, 1, 1, 3], [False, False, False]),
        ([0, 2, 0, 3, 0], [False, True, False]),
    ],
)
def test_a_teacher_is_right_where_all_tokens_are_the_likeliest(likeliest, expected):
    assert right(Guess(likeliest)).tolist() == expected


def by_hand(net, teacher, row, k, tau):
    """The terms of a row, token by token, and which of its answers the teacher gets right."""
    views = [student_view(each, [row], VOCABULARY, True, trained=False) for each in (net, teacher)]
    logs, teacher_logs = (view.logits.log_softmax(-1) for view in views)
    states, targets = (
        torch.stack([state / state.norm() for state in view.hidden(-1)]) for view in views
    )
    hits = [int(teacher_logs[n].argmax()) == target for n, target in enumerate(row.answers.targets)]
    whole = [all(part) for part in split(hits, row.target_lengths)]
    mask = [answer for answer, n in zip(whole, row.target_lengths, strict=True) for _ in range(n)]
    terms: dict[str, list[float]] = {
        name: [] for name in ("cross_entropy", "top_k_kl", "feature_mse", "contrastive")
    }
    for n, target in enumerate(row.answers.targets):
        p, q = teacher_logs[n].exp(), logs[n].exp()
        top = p.argsort(descending=True)[:k]
        rest = 1 - p[top].sum(), 1 - q[top].sum()
        kl = (p[top] * (p[top] / q[top]).log()).sum() + rest[0] * (rest[0] / rest[1]).log()
        there, back = (
            (cosines / tau).softmax(0)[n] for cosines in (targets @ states[n], states @ targets[n])
        )
        terms["cross_entropy"].append(-logs[n, target].item())
        terms["top_k_kl"].append(kl.item() * mask[n])
        terms["feature_mse"].append((states[n] - targets[n]).square().sum().item())
        terms["contrastive"].append(-(there.log() + back.log()).item() / 2)
    return terms, whole


def split(values, lengths):
    """A list in parts of these lengths."""
    rest = iter(values)
    return [[next(rest) for _ in range(length)] for length in lengths]


def knowing(rows):
    """A teacher that gets some of the answers of these rows right, and those rows."""
    teacher = model("llama", seed=1)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=0.01)
    for _ in range(60):
        view = student_view(teacher, rows, VOCABULARY, False)
        optimizer.zero_grad()
        (-view.log_probs.mean()).backward()
        optimizer.step()
    return teacher.requires_grad_(False)


def test_the_terms_are_those_of_the_paper_and_the_kl_only_where_the_teacher_is_right():
    rows, net = packs()[5:9], model("llama")
    teacher = knowing(rows[:2])
    method = VlmOod(k=7, tau=0.5)
    teachers = [teacher_of(method, teacher)]
    method.student(net, teachers)
    logged = loop.backward(net, rows, method, teachers, VOCABULARY, 1)
    by_row = [by_hand(net, teacher, row, 7, 0.5) for row in rows]
    whole = [answer for _, row_whole in by_row for answer in row_whole]
    assert True in whole and False in whole
    total = 0.0
    for name in ("cross_entropy", "top_k_kl", "feature_mse", "contrastive"):
        values = [value for terms, _ in by_row for value in terms[name]]
        mean = sum(values) / len(values)
        assert logged[name] == pytest.approx(mean, rel=1e-3), name
        total += mean
    assert logged["loss"] == pytest.approx(total, rel=1e-3)
    assert logged["top_k_kl"] > 0


def test_all_but_the_text_is_at_its_least_where_student_is_teacher():
    """What InfoNCE leaves is what the teacher's states leave of each other."""
    rows, teacher = packs()[5:7], knowing(packs()[5:7])
    method, net = VlmOod(), model("llama")
    net.load_state_dict(teacher.state_dict())
    teachers = [teacher_of(method, teacher)]
    method.student(net, teachers)
    logged = loop.backward(net, rows, method, teachers, VOCABULARY, 1)
    assert logged["top_k_kl"] == pytest.approx(0, abs=1e-6)
    assert logged["feature_mse"] == pytest.approx(0, abs=1e-6)
    assert 0 <= logged["contrastive"] <= math.log(max(len(row.answers.at) for row in rows))


def test_a_wider_teachers_states_are_met_through_a_trained_projection():
    rows, method = packs()[:2], VlmOod()
    teachers = [teacher_of(method, model("llama", hidden_size=48, seed=1))]
    method.student(net := model("llama"), teachers)
    loop.backward(net, rows, method, teachers, VOCABULARY, 1)
    (weight,) = method.state.parameters()
    assert weight.shape == (48, 32) and weight.grad.abs().sum() > 0


def test_there_is_no_projection_between_equal_widths():
    method = VlmOod()
    method.student(model("llama"), [teacher_of(method, model("llama", seed=1))])
    assert not list(method.state.parameters())
