"""Divergences against closed forms, torch's own and loops over the vocabulary."""

import inspect
import math

import pytest
import torch
from torch.nn.functional import kl_div

from studylib.core.errors import StudyError
from studylib.methods import divergences

STUDENT, TEACHER = torch.randn(2, 7, 11, generator=torch.Generator().manual_seed(0)).unbind()
P, Q = TEACHER.softmax(-1), STUDENT.softmax(-1)
DIVERGENCES = {
    "forward_kl": divergences.forward_kl,
    "reverse_kl": divergences.reverse_kl,
    "jsd": divergences.jsd,
    "jsd near an end, scaled": lambda s, t: divergences.jsd(s, t, beta=0.05, scaled=True),
    "skewed_forward_kl": divergences.skewed_forward_kl,
    "skewed_reverse_kl": divergences.skewed_reverse_kl,
    "adaptive_kl": divergences.adaptive_kl,
    "total_variation": divergences.total_variation,
    "top_k_kl": lambda s, t: divergences.top_k_kl(s, t, k=3),
    "top_p_kl": divergences.top_p_kl,
    "top_p_kl of all": lambda s, t: divergences.top_p_kl(s, t, mass=1.0),
    "interpolated_kl": lambda s, t: divergences.interpolated_kl(s, t, t=0.3),
}
FUNCTIONS = {
    name: function
    for name, function in vars(divergences).items()
    if inspect.isfunction(function) and function.__module__ == divergences.__name__
}
PUBLIC = [
    loss for name, loss in FUNCTIONS.items() if not name.startswith("_") and "__mutmut_" not in name
]  # as in mutation testing
each_divergence = pytest.mark.parametrize("loss", DIVERGENCES.values(), ids=DIVERGENCES)


def two_outcomes(p):
    return torch.tensor([[math.log(p), math.log(1 - p)]])


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a)


@each_divergence
def test_zero_loss_and_zero_gradient_where_student_is_teacher(loss):
    student = TEACHER.clone().requires_grad_()
    values = loss(student, TEACHER)
    values.sum().backward()
    torch.testing.assert_close(values, torch.zeros(7), atol=1e-6, rtol=0)
    torch.testing.assert_close(student.grad, torch.zeros_like(TEACHER), atol=1e-6, rtol=0)


@each_divergence
def test_never_negative_and_a_step_against_the_gradient_lowers_it(loss):
    student = STUDENT.clone().requires_grad_()
    values = loss(student, TEACHER)
    (gradient,) = torch.autograd.grad(values.sum(), student)
    assert (values > 0).all() and gradient.isfinite().all()
    assert loss(STUDENT - 0.01 * gradient, TEACHER).sum() < values.sum()


@each_divergence
def test_computed_in_single_precision(loss):
    low = loss(STUDENT.bfloat16(), TEACHER.bfloat16())
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, loss(STUDENT.bfloat16().float(), TEACHER.bfloat16().float()))


@pytest.mark.parametrize("loss", PUBLIC)
def test_every_public_loss_has_a_test_here(loss):
    source = inspect.getsource(inspect.getmodule(test_every_public_loss_has_a_test_here))
    assert f"divergences.{loss.__name__}" in source


def test_forward_and_reverse_kl_of_two_outcomes_in_closed_form():
    p, q = (0.8, 0.2), (0.3, 0.7)
    student, teacher = two_outcomes(0.3), two_outcomes(0.8)
    assert divergences.forward_kl(student, teacher).item() == pytest.approx(kl(p, q), rel=1e-6)
    assert divergences.reverse_kl(student, teacher).item() == pytest.approx(kl(q, p), rel=1e-6)
    assert divergences.total_variation(student, teacher).item() == pytest.approx(0.5, rel=1e-6)


def test_forward_and_reverse_kl_equal_torchs():
    logs = STUDENT.log_softmax(-1), TEACHER.log_softmax(-1)
    for loss, (inner, target) in (
        (divergences.forward_kl, logs),
        (divergences.reverse_kl, logs[::-1]),
    ):
        expected = kl_div(inner, target, reduction="none", log_target=True).sum(-1)
        torch.testing.assert_close(loss(STUDENT, TEACHER), expected)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_forward_kl_gradient_is_the_difference_of_distributions_times_temperature(temperature):
    student = STUDENT.clone().requires_grad_()
    divergences.forward_kl(student, TEACHER, temperature=temperature).sum().backward()
    expected = temperature * (
        (STUDENT / temperature).softmax(-1) - (TEACHER / temperature).softmax(-1)
    )
    torch.testing.assert_close(student.grad, expected)


@pytest.mark.parametrize(
    "loss",
    [loss for loss in PUBLIC if "temperature" in inspect.signature(loss).parameters],
)
def test_temperature_softens_both_sides_and_is_squared_into_the_value(loss):
    expected = 9 * loss(STUDENT / 3, TEACHER / 3)
    torch.testing.assert_close(loss(STUDENT, TEACHER, temperature=3.0), expected)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize(
    ("beta", "end"), [(0.0, divergences.forward_kl), (1.0, divergences.reverse_kl)]
)
def test_jsd_is_exact_at_both_ends(beta, end, temperature):
    loss = divergences.jsd(STUDENT, TEACHER, beta=beta, temperature=temperature)
    torch.testing.assert_close(loss, end(STUDENT, TEACHER, temperature=temperature), rtol=0, atol=0)


def test_jsd_is_symmetric_in_the_middle():
    torch.testing.assert_close(divergences.jsd(STUDENT, TEACHER), divergences.jsd(TEACHER, STUDENT))


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.8])
def test_jsd_follows_its_definition(beta):
    expected = [
        beta * kl(p, m) + (1 - beta) * kl(q, m)
        for p, q, m in zip(
            P.tolist(), Q.tolist(), (beta * P + (1 - beta) * Q).tolist(), strict=True
        )
    ]
    torch.testing.assert_close(divergences.jsd(STUDENT, TEACHER, beta=beta), torch.tensor(expected))
    scaled = divergences.jsd(STUDENT, TEACHER, beta=beta, scaled=True)
    torch.testing.assert_close(scaled, torch.tensor(expected) / (beta * (1 - beta)))


@pytest.mark.parametrize("beta", [1e-4, 1 - 1e-4])
def test_scaled_jsd_goes_to_kl_near_its_ends_where_the_unscaled_vanishes(beta):
    limit = divergences.jsd(STUDENT, TEACHER, beta=round(beta))
    torch.testing.assert_close(
        divergences.jsd(STUDENT, TEACHER, beta=beta, scaled=True), limit, rtol=0.02, atol=1e-3
    )
    assert (divergences.jsd(STUDENT, TEACHER, beta=beta) < 0.001 * limit).all()


@pytest.mark.parametrize("skew", [0.0, 0.1, 0.7])
def test_skewed_kl_follows_its_definition(skew):
    forward = [
        kl(p, m) for p, m in zip(P.tolist(), (skew * P + (1 - skew) * Q).tolist(), strict=True)
    ]
    reverse = [
        kl(q, m) for q, m in zip(Q.tolist(), (skew * Q + (1 - skew) * P).tolist(), strict=True)
    ]
    torch.testing.assert_close(
        divergences.skewed_forward_kl(STUDENT, TEACHER, skew=skew), torch.tensor(forward)
    )
    torch.testing.assert_close(
        divergences.skewed_reverse_kl(STUDENT, TEACHER, skew=skew), torch.tensor(reverse)
    )


@pytest.mark.parametrize("mu", [0.0, 0.3, 0.5, 0.95, 1.0])
def test_adaptive_kl_equals_a_loop_over_the_vocabulary(mu):
    """The mask of the head is in the vocabulary's order, as the gaps are, and not in that of the
    sorted probabilities."""
    expected = []
    for p, q in zip(P.tolist(), Q.tolist(), strict=True):
        inside, held = 0.0, 0.0
        for token in sorted(range(len(p)), key=lambda token: -p[token]):
            if held < mu:
                inside += abs(p[token] - q[token])
            held += p[token]
        share = inside / sum(abs(a - b) for a, b in zip(p, q, strict=True))
        expected.append(share * kl(p, q) + (1 - share) * kl(q, p))
    torch.testing.assert_close(
        divergences.adaptive_kl(STUDENT, TEACHER, mu=mu), torch.tensor(expected)
    )


def test_the_likeliest_are_the_fewest_that_hold_the_mass():
    log_p = torch.tensor([[0.2, 0.5, 0.05, 0.25]]).log()
    for mass, expected in (
        (0.4, [1]),
        (0.5, [1]),
        (0.6, [1, 3]),
        (0.94, [0, 1, 3]),
        (1.0, [0, 1, 2, 3]),
    ):
        assert divergences.likeliest(log_p, mass)[0].nonzero().flatten().tolist() == expected


@pytest.mark.parametrize("k", [1, 3, 10, 11, 64])
def test_top_k_with_a_tail_bucket_lies_between_zero_and_the_full_kl(k):
    bucketed, full = (
        divergences.top_k_kl(STUDENT, TEACHER, k=k),
        divergences.forward_kl(STUDENT, TEACHER),
    )
    assert (bucketed > 0).all() and (bucketed <= full + 1e-6).all()
    if k >= 10:  # a bucket of one token is that token
        torch.testing.assert_close(bucketed, full)


def test_bucketed_kl_equals_a_loop_over_its_outcomes():
    expected = []
    for p, q in zip(P.tolist(), Q.tolist(), strict=True):
        top = sorted(range(len(p)), key=lambda token: -p[token])[:3]
        merged = [
            [r[token] for token in top] + [sum(r) - sum(r[token] for token in top)] for r in (p, q)
        ]
        expected.append(kl(*merged))
    torch.testing.assert_close(divergences.top_k_kl(STUDENT, TEACHER, k=3), torch.tensor(expected))


def test_top_p_keeps_what_holds_the_mass():
    order = P.sort(descending=True).values
    just_three = (order[:, :3].sum(-1) + order[:, :2].sum(-1)) / 2
    for row, mass in enumerate(just_three.tolist()):
        loss = divergences.top_p_kl(STUDENT[row : row + 1], TEACHER[row : row + 1], mass=mass)
        torch.testing.assert_close(
            loss, divergences.top_k_kl(STUDENT[row : row + 1], TEACHER[row : row + 1], k=3)
        )


def test_a_student_free_outside_the_top_k_pays_for_the_tail():
    """Renormalised on both sides, these two would be equal."""
    teacher = torch.tensor([[0.6, 0.3, 0.05, 0.05]]).log()
    student = torch.tensor([[0.2, 0.1, 0.35, 0.35]]).log()
    assert divergences.top_k_kl(student, teacher, k=2).item() == pytest.approx(
        kl((0.6, 0.3, 0.1), (0.2, 0.1, 0.7)), rel=1e-5
    )


@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
def test_the_interpolated_target_lies_between_student_and_teacher_in_logits(t):
    target = ((1 - t) * STUDENT + t * TEACHER).softmax(-1)
    expected = [kl(p, q) for p, q in zip(target.tolist(), Q.tolist(), strict=True)]
    torch.testing.assert_close(
        divergences.interpolated_kl(STUDENT, TEACHER, t=t),
        torch.tensor(expected),
        atol=1e-6,
        rtol=1e-4,
    )
    soft = -(target * STUDENT.log_softmax(-1)).sum(-1)
    torch.testing.assert_close(divergences.soft_cross_entropy(STUDENT, TEACHER, t=t), soft)


def test_the_soft_cross_entropy_is_against_the_teacher_unless_it_is_said_otherwise():
    soft = -(P * Q.log()).sum(-1)
    torch.testing.assert_close(divergences.soft_cross_entropy(STUDENT, TEACHER), soft)


def test_the_interpolated_kl_has_the_gradient_of_the_soft_cross_entropy():
    gradients = []
    for loss in (divergences.interpolated_kl, divergences.soft_cross_entropy):
        student = STUDENT.clone().requires_grad_()
        loss(student, TEACHER, t=0.4).sum().backward()
        gradients.append(student.grad)
    torch.testing.assert_close(*gradients)


def test_unlike_vocabularies_are_refused():
    with pytest.raises(StudyError, match="cut both"):
        divergences.forward_kl(STUDENT[:, :-1], TEACHER)


def test_a_class_lies_in_the_middle_of_its_part_of_the_mass_likeliest_first():
    """The first distribution's classes lie at 0.35, 0.95 and 0.8, the second's at 0.9, 0.25 and
    0.65."""
    log_p = torch.tensor([[0.7, 0.1, 0.2], [0.2, 0.5, 0.3]]).log()
    bounds = torch.tensor([0.3, 0.2]), torch.tensor([0.85, 0.7])
    kept = divergences.inside(log_p, *bounds, 0.001)
    assert kept.round().tolist() == [[1, 0, 1], [0, 1, 1]]
    soft = divergences.inside(log_p, *bounds, 0.05)
    above, below = ((1 / (1 + math.exp(-x)), 1 / (1 + math.exp(-y))) for x, y in ((1, 10), (9, 1)))
    assert soft[0, 0].item() == pytest.approx(math.prod(above), rel=1e-4)
    assert soft[1, 2].item() == pytest.approx(math.prod(below), rel=1e-4)


def test_pooled_kl_by_hand():
    """The first class counts whole, the second by half, the third not at all."""
    p, q, kept = (0.7, 0.1, 0.2), (0.4, 0.3, 0.3), (1.0, 0.5, 0.0)
    logs = (torch.tensor([each]).log() for each in (p, q))
    expected = kl((0.7, 0.05, 0.05 + 0.2), (0.4, 0.15, 0.15 + 0.3))
    value = divergences.pooled_kl(*logs, torch.tensor([kept]))
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_pooled_kl_lies_between_zero_and_the_full_kl():
    log_p, log_q, full = P.log(), Q.log(), divergences.forward_kl(STUDENT, TEACHER)
    kept = torch.rand(7, 11, generator=torch.Generator().manual_seed(1))
    values = divergences.pooled_kl(log_p, log_q, kept)
    assert (values > 0).all() and (values < full).all()
    torch.testing.assert_close(divergences.pooled_kl(log_p, log_q, torch.ones(7, 11)), full)
    for equal in (
        divergences.pooled_kl(log_p, log_q, torch.zeros(7, 11)),
        divergences.pooled_kl(log_p, log_p, kept),
    ):
        torch.testing.assert_close(equal, torch.zeros(7), atol=1e-6, rtol=0)


def test_pooled_kl_over_the_likeliest_is_the_kl_of_the_top():
    kept = divergences.likeliest(P.log(), 0.8)
    torch.testing.assert_close(
        divergences.pooled_kl(P.log(), Q.log(), kept.float()),
        divergences.top_p_kl(STUDENT, TEACHER, mass=0.8),
    )
