"""Losses on hidden states against loops, limits and invariances."""

import math

import pytest
import torch
from torch.nn.functional import cosine_similarity

from studylib.methods import features

STUDENT, TEACHER = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)).unbind()
ZERO = [features.hidden_mse, features.hidden_cosine, features.token_relation, features.neighbour_kl]
LOSSES = [*ZERO, features.mi_alpha, features.axis_cosine]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_against_the_gradient_lowers_it(loss):
    student = STUDENT.clone().requires_grad_()
    values = loss(student, TEACHER)
    values.sum().backward()
    assert values.shape == (5,)
    assert loss(STUDENT - 0.01 * student.grad, TEACHER).sum() < values.sum()


@pytest.mark.parametrize("loss", LOSSES)
def test_computed_in_single_precision(loss):
    low = loss(STUDENT.bfloat16(), TEACHER.bfloat16())
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, loss(STUDENT.bfloat16().float(), TEACHER.bfloat16().float()))


@pytest.mark.parametrize("loss", ZERO)
def test_zero_loss_and_zero_gradient_where_student_is_teacher(loss):
    student = TEACHER.clone().requires_grad_()
    values = loss(student, TEACHER)
    values.sum().backward()
    torch.testing.assert_close(values, torch.zeros(5), atol=1e-6, rtol=0)
    torch.testing.assert_close(student.grad, torch.zeros_like(TEACHER), atol=1e-5, rtol=0)


def test_hidden_mse_is_relative_to_the_teachers_size():
    teacher = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    student = torch.tensor([[3.0, 9.0], [0.3, 0.9]])
    torch.testing.assert_close(features.hidden_mse(student, teacher), torch.ones(2))
    torch.testing.assert_close(features.hidden_mse(torch.zeros(2, 2), teacher), torch.ones(2))


def test_hidden_cosine_sees_direction_and_not_size():
    distances = features.hidden_cosine(
        torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]]), torch.tensor([[5.0, 0.0]] * 3)
    )
    torch.testing.assert_close(distances, torch.tensor([0.0, 1.0, 2.0]))


def test_token_relation_equals_a_loop_over_pairs_and_needs_no_equal_widths():
    student = STUDENT[:, :6]
    expected = [
        sum(
            (
                cosine_similarity(student[i], student[j], dim=0)
                - cosine_similarity(TEACHER[i], TEACHER[j], dim=0)
            ).item()
            ** 2
            for j in range(5)
        )
        / 5
        for i in range(5)
    ]
    torch.testing.assert_close(features.token_relation(student, TEACHER), torch.tensor(expected))


def test_token_relation_does_not_see_rotations():
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1))).Q
    torch.testing.assert_close(
        features.token_relation(TEACHER @ rotation, TEACHER), torch.zeros(5), atol=1e-6, rtol=0
    )


def test_neighbour_kl_equals_a_loop_over_the_teachers_nearest_and_needs_no_equal_widths():
    student, expected = STUDENT[:, :6], []
    for i in range(5):
        near = sorted(
            set(range(5)) - {i},
            key=lambda j: -cosine_similarity(TEACHER[i], TEACHER[j], dim=0).item(),
        )[:2]
        chances = []
        for states in (TEACHER, student):
            scores = [cosine_similarity(states[i], states[j], dim=0).item() / 0.3 for j in near]
            chances.append([math.exp(score) / sum(map(math.exp, scores)) for score in scores])
        expected.append(sum(p * math.log(p / q) for p, q in zip(*chances, strict=True)))
    values = features.neighbour_kl(student, TEACHER, neighbours=2, temperature=0.3)
    torch.testing.assert_close(values, torch.tensor(expected))


def test_neighbour_kl_takes_the_tokens_that_there_are():
    many, four = (features.neighbour_kl(STUDENT, TEACHER, neighbours=n) for n in (99, 4))
    torch.testing.assert_close(many, four)
    student = STUDENT[:1].clone().requires_grad_()
    alone = features.neighbour_kl(student, TEACHER[:1])
    alone.sum().backward()
    assert alone.tolist() == [0.0] and not student.grad.any()


def test_neighbour_kl_does_not_see_tokens_that_are_far_from_the_teachers():
    teacher = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    moved = torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0]])
    assert features.neighbour_kl(moved, teacher, neighbours=1).abs().max() == 0
    assert features.neighbour_kl(moved, teacher, neighbours=2)[0] > 0


def test_attention_mse_sums_over_keys_and_averages_over_heads():
    student = torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[1.0, 0.0], [0.0, 1.0]]])  # 2 heads, (2, 2)
    teacher = torch.tensor([[[0.0, 1.0], [0.5, 0.5]], [[1.0, 0.0], [1.0, 0.0]]])
    values = features.attention_mse(student, teacher)
    torch.testing.assert_close(values, torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(features.attention_mse(teacher, teacher), torch.zeros(2))
    single = teacher.mean(0, keepdim=True)
    expected = (student.mean(0) - single[0]).square().sum(-1)
    torch.testing.assert_close(features.attention_mse(student, single), expected)
    torch.testing.assert_close(features.attention_mse(single, student), expected)


def test_mi_alpha_at_one_is_info_nce():
    expected = []
    for i in range(5):
        scores = [cosine_similarity(STUDENT[i], TEACHER[j], dim=0).item() / 0.1 for j in range(5)]
        expected.append(math.log(sum(math.exp(score) for score in scores)) - scores[i])
    torch.testing.assert_close(features.mi_alpha(STUDENT, TEACHER), torch.tensor(expected))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9])
def test_mi_alpha_follows_its_bound(alpha):
    expected = []
    for i in range(5):
        scores = [cosine_similarity(STUDENT[i], TEACHER[j], dim=0).item() for j in range(5)]
        mixed = sum(map(math.exp, scores)) / 5 * alpha + (1 - alpha)
        bound = 1 + scores[i] - math.log(mixed) - sum(map(math.exp, scores)) / 5 / mixed
        expected.append(math.log(5) - bound)
    torch.testing.assert_close(
        features.mi_alpha(STUDENT, TEACHER, alpha=alpha, temperature=1.0), torch.tensor(expected)
    )


def test_mi_alpha_tells_tokens_apart():
    """Log T where all tokens are alike, near 0 where each finds its own."""
    constant = torch.ones(5, 8)
    torch.testing.assert_close(features.mi_alpha(constant, constant), torch.full((5,), math.log(5)))
    apart = torch.eye(5, 8)
    assert features.mi_alpha(apart, apart).max() < 0.001
    assert features.mi_alpha(apart, apart.roll(1, 0)).min() > 5
