"""How long a plan will take on this machine and what it must fetch, before anything starts.

What a run does is counted in FLOPs (`runs/budget`). How long these take is known from the runs that
are done, of each kind for itself; before there are any, a training step is timed.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import psutil

from studylib.app.leakage import leakage
from studylib.core.progress import spoken
from studylib.data import archives, sources, squad
from studylib.experiments.plans import Plan
from studylib.models import flops, loading, prune
from studylib.runs import inputs, kinds, plan_parts
from studylib.runs.budget import SHARED, TRAINED, Budget, Took
from studylib.runs.token_counts import Text, example
from studylib.store.run import Input, Run
from studylib.store.store import Store
from studylib.training.config import Recipe

# FLOP/s over those of training, where answering and comparing models is in fp32 (SmolLM2-135M on
# two cores that have bf16)
EFFICIENCY = {
    "training": 1.0,
    "reading": 1.3,
    "reconstruction": 1.5,
    "answering": 0.5,
    "comparing": 0.5,
}


# of trainings, by what was planned, threads and device
TIMED: dict[tuple[str, int, str], "Pace"] = {}


def download(plan: Plan) -> int:
    """Megabytes to fetch."""
    needs = [need for run in plan.runs for need in run.needs.values() if isinstance(need, Input)]
    models = {need.value for need in needs if isinstance(need.value, str)}
    described = (need.value for need in needs if isinstance(need.value, dict))
    sets = {part["source"] for value in described for part in sources.parts(value)}
    archived = {
        reference.removeprefix("archive:")
        for reference in models | sets
        if reference.startswith("archive:")
    }
    return archives.to_fetch(archived) + sum(
        loading.to_fetch(reference) for reference in models if reference.startswith("hub:")
    )


def datasets(plan: Plan) -> Iterator[str]:
    """A line per data set: what it holds, how many answers were shifted onto their text, and what
    of it leaks from training."""
    leaks = leakage(plan).set_index("set")
    for need in (plan.train, plan.dev, *plan.tests):
        dataset = inputs.loaded(need)
        line = (
            f"{need.label}: {len(dataset.questions)} questions on"
            f" {len(squad.by_context(dataset.questions))} contexts"
        )
        if withheld := len(dataset.questions) - len(dataset.labelled):
            line += f"; the gold answers of {withheld} questions are withheld in training"
        if dataset.shifted:
            line += f", {dataset.shifted} answers of the file shifted to where they stand"
        if need is not plan.train:
            leaked = [f"{count} {what}" for what, count in leaks.loc[need.label].items() if count]
            line += (
                f"; LEAK: {', '.join(leaked)} in common with train"
                if leaked
                else "; no article, context or question of it in train"
            )
        yield f"{line}."


@dataclass(frozen=True)
class Pace:
    """Seconds to begin a run, FLOP/s of training, and seconds a FLOP of the kinds of run that were
    measured."""

    begin: float
    rate: float
    kinds: Mapping[str, float] = field(default_factory=dict)

    def seconds(self, run: Run, took: Took) -> float:
        """Of a run that takes so much."""
        if run.kind in self.kinds:
            return self.begin + took.flops * self.kinds[run.kind]
        return self.begin + sum(
            flops / (self.rate * EFFICIENCY[how]) for how, flops in took.done.items()
        )


def sentence(seconds: float) -> str:
    """How long computing takes, in words."""
    return (
        f"This takes about {spoken(seconds)} on this machine. Stop it at any time: the same command"
        " goes on."
    )


def seconds(plan: Plan, missing: Sequence[Run], store: Store | None = None) -> float:
    """Expected seconds for the missing runs, made by as many workers as this machine is to have."""
    snapshot = (store or Store()).snapshot()
    bases = {plan_parts.base_of(run).digest for run in missing}
    paces = {
        base: _pace(
            [run for run in plan.runs if plan_parts.base_of(run).digest == base], plan, snapshot
        )
        for base in bases
    }
    total = sum(
        paces[plan_parts.base_of(run).digest].seconds(run, kinds.took(SHARED, run))
        for run in missing
    )
    return total / plan.machine.workers


def _pace(runs: list[Run], plan: Plan, store: Store) -> Pace:
    """As it was for the runs of a model that are done; else as a step of training it shows it."""
    took = defaultdict[str, list[float]](list)
    for run in runs:
        flops, result = kinds.took(SHARED, run).flops, store.result(run)
        # others were too short to be measured, or run no model
        if result is not None and result["seconds"] > 0 and flops:
            took[run.kind].append(result["seconds"] / flops)
    if not took:
        return calibrated(runs, plan, SHARED)
    paces = {kind: median(each) for kind, each in took.items()}
    return Pace(0.0, 1 / median(paces.values()), paces)


def calibrated(runs: Iterable[Run], plan: Plan, work: Budget) -> Pace:
    """As steps of training the largest of some models show it, with random weights, timed once in
    this process. Where all of its layers would take more than a quarter of the memory, what two
    layers more take is what counts: embeddings and optimiser would outweigh a few layers."""
    inputs.prepare(plan.machine)
    training_ones = [run for run in runs if run.kind in ("teacher", "student")]
    run = max(
        training_ones or [candidate for candidate in plan.runs if candidate.kind == "teacher"],
        key=lambda candidate: work.shape(candidate).total,
    )
    key = run.planned, plan.machine.threads, plan.machine.device
    if key not in TIMED:
        TIMED[key] = _timed(run, work)
    return TIMED[key]


def _timed(run: Run, work: Budget) -> Pace:
    """The pace of steps of a training."""
    shape, text = work.shape(run), work.text(run, "train", True)
    whole = 4 * TRAINED * shape.total < psutil.virtual_memory().total / 4
    steps = [
        _step(run, text, shape.vocabulary, layers)
        for layers in ((shape.layers,) if whole else (1, 3))
    ]
    flops, seconds = (steps[-1][part] - (0 if whole else steps[0][part]) for part in (0, 1))
    if seconds <= 0:  # on a machine that is busy with something else
        flops, seconds = steps[-1][:2]
    return Pace(steps[-1][2], flops / seconds)


def _step(run: Run, text: Text, vocabulary: int, layers: int) -> tuple[float, float, float]:
    """FLOPs and seconds of a step of a training with so many layers, the better of two, the first
    of which warms up; and seconds until the model was there."""
    from studylib.training.step_times import step_times  # which loads torch

    parameters, started = run.parameters, time.monotonic()
    config = loading.config(plan_parts.base_of(run).value)
    model = prune.hollow(config, layers, None, device=inputs.prepared)
    begin = min(time.monotonic() - started, 5.0)
    row = example(round(text.tokens), round(text.questions))
    size = parameters["batch_size"]
    recipe = Recipe(size, 1e-6, 0, parameters["micro_batch_size"], parameters["precision"])
    return (
        size * flops.counted(model).training.flops(text.tokens, text.pairs, text.answers),
        min(step_times(model, [row] * size, vocabulary, recipe, 2)),
        begin,
    )
