"""How far a student's hidden states are from its teacher's, token by token.

Each takes the states of one row's tokens, (T, d) of student and teacher, and returns (T,), in
float32; `attention_mse` takes attention maps. Rows are taken one by one, so that nothing depends on
which rows share a batch. Where widths differ, the student's states come through a projection that
is learnt with it (`objective.Objective`). Try one: python -m pytest
tests/methods/test_features.py -k relation
"""

from __future__ import annotations

import math

from studylib.core.libraries import torch, transformers
from studylib.methods.divergences import forward_kl
from studylib.methods.options import Count, Positive, Share


def hidden_mse(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """|s − t|² / |t|²: divided by the teacher's size, so that tokens and layers weigh alike.

    After the hidden-state loss of TinyBERT (Jiao et al., 2020, §3), from memory.
    """
    student, teacher = student.float(), teacher.float()
    return (student - teacher).square().sum(-1) / teacher.square().sum(-1).clamp_min(1e-6)


def hidden_cosine(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """1 − cos(s, t): direction without size, as DistilBERT aligns hidden states (Sanh et al., 2019,
    §3, from memory)."""
    return 1 - torch.nn.functional.cosine_similarity(student.float(), teacher.float(), dim=-1)


def token_relation(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """For each token the mean over the row's tokens of (cos(sᵢ, sⱼ) − cos(tᵢ, tⱼ))²: Gram matrices,
    whatever the widths.

    After relational distillation (Park et al., 2019, RKD; Tung and Mori, 2019,
    similarity-preserving), from memory.
    """
    student, teacher = _unit(student), _unit(teacher)
    return (student @ student.T - teacher @ teacher.T).square().mean(-1)


def mi_alpha(
    student: torch.Tensor, teacher: torch.Tensor, *, alpha: Share = 1.0, temperature: Positive = 0.1
) -> torch.Tensor:
    """log T minus a lower bound on what student and teacher states say of each other, in nats; at α
    = 1 it is InfoNCE, −log of the share that a token's own teacher state has of Σⱼ exp(cos(sᵢ, tⱼ)
    / temperature) over the row's tokens.

    After the MI-α objective of Distiller (He et al., 2021, arXiv:2109.11105), which takes the
    interpolated bound of Poole et al. (2019); both from memory. Assumed here: cosine critic,
    baseline 1, the row's tokens as the product's sample.
    """
    student, teacher = _unit(student), _unit(teacher)
    critic = student @ teacher.T / temperature  # (T, T)
    count = math.log(len(critic))
    baseline = math.log(1 - alpha) if alpha < 1 else -math.inf
    partition = torch.logaddexp(
        critic.logsumexp(-1) - count + (math.log(alpha) if alpha else -math.inf),
        critic.new_tensor(baseline),
    )
    bound = 1 + critic.diagonal() - partition - (critic.logsumexp(-1) - count - partition).exp()
    return count - bound


def neighbour_kl(
    student: torch.Tensor,
    teacher: torch.Tensor,
    *,
    neighbours: Count = 16,
    temperature: Positive = 0.1,
) -> torch.Tensor:
    """For each token KL(p ‖ q) in nats: p is the softmax of cos(tᵢ, tⱼ) / temperature over the
    `neighbours` other tokens j of the row that are nearest by this cosine, q that of cos(sᵢ, sⱼ) /
    temperature over the same ones, whatever the widths. A token that is alone has none, and 0.

    After the local term of TRG (Zhang et al., 2023, arXiv:2306.12442), from memory. Assumed here:
    the teacher's neighbours, 16 of them, and the temperature.
    """
    student, teacher = (_unit(states) @ _unit(states).T for states in (student, teacher))
    itself = torch.eye(len(teacher), dtype=torch.bool, device=teacher.device)
    others = teacher.masked_fill(itself, -torch.inf)  # (T, T)
    nearest = others.topk(min(neighbours, len(teacher) - 1), dim=-1).indices  # (T, k)
    near_student, near_teacher = (
        cosines.gather(-1, nearest) / temperature for cosines in (student, teacher)
    )
    return forward_kl(near_student, near_teacher)


def axis_cosine(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """−log σ(c) averaged over features, c the cosine of a feature's values along the row's tokens
    in student and teacher; the same value at each token. It is 0.3133 where the two are equal.

    As in DM-Codec (Ahasan et al., 2024, arXiv:2410.15017; mubtasimahasan/DM-Codec:
    codec/trainer/loss.py, `d_axis`).
    """
    cosines = torch.nn.functional.cosine_similarity(student.float(), teacher.float(), dim=0)  # (d,)
    return -torch.nn.functional.logsigmoid(cosines).mean().expand(len(student))


def attention_mse(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """For each token the sum over the tokens it attends to of (aⱼ − bⱼ)², averaged over heads: maps
    (heads, T, K) of student and teacher -> (T,). Where the numbers of heads differ, the mean over
    heads of each is compared.

    After the attention loss of TinyBERT (Jiao et al., 2020, §3), from memory, on probabilities
    instead of scores. A sum over K, not a mean, so that long rows weigh no less.
    """
    student, teacher = student.float(), teacher.float()
    if len(student) != len(teacher):
        student, teacher = student.mean(0, keepdim=True), teacher.mean(0, keepdim=True)
    return (student - teacher).square().sum(-1).mean(0)


def projection(student_width: int, teacher_width: int) -> torch.nn.Linear:
    """From a student's states (T, d) to a teacher's width. The same start whatever was drawn
    before: random numbers of its own."""
    linear = torch.nn.utils.skip_init(torch.nn.Linear, student_width, teacher_width, bias=False)
    generator = torch.Generator().manual_seed(student_width * 65536 + teacher_width)
    with torch.no_grad():
        linear.weight.normal_(0, student_width**-0.5, generator=generator)
    return linear


def bridge(
    student: transformers.PreTrainedModel, teacher: transformers.PreTrainedModel | None
) -> torch.nn.Module:
    """What brings the student's states to the teacher's width: a projection, or nothing where the
    widths are equal."""
    assert teacher is not None, "a teacher whose states are compared runs"
    widths = student.config.hidden_size, teacher.config.hidden_size
    return torch.nn.Identity() if len({*widths}) == 1 else projection(*widths)


def _unit(states: torch.Tensor) -> torch.Tensor:
    """States (T, d) of length 1 each."""
    return torch.nn.functional.normalize(states.float(), dim=-1)
