"""How far a student's next-token distributions are from its teacher's.

Each takes student and teacher logits (N, V) and returns nats (N,), in float32, times T² where
distributions are softened by a temperature T (Hinton et al., 2015, §2: gradients then keep their
size). Each but the soft cross-entropy is 0 where the two are equal. p is the teacher's
distribution, q the student's. Try one: python -m pytest tests/methods/test_divergences.py -k jsd
"""

from __future__ import annotations

import math

from studylib.core.errors import StudyError
from studylib.core.libraries import torch
from studylib.methods.options import AboveZero, BelowOne, Count, Positive, Share, Switch


def forward_kl(
    student: torch.Tensor, teacher: torch.Tensor, *, temperature: Positive = 1.0
) -> torch.Tensor:
    """KL(p ‖ q) (Hinton et al., 2015, §2). Its gradient on the student's logits is T (q − p)."""
    log_q, log_p = _logs(student, teacher, temperature)
    return _kl(log_p, log_q) * temperature**2


def reverse_kl(
    student: torch.Tensor, teacher: torch.Tensor, *, temperature: Positive = 1.0
) -> torch.Tensor:
    """KL(q ‖ p): the student seeks one mode of the teacher's (Gu et al., 2024, MiniLLM, §2.1, from
    memory)."""
    log_q, log_p = _logs(student, teacher, temperature)
    return _kl(log_q, log_p) * temperature**2


def jsd(
    student: torch.Tensor,
    teacher: torch.Tensor,
    *,
    beta: Share = 0.5,
    scaled: Switch = False,
    temperature: Positive = 1.0,
) -> torch.Tensor:
    """β KL(p ‖ m) + (1 − β) KL(q ‖ m) with m = β p + (1 − β) q (Agarwal et al., 2024, GKD, eq. 1,
    as in huggingface/trl: trl/experimental/gkd).

    The ends are exact, forward KL at β = 0 and reverse KL at 1. Near them the value goes to 0 with
    β (1 − β), and `scaled` divides by that, so that a sweep over β is not one over learning rates.
    """
    if beta in (0, 1):
        return (reverse_kl if beta else forward_kl)(student, teacher, temperature=temperature)
    log_q, log_p = _logs(student, teacher, temperature)
    log_m = _mixed(log_p, log_q, beta)
    value = beta * _kl(log_p, log_m) + (1 - beta) * _kl(log_q, log_m)
    return value * temperature**2 / (beta * (1 - beta) if scaled else 1)


def skewed_forward_kl(
    student: torch.Tensor,
    teacher: torch.Tensor,
    *,
    skew: BelowOne = 0.1,
    temperature: Positive = 1.0,
) -> torch.Tensor:
    """KL(p ‖ α p + (1 − α) q), α the skew (Ko et al., 2024, DistiLLM, §3.1, from memory)."""
    log_q, log_p = _logs(student, teacher, temperature)
    return _kl(log_p, _mixed(log_p, log_q, skew)) * temperature**2


def skewed_reverse_kl(
    student: torch.Tensor,
    teacher: torch.Tensor,
    *,
    skew: BelowOne = 0.1,
    temperature: Positive = 1.0,
) -> torch.Tensor:
    """KL(q ‖ α q + (1 − α) p), α the skew (Ko et al., 2024, DistiLLM, §3.1, from memory)."""
    log_q, log_p = _logs(student, teacher, temperature)
    return _kl(log_q, _mixed(log_q, log_p, skew)) * temperature**2


def adaptive_kl(
    student: torch.Tensor, teacher: torch.Tensor, *, mu: Share = 0.5, temperature: Positive = 1.0
) -> torch.Tensor:
    """w KL(p ‖ q) + (1 − w) KL(q ‖ p), w the share of Σ|p − q| that lies in the teacher's head: the
    fewest tokens that hold `mu` of its mass. No gradient flows through w.

    After Wu et al. (2024, arXiv:2404.02657; AKL), from memory.
    """
    log_q, log_p = _logs(student, teacher, temperature)
    with torch.no_grad():
        gap = (log_p.exp() - log_q.exp()).abs()
        inside = (gap * likeliest(log_p, mu)).sum(-1)
        share = inside / gap.sum(-1).clamp_min(torch.finfo(gap.dtype).tiny)
    return (share * _kl(log_p, log_q) + (1 - share) * _kl(log_q, log_p)) * temperature**2


def total_variation(
    student: torch.Tensor, teacher: torch.Tensor, *, temperature: Positive = 1.0
) -> torch.Tensor:
    """½ Σ|p − q|, between 0 and 1 (times T²) (Wen et al., 2023, f-distillation, §3, from
    memory)."""
    log_q, log_p = _logs(student, teacher, temperature)
    return 0.5 * (log_p.exp() - log_q.exp()).abs().sum(-1) * temperature**2


def top_k_kl(
    student: torch.Tensor, teacher: torch.Tensor, *, k: Count = 64, temperature: Positive = 1.0
) -> torch.Tensor:
    """KL(p ‖ q) over the teacher's k likeliest tokens and one bucket for all the others: what
    storing k logits allows.

    Never negative, never above the full KL, equal to it at k = V. After the top-k matching of Li et
    al. (2023, arXiv:2307.03135; xuanlinli17/large_vlm_distillation_ood: main_experiments.py), which
    leaves the others out.
    """
    log_q, log_p = _logs(student, teacher, temperature)
    if k >= log_p.shape[-1]:
        return _kl(log_p, log_q) * temperature**2
    top = log_p.topk(k, -1).indices
    kept = torch.zeros_like(log_p, dtype=torch.bool).scatter(-1, top, True)
    return _bucketed_kl(log_p, log_q, kept) * temperature**2


def top_p_kl(
    student: torch.Tensor,
    teacher: torch.Tensor,
    *,
    mass: AboveZero = 0.95,
    temperature: Positive = 1.0,
) -> torch.Tensor:
    """KL(p ‖ q) over the fewest tokens that hold `mass` of the teacher's distribution, and one
    bucket for the others.

    After the clipped divergence DAC-KL (arXiv:2407.10068), known at second hand only: its bounds
    are learned and keep the gold token; here they are fixed, and the bucket takes in whatever is
    clipped.
    """
    log_q, log_p = _logs(student, teacher, temperature)
    return _bucketed_kl(log_p, log_q, likeliest(log_p, mass)) * temperature**2


def interpolated_kl(student: torch.Tensor, teacher: torch.Tensor, *, t: float) -> torch.Tensor:
    """KL(p_t ‖ q) with p_t = softmax((1 − t) stopgrad(s) + t z) of student's logits s and teacher's
    z (SakanaAI/TAID: src/distil_losses/taid.py). Its gradient is that of the soft cross-entropy
    against p_t."""
    return _kl(*_towards(student, teacher, t))


def soft_cross_entropy(
    student: torch.Tensor, teacher: torch.Tensor, *, t: float = 1.0
) -> torch.Tensor:
    """−Σ p_t log q, as in `interpolated_kl`; at t = 1 against the teacher itself. Not 0 where they
    are equal: no divergence."""
    log_p, log_q = _towards(student, teacher, t)
    return -(log_p.exp() * log_q).sum(-1)


def pooled_kl(log_p: torch.Tensor, log_q: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """KL(p ‖ q) of log-probabilities (N, V) of which a share `kept` (N, V) from 0 to 1 counts for
    itself, and the rest of all tokens in one bucket: the full KL where all is kept, 0 where nothing
    is, between them else."""
    part = (log_p.exp() * (log_p - log_q) * kept).sum(-1)
    tiny = torch.finfo(log_p.dtype).tiny
    rest_p, rest_q = (((1 - kept) * logs.exp()).sum(-1).clamp_min(tiny) for logs in (log_p, log_q))
    return part + rest_p * (rest_p.log() - rest_q.log())


def likeliest(log_p: torch.Tensor, mass: float) -> torch.Tensor:
    """(N, V) True on the fewest tokens of log-probabilities (N, V) that together hold `mass`."""
    ordered, places = log_p.exp().sort(dim=-1, descending=True, stable=True)
    needed = ordered.cumsum(-1) - ordered < mass  # what lies before a token does not suffice
    return torch.zeros_like(needed).scatter(-1, places, needed)


def inside(
    log_p: torch.Tensor, lower: torch.Tensor, upper: torch.Tensor, edge: float
) -> torch.Tensor:
    """How far each class lies between two bounds (N,) on the teacher's mass, from 0 to 1, (N, V). A
    class lies where the likelier ones and half of its own probability end."""
    mass, order = log_p.exp().sort(dim=-1, descending=True, stable=True)
    place = torch.empty_like(mass).scatter(-1, order, mass.cumsum(-1) - mass / 2)
    above, below = place - lower[:, None], upper[:, None] - place
    return (above / edge).sigmoid() * (below / edge).sigmoid()


def _logs(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    if student.shape[-1] != teacher.shape[-1]:
        raise StudyError(
            f"logits over {student.shape[-1]} and {teacher.shape[-1]} tokens: cut both to the"
            " tokenizer's length."
        )
    return (student.float() / temperature).log_softmax(-1), (
        teacher.float() / temperature
    ).log_softmax(-1)


def _towards(
    student: torch.Tensor, teacher: torch.Tensor, t: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the target between student and teacher, and of the student."""
    target = (1 - t) * student.detach().float() + t * teacher.float()
    return target.log_softmax(-1), student.float().log_softmax(-1)


def _kl(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def _mixed(log_a: torch.Tensor, log_b: torch.Tensor, share: float) -> torch.Tensor:
    """log(share a + (1 − share) b)."""
    if share in (0, 1):
        return log_a if share else log_b
    return torch.logaddexp(log_a + math.log(share), log_b + math.log1p(-share))


def _bucketed_kl(log_p: torch.Tensor, log_q: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """KL over the kept tokens and the bucket of the others; the bucket counts 0 where the teacher's
    is empty."""
    inside = (log_p.exp() * (log_p - log_q) * kept).sum(-1)
    rest_p, rest_q = (logs.masked_fill(kept, -torch.inf).logsumexp(-1) for logs in (log_p, log_q))
    return inside + torch.where(
        rest_p == -torch.inf,
        0.0,
        rest_p.exp() * (rest_p - rest_q).masked_fill(rest_p == -torch.inf, 0.0),
    )
