"""How long a plan will take on this machine and what it must fetch, before anything starts.

What a run does is counted in contexts that the uncut model is trained on. How long one takes is known from the runs that are done,
of each kind for itself; before there are any, one real training step of each family is timed.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

from transformers import PretrainedConfig

from studylib import archives, cutting, data, kinds, makers, models, objectives, packing, prompts, training
from studylib.plans import Plan
from studylib.runs import Input, Run, Store
from studylib.study import leakage

ANSWERING = 0.8  # a context answered, over a context trained on
COMPARING = 0.05  # two models compared at the answers of a context, over the same
RUNS = {"answers": "model", "cost": "model", "states": "teacher"}  # the model that a kind of run uses, if it is not one that it makes
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


@dataclass
class Uncut:
    """A family's model as it is before anything is cut, and what part of its work smaller ones do."""

    config: PretrainedConfig
    known: dict[tuple[int, int | None], float] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        """Its layers."""
        return self.config.num_hidden_layers

    def share(self, model: Run | Input) -> float:
        """Of its parameters outside embeddings, those that a model has which a run made, or that comes from outside."""
        made = isinstance(model, Run)
        cut = model if made and model.kind == "cut" else model.needs.get("start") if made else None
        size = (cut.parameters["depth"], cut.parameters["neurons"]) if cut else (self.depth, None)
        if size not in self.known:
            whole, left = (cutting.counted(self.config, *each)["nonembedding"] for each in ((self.depth, None), size))
            self.known[size] = left / whole
        return self.known[size]


@dataclass(frozen=True)
class Pace:
    """Seconds to load a model, seconds a context, and those by kind of run where there were such."""

    loading: float
    usual: float
    kinds: Mapping[str, float]


def seconds(plan: Plan, missing: Iterable[Run], store: Store | None = None) -> float:
    """Expected seconds for the missing runs."""
    store, families, total = store or Store(), {}, 0.0
    for run in missing:
        raw = kinds.raw_of(run)
        if raw.digest not in families:
            uncut = Uncut(models.reading(raw.value)[1])
            families[raw.digest] = (
                uncut,
                _pace([one for one in plan.runs if kinds.raw_of(one).digest == raw.digest], uncut, plan.machine.threads, store),
            )
        uncut, pace = families[raw.digest]
        total += pace.loading + contexts(run, uncut) * pace.kinds.get(run.kind, pace.usual)
    return total


def _pace(runs: list[Run], uncut: Uncut, threads: int, store: Store) -> Pace:
    """As it was for the runs of a family that are done; else as a step of training its teacher shows it."""
    took: dict[str, list[float]] = {}
    for run in runs:
        if (result := store.result(run)) is not None:
            took.setdefault(run.kind, []).append(result["seconds"] / contexts(run, uncut))
    if not took:
        return _timed(next(run for run in runs if run.kind == "teacher"), threads, store)
    paces = {kind: median(each) for kind, each in took.items()}
    return Pace(0.0, median(paces.values()), paces)


def _timed(teacher: Run, threads: int, store: Store) -> Pace:
    """As two steps of training a teacher show it, the first of them to warm up."""
    makers.prepare(threads)
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
    return Pace(min(loading, 5.0), min(timed) / len(rows), {})


def contexts(run: Run, uncut: Uncut) -> float:
    """What a run does, in contexts that the uncut model is trained on."""
    wanted, share = run.parameters, uncut.share(run.needs[RUNS[run.kind]] if run.kind in RUNS else run)
    if run.kind == "answers":
        return ANSWERING * share * len(data.by_context(makers.questions(run.needs["test"])))
    if run.kind == "loyalty":
        return COMPARING * len(data.by_context(makers.questions(run.needs["own"].needs["test"])))
    if run.kind == "cost":
        return wanted["contexts"] * wanted["rounds"] * ANSWERING * (1 + share)
    if run.kind == "states":
        return share * len(data.by_context(makers.questions(run.needs["train"]))) / 3
    if run.kind == "layers":
        return wanted["packs"] * sum(kept * kept / 2 for kept in range(2, uncut.depth + 1)) / uncut.depth / 3
    if run.kind == "cut":  # the uncut model once; per block two passes of uncut blocks, sums as dear as one, and gaps
        return wanted["packs"] * (1 + 4 * wanted["depth"] / uncut.depth) / 3
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


def _inputs(runs: Iterable[Run]) -> list[Input]:
    return [need for run in runs for need in run.needs.values() if isinstance(need, Input)]
