"""Samples that are revised: drawn token by token, corrected by hand, and sampled on."""

import numpy as np
import pytest
import torch
from miniatures import built, model, packs, tokenizer
from short_training import asker

from studylib.data import packing, vocabulary
from studylib.evaluation import generate
from studylib.methods import revisions
from studylib.methods.base import Method, Signals


class Online(Method):
    """A method whose teacher runs."""

    signals = Signals(online=True)


def answers_of(rows):
    """The tokens of all answers of some rows."""
    return [branch.target for row in rows for branch in row.asked]


def test_a_token_is_where_the_sum_of_probabilities_passes_its_number():
    logits = torch.tensor([[0.2, 0.5, 0.3]]).log().repeat(6, 1)
    drawn = revisions._drawn(logits, [0.0, 0.19, 0.21, 0.69, 0.71, 0.999999])
    assert drawn == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("family", ["gpt_neox", "llama", "qwen2"])
def test_at_a_low_temperature_the_answers_are_the_greedy_ones(family):
    """As text, which is all that the decoder returns; with keys and values kept it says the
    same."""
    net, rows, prompts = model(family), packs()[:4], built()[:4]
    draws = np.full((len(answers_of(rows)), 5), 0.5)
    none = [[] for _ in draws]
    answers = revisions.continued(rows, none, asker(Online(), net), draws, temperature=1e-4)
    ends = tokenizer().eos_token_id
    texts = [
        generate.clean(vocabulary.text(tokenizer(), [t for t in tokens if t != ends]))
        for tokens in answers
    ]
    expected = [answer.text for answer in generate.answer(net, tokenizer(), prompts, longest=5)]
    assert texts == expected and len({*texts}) > 1


def test_an_answer_depends_on_its_numbers_and_not_on_what_is_asked_beside_it():
    rows, ask = packs()[:4], asker(Online())
    draws = np.random.default_rng(0).random((len(answers_of(rows)), 4))
    none = [[] for _ in draws]
    answers = revisions.continued(rows, none, ask, draws)
    first = len(rows[0].asked)
    alone = revisions.continued(rows[1:], none[first:], ask, draws[first:])
    assert alone == answers[first:]
    other = revisions.continued(rows, none, ask, np.random.default_rng(1).random(draws.shape))
    assert other != answers


def test_an_answer_goes_on_from_its_tokens_to_its_end_or_to_its_longest():
    rows, ask = packs()[:3], asker(Online())
    end = tokenizer().eos_token_id
    begun = [[5, 6], [5, end], [7] * 4, *([8] for _ in answers_of(rows)[3:])]
    draws = np.random.default_rng(0).random((len(begun), 4))
    answers = revisions.continued(rows, begun, ask, draws)
    assert answers[1:3] == begun[1:3]
    for tokens, before in zip(answers, begun, strict=True):
        assert tokens[: len(before)] == before
        assert len(tokens) == 4 or tokens[-1] == end
        assert end not in tokens[:-1]
    assert begun[0] == [5, 6], "what was given stays as it is"


def test_a_continuation_is_what_the_whole_answer_would_have_been():
    """Cut after two tokens and sampled on by the same numbers, it is the same answer."""
    rows, ask = packs()[:3], asker(Online())
    draws = np.random.default_rng(2).random((len(answers_of(rows)), 5))
    answers = revisions.continued(rows, [[] for _ in draws], ask, draws)
    assert revisions.continued(rows, [a[:2] for a in answers], ask, draws) == answers


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
    """Step by step, with the same numbers, from views of one row at a time."""
    rows, ask = packs()[:5], asker(Online())
    revised = revisions.revised(rows, ask, np.random.default_rng(3), longest=4)
    count = len(answers_of(rows))
    first, second = np.random.default_rng(3).random((2, count, 4))
    samples = revisions.continued(rows, [[] for _ in range(count)], ask, first)
    number, changed = 0, 0
    for row, new in zip(rows, revised, strict=True):
        assert new.question_ids == row.question_ids
        for branch in range(len(row.asked)):
            sample = samples[number]
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
            (expected,) = revisions.continued([alone], [begun], ask, second[number : number + 1])
            if begun == sample:
                expected = sample
            assert new.asked[branch].target == expected
            changed += new.asked[branch].target != sample
            number += 1
    assert changed > count / 2


def test_no_rows_are_revised_without_asking():
    assert revisions.revised([], None, np.random.default_rng(0), longest=3) == []
