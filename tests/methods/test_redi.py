"""REDI: its two terms by hand, and which answers are rejected."""

import pytest
import torch
from miniatures import built, model
from short_training import VOCABULARY, asker, rows_of

from studylib.data import examples
from studylib.methods.redi import CHOSEN, REJECTED, Redi
from studylib.methods.views import student_view
from studylib.training import loop


def test_the_loss_is_that_of_the_paper():
    """Written out over answers, from the probabilities of one row after the other."""
    method = Redi(alpha=0.3)
    rows, net, means = rows_of(Redi)[:5], model("llama"), {CHOSEN: [], REJECTED: []}
    for row in rows:
        with torch.no_grad():
            logs = student_view(net, [row], VOCABULARY, False).logits.log_softmax(-1)
        logs = logs[torch.arange(len(logs)), torch.tensor(row.answers.targets)]
        for role, answer_logs in zip(row.roles, logs.split(list(row.target_lengths)), strict=True):
            means[role].append(answer_logs.mean().item())
    values = loop.backward(net, rows, method, (), VOCABULARY, 2)
    chosen, rejected = (sum(role_means) / len(role_means) for role_means in means.values())
    assert values[CHOSEN] == pytest.approx(-chosen, rel=1e-4)
    assert values[REJECTED] == pytest.approx(rejected, rel=1e-4)
    assert values["loss"] == pytest.approx(-chosen + 0.3 * rejected, rel=1e-4)


class Scripted:
    """A teacher whose answers are known beforehand."""

    def __init__(self, answers):
        self.given = answers

    def answers(self, questions, *, model, number, temperature):
        assert (model, number, temperature) == ("teacher", 3, 0.7)
        return self.given

    right = asker(Redi()).right


def test_the_first_wrong_answer_is_rejected_and_none_where_there_is_none():
    first, second, third = (
        examples.of(branch.question) for prompt in built()[:3] for branch in prompt.branches[:1]
    )
    gold = first.answers[0][0]
    pairs = Redi(samples=3, temperature=0.7).data(
        [first, second, third],
        Scripted([[gold.upper(), "", "wrong"], [second.answers[0][0]] * 3, ["bad", "worse", ""]]),
    )
    assert [(example.role, example.group) for example in pairs] == [
        (CHOSEN, first.id),
        (REJECTED, first.id),
        (CHOSEN, second.id),
        (CHOSEN, third.id),
        (REJECTED, third.id),
    ]
    assert [example.answers[0][0] for example in pairs if example.role == REJECTED] == [
        "wrong",
        "bad",
    ]
    assert pairs[0].answers == first.answers


def test_chosen_and_rejected_answers_are_branches_of_one_row():
    for row in rows_of(Redi):
        questions = {branch.question.group for branch in row.asked}
        assert row.roles.count(CHOSEN) == len(questions) >= row.roles.count(REJECTED)
