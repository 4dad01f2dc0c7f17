"""TAID: the published rule, once per optimiser step, and its ends."""

import math

import pytest
import torch
from test_objective import STUDENT, TEACHER, Fixed, values

from studylib.methods import divergences
from studylib.methods.objective import Objective
from studylib.methods.taid import Taid


def taught(steps, micro, positions=6, of=None, **options):
    """t after every step of a TAID whose loss is given by random logits, a step in `micro` parts;
    `steps` are the first of `of`."""
    method, seen = Taid(**options), []
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        logits = torch.randn(2, positions, 11, generator=generator)
        for part in logits.chunk(micro, 1):
            values(method, *part)
        method.update(step, of or steps, {})
        seen.append(method.state.t.item())
    return seen


@pytest.mark.parametrize(("positions", "of"), [(6, 5), (6, 1000), (1, 1000)])
def test_taids_t_follows_the_official_rule(positions, of):
    """Written out: after the first step the linear rise, as in a short stage, or the nudge by the
    falling soft cross-entropy if that is more, as in a long one."""
    options = {"start": 0.2, "end": 0.9, "alpha": 0.5, "beta": 0.6}
    generator, t, last, momentum, expected = torch.Generator().manual_seed(1), 0.2, None, 0.0, []
    for step in range(5):
        student, teacher = torch.randn(2, positions, 11, generator=generator)
        target = ((1 - t) * student + t * teacher).softmax(-1)
        loss = -(target * student.log_softmax(-1)).sum(-1).mean().item()
        if last is not None:
            momentum = 0.6 * momentum + 0.4 * (last - loss) / (last + 1e-15)
            t = min(0.9, max(0.2 + 0.7 * step / of, t + 0.5 / (1 + math.exp(-momentum)) * (1 - t)))
        last = loss
        expected.append(t)
    assert taught(5, 1, positions, of, **options) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("parts", [(6,), (5, 2), (1,)])
def test_what_drives_taid_is_the_soft_cross_entropy_a_token_however_a_step_is_divided(parts):
    method, losses = Taid(start=0.3), []
    for student, teacher in (
        torch.randn(2, part, 11, generator=torch.Generator().manual_seed(part)) for part in parts
    ):
        values(method, student, teacher)
        losses += (
            -((0.7 * student + 0.3 * teacher).softmax(-1) * student.log_softmax(-1)).sum(-1)
        ).tolist()
    method.update(0, 10, {})
    assert method.state.last.item() == pytest.approx(sum(losses) / sum(parts), rel=1e-5)


def test_taids_options_are_the_official_ones_unless_told():
    """A stage so long that t is nudged further than it rises."""
    official = taught(6, 1, of=100_000, start=0.4, end=1.0, alpha=5e-4, beta=0.99)
    assert taught(6, 1, of=100_000) == official and official[-1] > 0.4 + 5 * 0.6 / 100_000


def test_taids_t_moves_once_per_optimiser_step():
    for of in (4, 1000):
        assert taught(4, 3, of=of, alpha=0.5) == pytest.approx(
            taught(4, 1, of=of, alpha=0.5), rel=1e-5
        )


def test_taids_t_rises_by_the_published_schedule():
    """Without a nudge: after step s (from 0) of N the official t is start + (end - start) s / N;
    the first step moves nothing."""
    expected = [0.3 + 0.7 * step / 200 for step in range(200)]
    assert taught(200, 1, start=0.3, end=1.0, alpha=0) == pytest.approx(expected, abs=1e-7)


def test_taid_at_its_end_is_forward_kl_to_the_teacher():
    method = Taid()
    method.state.t.fill_(1.0)
    loss = values(method, STUDENT, TEACHER)
    torch.testing.assert_close(loss, divergences.forward_kl(STUDENT, TEACHER))


def test_looking_at_dev_does_not_move_taid():
    method = Taid()
    with torch.no_grad():
        values(method, STUDENT, TEACHER)
    assert method.tokens == 0


def test_as_a_term_of_an_objective_it_is_itself():
    """The same values, and t moves with the objective."""
    alone, combined = (
        Taid(start=0.1),
        Objective(losses={"taid": {"start": 0.1}, "cross_entropy": 1}),
    )
    targets = torch.arange(7)
    for step in range(2):
        expected = values(alone, STUDENT, TEACHER)
        loss = combined.loss(Fixed(STUDENT, targets), [Fixed(TEACHER)])["taid"]
        assert torch.equal(loss, expected)
        alone.update(step, 2, {})
        combined.update(step, 2, {})
    assert alone.state.t.item() == combined.methods["taid"].state.t.item() == 0.55
