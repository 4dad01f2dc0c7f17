"""A method of distillation: what a student learns from its teachers, and how. A class with a plain
default for each of its decisions.

A method is a file in this folder that holds a subclass of `Method`; its name is the file's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from studylib.core.libraries import torch, transformers
from studylib.data.examples import Example
from studylib.data.packing import Pack
from studylib.data.squad import Question
from studylib.methods.divergences import forward_kl
from studylib.methods.views import Teacher, View

Unit = Literal["token", "sequence", "step"]


@dataclass(frozen=True)
class Signals:
    """What a method reads of its teachers, known when a run is planned.

    `teachers`: 0 is none, -1 as many as are given. `what`: `text` alone (which `data` asks for),
    logits, or hidden states of inner layers, too. `at`: where logits are compared. `online`: the
    teacher runs beside the student, since what it is asked is not known beforehand. `base`: it is
    the base model, as it was before it was fine-tuned, which has no cached states.
    `demonstration`: what the teacher reads before the text (`one-shot`, say), whatever the student
    reads; from cached states at answers, so not `online`.
    """

    teachers: int = 1
    what: Literal["text", "logits", "hidden"] = "logits"
    at: Literal["answers", "all"] = "answers"
    online: bool = False
    base: bool = False
    demonstration: str = ""

    @property
    def supervise(self) -> bool:
        """Whether the loss compares the student with a teacher."""
        return self.teachers != 0 and self.what != "text"

    def among(self, teachers: Sequence[Teacher]) -> list[Teacher]:
        """Those of a training's teachers that are meant: its base model, or all the others."""
        return [teacher for teacher in teachers if teacher.base == self.base]


@dataclass
class Sampler:
    """The rows of a training and their order; everything random depends on the seed and the step
    alone, so that a stopped training goes on with the same rows."""

    rows: Sequence[Pack]
    order: Sequence[Sequence[int]]
    seed: int
    step: int = 0

    def next(self) -> list[Pack]:
        """The rows of this step by the order of all trainings."""
        return [self.rows[number] for number in self.order[self.step]]

    def random(self) -> np.random.Generator:
        """Random numbers of this step."""
        return np.random.default_rng([self.seed, self.step])


class Ask(Protocol):
    """What a method may ask of models, beside its loss. `model` is `teacher` or `student`."""

    seed: int
    dev: Sequence[Pack]  # rows that no model learns
    questions: Mapping[str, Question]  # those of all rows, by id

    def views(self, rows: Sequence[Pack]) -> tuple[View, list[View]]:
        """Student and teachers on some rows, without gradients."""

    def answers(
        self, examples: Sequence[Example], *, model: str, number: int = 1, temperature: float = 0.0
    ) -> list[list[str]]:
        """So many answers to each example's question; greedy at a temperature of 0."""

    def continued(
        self,
        rows: Sequence[Pack],
        begun: Sequence[list[int]],
        *,
        longest: int,
        temperature: float,
        number: int,
    ) -> list[list[int]]:
        """The student's answers to all questions of some rows, sampled from their tokens so far to
        the token that ends the answer to learn, or to `longest` tokens; each by random numbers of
        its question's id and `number`."""

    def rows(self, examples: Sequence[Example]) -> list[Pack]:
        """The rows of some examples, prompted as the student is."""

    def right(self, example: Example, text: str) -> bool:
        """Whether an answer is exactly one of the example's."""

    def log_likelihood(self, examples: Sequence[Example], *, model: str) -> list[float]:
        """log p of each example's target with its end, in nats."""


class Method:
    """Forward KL at the answer's tokens, unless a subclass decides otherwise.

    The keyword-only arguments of `__init__` are its options (types in `options`). What it learns
    and what must survive a stop is in its `state`.
    """

    signals: Signals = Signals()
    unit: ClassVar[Unit] = "token"  # what a loss is averaged over, in the whole optimiser step
    version: ClassVar[int] = 1  # part of the run's key: raise it when results change
    gold_first: ClassVar[float] = 0.0  # the share of the steps of `recipe` on gold answers alone
    ways: tuple[str, ...] = ("",)  # to answer by, each asked on every test set

    @cached_property
    def state(self) -> Any:
        """What it keeps beside the student, a module: parameters are trained, buffers are kept in
        checkpoints. Made when it is first used: planning asks methods, too."""
        return self.initial_state()

    def initial_state(self) -> torch.nn.Module:
        """The state before the first step."""
        return torch.nn.Module()

    @classmethod
    def recipe(cls, steps: int) -> list[dict[str, Any]]:
        """The stages by which it is compared with other methods, so many steps in all: gold answers
        alone for its share `gold_first`, at least a step, then the method."""
        first = max(1, int(cls.gold_first * steps)) if cls.gold_first else 0
        gold = [{"steps": first, "losses": {"cross_entropy": 1.0}}] if first else []
        return [*gold, {"steps": steps - first, "method": cls.__module__.rpartition(".")[2]}]

    @property
    def title(self) -> str:
        """Its name in tables."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def weights(self) -> dict[str, float]:
        """The weights of its loss terms; 1 where none is named."""
        return {}

    @property
    def positions(self) -> str:
        """Where its losses look at the student's logits: at answers or at all tokens."""
        return self.signals.at

    @property
    def versions(self) -> dict[str, int]:
        """Its part of a run's key."""
        return {self.title: self.version}

    def data(self, examples: list[Example], ask: Ask) -> list[Example]:
        """The examples to learn, made once before training; kept as a run of its own where a
        subclass makes them."""
        return examples

    def generates(self, decision: str) -> dict[str, float]:
        """How many answers to each question `data` asks of each model (`teacher`, `student`), or
        `batch` at each step, on average; what a run takes is counted by it."""
        return {}

    def student(self, model: transformers.PreTrainedModel, teachers: Sequence[Teacher]) -> None:
        """Change the model that is trained, in place: architecture, initialisation, what is
        frozen."""

    def follow(self, earlier: Method) -> None:
        """Go on with what an earlier stage by the same method trains beside the student, where both
        have it in the same shapes. What is not trained begins anew with its stage."""
        mine, other = (
            {name: weight.shape for name, weight in method.state.named_parameters()}
            for method in (self, earlier)
        )
        if type(self) is type(earlier) and mine == other:
            for name, weight in earlier.state.named_parameters():
                module, _, leaf = name.rpartition(".")
                self.state.get_submodule(module).register_parameter(leaf, weight)

    def batch(self, sampler: Sampler, ask: Ask) -> list[Pack]:
        """The rows of one optimiser step."""
        return sampler.next()

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """Each loss term by name: values whose sum is that over all of its units in these rows,
        without its weight."""
        return {"forward_kl": forward_kl(student.logits, teachers[0].logits)}

    def count(self, term: str, rows: Sequence[Pack]) -> float:
        """The number of a term's units in all rows of an optimiser step, by which its sum is
        divided."""
        if self.unit == "token":
            return sum(len(getattr(row, self.signals.at).at) for row in rows)
        return sum(len(row.roles) for row in rows) if self.unit == "sequence" else 1

    @classmethod
    def overrides(cls, decision: str) -> bool:
        """Whether it decides otherwise than the default does."""
        return getattr(cls, decision) is not getattr(Method, decision)

    def update(self, step: int, steps: int, logged: dict[str, float]) -> None:
        """After optimiser step `step` (from 0) of the stage's `steps`; `logged` are its losses."""

    def share(self, way: str) -> float:
        """The share of the plain model's FLOPs that answering in a way takes, about."""
        return 1.0

    def answer(
        self,
        model: transformers.PreTrainedModel,
        way: str,
        plain: Callable[..., Any],
    ) -> Any:
        """How the finished student is used: by default `plain`, which answers by a model. Keyword
        arguments of it go to `generate.answer`."""
        return plain(model)


def buffers(**values: Any) -> torch.nn.Module:
    """A state of numbers, in float64."""
    module = torch.nn.Module()
    for name, value in values.items():
        module.register_buffer(name, torch.as_tensor(value, dtype=torch.float64))
    return module
