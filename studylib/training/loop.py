"""One plain loop for fine-tuning a teacher and for distilling a student by any method.

The loss of a step is a sum over the whole step's tokens (or sequences) divided by their number, so
that it does not depend on how the step is divided into micro-batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from studylib.core import parallel
from studylib.core.errors import StudyError
from studylib.core.filesystem import digest
from studylib.core.libraries import torch, transformers
from studylib.data.packing import Pack, schedule
from studylib.methods import stages as method_stages
from studylib.methods.base import Method, Sampler
from studylib.methods.objective import Objective
from studylib.methods.stages import Curriculum, Stage
from studylib.methods.views import Teacher, student_view
from studylib.models.precision import products_in
from studylib.store import exports
from studylib.training.checkpoint import Diverged, Learner
from studylib.training.config import Recipe

COLUMNS = exports.TEXT | {"step", "loss", *exports.NUMBERS}  # of learning curves, beside the terms

Report = Callable[[int, dict], None]


def losses(
    model: transformers.PreTrainedModel,
    rows: Sequence[Pack],
    method: Method,
    teachers: Sequence[Teacher],
    vocabulary: int,
) -> dict[str, torch.Tensor]:
    """Each loss term of a method, summed over its units in these rows. Raises StudyError for one
    that is called as a column of learning curves is."""
    signals = method.signals
    student = student_view(model, rows, vocabulary, signals.what == "hidden")
    views = [
        teacher.view(rows, student.batch, signals.online)
        for teacher in (signals.among(teachers) if signals.supervise else ())
    ]
    terms = method.loss(student, views)
    if taken := sorted(COLUMNS & terms.keys()):
        raise StudyError(
            f"{method.title}: the loss term {taken[0]!r} is called as a column of learning curves"
            " is: name it otherwise."
        )
    return {name: values.sum() for name, values in terms.items()}


def backward(
    model: transformers.PreTrainedModel,
    rows: Sequence[Pack],
    method: Method,
    teachers: Sequence[Teacher],
    vocabulary: int,
    micro_batch_size: int = 0,
    sharded: torch.nn.Module | None = None,
) -> dict[str, float]:
    """Add one step's gradient, unless gradients are off; return each loss term and their weighted
    sum `loss`.

    Each is a mean over the units it looks at in the whole step: nats for losses on logits. A method
    whose unit is the step takes all rows at once. Several processes have a part of the step's rows
    each, and `sharded` of the weights.
    """
    local_rows = rows if sharded is None else parallel.shard(rows)
    logged: dict[str, float] = {}
    size = len(local_rows) if method.unit == "step" else micro_batch_size or len(local_rows)
    for start in range(0, len(local_rows), size):
        given = (model, local_rows[start : start + size], method, teachers, vocabulary)
        sums = losses(*given) if sharded is None else sharded(losses, *given)
        counts = {name: max(1, method.count(name, rows)) for name in sums}
        weights = {name: method.weights.get(name, 1.0) for name in sums}
        if torch.is_grad_enabled():
            loss: Any = sum(weights[name] * sums[name] / counts[name] for name in sums)
            # gradients are averaged over processes
            ((1 if sharded is None else parallel.count()) * loss).backward()
        for name, value in sums.items():
            logged[name] = logged.get(name, 0.0) + value.item() / counts[name]
    if sharded is not None:
        totals = parallel.all_reduce(list(logged.values()), model.device)
        logged = dict(zip(logged, totals, strict=True))
    return {"loss": sum(weights[name] * value for name, value in logged.items()), **logged}


@dataclass(frozen=True)
class Dev:
    """What a training is watched by, before it and at `times` even points: its own losses on other
    rows, and a score of the model."""

    packs: Sequence[Pack]
    teachers: Sequence[Teacher]
    score: Callable[[transformers.PreTrainedModel], dict[str, float]]
    times: int

    def marks(self, steps: int) -> set[int]:
        """The steps after which to measure."""
        return {round(steps * (i + 1) / self.times) for i in range(self.times)}

    def measure(
        self, model: transformers.PreTrainedModel, method: Method, vocabulary: int, recipe: Recipe
    ) -> dict[str, float]:
        """`dev_loss`, each loss as `dev_<its name>`, and the scores. Whatever the method, forward
        KL to the teacher and cross-entropy of the gold answers are among them."""
        given = (self.teachers, vocabulary, recipe.micro_batch_size or recipe.batch_size)
        with torch.no_grad(), products_in(model, recipe.precision):
            values = backward(model, self.packs, method, *given)
            if not isinstance(method, Objective):
                taught = {"forward_kl": 1.0} if self.teachers else {}
                probe = Objective(losses={"cross_entropy": 1.0} | taught)
                probe.signals = replace(probe.signals, online=method.signals.online)
                values = {**backward(model, self.packs, probe, *given), **values}
        return {f"dev_{name}": value for name, value in values.items()} | self.score(model)


def train(
    model: transformers.PreTrainedModel,
    packs: Sequence[Pack],
    *,
    stages: Sequence[Stage],
    recipe: Recipe,
    vocabulary: int,
    work: Path,
    teachers: Sequence[Teacher] = (),
    stage_rows: Mapping[int, Sequence[Pack]] = MappingProxyType({}),
    dev: Dev | None = None,
    ask: Callable[[transformers.PreTrainedModel], Any] = lambda model: None,
    report: Report = lambda step, values: None,
    last: Callable[[], None] = lambda: None,
) -> list[dict]:
    """Train in place and return the curve: a mapping per step, at some with what `dev` measured; at
    step 0 with that alone.

    Stages learn `packs`, those of `stage_rows` their own. `work` keeps the checkpoint; `ask`
    answers what methods ask of the model beside their losses; `last` is called when all is done,
    while the weights are at hand. Raises Diverged when the loss is no longer a number, StudyError
    for a checkpoint of other data.
    """
    curriculum = _curriculum(stages, model, teachers)
    samplers = _samplers(stages, packs, stage_rows, recipe)
    learner = Learner(model, curriculum, recipe, _data(samplers))
    optimise = _Optimiser(model, learner, curriculum, samplers, teachers, vocabulary, recipe, ask)
    curve, steps = learner.resume(work), method_stages.steps(stages)
    model.eval()  # dropout would make student and control differ by more than their targets
    if dev and not curve:
        curve.append({"step": 0, **optimise.measured(dev, 0)})
    for step in range(curve[-1]["step"] if curve else 0, steps):
        values = optimise(step, steps)
        if dev and step + 1 in dev.marks(steps):
            values |= optimise.measured(dev, step)
        curve.append({"step": step + 1, **values})
        report(step + 1, values)
        learner.keep(curve, work)
    learner.sharded(last)
    return curve


def _curriculum(
    stages: Sequence[Stage], model: transformers.PreTrainedModel, teachers: Sequence[Teacher]
) -> Curriculum:
    """The methods of the stages, to which the model is fitted. Raises StudyError where they need a
    teacher and there is none."""
    if not teachers and any(stage.uses_teacher for stage in stages):
        raise StudyError(f"objective {method_stages.title(stages)} needs a teacher.")
    curriculum = Curriculum(stages)
    curriculum.student(model, teachers)
    return curriculum


def _samplers(
    stages: Sequence[Stage],
    packs: Sequence[Pack],
    stage_rows: Mapping[int, Sequence[Pack]],
    recipe: Recipe,
) -> list[Sampler]:
    """The rows of each stage in their order: of its own ones, or of those of the whole training.
    Raises StudyError where those of a step cannot be divided among the processes."""
    samplers = []
    for number, stage in enumerate(stages):
        rows = stage_rows.get(number, packs)
        steps = stage.steps if number in stage_rows else method_stages.steps(stages)
        order = schedule(
            [len(row.ids) for row in rows], size=recipe.batch_size, steps=steps, seed=recipe.seed
        )
        samplers.append(Sampler(rows, order, recipe.seed))
    parallel.divides(len(samplers[0].order[0]))
    return samplers


def _data(samplers: Sequence[Sampler]) -> str:
    """Names the rows and their order."""
    parts = {
        id(sampler.rows): [sampler.order, [row.digest for row in sampler.rows]]
        for sampler in samplers
    }
    return digest(*parts.values() if len(parts) == 1 else [list(parts.values())])


class _Optimiser:
    """The optimiser steps of a training."""

    def __init__(
        self,
        model: transformers.PreTrainedModel,
        learner: Learner,
        curriculum: Curriculum,
        samplers: Sequence[Sampler],
        teachers: Sequence[Teacher],
        vocabulary: int,
        recipe: Recipe,
        ask: Callable[[transformers.PreTrainedModel], Any],
    ):
        self.model, self.learner, self.curriculum = model, learner, curriculum
        self.samplers, self.teachers, self.vocabulary = samplers, teachers, vocabulary
        self.recipe, self.ask = recipe, ask(model)

    def __call__(self, step: int, steps: int) -> dict[str, float]:
        """Take step `step` (from 0) of `steps`, and return its losses. Raises Diverged."""
        number, within = self.curriculum.at(step)
        method, stage = self.curriculum.methods[number], self.curriculum.stages[number]
        sampler = self.samplers[number]
        sampler.step = within if len(sampler.order) == stage.steps else step
        with products_in(self.model, self.recipe.precision):
            rows = (  # a method may ask the student for them, whose weights several processes share
                self.learner.sharded(method.batch, sampler, self.ask)
                if method.overrides("batch")
                else method.batch(sampler, self.ask)
            )
            given = (self.vocabulary, self.recipe.micro_batch_size, self.learner.sharded)
            values = backward(self.model, rows, method, self.teachers, *given)
        if not math.isfinite(values["loss"]):
            raise Diverged(
                f"the loss is {values['loss']} at step {step + 1}: lower the learning rate of"
                f" {self.recipe.lr:g}."
            )
        self.learner.step(self.recipe.rate_at(step, steps))
        method.update(within, stage.steps, values)
        parallel.make_room()
        return values

    def measured(self, dev: Dev, step: int) -> dict[str, float]:
        """What dev measures, by the method of this step."""
        method = self.curriculum.methods[self.curriculum.at(step)[0]]
        return self.learner.sharded(dev.measure, self.model, method, self.vocabulary, self.recipe)
