"""Rows with the student's answers: what changes in them, and by which random numbers."""

import pytest
from miniatures import built, model, packs, tokenizer
from short_training import asker

from studylib.data import vocabulary
from studylib.evaluation import generate
from studylib.methods.base import Sampler
from studylib.methods.gkd import Gkd
from studylib.methods.on_policy import sampled

ROWS = [0, 6, 11]


def sampler(step=0, seed=0):
    return Sampler(packs(), [ROWS] * 8, seed=seed, step=step)


def drawn(step=0, temperature=1.0, seed=0):
    ask = asker(Gkd(), model("llama"), seed)
    return sampled(sampler(step).next(), sampler(step), ask, temperature=temperature)


def targets(rows):
    return [branch.target for row in rows for branch in row.asked]


def test_answers_change_and_nothing_else():
    before, rows = sampler().next(), drawn()
    for row, other in zip(before, rows, strict=True):
        size = row.branches.count(0)
        assert other.ids[:size] == row.ids[:size] and other.branches.count(0) == size
        assert [b.given for b in other.asked] == [b.given for b in row.asked]
        assert [b.question.question for b in other.asked] == [
            b.question.question for b in row.asked
        ]
        assert set(other.roles) == {"sampled"} and row.roles.count("gold") == len(row.roles)
    assert targets(rows) != targets(before)


def test_near_a_temperature_of_zero_they_are_the_greedy_answers():
    """Those that the model gives when it is asked as for an evaluation, in tokens, with EOS."""
    prompts = [built()[number] for number in ROWS]
    answers = generate.answer(model("llama"), tokenizer(), prompts)
    expected = [
        [*ids, tokenizer().eos_token_id]
        for ids in vocabulary.text_ids(
            tokenizer(), [f" {answer.text}" if answer.text else "" for answer in answers]
        )
    ]
    assert any(len(ids) > 2 for ids in expected)
    assert targets(drawn(temperature=1e-4)) == expected


def test_each_step_draws_anew_and_a_step_again_the_same():
    first, again, following = (targets(drawn(step)) for step in (3, 3, 4))
    assert first == again and first != following
    assert targets(drawn(3, seed=1)) != first


def test_each_answer_is_a_question_of_its_step():
    identifiers = [q for step in (0, 1) for row in drawn(step) for q in row.question_ids]
    assert len({*identifiers}) == len(identifiers)


@pytest.mark.parametrize("number", ROWS)
def test_a_row_has_the_same_answers_alone(number):
    ask, position = asker(Gkd(), model("llama")), ROWS.index(number)
    (alone,) = sampled([packs()[number]], sampler(), ask)
    assert alone.digest == drawn()[position].digest
