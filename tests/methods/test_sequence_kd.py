"""Sequence-level distillation: the text is the teacher's, the loss that of text."""

import pytest
import torch
from miniatures import built, model, tokenizer
from short_training import VOCABULARY, asker, build, rows_of

from studylib.data import examples, targets
from studylib.evaluation import generate
from studylib.evaluation.answers import best
from studylib.methods import stages
from studylib.methods.objective import Objective
from studylib.methods.sequence_kd import SequenceKd
from studylib.training import loop

LEARNT = [examples.of(branch.question) for prompt in built() for branch in prompt.branches]


def test_the_student_learns_what_the_teacher_says():
    """Asked for itself, without the method, and put into rows as `targets: sequence_kd` does."""
    answers = best(generate.answer(model("llama", seed=1), tokenizer(), build(LEARNT)))
    expected = build([targets.answered(q, answers[q.id].text) for q in LEARNT])
    rows = rows_of(SequenceKd)
    for row, prompt in zip(rows, expected, strict=True):
        assert [b.target for b in row.asked] == [b.target for b in prompt.branches]
        assert [b.given for b in row.asked] == [b.given for b in prompt.branches]
    gold = [branch.target for prompt in built() for branch in prompt.branches]
    assert gold != [branch.target for row in rows for branch in row.asked]


class Scripted:
    """A teacher whose answers are known beforehand: right, wrong, none."""

    def answers(self, questions, *, model):
        assert model == "teacher"
        return [[text] for text in ("wrong", "", questions[2].answers[0][0])]


def test_every_answer_is_learnt_whether_it_is_right_or_not():
    learnt = SequenceKd().data(LEARNT[:3], Scripted())
    assert [example.id for example in learnt] == [example.id for example in LEARNT[:3]]
    assert [example.answers[0][0] for example in learnt] == [
        *("wrong", ""),
        LEARNT[2].answers[0][0],
    ]
    eos = tokenizer().eos_token_id
    silent = [b.target for p in build(learnt) for b in p.branches if b.question is learnt[1]]
    assert silent == [[eos]], "to say nothing is learnt, too"


def test_the_loss_is_that_of_text():
    rows, values = rows_of(SequenceKd)[:4], []
    for method in (SequenceKd(), Objective(losses={"cross_entropy": 1.0})):
        net = model("llama")
        logged = loop.backward(net, rows, method, (), VOCABULARY, 2)
        gradient = torch.cat([p.grad.flatten() for p in net.parameters()])
        values.append((logged["loss"], gradient))
    assert values[0][0] == pytest.approx(values[1][0], rel=1e-6)
    torch.testing.assert_close(values[0][1], values[1][1])


def test_no_teacher_runs_beside_it():
    (stage,) = stages.parse(SequenceKd.recipe(5))
    assert stage.makes_data and not stage.uses_teacher and stage.steps == 5
    assert asker(SequenceKd()).teachers == []
