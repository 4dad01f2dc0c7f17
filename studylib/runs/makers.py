"""The kinds of run, made: for each the function that computes it into a folder.

A maker reads only the run's parameters and needs, so that the run's key says all that matters.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from studylib.core import parallel, segmentation
from studylib.core.errors import StudyError
from studylib.core.filesystem import canonical, read_sealed, write_json, write_sealed
from studylib.core.machine import Machine
from studylib.core.progress import Progress
from studylib.data import model_files, packing, prompts, sources, squad, vocabulary
from studylib.data.squad import Question
from studylib.evaluation import generate, metrics
from studylib.methods import objectives
from studylib.models import loading, lora, parts, prune, reconstruct
from studylib.runs import kinds
from studylib.store.run import Input, Run
from studylib.store.store import Store
from studylib.training import loop, teachers

TRIMMED = 8  # steps after which memory is given back


def make(store: Store, progress: Progress) -> Callable[[Run, Path], dict]:
    """The function that makes any run, for `Store.complete`."""
    makers = {
        "teacher": _make_teacher,
        "states": _make_states,
        "layers": _make_layers,
        "cut": _make_cut,
        "rate": _make_rate,
        "student": _make_student,
        "answers": _make_answers,
        "loyalty": _make_loyalty,
        "cost": _make_cost,
    }

    def maker(run: Run, folder: Path) -> dict:
        with progress.run(run.label) as bar:
            facts = makers[run.kind](run, folder, store, bar)
        parallel.give_back()  # what this run has left is not the next one's
        return facts

    return maker


@lru_cache(maxsize=8)
def _loaded(description: bytes, content: str) -> squad.Loaded:
    described = json.loads(description)
    found = squad.load(described)
    _as_planned(described["source"], sources.fingerprint(described), content)
    return found


def _as_planned(what: str, found: str, planned: str) -> None:
    """Raise StudyError for a file from outside that was changed since its digest went into keys."""
    if found != planned:
        raise StudyError(f"{what} has changed since the runs that need it were planned: run again, which plans them anew.")


def loaded(source: Input) -> squad.Loaded:
    """A planned data set, loaded once per process and content."""
    return _loaded(canonical(source.value), source.digest)


def questions(source: Input) -> list[Question]:
    """The questions of a planned data set."""
    return loaded(source).questions


def load(store: Store, source: Run | Input) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model, on the device that is prepared, and the tokenizer that a run made, or that a reference means."""
    if isinstance(source, Input):
        model, tokenizer = loading.load(source.value)
        _as_planned(source.value, loading.fingerprint(source.value), source.digest)
    else:
        model, tokenizer = loading.load_folder(store.path(source, "model"))
    return model.to(prepared), tokenizer  # type: ignore[arg-type]  # what wraps `to` hides its arguments


def parameter_counts(store: Store, model: Run | Input) -> dict[str, int]:
    """Parameters of a model, in all and outside embeddings: as its run counted them, or by the configuration of one from outside."""
    if isinstance(model, Run):
        result = store.result(model)
        assert result is not None, "only finished models are counted"
        return result["facts"]["parameters"]
    about = loading.config(model.value)
    return parts.parameters(prune.hollow(about, about.num_hidden_layers, None))


def prompted(
    run: Run,
    need: str,
    tokenizer: PreTrainedTokenizerBase,
    config: PretrainedConfig,
    *,
    learnt: Sequence[Question] | None = None,
    mode: str = "",
) -> list[prompts.Prompt]:
    """The prompts of a run's data set, in the mode it trains or asks in unless another is named; or of the questions `learnt`, to train on.

    Demonstrations come from its training questions.
    """
    pool = loaded(run.needs["pool" if "pool" in run.needs else "train"]).labelled
    own, seed = run.parameters["asked" if "asked" in run.parameters else "trained"], run.parameters["seed"]
    shared = dict(mode=mode or own, pool=pool, seed=seed, longest=config.max_position_embeddings)
    with model_files.panics(tokenizer.name_or_path):
        return prompts.build(questions(run.needs[need]) if learnt is None else learnt, tokenizer, **shared, training=learnt is not None)


def learnt(run: Run, store: Store, need: str = "train") -> list[Question]:
    """The questions that a run trains on, with the text to learn: gold; the teacher's; or gold where the teacher is right. Gold is that of
    labelled paragraphs alone; the teacher's answers may stand for what is withheld in the others.

    Sequence-level distillation is after Kim and Rush (2016, §3.2), from memory: the teacher's greedy answer stands for the
    most likely one. Raises StudyError when the teacher is right nowhere.
    """
    source = loaded(run.needs[need])
    if need != "train" or "said" not in run.needs:
        return source.labelled
    said = json.loads(store.path(run.needs["said"], "answers.json").read_text(encoding="utf-8"))
    if run.parameters["learn"] in ("teacher", kinds.WITHHELD):
        gold = {q.id for q in source.labelled} if run.parameters["learn"] == kinds.WITHHELD else set()
        texts = {q.id: said[q.id]["text"] for q in source.questions if q.id not in gold}
        return [
            replace(q, answers=((texts[q.id], prompts.place_of(texts[q.id], q.context)),)) if q.id in texts else q for q in source.questions
        ]
    right = [q for q in source.labelled if metrics.exact_match(said[q.id]["text"], [text for text, _ in q.answers], **_judged(q))]
    if not right:
        raise StudyError(
            f"{run.label}: the teacher answers no training question rightly, so there is nothing to learn: take `learn: gold`."
        )
    return right


def learnable(run: Run) -> list[Question]:
    """The training questions that a run learns, but for those that the teacher may answer wrongly."""
    source = loaded(run.needs["train"])
    return source.questions if run.parameters.get("learn") in ("teacher", kinds.WITHHELD) else source.labelled


def _judged(question: Question) -> dict:
    return {"language": question.language, "rules": segmentation.usual_rules(question.language)}


def rehearse(runs: Iterable[Run]) -> None:
    """Build the prompts that these runs will need, without their models: what cannot be made is refused before hours of training.

    Raises StudyError for a question that fits in no window, for a tokenizer without the chat template that is asked for, and for a size
    that is larger than the model.
    """
    runs = list(runs)
    seen, read = set(), check(runs)
    for run in runs:
        raw = kinds.raw_of(run)
        for need, trains in (("train", True), ("dev", False), ("test", False)):
            if need in run.needs:
                case = (raw.digest, need, run.needs[need].digest, *(run.parameters.get(key) for key in ("asked", "trained", "seed")))
                if case not in seen:
                    prompted(run, need, *read[raw.digest], learnt=questions(run.needs[need]) if trains else None)
                seen.add(case)


Read = dict[str, tuple[PreTrainedTokenizerBase, PretrainedConfig]]


def check(runs: Iterable[Run]) -> Read:
    """Tokenizer and configuration of the models from outside that runs go back to, by digest.

    Raises StudyError for a model that cannot be loaded, a size that is larger than the model, and models of different vocabularies that
    are to be compared.
    """
    read: Read = {}
    for run in runs:
        alike = [kinds.raw_of(one) for one in (run, *run.needs.values()) if isinstance(one, Run)]
        for raw in alike:
            if raw.digest not in read:
                read[raw.digest] = loading.reading(raw.value)
                loading.check_weights(raw.value)
        if len({raw.digest for raw in alike}) > 1 and len({loading.vocabulary_digest(read[raw.digest][0]) for raw in alike}) > 1:
            raise StudyError(f"{run.label}: teacher and student have different vocabularies; take models of one family.")
        if run.kind == "cut":
            prune.check_size(read[alike[0].digest][1], run.parameters["depth"], run.parameters["neurons"], run.label)
    return read


def rows(run: Run, store: Store, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, need: str = "train") -> list[packing.Pack]:
    """The questions that a run trains on (or those of `dev`, by which it is watched), packed."""
    return [packing.pack(prompt) for prompt in prompted(run, need, tokenizer, model.config, learnt=learnt(run, store, need))]


def _make_teacher(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    model, tokenizer = load(store, run.needs["raw"])
    if rank := run.parameters.get("lora"):
        lora.attach(model, rank, run.parameters["precision"], run.parameters["seed"])
    return _train(run, model, tokenizer, folder, store, bar)


def _make_states(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    model, tokenizer = load(store, run.needs["teacher"])
    packed = rows(run, store, tokenizer, model)
    teachers.store(model, packed, folder, bar.over, run.parameters["tokens"], run.parameters["precision"])
    return {"rows": len(packed), "vocabulary": loading.vocabulary_digest(tokenizer)}


def _some(packs: Sequence[packing.Pack], count: int, size: int, seed: int) -> list[packing.Batch]:
    """`count` rows, or all there are, drawn by the seed, in batches of up to `size` that are alike in length."""
    drawn = sorted(Random(seed).sample(packs, min(count, len(packs))), key=lambda row: len(row.ids))
    return [packing.collate(drawn[start : start + size]) for start in range(0, len(drawn), size)]


def _make_layers(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    model, tokenizer = load(store, run.needs["teacher"])
    size, count = run.parameters["packs"], model.config.num_hidden_layers - 1
    (batch,) = _some(rows(run, store, tokenizer, model), size, size, run.parameters["seed"])
    bar.total(count)
    kept = folder / "work" / "order.json"
    begun = (read_sealed(kept) or {"found": []})["found"]

    def report(found: list[tuple[int, float]]) -> None:
        bar.step(len(found), loss=found[-1][1])
        write_sealed(kept, {"found": found})

    how = dict(count=count, vocabulary=vocabulary.size(tokenizer), begun=begun, report=report)
    order = prune.removal_order(model, batch, objectives.cross_entropy, **how)
    write_json(folder / "order.json", {"depth": model.config.num_hidden_layers, "order": order})
    return {"removed": [block for block, _ in order]}


def _make_cut(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    wanted, found = run.parameters, json.loads(store.path(run.needs["layers"], "order.json").read_text())
    gone = {block for block, _ in found["order"][: found["depth"] - wanted["depth"]]}
    keep, there = [block for block in range(found["depth"]) if block not in gone], list(range(found["depth"]))
    begin, tokenizer = load(store, run.needs["start"])
    healed_to = begin
    if "healed_to" in run.needs:
        there = json.loads(store.path(run.needs["start"].needs["start"], "layers.json").read_text())
        healed_to, _ = load(store, run.needs["healed_to"])
    batches = _some(rows(run, store, tokenizer, begin), wanted["packs"], 4, wanted["seed"])
    student, left = prune.cut(begin, [there.index(block) for block in keep]), []

    def report(step: int, gap: float) -> None:
        left.append(gap)
        bar.step(step, gap=gap)

    bar.total(len(keep))
    with parts.precision(student, wanted["precision"]):
        reconstruct.heal(student, healed_to, keep, batches, neurons=wanted["neurons"], report=report)
    loading.save(student, tokenizer, folder / "model")
    write_json(folder / "layers.json", keep)
    return {"layers": keep, "gaps": left, "parameters": parts.parameters(student)}


def _make_student(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    model, tokenizer = load(store, run.needs["start"])
    return _train(run, model, tokenizer, folder, store, bar)


def _make_rate(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    """Short trainings at each rate; the best is the one with the least loss of gold answers on dev."""
    wanted, kept = run.parameters, folder / "work" / "tried.json"
    found: list[dict[str, Any]] = (read_sealed(kept) or {"found": []})["found"]
    model, tokenizer = load(store, run.needs["start"])
    school, gold = _School(run, model, tokenizer, store), objectives.Mixture(objectives.parse(objectives.gold(1)))
    stages = objectives.shortened(school.stages, wanted["search_steps"])
    bar.total(objectives.steps(stages) * len(wanted["rate"]))
    micro = wanted["micro"] or wanted["packs"]
    for number, rate in enumerate(wanted["rate"]):
        if number < len(found):
            continue
        model, _ = load(store, run.needs["start"])

        def report(step: int, values: dict, number: int = number) -> None:
            bar.step(number * objectives.steps(stages) + step, loss=values["loss"])

        def measure(rate: float = rate, model: PreTrainedModel = model) -> None:
            with torch.no_grad(), parts.precision(model, wanted["precision"]):
                values = loop.backward(model, school.dev, gold, 0, None, vocabulary.size(tokenizer), micro)
            loss = values["loss"]
            found.append({"rate": rate, "dev_cross_entropy": loss if math.isfinite(loss) else None})

        try:
            work = folder / "work" / str(number)
            loop.train(model, school.packs, stages=stages, work=work, report=report, last=measure, **school.shared(rate))
        except loop.Diverged:
            found.append({"rate": rate, "dev_cross_entropy": None})
        if parallel.first():
            write_sealed(kept, {"found": found})
    fit = [tried for tried in found if tried["dev_cross_entropy"] is not None]
    if not fit:
        raise StudyError(f"{run.label}: the loss is no number at any of the rates {wanted['rate']}: name lower ones.")
    best = min(fit, key=lambda tried: tried["dev_cross_entropy"])["rate"]
    _note(folder / "rate.json", {"best": best, "tried": found})
    return {"rate": best}


Taught = loop.Teacher | loop.Mean | None


def _teachers(run: Run, store: Store, tokenizer: PreTrainedTokenizerBase, dev: Sequence[packing.Pack]) -> tuple[Taught, Taught]:
    """What a run is taught by, on its training rows (by stored states) and on those it is watched by, `dev` (computed now)."""
    names = [name.removeprefix("teacher") for name in run.needs if name.startswith("teacher")]
    each = [_teacher(run, store, tokenizer, dev, name) for name in names]
    if len(each) < 2:
        return each[0] if each else (None, None)
    learnt_from, watching = (loop.Mean(several) for several in zip(*each, strict=True))
    return learnt_from, watching


def _teacher(
    run: Run, store: Store, tokenizer: PreTrainedTokenizerBase, dev: Sequence[packing.Pack], which: str
) -> tuple[loop.Teacher, loop.Teacher]:
    """The same for one teacher: the first, or ` 2` and so on. Only where hidden states are compared does it stay: else its states and
    the head that makes logits of them are all that is needed."""
    model, own = load(store, run.needs[f"teacher{which}"])
    if loading.vocabulary_digest(own) != loading.vocabulary_digest(tokenizer):
        raise StudyError(f"{run.label}: teacher and student have different vocabularies; take models of one family.")
    model.eval()
    beside = any(stage.beside for stage in objectives.parse(run.parameters["stages"]))
    head = parts.output_of(model, vocabulary.size(tokenizer))
    aligned: list[int] = []
    both: list[teachers.Served | None] = [None, None]
    if beside:
        parallel.shard(parts.layers(model))
    if "start" in run.needs:
        aligned = [following - 1 for following in prune.readers(_kept(run, store, model), model)]
    if states := run.needs.get(f"states{which}"):
        tokens, precision, mode = (states.parameters[key] for key in ("tokens", "precision", "trained"))
        stored = teachers.StoredStates(store.path(states).glob("states-*.safetensors"), tokens)
        reprompted = mode != run.parameters["trained"]
        if reprompted:
            asked = [prompted(run, n, tokenizer, model.config, learnt=learnt(run, store, n), mode=mode) for n in ("train", "dev")]
            dev = [packing.pack(prompt) for prompt in asked[1]] if dev else []
        served: list[teachers.StoredStates | teachers.ComputedStates] = [stored, teachers.ComputedStates(model, dev, tokens, precision)]
        both = [teachers.Reprompted(*pair) for pair in zip(served, asked, strict=True)] if reprompted else [*served]
    learnt_from, watching = (loop.Teacher(head, states, model if beside else None, aligned) for states in both)
    return learnt_from, watching


def _kept(run: Run, store: Store, teacher: PreTrainedModel) -> list[int]:
    """The teacher's blocks that a student's stand for: those it was cut to, or of one from outside evenly spread ones, the last but
    one of a group each."""
    if isinstance(run.needs["start"], Run):
        return json.loads(store.path(run.needs["start"], "layers.json").read_text())
    depth, whole = loading.config(run.needs["start"].value).num_hidden_layers, len(parts.layers(teacher))
    return [whole * block // depth for block in range(depth)]


class _School:
    """What a training run puts together from its needs: rows to learn and to be watched by, objective, teacher."""

    def __init__(self, run: Run, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, store: Store):
        self.run, self.tokenizer = run, tokenizer
        self.stages = objectives.parse(run.parameters["stages"])
        self.packs, self.dev = (rows(run, store, tokenizer, model, need) for need in ("train", "dev"))
        watched = self.dev if "evaluations" in run.parameters else []
        self.teacher, self.watching = _teachers(run, store, tokenizer, watched)

    def shared(self, rate: float) -> dict:
        """What a short trial at a rate and the training itself have in common."""
        wanted = self.run.parameters
        recipe = loop.Recipe(rate=rate, **{key: wanted[key] for key in ("packs", "seed", "micro", "precision")})
        return {"recipe": recipe, "vocabulary": vocabulary.size(self.tokenizer), "teacher": self.teacher}

    def watched(self, model: PreTrainedModel) -> loop.Dev:
        """Loss and F1 on the dev questions."""
        asked, built = questions(self.run.needs["dev"]), prompted(self.run, "dev", self.tokenizer, model.config)

        def score(current: PreTrainedModel) -> dict[str, float]:
            lower = "lora" in self.run.parameters and self.run.parameters["precision"] == "bf16"  # frozen maps are in that precision
            with parts.precision(current, "bf16" if lower else "fp32"):
                alike = generate.ALIKE_BF16 if lower else generate.ALIKE
                said = generate.best(generate.answer(current, self.tokenizer, built, alike=alike))
            found = [metrics.f1(said[q.id].text, [text for text, _ in q.answers], **_judged(q)) for q in asked]
            return {"dev_f1": 100 * sum(found) / len(found)}

        return loop.Dev(self.dev, self.watching, score, self.run.parameters["evaluations"])


def _train(run: Run, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, store: Store, bar: Progress) -> dict:
    school, rate = _School(run, model, tokenizer, store), run.parameters["rate"]
    if "rate" in run.needs:
        rate = json.loads(store.path(run.needs["rate"], "rate.json").read_text())["best"]
    bar.total(objectives.steps(school.stages))

    def report(step: int, values: dict) -> None:
        bar.step(step, **{key: value for key, value in values.items() if key in ("loss", "dev_loss", "dev_f1")})
        if step % TRIMMED == 0:  # rows of many lengths leave holes that grow
            parallel.give_back()

    watched = school.watched(model)
    curve = loop.train(model, school.packs, stages=school.stages, work=folder / "work", dev=watched, report=report, **school.shared(rate))
    if "lora" in run.parameters:
        trained = lora.adapters(model)
        model, _ = load(store, run.needs["raw"])
        lora.merge(model, trained)
    loading.save(model, tokenizer, folder / "model")
    _note(folder / "curve.json", curve)
    return {"parameters": parts.parameters(model), "last_loss": curve[-1]["loss"], "rate": rate}


def _make_answers(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    model, tokenizer = load(store, run.needs["model"])
    asked = prompted(run, "test", tokenizer, model.config)
    how: dict[str, Any] = dict(alike=_alike(run), gold=True, shared=True, progress=bar.over, work=folder / "work")
    with _asking(run, model):
        every = generate.answer(model, tokenizer, asked, **how)
    said = generate.best(every)
    _note(folder / "answers.json", {key: {"text": one.text, "probability": one.probability} for key, one in said.items()})
    if parallel.first():
        save_file(
            {f"{number} {one.question_id}": one.gold.cpu() for number, one in enumerate(every) if one.gold is not None},
            folder / "gold.safetensors",
        )
    return {"questions": len(said)}


def _asking(run: Run, model: PreTrainedModel) -> torch.autocast:
    """A context in which a model that is only asked multiplies in the precision of a run; its maps are rounded to it, once."""
    precision = run.parameters.get("precision", "fp32")
    parts.round_frozen(model.requires_grad_(False), precision)
    return parts.precision(model, precision)


def _alike(run: Run) -> float:
    """How many times as long as its shortest a batch's contexts may be."""
    return generate.ALIKE_BF16 if run.parameters.get("precision") == "bf16" else generate.ALIKE


@torch.no_grad()
def _make_loyalty(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    """Over all tokens of a gold answer, and over all windows in which its context was asked."""
    (own, tokenizer), (guide, words) = (load(store, run.needs[whose].needs["model"]) for whose in ("own", "teacher's"))
    if loading.vocabulary_digest(tokenizer) != loading.vocabulary_digest(words):
        raise StudyError(f"{run.label}: teacher and student have different vocabularies; take models of one family.")
    states, theirs = (load_file(store.path(run.needs[whose], "gold.safetensors")) for whose in ("own", "teacher's"))
    names, size = sorted(states, key=lambda name: int(name.partition(" ")[0])), vocabulary.size(tokenizer)
    found: dict[str, list[float]] = {}
    for some in bar.over([names[start : start + 64] for start in range(0, len(names), 64)]):
        both = (torch.cat([kept[name] for name in some]) for kept in (states, theirs))
        logits = (parts.head(model, hidden, size) for model, hidden in zip((own, guide), both, strict=True))
        values = iter(metrics.probability_loyalty(*logits).tolist())
        for name in some:
            found.setdefault(name.partition(" ")[2], []).extend(islice(values, len(states[name])))
    write_json(folder / "loyalty.json", {question: sum(values) / len(values) for question, values in found.items()})
    return {"questions": len(found)}


def _make_cost(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    """Milliseconds a question are the median of a few rounds in which both models answer in turns, `time` that of the student's in percent
    of its teacher's in the same round, from `time_low` to `time_high`; memory is that of weights, keys and values, disk that of the
    model's folder, both in megabytes."""
    wanted, asked = run.parameters, {}
    timed: dict[str, list[float]] = {"model": [], "teacher": []}
    both = {whose: load(store, run.needs[whose]) for whose in timed}
    for whose, (model, tokenizer) in both.items():
        built = sorted(prompted(run, "test", tokenizer, model.config), key=lambda prompt: len(prompt.prefix), reverse=True)
        asked[whose] = built[:: -(-len(built) // wanted["contexts"])]  # of all lengths, the longest among them
    for whose in bar.over(list(timed) * wanted["rounds"]):
        model, tokenizer = both[whose]
        started = time.perf_counter()
        with _asking(run, model):
            said = generate.answer(model, tokenizer, asked[whose], alike=_alike(run))
        timed[whose].append(1000 * (time.perf_counter() - started) / len(said))
    found = {
        whose: {
            "milliseconds": median(timed[whose]),
            "memory": parts.memory(model, len(packing.pack(asked[whose][0]).ids)) / 1e6,
            "disk": sum(file.stat().st_size for file in store.path(run.needs[whose], "model").iterdir()) / 1e6,
        }
        for whose, (model, _) in both.items()
    }
    shares = [100 * own / theirs for own, theirs in zip(timed["model"], timed["teacher"], strict=True)]
    found["shares"] = {"time": median(shares), "time_low": min(shares), "time_high": max(shares)}
    write_json(folder / "cost.json", found)
    return found


def _note(path: Path, value: object) -> None:
    """Write JSON, the first of several processes alone."""
    if parallel.first():
        write_json(path, value)


prepared = torch.device("cpu")  # where models are loaded to


def prepare(machine: Machine) -> None:
    """Fix the device and the number of threads: results are the same to the bit only with the same.

    Where the C library is glibc, memory that tensors leave is kept for the next ones: giving it back to the system and getting it again,
    page by page, took a fifth of a training step.
    """
    global prepared
    prepared = parts.device(machine.device)
    torch.set_num_threads(machine.threads)
    parallel.keep_memory()
