"""How long a plan will take on this machine and what it must fetch, before anything starts.

One real training step of each family is timed; everything else is scaled from it by steps and layers.
"""

import time
from collections.abc import Iterable

from studylib import archives, data, kinds, makers, models, objectives, packing, prompts, training
from studylib.plans import Plan
from studylib.runs import Input, Run, Store
from studylib.study import leakage

ANSWERING = 0.8  # a context answered, over a context trained on
COMPARING = 0.05  # two models compared at the answers of a context, over the same
EVERYWHERE = 0.25  # logits at all tokens of a context instead of its answers', over the same


def download(plan: Plan) -> int:
    """Megabytes to fetch."""
    archived = set()
    for need in _inputs(plan.runs):
        reference = need.value["source"] if isinstance(need.value, dict) else need.value
        if reference.startswith("archive:"):
            archived.add(reference.removeprefix("archive:"))
    wanted = {archives.pinned(reference)[0]: archives.missing(reference) for reference in sorted(archived, key=archives.missing)}
    return sum(wanted.values())


def datasets(plan: Plan) -> list[str]:
    """A line per data set: what it holds, how many answers were shifted onto their text, and what of it leaks from training."""
    lines, leaks = [], leakage(plan).set_index("set")
    for need in (plan.train, plan.dev, *plan.tests):
        found = makers.loaded(need)
        said = f"{need.label}: {len(found.questions)} questions on {len(data.by_context(found.questions))} contexts"
        if found.shifted:
            said += f", {found.shifted} answers of the file shifted to where they stand"
        if need is not plan.train:
            leaked = ", ".join(f"{count} {what}" for what, count in leaks.loc[need.label].items() if count)
            said += f"; LEAK: {leaked} in common with train" if leaked else "; no article, context or question of it in train"
        lines.append(f"{said}.")
    return lines


def seconds(plan: Plan, missing: Iterable[Run], store: Store | None = None) -> float:
    """Expected seconds for the missing runs."""
    store, steps, total = store or Store(), {}, 0.0
    teachers = {kinds.raw_of(run).digest: run for run, _ in plan.trained if run.kind == "teacher"}
    makers.prepare(plan.threads)
    for run in missing:
        raw = kinds.raw_of(run)
        if raw.digest not in steps:
            steps[raw.digest] = _step(store, teachers[raw.digest])
        per_context, depth, loading = steps[raw.digest]
        total += loading + _contexts(run, depth) * per_context
    return total


def _step(store: Store, teacher: Run) -> tuple[float, int, float]:
    """Seconds of training per context at full depth, that depth, and seconds to load the model."""
    started = time.monotonic()
    model, tokenizer = makers.load(store, teacher.needs["raw"])
    loading, wanted = time.monotonic() - started, teacher.parameters
    longest = model.config.max_position_embeddings
    built = prompts.build(makers.questions(teacher.needs["dev"]), tokenizer, mode="zero-shot", longest=longest, training=True)
    rows = [packing.pack(prompt) for prompt in built[: wanted["packs"]]]
    timed, mixture = [], objectives.Mixture(objectives.parse(wanted["stages"]))
    for _ in range(2):
        started = time.monotonic()
        with models.precision(model, wanted["precision"]):
            training.backward(model, rows, mixture, 0, None, len(tokenizer), wanted["micro"])
        timed.append(time.monotonic() - started)
    return min(timed) / len(rows), model.config.num_hidden_layers, min(loading, 5.0)


def _contexts(run: Run, depth: int) -> float:
    """What a run does, in contexts trained on at full depth."""
    wanted, share = run.parameters, run.parameters.get("depth", depth) / depth
    if run.kind == "answers":
        return ANSWERING * _depth(run.needs["model"], depth) / depth * len(data.by_context(makers.questions(run.needs["test"])))
    if run.kind == "loyalty":
        return COMPARING * len(data.by_context(makers.questions(run.needs["own"].needs["test"])))
    if run.kind == "cost":
        return wanted["contexts"] * wanted["rounds"] * ANSWERING * (1 + _depth(run.needs["model"], depth) / depth)
    if run.kind == "states":
        return _depth(run.needs["teacher"], depth) / depth * len(data.by_context(makers.questions(run.needs["train"]))) / 3
    if run.kind == "layers":
        return wanted["packs"] * sum(kept * kept / 2 for kept in range(2, depth + 1)) / depth / 3
    if run.kind == "cut":
        return wanted["packs"] * (1 + 4 * share) / 3  # the uncut model once; per block two passes, sums as dear as one, and gaps
    stages, dev = objectives.parse(wanted["stages"]), len(data.by_context(makers.questions(run.needs["dev"])))
    beside = 1 / 3 if any(stage.beside for stage in stages) else 0
    beside += (
        EVERYWHERE if any(term.tokens == "all" and term.name not in objectives.FEATURES for stage in stages for term in stage.terms) else 0
    )
    if run.kind == "rate":
        steps = sum(stage.steps for stage in objectives.shortened(stages, wanted["search_steps"]))
        return len(wanted["rate"]) * (steps * wanted["packs"] * (share + beside) + dev * share / 3)
    watching = (1 + wanted["evaluations"]) * dev * ((ANSWERING + 1 / 3) * share + beside)
    return objectives.steps(stages) * wanted["packs"] * (share + beside) + watching


def _depth(model: Run | Input, whole: int) -> int:
    """The layers of a model that a run made, or of a raw one."""
    return model.parameters.get("depth", whole) if isinstance(model, Run) else whole


def _inputs(runs: Iterable[Run]) -> list[Input]:
    return [need for run in runs for need in run.needs.values() if isinstance(need, Input)]
