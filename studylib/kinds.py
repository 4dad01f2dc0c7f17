"""The kinds of run: for each, the function that plans one and the one that makes it.

Planning computes nothing; making gets a folder to write into. The making of a kind reads only the run's
parameters and needs, so that its key says all that matters.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from studylib import answering, cutting, data, models, objectives, packing, prompts, scoring, sources, teaching, training
from studylib.data import Question
from studylib.errors import StudyError
from studylib.progress import Progress
from studylib.runs import Input, Run, Store, canonical, write_json


def dataset(label: str, description: Mapping) -> Input:
    """A data set as something to build on."""
    digest = sources.fingerprint(description)  # refuses what is no description
    return Input(label, dict(description), digest)


def raw_model(reference: str) -> Input:
    """A model from outside as something to build on."""
    return Input(reference, reference, models.fingerprint(reference))


@dataclass(frozen=True)
class Setting:
    """What all runs of one seed share: data, prompting in training, the seed, and how a training is batched and watched."""

    train: Input
    dev: Input
    trained: str
    seed: int
    packs: int
    micro: int
    precision: str
    evaluations: int

    def recipe(self, weights: Mapping[str, float], steps: int, rate: float) -> dict:
        """The parameters of a training, as its key holds them."""
        batching = {"packs": self.packs, "micro": self.micro, "precision": self.precision, "evaluations": self.evaluations}
        return {"trained": self.trained, "weights": dict(weights), "steps": steps, "rate": rate, "seed": self.seed, **batching}


def teacher(raw: Input, setting: Setting, *, steps: int, rate: float, label: str) -> Run:
    """The raw model, tuned on gold answers."""
    needs = {"raw": raw, "train": setting.train, "dev": setting.dev}
    return Run("teacher", setting.recipe(GOLD, steps, rate), needs, _TRAINED, f"{label} teacher")


def states(taught_by: Run, setting: Setting, *, label: str) -> Run:
    """The teacher's hidden states at the answer positions of the training questions."""
    parameters = {"trained": setting.trained, "seed": setting.seed}
    return Run("states", parameters, {"teacher": taught_by, "train": setting.train}, _PROMPTED + teaching.RECIPE, f"{label} teacher states")


def states_on(taught_by: Run, test: Input, pool: Input, *, asked: str, seed: int, label: str) -> Run:
    """The teacher's hidden states at the answer positions of a test set."""
    needs = {"teacher": taught_by, "train": test, "pool": pool}
    return Run("states", {"trained": asked, "seed": seed}, needs, _PROMPTED + teaching.RECIPE, label)


def loyalty(asked_model: Run, taught: Run, *, label: str) -> Run:
    """How near a student's next-token distributions are to its teacher's at the answers of a test set, whose states are `taught`."""
    return Run("loyalty", taught.parameters, {**taught.needs, "model": asked_model, "states": taught}, _PROMPTED + scoring.RECIPE, label)


def layers(taught_by: Run, setting: Setting, *, packs: int, label: str) -> Run:
    """The order in which the teacher's layers can go, down to one, by the answer loss on `packs` rows without them."""
    parameters = {"trained": setting.trained, "seed": setting.seed, "packs": packs}
    needs = {"teacher": taught_by, "train": setting.train}
    return Run("layers", parameters, needs, _PROMPTED + cutting.RECIPE, f"{label} layer choice")


@dataclass(frozen=True)
class Lesson:
    """What students of one teacher are made from: the teacher, its states, and the order in which its layers go."""

    teacher: Run
    states: Run
    layers: Run


def cut(start: Run | Input, lesson: Lesson, setting: Setting, *, depth: int, packs: int, label: str) -> Run:
    """`start` (the raw model or the tuned teacher) cut to `depth` layers and healed on `packs` training rows."""
    parameters = {"depth": depth, "packs": packs, "trained": setting.trained, "seed": setting.seed, "precision": setting.precision}
    needs = {"start": start, "layers": lesson.layers, "train": setting.train}
    return Run("cut", parameters, needs, _PROMPTED + cutting.RECIPE, label)


def student(start: Run, lesson: Lesson, setting: Setting, *, weights: Mapping[str, float], steps: int, rate: float, label: str) -> Run:
    """`start` (a cut model) trained on the mixture `weights`."""
    needs = {"start": start, "train": setting.train, "dev": setting.dev}
    if objectives.uses_teacher(weights):
        needs["teacher"] = lesson.teacher
        if not objectives.beside(weights):
            needs["states"] = lesson.states
    return Run("student", {"depth": start.parameters["depth"], **setting.recipe(weights, steps, rate)}, needs, _TRAINED, label)


def answers(asked_model: Run, test: Input, pool: Input, *, asked: str, seed: int, label: str) -> Run:
    """A model's answers to all questions of a test set. `pool` serves the demonstration."""
    parameters = {"asked": asked, "seed": seed}
    return Run("answers", parameters, {"model": asked_model, "test": test, "pool": pool}, _PROMPTED + answering.RECIPE, label)


GOLD = {"cross_entropy": 1.0}
_PROMPTED = 100 * (sources.RECIPE + prompts.RECIPE + packing.RECIPE)
_TRAINED = _PROMPTED + models.RECIPE + objectives.RECIPE + training.RECIPE


def make(store: Store, progress: Progress) -> Callable[[Run, Path], dict]:
    """The function that makes any run, for `Store.complete`."""
    makers = {
        "teacher": _make_teacher,
        "states": _make_states,
        "layers": _make_layers,
        "cut": _make_cut,
        "student": _make_student,
        "answers": _make_answers,
        "loyalty": _make_loyalty,
    }

    def maker(run: Run, folder: Path) -> dict:
        with progress.run(run.label) as bar:
            return makers[run.kind](run, folder, store, bar)

    return maker


@lru_cache(maxsize=8)
def _loaded(description: bytes, content: str) -> data.Loaded:
    return data.load(json.loads(description))


def loaded(source: Input) -> data.Loaded:
    """A planned data set, loaded once per process and content."""
    return _loaded(canonical(source.value), source.digest)


def questions(source: Input) -> list[Question]:
    """The questions of a planned data set."""
    return loaded(source).questions


def load(store: Store, source: Run | Input) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and tokenizer that a run made, or that a reference means."""
    if isinstance(source, Input):
        return models.load(source.value)
    return models.load_folder(store.path(source, "model"))


def prompted(
    run: Run, need: str, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, *, training: bool = False
) -> list[prompts.Prompt]:
    """The prompts of a run's data set, in the mode it trains or asks in; demonstrations come from its training questions."""
    pool = questions(run.needs["pool" if "pool" in run.needs else "train"])
    mode, seed = run.parameters["asked" if "asked" in run.parameters else "trained"], run.parameters["seed"]
    longest = config.max_position_embeddings
    return prompts.build(questions(run.needs[need]), tokenizer, mode=mode, pool=pool, seed=seed, longest=longest, training=training)


def raw_of(run: Run) -> Input:
    """The model from outside that a run goes back to."""
    needs = (need for step in run.ancestry() for need in step.needs.values() if isinstance(need, Input))
    return next(need for need in needs if isinstance(need.value, str))


def rehearse(runs: Iterable[Run]) -> None:
    """Build the prompts that these runs will need, without their models: what cannot be asked is refused before hours of training.

    Raises StudyError for a question that fits in no window and for a tokenizer without the chat template that is asked for.
    """
    seen, read = set(), {}
    for run in runs:
        raw = raw_of(run)
        if raw.digest not in read:
            read[raw.digest] = models.reading(raw.value)
        for need, learnt in (("train", True), ("dev", False), ("test", False)):
            if need in run.needs:
                case = (raw.digest, need, run.needs[need].digest, *(run.parameters.get(key) for key in ("asked", "trained", "seed")))
                if case not in seen:
                    prompted(run, need, *read[raw.digest], training=learnt)
                seen.add(case)


def training_rows(run: Run, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> list[packing.Pack]:
    """The questions that a run trains on, packed."""
    return [packing.pack(prompt) for prompt in prompted(run, "train", tokenizer, model.config, training=True)]


def _make_teacher(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    model, tokenizer = load(store, run.needs["raw"])
    return _train(run, model, tokenizer, None, folder, bar)


def _make_states(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    model, tokenizer = load(store, run.needs["teacher"])
    packed = training_rows(run, tokenizer, model)
    teaching.store(model, packed, folder, bar.over)
    return {"rows": len(packed), "vocabulary": models.vocabulary_digest(tokenizer)}


def _some(rows: list[packing.Pack], count: int, size: int, seed: int) -> list[packing.Batch]:
    """`count` rows (or the next multiple of `size`, or all there are), drawn by the seed, in batches of `size`."""
    steps = -(-min(count, len(rows)) // size)
    drawn = packing.schedule([len(row.ids) for row in rows], size=size, steps=steps, seed=seed)
    return [packing.collate([rows[i] for i in batch]) for batch in drawn]


def _make_layers(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    model, tokenizer = load(store, run.needs["teacher"])
    size, count = run.parameters["packs"], model.config.num_hidden_layers - 1
    (batch,) = _some(training_rows(run, tokenizer, model), size, size, run.parameters["seed"])
    bar.total(count)
    order = cutting.removal_order(
        model,
        batch,
        objectives.cross_entropy,
        count=count,
        vocabulary=len(tokenizer),
        report=lambda step, loss: bar.step(step, loss=loss),
    )
    write_json(folder / "order.json", {"depth": model.config.num_hidden_layers, "order": order})
    return {"removed": [block for block, _ in order]}


def _make_cut(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    wanted, found = run.parameters, json.loads(store.path(run.needs["layers"], "order.json").read_text())
    if wanted["depth"] > found["depth"]:
        raise StudyError(f"{run.label}: the model has {found['depth']} layers only: lower `depths`.")
    gone = {block for block, _ in found["order"][: found["depth"] - wanted["depth"]]}
    keep = [block for block in range(found["depth"]) if block not in gone]
    model, tokenizer = load(store, run.needs["start"])
    batches = _some(training_rows(run, tokenizer, model), wanted["packs"], min(4, wanted["packs"]), wanted["seed"])
    student, left = cutting.cut(model, keep), []

    def report(step: int, gap: float) -> None:
        left.append(gap)
        bar.step(step, gap=gap)

    bar.total(len(keep))
    with training.precision(model, wanted["precision"]):
        cutting.heal(student, model, keep, batches, report=report)
    models.save(student, tokenizer, folder / "model")
    write_json(folder / "layers.json", keep)
    return {"layers": keep, "gaps": left, "parameters": models.parameters(student)}


def _make_student(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    model, tokenizer = load(store, run.needs["start"])
    guide = _teacher(run, store, tokenizer) if "teacher" in run.needs else None
    return _train(run, model, tokenizer, guide, folder, bar)


def _teacher(run: Run, store: Store, tokenizer: PreTrainedTokenizerBase) -> training.Teacher:
    model, own = load(store, run.needs["teacher"])
    if models.vocabulary_digest(own) != models.vocabulary_digest(tokenizer):
        raise StudyError(f"{run.label}: teacher and student have different vocabularies; take models of one family.")
    model.eval().requires_grad_(False)

    def head(hidden: Tensor) -> Tensor:
        return models.head(model, hidden, len(tokenizer))

    if "states" in run.needs:
        return training.Teacher(head, states=teaching.StoredStates(store.path(run.needs["states"]).glob("states-*.safetensors")))
    keep = json.loads(store.path(run.needs["start"], "layers.json").read_text())
    return training.Teacher(head, model=model, aligned=[following - 1 for following in cutting.readers(keep, model)])


def _train(
    run: Run,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    guide: training.Teacher | None,
    folder: Path,
    bar: Progress,
) -> dict:
    wanted = run.parameters
    packed, dev, built = training_rows(run, tokenizer, model), questions(run.needs["dev"]), prompted(run, "dev", tokenizer, model.config)

    def evaluate(current: PreTrainedModel) -> dict[str, float]:
        said = answering.best(answering.answer(current, tokenizer, built))
        found = [
            scoring.f1(said[q.id].text, [text for text, _ in q.answers], language=q.language, rules=scoring.usual_rules(q.language))
            for q in dev
        ]
        return {"dev_f1": 100 * sum(found) / len(found)}

    recipe = training.Recipe(**{key: wanted[key] for key in ("steps", "packs", "rate", "seed", "micro", "precision")})
    # Students of unlike depth see the data in unlike order, a student and its twin in the same.
    recipe = replace(recipe, seed=1000 * recipe.seed + wanted.get("depth", 0))
    bar.total(recipe.steps)
    curve = training.train(
        model,
        packed,
        weights=wanted["weights"],
        recipe=recipe,
        vocabulary=len(tokenizer),
        work=folder / "work",
        teacher=guide,
        evaluate=evaluate,
        evaluations=wanted["evaluations"],
        report=lambda step, values: bar.step(step, **{k: v for k, v in values.items() if k in ("loss", "dev_f1")}),
    )
    models.save(model, tokenizer, folder / "model")
    write_json(folder / "curve.json", curve)
    return {"parameters": models.parameters(model), "last_loss": curve[-1]["loss"]}


def _make_answers(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    model, tokenizer = load(store, run.needs["model"])
    said = answering.best(answering.answer(model, tokenizer, prompted(run, "test", tokenizer, model.config), progress=bar.over))
    write_json(folder / "answers.json", {key: {"text": one.text, "probability": one.probability} for key, one in said.items()})
    return {"questions": len(said)}


@torch.no_grad()
def _make_loyalty(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    model, tokenizer = load(store, run.needs["model"])
    guide, found = _teacher(run, store, tokenizer), {}
    for prompt in bar.over(prompted(run, "train", tokenizer, model.config, training=True)):
        packed = packing.pack(prompt)
        own = models.head(model, teaching.answer_states(model, packed), len(tokenizer))
        each = scoring.probability_loyalty(own, guide.head(guide.states(packed)))  # (N,)
        per_question = each.split([len(branch.target) for branch in prompt.branches])
        found |= {branch.question.id: values.mean().item() for branch, values in zip(prompt.branches, per_question, strict=True)}
    write_json(folder / "loyalty.json", found)
    return {"questions": len(found)}


def each_run(runs: Iterable[Run]) -> list[Run]:
    """All runs that these build on and these themselves, each once, in an order in which they can be made."""
    seen: dict[int, Run] = {}
    for run in runs:
        for one in run.ancestry():
            seen.setdefault(id(one), one)
    return list(seen.values())


def use_threads(count: int) -> None:
    """Fix the number of threads: results are the same to the bit only with as many."""
    torch.set_num_threads(count)
