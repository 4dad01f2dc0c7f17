"""Samples that are revised: drawn, corrected by hand, and sampled on."""

import pytest
import torch
from miniatures import built, model, packs, tokenizer
from short_training import asker

from studylib.data import packing
from studylib.evaluation import generate
from studylib.evaluation.answers import Answer
from studylib.methods import revisions
from studylib.methods.base import Method, Signals


class Online(Method):
    """A method whose teacher runs."""

    signals = Signals(online=True)


def answers_of(rows):
    """The tokens of all answers of some rows."""
    return [branch.target for row in rows for branch in row.asked]


GREEDY = {"temperature": 1e-4, "number": 0}


def nothing_of(rows):
    """No token yet of each of their answers."""
    return [[] for _ in answers_of(rows)]


@pytest.mark.parametrize("family", ["gpt_neox", "llama", "qwen2"])
def test_at_a_low_temperature_the_answers_are_the_greedy_ones(family):
    net, rows = model(family), packs()[:4]
    answers = asker(Online(), net).continued(rows, nothing_of(rows), longest=5, **GREEDY)
    ends = tokenizer().eos_token_id
    tokens = [[token for token in answer if token != ends] for answer in answers]
    expected = generate.answer(net, tokenizer(), built()[:4], longest=5)
    assert tokens == [list(answer.ids) for answer in expected]
    assert len({answer.text for answer in expected}) > 1
    lengths = [answer.tokens for answer in expected]
    assert [len(answer) for answer in answers] == lengths, "with what ended them"


@pytest.mark.parametrize("family", ["gpt_neox", "llama", "qwen2"])
def test_a_continuation_is_what_the_whole_answer_would_have_been(family):
    rows, ask = packs()[:4], asker(Online(), model(family))
    answers = ask.continued(rows, nothing_of(rows), longest=5, **GREEDY)
    begun = [answer[:2] for answer in answers]
    assert ask.continued(rows, begun, longest=5, **GREEDY) == answers


def test_an_answer_depends_on_its_question_and_number_and_not_on_what_is_asked_beside_it():
    rows, ask = packs()[:4], asker(Online())
    how = {"longest": 4, "temperature": 1.0}
    answers = ask.continued(rows, nothing_of(rows), **how, number=0)
    alone = ask.continued(rows[1:], nothing_of(rows[1:]), **how, number=0)
    assert alone == answers[len(rows[0].asked) :]
    assert ask.continued(rows, nothing_of(rows), **how, number=1) != answers


def test_an_answer_goes_on_from_its_tokens_to_its_end_or_to_its_longest():
    rows, ask = packs()[:8], asker(Online())
    end = tokenizer().eos_token_id
    begun = [[5, 6], [5, end], [7] * 4, *([8] for _ in answers_of(rows)[3:])]
    answers = ask.continued(rows, begun, longest=4, temperature=1.0, number=0)
    assert answers[1:3] == begun[1:3]
    for tokens, before in zip(answers, begun, strict=True):
        assert tokens[: len(before)] == before and len(before) <= len(tokens) <= 4
        assert end not in tokens[:-1]
    assert {len(tokens) for tokens in answers[3:]} == {4}, "where nothing ends them"
    assert begun[0] == [5, 6], "what was given stays as it is"


def test_a_line_break_ends_an_answer_as_its_end_does(monkeypatch):
    """The decoder stops after it: it gives way to the token that ends the answer to learn."""
    rows, ask, end = packs()[:2], asker(Online()), tokenizer().eos_token_id
    others = nothing_of(rows)[1:]
    ended = [(3, (5, 6, 7)), *((2, (8,)) for _ in others)]  # after all tokens, or by a token more

    def answer(model, words, prompts, **how):
        return [Answer("", "", 0.0, 0.0, count, ids=ids) for count, ids in ended]

    monkeypatch.setattr(generate, "answer", answer)
    answers = ask.continued(rows, nothing_of(rows), longest=5, temperature=1.0, number=0)
    assert answers == [[5, 6, end], *([8, end] for _ in others)]
    whole = ask.continued(rows, nothing_of(rows), longest=3, temperature=1.0, number=0)
    assert whole[0] == [5, 6, 7], "as long as it may be"


P = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]).log()


@pytest.mark.parametrize(
    ("student", "sample", "expected"),
    [
        # all are the teacher's likeliest, however far the student is
        ([[0.1, 0.1, 0.8]] * 3, [0, 1, 2], [0, 1, 2]),
        # the only token that is not
        ([[0.1, 0.1, 0.8], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]], [0, 1, 0], [0, 1, 2]),
        ([[0.1, 0.1, 0.8], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]], [1, 1, 2], [0]),
        # of two wrong ones the one of the larger KL, 0.8 log 8 at the second
        ([[0.6, 0.3, 0.1], [0.8, 0.1, 0.1], [0.2, 0.2, 0.6]], [1, 0, 2], [1, 1]),
        # the largest KL is at the first, whose token is right
        ([[0.01, 0.01, 0.98], [0.2, 0.7, 0.1], [0.5, 0.3, 0.2]], [0, 0, 1], [0, 0, 2]),
    ],
)
def test_the_wrong_token_of_the_largest_kl_is_replaced(student, sample, expected):
    assert revisions.corrected(torch.tensor(student).log(), P, [sample]) == [expected]


def test_samples_are_corrected_each_by_itself():
    """The KLs are 0.37, 0.12 and 0.77: the first sample's last token is its worst; the second
    sample is right, though the student is as far off there."""
    student = torch.tensor([[0.3, 0.6, 0.1]] * 5).log()
    both = revisions.corrected(student, torch.cat([P, P[:2]]), [[1, 1, 1], [0, 1]])
    assert both == [[1, 1, 2], [0, 1]]


def test_a_revised_answer_is_the_sample_up_to_its_worst_token_then_the_teachers_and_on():
    """Step by step, from views of one row at a time."""
    rows, ask = packs()[:5], asker(Online())
    how = {"longest": 4, "temperature": 1.0}
    revised = revisions.revised(rows, ask, **how)
    samples, changed = iter(ask.continued(rows, nothing_of(rows), **how, number=0)), 0
    for row, new in zip(rows, revised, strict=True):
        assert new.question_ids == row.question_ids
        for branch in range(len(row.asked)):
            sample = next(samples)
            (alone,) = revisions.with_answers(
                [packing.with_branches(row, [row.asked[branch]])], [sample]
            )
            student, (teacher,) = ask.views([alone])
            q, p = (view.logits.softmax(-1) for view in (student, teacher))
            kls = [(a * (a / b).log()).sum().item() for a, b in zip(p, q, strict=True)]
            better = [int(each.argmax()) for each in p]
            wrong = [n for n, token in enumerate(sample) if token != better[n]]
            worst = max(wrong, key=lambda n: kls[n], default=None)
            begun = sample if worst is None else [*sample[:worst], better[worst]]
            original = packing.with_branches(row, [row.asked[branch]])
            (expected,) = ask.continued([original], [begun], **how, number=1)
            assert new.asked[branch].target == expected
            changed += new.asked[branch].target != sample
    assert changed > len(answers_of(rows)) / 2


def test_no_rows_are_revised_without_asking():
    assert revisions.revised([], asker(Online()), longest=3) == []
