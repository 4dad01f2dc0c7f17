"""What a student's answers cost beside its teacher's."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from studylib.core.filesystem import write_json
from studylib.core.libraries import transformers
from studylib.core.progress import Progress
from studylib.data import packing
from studylib.data.prompts import Prompt
from studylib.models import parts
from studylib.models.precision import products_in, round_frozen
from studylib.runs import answers, budget, inputs, plan_parts
from studylib.store.run import Input, Run
from studylib.store.store import Store


def plan(
    asked_model: Run,
    teacher: Run,
    dev: Input,
    pool: Input,
    *,
    eval_prompt: str,
    seed: int,
    precision: str,
    label: str,
) -> Run:
    """What a student's answers cost in time, memory and disk beside its teacher's: a few contexts
    of dev, answered by both in turns."""
    return Run(
        "cost",
        plan_parts.asking(eval_prompt, seed, precision) | {"contexts": 8, "rounds": 7},
        {"model": asked_model, "teacher": teacher, "test": dev, "pool": pool},
        plan_parts.versions_of(eval_prompt, "answering"),
        label,
    )


def build(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    """Milliseconds a question are the median of a few rounds in which both models answer in turns,
    `time` that of the student's in percent of its teacher's in the same round, from `time_low` to
    `time_high`; memory is that of weights, keys and values, disk that of the model's folder, both
    in megabytes."""
    parameters, prompts = run.parameters, {}
    precision = parameters.get("precision", "fp32")
    timed: dict[str, list[float]] = {"model": [], "teacher": []}
    both = {whose: inputs.load(store, run.needs[whose]) for whose in timed}
    for whose, (model, tokenizer) in both.items():
        round_frozen(model.requires_grad_(False), precision)
        prompts[whose] = inputs.prompted(run, "test", tokenizer, model.config)
    prompts = _chosen(prompts, parameters["contexts"])
    for whose in bar.over(list(timed) * parameters["rounds"]):
        model, tokenizer = both[whose]
        started = time.perf_counter()
        questions = len(answers.ask(model, tokenizer, prompts[whose], precision))
        timed[whose].append(1000 * (time.perf_counter() - started) / questions)
    costs = {
        whose: {
            "milliseconds": median(timed[whose]),
            "memory": _memory(model, prompts[whose][0], precision),
            "disk": sum(
                file.stat().st_size / 1e6
                for file in store.path(run.needs[whose], "model").iterdir()
            ),
        }
        for whose, (model, _) in both.items()
    }
    shares = [100 * a / b for a, b in zip(timed["model"], timed["teacher"], strict=True)]
    costs["shares"] = {"time": median(shares), "time_low": min(shares), "time_high": max(shares)}
    write_json(folder / "cost.json", costs)
    return costs


def _chosen(prompts: Mapping[str, list[Prompt]], count: int) -> dict[str, list[Prompt]]:
    """So many contexts of all lengths, the longest first, the same of all models."""
    ordered = {
        whose: sorted(each, key=lambda prompt: len(prompt.prefix), reverse=True)
        for whose, each in prompts.items()
    }
    first, *_ = ordered.values()
    names = {_name(prompt) for prompt in first[:: -(-len(first) // count)]}
    return {
        whose: [prompt for prompt in each if _name(prompt) in names]
        for whose, each in ordered.items()
    }


def _name(prompt: Prompt) -> str:
    """A prompt's first question."""
    return prompt.branches[0].question.id


def _memory(model: transformers.PreTrainedModel, longest: Prompt, precision: str) -> float:
    """Megabytes of weights, keys and values."""
    with products_in(model, precision):
        return parts.memory(model, len(packing.pack(longest).ids)) / 1e6


def cost(work: budget.Budget, run: Run) -> budget.Took:
    """Some contexts, by both models in turns."""
    shapes = [work.shape(run.needs[whose]) for whose in ("model", "teacher")]
    text, parameters = work.text(run, "test"), run.parameters
    share = parameters["contexts"] * parameters["rounds"] / text.rows
    memory = budget.FLOAT * sum(
        2 * shape.kept * shape.layers * parameters["contexts"] * max(text.lengths) + shape.total
        for shape in shapes
    )
    done = {"answering": share * sum(budget.answering(shape, text) for shape in shapes)}
    return budget.took(run, shapes[0], share * text.rows * text.tokens, done, memory, 0, 0)
