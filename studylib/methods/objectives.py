"""What a student is trained to match: weighted mixtures of losses, in stages.

stages:
  - {steps: 40, losses: {hidden_mse: 1}}
  - steps: 60
    losses: {forward_kl: 1, cross_entropy: 0.5, jsd: {weight: 0.5, beta: 0.1, tokens: all}}

A loss is given by its weight, or by a mapping of its `weight`, its own options, and the `tokens` it
looks at: `answers`, as losses on logits do unless told, or `all` of a row, as losses on hidden
states do.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy as token_cross_entropy

from studylib.core import parallel
from studylib.core.errors import StudyError
from studylib.methods import divergences, features

TOKENS = ("answers", "all")


def cross_entropy(student: Tensor, targets: Tensor) -> Tensor:
    """−log p(target) per position, (N, V) and (N,) -> (N,): learning from text."""
    return token_cross_entropy(student.float(), targets, reduction="none")


class Taid(nn.Module):
    """Temporally adaptive interpolated distillation: KL to a target that moves from the student to
    the teacher.

    The target's share t of the teacher rises linearly from `start` towards `end` over the loss's
    stage, and faster while the loss falls: `advance`, once per optimiser step. As in the official
    code, which updates t with the number of steps that were complete before the current one, step s
    of N (from 0) learns at t = start + (end − start) (s − 1)/N at least. What drives t is the soft
    cross-entropy against the target; what is logged and returned is the KL, which has the same
    gradient and is 0 at its best.

    Shing et al. (2025, TAID, arXiv:2501.16937); rule and defaults as in SakanaAI/TAID:
    src/distil_losses/taid.py.
    """

    t: Tensor
    last: Tensor
    momentum: Tensor

    def __init__(
        self, *, start: float = 0.4, end: float = 1.0, alpha: float = 5e-4, beta: float = 0.99
    ):
        super().__init__()
        self.start, self.end, self.alpha, self.beta = start, end, alpha, beta
        for name, value in (("t", start), ("last", math.inf), ("momentum", 0.0)):
            self.register_buffer(name, torch.tensor(value, dtype=torch.float64))
        self.seen, self.count = 0.0, 0

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """KL(p_t ‖ q) per position, (N, V) twice -> (N,)."""
        t = self.t.item()
        if torch.is_grad_enabled():
            self.seen += divergences.soft_cross_entropy(student.detach(), teacher, t=t).sum().item()
            self.count += len(student)
        return divergences.interpolated_kl(student, teacher, t=t)

    def advance(self, share: float) -> None:
        """Move t after an optimiser step; `share` of the stage was done before it."""
        seen, count = parallel.summed([self.seen, self.count], self.t.device)
        loss, self.seen, self.count = seen / max(1, count), 0, 0
        if math.isfinite(self.last):
            change = (self.last.item() - loss) / (self.last.item() + 1e-15)
            self.momentum.fill_(self.beta * self.momentum.item() + (1 - self.beta) * change)
            nudged = self.t.item() + self.alpha / (1 + math.exp(-self.momentum.item())) * (
                1 - self.t.item()
            )
            self.t.fill_(min(self.end, max(self.start + (self.end - self.start) * share, nudged)))
        self.last.fill_(loss)


GOLD = {"cross_entropy": cross_entropy}
DIVERGENCES: dict[str, Callable] = {
    "forward_kl": divergences.forward_kl,
    "reverse_kl": divergences.reverse_kl,
    "jsd": divergences.jsd,
    "skewed_forward_kl": divergences.skewed_forward_kl,
    "skewed_reverse_kl": divergences.skewed_reverse_kl,
    "adaptive_kl": divergences.adaptive_kl,
    "total_variation": divergences.total_variation,
    "top_k_kl": divergences.top_k_kl,
    "top_p_kl": divergences.top_p_kl,
    "taid": Taid,
}
FEATURES: dict[str, Callable] = {
    "hidden_mse": features.hidden_mse,
    "hidden_cosine": features.hidden_cosine,
    "token_relation": features.token_relation,
    "mi_alpha": features.mi_alpha,
}
WIDTH_FREE = ("token_relation",)
LOSSES = GOLD | DIVERGENCES | FEATURES
ABOVE_ZERO = (
    "weight",
    "temperature",
)  # all other numbers that are no counts are shares from 0 to 1
NOTHING_LEFT = {"skew": 1, "mass": 0, "end": 0}  # at these a loss is 0 whatever the student says


@dataclass(frozen=True)
class Term:
    """One loss of a mixture: its weight, the tokens it looks at, its options."""

    name: str
    weight: float
    tokens: str
    options: Mapping[str, float | bool] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Its name in tables and logs, e.g. 'jsd(beta=0.1, all tokens)'."""
        said = [f"{key}={value:g}" for key, value in self.options.items()]
        said += [f"{self.tokens} tokens"] if self.tokens != _usual_tokens(self.name) else []
        return self.name + (f"({', '.join(said)})" if said else "")


@dataclass(frozen=True)
class Stage:
    """So many steps on one mixture."""

    steps: int
    terms: tuple[Term, ...]

    @property
    def title(self) -> str:
        """The mixture's name in tables, e.g. 'forward_kl + 0.5 cross_entropy'."""
        return " + ".join(
            term.title if term.weight == 1 else f"{term.weight:g} {term.title}"
            for term in self.terms
        )

    @property
    def uses_teacher(self) -> bool:
        """Whether it needs a teacher's distributions or hidden states."""
        return any(term.name not in GOLD for term in self.terms)

    @property
    def beside(self) -> bool:
        """Whether the teacher must run beside the student: stored states hold no inner layers."""
        return any(term.name in FEATURES for term in self.terms)


def parse(stages: Sequence[Mapping]) -> tuple[Stage, ...]:
    """The stages of a YAML's `stages`. Raises StudyError, naming what is wrong, unless every step
    count, loss and option is one."""
    if isinstance(stages, str | Mapping) or not isinstance(stages, Sequence) or not stages:
        raise StudyError(
            "stages must be a list like [{steps: 60, losses: {forward_kl: 1}}], not"
            f" {stages!r}."
        )
    return tuple(_stage(stage) for stage in stages)


def _stage(given: Mapping) -> Stage:
    if (
        not isinstance(given, Mapping)
        or set(given) != {"steps", "losses"}
        or not isinstance(given["losses"], Mapping)
    ):
        raise StudyError(
            f"stages: {given!r} must name steps and losses, and these map names to weights."
        )
    if (
        isinstance(given["steps"], bool)
        or not isinstance(given["steps"], int)
        or given["steps"] < 1
    ):
        raise StudyError(
            f"stages: steps must be a whole number of at least 1, not {given['steps']!r}."
        )
    if not given["losses"]:
        raise StudyError("stages: losses is empty: name at least one loss.")
    return Stage(
        given["steps"], tuple(_term(name, value) for name, value in given["losses"].items())
    )


def _term(name: str, value: Any) -> Term:
    if name not in LOSSES:
        near = get_close_matches(str(name), LOSSES, 1)
        raise StudyError(
            f"loss {name!r} is unknown: {f'did you mean {near[0]}? ' if near else ''}Known are"
            f" {', '.join(LOSSES)}."
        )
    given = {**value} if isinstance(value, Mapping) else {"weight": value}
    defaults = _options(name)
    for key, chosen in given.items():
        if key == "tokens":
            if chosen not in TOKENS:
                raise StudyError(f"tokens of {name} must be {' or '.join(TOKENS)}, not {chosen!r}.")
        elif key == "weight" or key in defaults:
            _check_number(name, key, chosen, defaults.get(key, 1.0))
        else:
            raise StudyError(
                f"{name} has no option {key!r}: it knows"
                f" {', '.join(['weight', 'tokens', *defaults])}."
            )
    options = {key: given[key] for key in defaults if key in given}
    if name == "taid" and (defaults | options)["start"] > (defaults | options)["end"]:
        raise StudyError(f"start of taid must not be above its end: {defaults | options}.")
    return Term(
        name, float(given.get("weight", 1.0)), given.get("tokens", _usual_tokens(name)), options
    )


def _check_number(name: str, key: str, chosen: Any, default: float | bool | int) -> None:
    number = isinstance(chosen, int | float) and not isinstance(chosen, bool)
    if isinstance(default, bool):
        fits, wanted = isinstance(chosen, bool), "true or false"
    elif isinstance(default, int):
        fits, wanted = (
            number and isinstance(chosen, int) and chosen >= 1,
            "a whole number of at least 1",
        )
    elif key in ABOVE_ZERO:
        fits, wanted = number and 0 < chosen < math.inf, "a positive number"
    else:
        fits, wanted = (
            number and 0 <= chosen <= 1 and chosen != NOTHING_LEFT.get(key),
            "a number from 0 to 1",
        )
        wanted += f" other than {NOTHING_LEFT[key]}" if key in NOTHING_LEFT else ""
    if not fits:
        raise StudyError(f"{key} of {name} must be {wanted}, not {chosen!r}.")


def _options(name: str) -> dict[str, float | bool | int]:
    """The options of a loss with their defaults: its keyword-only arguments."""
    arguments = inspect.signature(LOSSES[name]).parameters.values()
    return {one.name: one.default for one in arguments if one.kind is one.KEYWORD_ONLY}


def _usual_tokens(name: str) -> str:
    return "all" if name in FEATURES else "answers"


def title(stages: Sequence[Stage]) -> str:
    """The objective's name in tables: its mixture, or its mixtures with their steps."""
    if len(stages) == 1:
        return stages[0].title
    return ", then ".join(f"{stage.title} ({stage.steps} steps)" for stage in stages)


def steps(stages: Sequence[Stage]) -> int:
    """The steps of all stages."""
    return sum(stage.steps for stage in stages)


def stored(stages: Sequence[Stage]) -> str | None:
    """At which tokens stored teacher states are needed: by stages that compare logits without the
    teacher beside them, if any."""
    looked = {
        term.tokens
        for stage in stages
        if not stage.beside
        for term in stage.terms
        if term.name in DIVERGENCES
    }
    return max(looked, key=TOKENS.index, default=None)


def logits_everywhere(stages: Sequence[Stage]) -> bool:
    """Whether any stage looks at the logits of all tokens of a row."""
    return any(
        term.tokens == "all" and term.name not in FEATURES
        for stage in stages
        for term in stage.terms
    )


def shortened(stages: Sequence[Stage], count: int) -> tuple[Stage, ...]:
    """The stages in about `count` steps: each in its share of them, and in one at least; never
    longer than they are."""
    share = min(1.0, count / steps(stages))
    return tuple(replace(stage, steps=max(1, round(share * stage.steps))) for stage in stages)


def gold(steps: int) -> list[dict]:
    """Learning from text alone, as `stages`."""
    return [{"steps": steps, "losses": {"cross_entropy": 1.0}}]


class Mixture(nn.Module):
    """The losses of all stages with what they learn and remember: projections of the student's
    hidden states to the teacher's width (identity where widths agree), and TAID's t. Its
    `state_dict` goes into checkpoints."""

    def __init__(
        self, stages: Sequence[Stage], widths: tuple[int, int] | None = None, layers: int = 0
    ):
        super().__init__()
        self.stages = stages
        self.stateful = nn.ModuleDict(
            {
                f"{n}-{term.name}": Taid(**term.options)
                for n, term in self._terms()
                if term.name == "taid"
            }
        )
        own, theirs = widths or (0, 0)
        projected = {
            term.name
            for _, term in self._terms()
            if term.name in FEATURES and term.name not in WIDTH_FREE
        }
        self.projections = nn.ModuleDict(
            {
                name: nn.ModuleList(_projection(own, theirs) for _ in range(layers))
                for name in sorted(projected)
                if own != theirs
            }
        )

    def _terms(self) -> list[tuple[int, Term]]:
        return [(number, term) for number, stage in enumerate(self.stages) for term in stage.terms]

    def at(self, step: int) -> tuple[int, float]:
        """The stage of a step (counted from 0), and the share of it that is done before that
        step."""
        for number, stage in enumerate(self.stages):
            if step < stage.steps:
                return number, step / stage.steps
            step -= stage.steps
        raise IndexError(step)

    def on_logits(
        self, stage: int, term: Term, student: Tensor, teacher: Tensor | None, targets: Tensor
    ) -> Tensor:
        """A loss on logits (N, V) -> (N,)."""
        if term.name in GOLD:
            return GOLD[term.name](student, targets)
        if term.name == "taid":
            return self.stateful[f"{stage}-taid"](student, teacher)
        return DIVERGENCES[term.name](student, teacher, **term.options)

    def on_states(self, term: Term, layer: int, student: Tensor, teacher: Tensor) -> Tensor:
        """A loss on one row's hidden states (T, d) of the student's layer and of the teacher's that
        it should give -> (T,)."""
        with torch.autocast(student.device.type, enabled=False):
            student = student.float()
            if term.name in self.projections:
                projections: Any = self.projections[term.name]
                student = projections[layer](student)
            return FEATURES[term.name](student, teacher, **term.options)

    def advance(self, step: int) -> None:
        """After the optimiser step `step` (counted from 0)."""
        stage, share = self.at(step)
        taid = dict(self.stateful.items()).get(f"{stage}-taid")
        if isinstance(taid, Taid):
            taid.advance(share)


def _projection(own: int, theirs: int) -> nn.Linear:
    """The same start whatever was drawn before: random numbers of its own."""
    projection = nn.utils.skip_init(nn.Linear, own, theirs, bias=False)
    with torch.no_grad():
        projection.weight.normal_(
            0, own**-0.5, generator=torch.Generator().manual_seed(own * 65536 + theirs)
        )
    return projection
