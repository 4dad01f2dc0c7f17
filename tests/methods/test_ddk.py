"""DDK: the published update, and which questions are drawn."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from miniatures import packs
from short_training import asker, rows_of

from studylib.data.packing import schedule
from studylib.methods.base import Sampler
from studylib.methods.ddk import DOMAINS, Ddk, domain_factors


def test_factors_follow_the_published_update():
    """By hand, for two domains: the student is twice as perplexed as its teacher in the second."""
    student, teacher = torch.tensor([3.0, 8.0]), torch.tensor([3.0, 4.0])
    first, second = 0.5 * 2.718281828, 0.5 * 2.718281828**2
    expected = [0.6 * psi / (first + second) + 0.2 for psi in (first, second)]
    factors = domain_factors(torch.tensor([0.5, 0.5]), student, teacher, 0.6)
    assert factors.tolist() == pytest.approx(expected, rel=1e-6)
    even = domain_factors(torch.tensor([0.9, 0.1]), teacher, teacher, 0.0)
    assert even.tolist() == pytest.approx([0.5, 0.5])


def sampler(step=0):
    rows = packs()
    order = schedule([len(row.ids) for row in rows], size=4, steps=8, seed=0)
    return Sampler(rows, order, seed=0, step=step)


def words(row):
    """The domains of a row's questions."""
    return {
        next((w for w in DOMAINS if w in b.question.question.lower().split()), "other")
        for b in row.asked
    }


def test_a_row_holds_the_questions_of_one_domain_and_all_of_them():
    method = Ddk()
    ask = asker(method)
    whole = {row.ids[: row.branches.count(0)].__repr__(): row for row in packs()}
    for row in method.batch(sampler(), ask):
        (domain,) = words(row)
        same = [
            b
            for b in whole[repr(row.ids[: row.branches.count(0)])].asked
            if words(replace(row, asked=(b,))) == {domain}
        ]
        assert [b.question.id for b in same] == list(row.question_ids)


def test_domains_are_drawn_by_their_factors():
    method = Ddk(every=1000)
    ask = asker(method)
    present = sorted({word for row in packs() for word in words(row)})
    drawn = present[0]
    method.state.factors.zero_()[DOMAINS.index(drawn)] = 1.0
    rows = [row for step in range(1, 6) for row in method.batch(sampler(step), ask)]
    assert all(words(row) == {drawn} for row in rows) and len(rows) == 20


def test_factors_are_measured_every_so_many_steps_and_kept_between():
    method, seen = Ddk(every=3), []
    ask = asker(method)
    for step in range(6):
        method.batch(sampler(step), ask)
        seen.append(method.state.factors.clone())
    changed = [not torch.equal(a, b) for a, b in pairwise(seen)]
    assert changed == [False, False, True, False, False]
    assert seen[-1].sum().item() == pytest.approx(1)
    assert "factors" in dict(method.state.named_buffers())


def test_perplexities_are_those_of_dev_by_domain():
    method = Ddk()
    ask = asker(method)
    student, teacher = method._perplexities(ask)
    losses: dict = {word: [] for word in DOMAINS}
    for row in ask.dev:
        student_view, (teacher_view,) = ask.views([row])
        for branch, student_logs, teacher_logs in zip(
            row.asked,
            student_view.log_probs.split(list(row.target_lengths)),
            teacher_view.log_probs.split(list(row.target_lengths)),
            strict=True,
        ):
            (word,) = words(replace(row, asked=(branch,)))
            losses[word] += [*zip(student_logs.tolist(), teacher_logs.tolist(), strict=True)]
    for number, word in enumerate(DOMAINS):
        if losses[word]:
            student_logs, teacher_logs = (
                torch.tensor(logs) for logs in zip(*losses[word], strict=True)
            )
            assert student[number].item() == pytest.approx(
                (-student_logs).mean().exp().item(), rel=1e-4
            )
            assert teacher[number].item() == pytest.approx(
                (-teacher_logs).mean().exp().item(), rel=1e-4
            )
        else:
            assert student[number] == teacher[number] == 1


def test_rows_are_the_usual_ones_to_begin_with():
    assert rows_of(Ddk)[0].digest == packs()[0].digest
