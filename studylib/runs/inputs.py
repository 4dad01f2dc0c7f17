"""What runs read: questions, prompts, models; and the device that they are loaded to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

from studylib.core import parallel
from studylib.core.errors import StudyError
from studylib.core.filesystem import canonical, write_json
from studylib.core.libraries import torch, transformers
from studylib.core.machine import Machine
from studylib.data import examples, model_files, packing, prompts, sources, squad
from studylib.data.squad import Question
from studylib.data.targets import answered
from studylib.evaluation import metrics
from studylib.models import loading, parts, prune, trimming
from studylib.runs import plan_parts
from studylib.store.run import Input, Run
from studylib.store.store import Store


@lru_cache(maxsize=8)
def _loaded(description: bytes, content: str) -> squad.Loaded:
    described = json.loads(description)
    dataset = squad.load(described)
    what = " or ".join(part["source"] for part in sources.parts(described))
    _as_planned(what, sources.fingerprint(described), content)
    return dataset


def _as_planned(what: str, actual: str, planned: str) -> None:
    """Raise StudyError for a file from outside that was changed since its digest went into keys."""
    if actual != planned:
        raise StudyError(
            f"{what} has changed since the runs that need it were planned: run again, which plans"
            " them anew."
        )


def loaded(source: Input) -> squad.Loaded:
    """A planned data set, loaded once per process and content."""
    return _loaded(canonical(source.value), source.digest)


def questions(source: Input) -> list[Question]:
    """The questions of a planned data set."""
    return loaded(source).questions


def load(
    store: Store, source: Run | Input
) -> tuple[transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase]:
    """The model, on the device that is prepared, and the tokenizer that a run made, or that a
    reference means."""
    if isinstance(source, Input):
        model, tokenizer = loading.load(source.value)
        _as_planned(source.value, loading.fingerprint(source.value), source.digest)
    else:
        model, tokenizer = loading.load_folder(store.path(source, "model"))
    # What wraps `to` hides its arguments.
    return model.to(prepared), tokenizer


def trimmed(store: Store, run: Run) -> trimming.Trimmed:
    """The vocabulary that a run trimmed."""
    ids = torch.tensor(store.read(run, "ids.json"))
    return trimming.Trimmed(loading.tokenizer_of(store.path(run, "tokenizer")), ids)


def parameter_counts(store: Store, model: Run | Input) -> dict[str, int]:
    """Parameters of a model, in all and outside embeddings: as its run counted them, or by the
    configuration of one from outside."""
    if isinstance(model, Run):
        result = store.result(model)
        assert result is not None, "only finished models are counted"
        return result["facts"]["parameters"]
    config = loading.config(model.value)
    return parts.parameters(prune.hollow(config, config.num_hidden_layers, None))


def prompted(
    run: Run,
    need: str,
    tokenizer: transformers.PreTrainedTokenizerBase,
    config: transformers.PretrainedConfig,
    *,
    learnt: Sequence[Question] | None = None,
    mode: str = "",
) -> list[prompts.Prompt]:
    """The prompts of a run's data set, in the mode it trains or asks in unless another is named; or
    of the questions `learnt`, to train on.

    Demonstrations come from its training questions.
    """
    build = builder(run, tokenizer, config, mode, training=learnt is not None)
    with model_files.panics(tokenizer.name_or_path):
        return build(questions(run.needs[need]) if learnt is None else learnt)


def learnt(run: Run, store: Store, need: str = "train") -> list[Question]:
    """The questions that a run trains on, with the text to learn: gold; the teacher's; or gold
    where the teacher is right. Gold is that of labelled paragraphs alone; the teacher's answers may
    stand for what is withheld in the others.

    Sequence-level distillation is after Kim and Rush (2016, §3.2), from memory: the teacher's
    greedy answer stands for the most likely one. Raises StudyError when the teacher is right
    nowhere.
    """
    if need.startswith("examples"):
        return [*examples.from_json(store.read(run.needs[need], "examples.json"))]
    source = loaded(run.needs[need])
    if need != "train" or "teacher_answers" not in run.needs:
        return source.labelled
    teacher_answers = store.read(run.needs["teacher_answers"], "answers.json")
    text = run.parameters["targets"]
    if text in plan_parts.ANSWERED:
        gold = {q.id for q in source.labelled} if text == plan_parts.WITHHELD else set()
        return [
            q if q.id in gold else answered(q, teacher_answers[q.id]["text"])
            for q in source.questions
        ]
    right = [
        q
        for q in source.labelled
        if metrics.exact_match(teacher_answers[q.id]["text"], **metrics.judged(q))
    ]
    if not right:
        raise StudyError(
            f"{run.label}: the teacher answers no training question rightly, so there is nothing to"
            " learn: take `targets: gold`."
        )
    return right


def learnable(run: Run) -> list[Question]:
    """The training questions that a run learns, but for those that the teacher may answer
    wrongly."""
    source = loaded(run.needs["train"])
    return (
        source.questions
        if run.parameters.get("targets") in plan_parts.ANSWERED
        else source.labelled
    )


def rehearse(runs: Iterable[Run]) -> None:
    """Build the prompts that these runs will need, without their models: what cannot be made is
    refused before hours of training.

    Raises StudyError for a question that fits in no window, for a tokenizer without the chat
    template that is asked for, and for a size that is larger than the model.
    """
    runs, cases = list(runs), {}
    read = check(runs)
    for run, need in product(runs, ("train", "dev", "test")):
        if need in run.needs:
            how = (plan_parts.base_of(run).digest, plan_parts.mode_of(run), run.parameters["seed"])
            cases[run.needs[need].digest, need, *how] = run
    for (_, need, base, _, _), run in cases.items():
        given = questions(run.needs[need]) if need == "train" else None
        prompted(run, need, *read[base], learnt=given)


Read = dict[str, "tuple[transformers.PreTrainedTokenizerBase, transformers.PretrainedConfig]"]


def check(runs: Iterable[Run]) -> Read:
    """Tokenizer and configuration of the models from outside that runs go back to, by digest.

    Raises StudyError for a model that cannot be loaded, a size that is larger than the model, and
    models of different vocabularies that are to be compared.
    """
    read: Read = {}
    for run in runs:
        bases = [
            plan_parts.base_of(step) for step in (run, *run.needs.values()) if isinstance(step, Run)
        ]
        for base in bases:
            if base.digest not in read:
                read[base.digest] = loading.reading(base.value)
                loading.check_weights(base.value)
        if len(digests := {base.digest for base in bases}) > 1:
            check_vocabularies(run, *(read[digest][0] for digest in digests))
        if run.kind == "vocabulary":
            trimming.check(read[bases[0].digest][0], run.parameters["tokens"])
        if run.kind == "cut":
            prune.check_size(
                read[bases[0].digest][1],
                run.parameters["depth"],
                run.parameters["neurons"],
                run.label,
            )
    return read


def check_vocabularies(run: Run, *tokenizers: transformers.PreTrainedTokenizerBase) -> None:
    """Raise StudyError for models of different vocabularies, which a run would compare."""
    if len(set(map(loading.vocabulary_digest, tokenizers))) > 1:
        raise StudyError(
            f"{run.label}: teacher and student have different vocabularies; take models of one"
            " family."
        )


def builder(
    run: Run,
    tokenizer: transformers.PreTrainedTokenizerBase,
    config: transformers.PretrainedConfig,
    mode: str = "",
    *,
    training: bool = True,
) -> Callable[[Sequence[Question]], list[prompts.Prompt]]:
    """Makes prompts of any questions, to train on or to ask, in the mode that a run trains or asks
    in unless another is named."""
    return partial(
        prompts.build,
        tokenizer=tokenizer,
        mode=mode or plan_parts.mode_of(run),
        pool=loaded(run.needs["pool" if "pool" in run.needs else "train"]).labelled,
        seed=run.parameters["seed"],
        longest=config.max_position_embeddings,
        training=training,
    )


def rows(
    run: Run,
    store: Store,
    tokenizer: transformers.PreTrainedTokenizerBase,
    model: transformers.PreTrainedModel,
    need: str = "train",
    mode: str = "",
) -> list[packing.Pack]:
    """The questions that a run trains on (or those of `dev`, by which it is watched), packed; asked
    as the run trains, unless another mode is named."""
    built = prompted(run, need, tokenizer, model.config, learnt=learnt(run, store, need), mode=mode)
    return [packing.pack(prompt) for prompt in built]


def some(packs: Sequence[packing.Pack], count: int, size: int, seed: int) -> list[packing.Batch]:
    """`count` rows, or all there are, drawn by the seed, in batches of up to `size` that are alike
    in length."""
    drawn = sorted(Random(seed).sample(packs, min(count, len(packs))), key=lambda row: len(row.ids))
    return [packing.collate(drawn[start : start + size]) for start in range(0, len(drawn), size)]


def note(path: Path, value: object) -> None:
    """Write JSON, the first of several processes alone."""
    if parallel.first():
        write_json(path, value)


prepared: Any = "cpu"  # where models are loaded to


def prepare(machine: Machine) -> None:
    """Fix the device and the number of threads: results are the same to the bit only with the same.

    Where the C library is glibc, memory that tensors leave is kept for the next ones: giving it
    back to the system and getting it again, page by page, took a fifth of a training step.
    """
    global prepared
    prepared = parts.device(machine.device)
    torch.set_num_threads(machine.threads)
    parallel.keep_memory()
