"""The stages of a training: so many steps by one method each.

>>> stages = parse([{"steps": 60, "losses": {"forward_kl": 1, "cross_entropy": 0.5}}])
>>> title(stages), steps(stages)
('forward_kl + 0.5 cross_entropy', 60)

A stage names its `losses`, or a `method` of this folder and its `options`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib import import_module
from typing import Any

from studylib import methods
from studylib.core.errors import StudyError, unknown
from studylib.core.libraries import torch, transformers
from studylib.methods import options
from studylib.methods.base import Method
from studylib.methods.objective import TOKENS, Objective
from studylib.methods.views import Teacher


@cache
def known() -> dict[str, type[Method]]:
    """Every method of this folder by its name, the file's; without the objective, which `losses`
    name."""
    modules = [
        import_module(f"{methods.__name__}.{file.name}")
        for file in pkgutil.iter_modules(methods.__path__)
        if file.name not in ("base", "objective")
    ]
    return {
        module.__name__.rpartition(".")[2]: member
        for module in modules
        for member in vars(module).values()
        if isinstance(member, type)
        and issubclass(member, Method)
        and member.__module__ == module.__name__
    }


@dataclass(frozen=True)
class Stage:
    """So many steps by one method with its options."""

    steps: int
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def method(self) -> Method:
        """The method itself, with nothing learnt yet."""
        return (Objective if self.name == "objective" else known()[self.name])(**self.options)

    @cached_property
    def prototype(self) -> Method:
        """A method to ask about its signals, title and versions."""
        return self.method()

    @property
    def title(self) -> str:
        """Its name in tables, with the options that are not the usual ones."""
        listed = ", ".join(f"{name}={value}" for name, value in self.options.items())
        plain = self.name == "objective" or not listed
        return self.prototype.title + ("" if plain else f"({listed})")

    @property
    def uses_teacher(self) -> bool:
        """Whether it learns from a teacher's distributions or hidden states."""
        return self.prototype.signals.supervise

    @property
    def makes_data(self) -> bool:
        """Whether it learns examples that are made for it before the training."""
        return self.prototype.overrides("data")

    @property
    def online(self) -> bool:
        """Whether the teacher must run beside the student: cached states hold no inner layers."""
        return self.prototype.signals.online


def parse(stages: Sequence[Mapping]) -> tuple[Stage, ...]:
    """The stages of a YAML's `stages`. Raises StudyError, naming what is wrong, unless every step
    count, loss, method and option is one."""
    if isinstance(stages, str | Mapping) or not isinstance(stages, Sequence) or not stages:
        raise StudyError(
            "stages must be a list like [{steps: 60, losses: {forward_kl: 1}}], not"
            f" {stages!r}."
        )
    parsed = tuple(_stage(stage) for stage in stages)
    demonstration(parsed)  # refuses several
    return parsed


def _stage(given: Mapping) -> Stage:
    names = set(given) if isinstance(given, Mapping) else set()
    if names != {"steps", "losses"} and names - {"options"} != {"steps", "method"}:
        raise StudyError(
            f"stages: {given!r} must name steps and losses, or steps, a method and its options."
        )
    steps = given["steps"]
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise StudyError(f"stages: steps must be a whole number of at least 1, not {steps!r}.")
    if "losses" in given:
        stage = Stage(steps, "objective", {"losses": given["losses"]})
    else:
        stage = Stage(steps, given["method"], _options(given["method"], given.get("options", {})))
    _ = stage.prototype  # refuses what cannot be
    return stage


def _options(name: Any, given: Any) -> dict[str, Any]:
    if name not in known():
        raise StudyError(unknown("method", name, known()))
    if not isinstance(given, Mapping):
        raise StudyError(f"options of {name} must map names to values, not {given!r}.")
    return options.check(name, known()[name], given)


def title(stages: Sequence[Stage]) -> str:
    """The name of all stages in tables: that of the one, or theirs with their steps."""
    if len(stages) == 1:
        return stages[0].title
    return ", then ".join(f"{stage.title} ({stage.steps} steps)" for stage in stages)


def steps(stages: Sequence[Stage]) -> int:
    """The steps of all stages."""
    return sum(stage.steps for stage in stages)


def versions(stages: Sequence[Stage]) -> dict[str, int]:
    """The versions of their methods, for a run's key."""
    return {name: n for stage in stages for name, n in stage.prototype.versions.items()}


def cached(stages: Sequence[Stage]) -> str | None:
    """At which tokens cached teacher states are needed: by stages that compare logits with a
    teacher that does not run, if any."""
    places = {
        stage.prototype.signals.at for stage in stages if stage.uses_teacher and not stage.online
    }
    return max(places, key=TOKENS.index, default=None)


def demonstration(stages: Sequence[Stage]) -> str:
    """The demonstration that cached teachers read, if it is another than the student's. Raises
    StudyError where stages differ: a training has one set of teacher states."""
    named = {
        stage.prototype.signals.demonstration
        for stage in stages
        if stage.uses_teacher and not stage.online
    }
    if len(named) > 1:
        raise StudyError(
            "stages: teachers read a demonstration in some stages and not in others: let them read"
            " the same in all."
        )
    return named.pop() if named else ""


def extra_data(stages: Sequence[Stage], targets: str = "gold", teachers: int = 1) -> str:
    """What is learnt from so many `teachers` beside gold answers and a single fine-tuned one's
    distributions, in words; nothing for none."""
    words = [f"targets {targets}"] if targets != "gold" else []
    words += ["several teachers"] * (teachers > 1)
    for method in (stage.prototype for stage in stages):
        for decision, when in (("data", "question"), ("batch", "question and step")):
            generated = method.generates(decision).items()
            words += [f"the {model}'s answers, {count:g} a {when}" for model, count in generated]
        words += ["the base model"] * method.signals.base
        words += [f"a {method.signals.demonstration} teacher"] * bool(method.signals.demonstration)
    return "; ".join(dict.fromkeys(words))


def logits_everywhere(stages: Sequence[Stage]) -> bool:
    """Whether any stage looks at the logits of all tokens of a row."""
    return any(stage.prototype.positions == "all" for stage in stages)


def shortened(stages: Sequence[Stage], count: int) -> tuple[Stage, ...]:
    """The stages in about `count` steps: each in its share of them, and in one at least; never
    longer than they are."""
    share = min(1.0, count / steps(stages))
    return tuple(replace(stage, steps=max(1, round(share * stage.steps))) for stage in stages)


def gold(steps: int) -> list[dict]:
    """Learning from text alone, as `stages`."""
    return [{"steps": steps, "losses": {"cross_entropy": 1.0}}]


class Curriculum:
    """The methods of all stages, one after the other. Their state goes into checkpoints."""

    def __init__(self, stages: Sequence[Stage]):
        self.stages = stages
        self.methods = [stage.method() for stage in stages]

    def at(self, step: int) -> tuple[int, int]:
        """The stage of a step (both counted from 0), and the step within it."""
        for number, stage in enumerate(self.stages):
            if step < stage.steps:
                return number, step
            step -= stage.steps
        raise IndexError(step)

    @cached_property
    def state(self) -> torch.nn.ModuleList:
        """What the methods keep beside the student."""
        return torch.nn.ModuleList(method.state for method in self.methods)

    def student(self, model: transformers.PreTrainedModel, teachers: Sequence[Teacher]) -> None:
        """Change the model as the methods want it."""
        for number, method in enumerate(self.methods):
            method.student(model, method.signals.among(teachers))
            for before in range(number):
                method.follow(self.methods[before])
