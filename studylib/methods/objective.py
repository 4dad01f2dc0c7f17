"""A weighted sum of losses on logits and on hidden states.

stages:
  - {steps: 40, losses: {hidden_mse: 1}}
  - steps: 60
    losses: {forward_kl: 1, cross_entropy: 0.5, jsd: {weight: 0.5, beta: 0.1, tokens: all}}

A loss is given by its weight, or by a mapping of its `weight`, its own options, and the `tokens` it
looks at: `answers`, as losses on logits do unless told, or `all` of a row, as losses on hidden
states do. A method that has nothing but a loss (`taid`) can be a term, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from studylib.core.errors import StudyError, unknown
from studylib.core.libraries import torch, transformers
from studylib.data.packing import Pack
from studylib.methods import divergences, features, options
from studylib.methods.base import Method, Signals
from studylib.methods.options import Positive
from studylib.methods.taid import Taid
from studylib.methods.views import ONLINE, Teacher, View, mean_logits
from studylib.models import parts

TOKENS = ("answers", "all")


def cross_entropy(student: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """−log p(target) per position, (N, V) and (N,) -> (N,): learning from text."""
    return torch.nn.functional.cross_entropy(student.float(), targets, reduction="none")


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
}
METHODS: dict[str, type[Method]] = {"taid": Taid}
FEATURES: dict[str, Callable] = {
    "hidden_mse": features.hidden_mse,
    "hidden_cosine": features.hidden_cosine,
    "token_relation": features.token_relation,
    "mi_alpha": features.mi_alpha,
    "neighbour_kl": features.neighbour_kl,
    "axis_cosine": features.axis_cosine,
}
WIDTH_FREE = ("token_relation", "neighbour_kl")
LOSSES: dict[str, Callable] = {**GOLD, **DIVERGENCES, **METHODS, **FEATURES}


@dataclass(frozen=True)
class Term:
    """One loss: its weight, the tokens it looks at, its options."""

    name: str
    weight: float
    tokens: str
    options: Mapping[str, float | bool] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Its name in tables and logs, e.g. 'jsd(beta=0.1, all tokens)'."""
        listed = [f"{name}={value:g}" for name, value in self.options.items()]
        listed += [f"{self.tokens} tokens"] if self.tokens != _usual_tokens(self.name) else []
        return self.name + (f"({', '.join(listed)})" if listed else "")


def parse(losses: Mapping[str, Any]) -> tuple[Term, ...]:
    """The terms of a mapping from losses to weights. Raises StudyError for what is no loss, and for
    options that a loss does not have."""
    if not isinstance(losses, Mapping):
        raise StudyError(f"stages: losses must map names to weights, not {losses!r}.")
    if not losses:
        raise StudyError("stages: losses is empty: name at least one loss.")
    return tuple(_term(name, value) for name, value in losses.items())


def _term(name: str, value: Any) -> Term:
    if name not in LOSSES:
        raise StudyError(unknown("loss", name, LOSSES))
    given = {**value} if isinstance(value, Mapping) else {"weight": value}
    weight = options.check_value(name, "weight", Positive, given.pop("weight", 1.0))
    tokens = given.pop("tokens", _usual_tokens(name))
    if tokens not in TOKENS:
        raise StudyError(f"tokens of {name} must be {' or '.join(TOKENS)}, not {tokens!r}.")
    checked = options.check(name, LOSSES[name], given, ("weight", "tokens"))
    if name in METHODS:
        METHODS[name](**checked)  # refuses options that exclude each other
    return Term(name, weight, tokens, checked)


def _usual_tokens(name: str) -> str:
    return "all" if name in FEATURES else "answers"


class Objective(Method):
    """The sum of weighted losses; of several teachers, against the mean of their probabilities.

    Losses on hidden states are averaged over layers. Where widths differ, the student's states come
    through projections to the teacher's width that are trained with it.
    """

    def __init__(self, *, losses: Mapping[str, Any]):
        self.terms = parse(losses)
        self.methods = {
            term.name: METHODS[term.name](**term.options)
            for term in self.terms
            if term.name in METHODS
        }
        names = {term.name for term in self.terms}
        compared = [term for term in self.terms if term.name in DIVERGENCES | METHODS]
        self.signals = Signals(
            teachers=0 if names <= GOLD.keys() else -1,
            at="all" if any(term.tokens == "all" for term in compared) else "answers",
            what="hidden" if names & FEATURES.keys() else "logits",
            online=bool(names & FEATURES.keys()),
        )

    def initial_state(self) -> torch.nn.Module:
        """Those of methods among its losses, and projections once they are made."""
        states = {name: method.state for name, method in self.methods.items()}
        return torch.nn.ModuleDict(
            {"methods": torch.nn.ModuleDict(states), "projections": torch.nn.ModuleDict()}
        )

    @property
    def projections(self) -> Any:
        """From the student's width to the teacher's, by loss and layer."""
        return self.state["projections"]

    @property
    def title(self) -> str:
        """The losses with their weights, e.g. 'forward_kl + 0.5 cross_entropy'."""
        return " + ".join(
            term.title if term.weight == 1 else f"{term.weight:g} {term.title}"
            for term in self.terms
        )

    @property
    def weights(self) -> dict[str, float]:
        """By loss."""
        return {term.name: term.weight for term in self.terms}

    @property
    def positions(self) -> str:
        """Where losses on logits look."""
        logits = [term.tokens for term in self.terms if term.name not in FEATURES]
        return "all" if "all" in logits else "answers"

    @property
    def versions(self) -> dict[str, int]:
        """Those of methods among its losses; losses themselves have one for all of them."""
        return {name: METHODS[name].version for name in self.methods}

    def student(self, model: transformers.PreTrainedModel, teachers: Sequence[Teacher]) -> None:
        """Leave the model as it is; make projections beside it, where they are needed."""
        if not self.signals.online:
            return
        if len(teachers) != 1 or teachers[0].model is None:
            raise StudyError(ONLINE)
        widths = model.config.hidden_size, teachers[0].model.config.hidden_size
        self.project(widths, len(parts.layers(model)))

    def project(self, widths: tuple[int, int], layers: int) -> None:
        """Make projections of a student's width to a teacher's, where both differ; one for each
        layer and loss that needs them."""
        projected = {term.name for term in self.terms if term.name in FEATURES}
        for name in sorted(projected.difference(WIDTH_FREE) if len({*widths}) > 1 else ()):
            self.projections[name] = torch.nn.ModuleList(
                features.projection(*widths) for _ in range(layers)
            )

    def follow(self, earlier: Method) -> None:
        """Go on with the projections of an earlier stage."""
        if isinstance(earlier, Objective):
            for name in self.projections.keys() & earlier.projections.keys():
                self.projections[name] = earlier.projections[name]

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """Each loss by name, per token."""
        return {term.name: self._values(term, student, teachers) for term in self.terms}

    def _values(self, term: Term, student: View, teachers: Sequence[View]) -> torch.Tensor:
        at = student.at(term.tokens)
        if term.name in GOLD:
            return GOLD[term.name](at.logits, at.targets)
        if term.name in FEATURES:
            return self._on_states(term, at, teachers[0].at(term.tokens))
        views = [teacher.at(term.tokens) for teacher in teachers]
        if term.name in self.methods:
            (values,) = self.methods[term.name].loss(at, views).values()
            return values
        return DIVERGENCES[term.name](at.logits, mean_logits(views), **term.options)

    def _on_states(self, term: Term, student: View, teacher: View) -> torch.Tensor:
        """A loss on hidden states, row by row, summed over tokens and averaged over layers."""
        per_layer: list[Any] = [
            sum(
                self.on_row(term, layer, states, target).sum()
                for states, target in zip(
                    student.hidden_rows(layer + 1), teacher.hidden_rows(block + 1), strict=True
                )
            )
            for layer, block in enumerate(teacher.aligned)
        ]
        return torch.stack(per_layer).mean()

    def on_row(
        self, term: Term, layer: int, student: torch.Tensor, teacher: torch.Tensor
    ) -> torch.Tensor:
        """A loss on one row's hidden states (T, d) of the student's layer and of the teacher's that
        it should give -> (T,)."""
        with torch.autocast(student.device.type, enabled=False):
            student = student.float()
            if term.name in self.projections:
                projections: Any = self.projections[term.name]
                student = projections[layer](student)
            return FEATURES[term.name](student, teacher, **term.options)

    def count(self, term: str, rows: Sequence[Pack]) -> float:
        """The tokens that a loss looks at."""
        tokens = next(loss.tokens for loss in self.terms if loss.name == term)
        if term in FEATURES and tokens == "all":
            return sum(len(row.ids) for row in rows)
        return sum(len(getattr(row, tokens).at) for row in rows)

    def update(self, step: int, steps: int, logged: dict[str, float]) -> None:
        """That of methods among its losses."""
        for method in self.methods.values():
            method.update(step, steps, logged)


class Composed(Method):
    """A method whose losses, or some of them, are those of an `objective` that it makes itself."""

    objective: Objective

    def initial_state(self) -> torch.nn.Module:
        """That of the objective."""
        return self.objective.state

    @property
    def weights(self) -> dict[str, float]:
        """Those of the objective."""
        return self.objective.weights

    def student(self, model: transformers.PreTrainedModel, teachers: Sequence[Teacher]) -> None:
        """Leave the model as it is; make the objective's projections."""
        self.objective.student(model, teachers)

    def follow(self, earlier: Method) -> None:
        """Go on with the projections of an earlier stage by the same method."""
        if isinstance(earlier, type(self)):
            self.objective.follow(earlier.objective)

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """Each loss of the objective by name, per token."""
        return self.objective.loss(student, teachers)

    def count(self, term: str, rows: Sequence[Pack]) -> float:
        """The tokens that a loss looks at."""
        return self.objective.count(term, rows)
