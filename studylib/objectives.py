"""What a student is trained to match, and named mixtures of it.

A divergence takes student and teacher logits (N, V) at answer positions, in nats, and returns (N,).
A feature loss takes student and teacher hidden states (M, d) and returns (M,).
"""

from collections.abc import Mapping

from torch import Tensor
from torch.nn.functional import cross_entropy as token_cross_entropy

from studylib.errors import StudyError

RECIPE = 1


def cross_entropy(student: Tensor, targets: Tensor) -> Tensor:
    """−log p(target) per position, (N, V) and (N,) -> (N,): learning from gold answers."""
    return token_cross_entropy(student.float(), targets, reduction="none")


def forward_kl(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """KL(teacher ‖ student) per position, (N, V) twice -> (N,), times T² (Hinton et al., 2015, §2).

    0 where the two are equal; its gradient on the student's logits is T (softmax(s/T) − softmax(t/T)).
    """
    log_q = (student.float() / temperature).log_softmax(-1)
    log_p = (teacher.float() / temperature).log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1) * temperature**2


def hidden_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """|s − t|² / |t|² per token, (M, d) twice -> (M,): hidden states of kept layers against the teacher's.

    After the hidden-state loss of TinyBERT (Jiao et al., 2020, §3) from memory; without a projection,
    since a depth-cut student has its teacher's width; divided by the teacher's size so that layers weigh alike.
    """
    student, teacher = student.float(), teacher.float()
    return (student - teacher).square().sum(-1) / teacher.square().sum(-1).clamp_min(1e-6)


GOLD = {"cross_entropy": cross_entropy}
DIVERGENCES = {"forward_kl": forward_kl}
FEATURES = {"hidden_mse": hidden_mse}
LOSSES = GOLD | DIVERGENCES | FEATURES


def check(weights: Mapping[str, float]) -> None:
    """Raise StudyError unless `weights` maps known losses to positive numbers."""
    for name, weight in weights.items():
        if name not in LOSSES:
            raise StudyError(f"loss {name!r} is unknown: known are {', '.join(LOSSES)}.")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or weight <= 0:
            raise StudyError(f"the weight of {name} must be a positive number, not {weight!r}.")
    if not weights:
        raise StudyError("an objective needs at least one loss.")


def title(weights: Mapping[str, float]) -> str:
    """The mixture's name in tables, e.g. 'forward_kl + 0.5 cross_entropy'."""
    return " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in weights.items())


def uses_teacher(weights: Mapping[str, float]) -> bool:
    """Whether the mixture needs a teacher's distributions or features."""
    return any(name in DIVERGENCES or name in FEATURES for name in weights)


def beside(weights: Mapping[str, float]) -> bool:
    """Whether the teacher must run beside the student: stored states hold no inner layers."""
    return any(name in FEATURES for name in weights)
