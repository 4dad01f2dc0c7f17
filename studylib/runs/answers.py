"""A model's answers to a test set: greedy, all questions of a context at once, with the hidden
states at the gold answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studylib.core import parallel
from studylib.core.libraries import save_file, transformers
from studylib.core.progress import Progress
from studylib.data.prompts import Prompt
from studylib.evaluation import generate
from studylib.evaluation.answers import Answer, best
from studylib.methods import stages as method_stages
from studylib.methods.base import Method
from studylib.models.precision import products_in, round_frozen
from studylib.runs import budget, inputs, plan_parts
from studylib.store.run import Input, Run
from studylib.store.store import Store


def plan(
    asked_model: Run | Input,
    test: Input,
    pool: Input,
    *,
    eval_prompt: str,
    seed: int,
    precision: str,
    label: str,
    way: str = "",
) -> Run:
    """A model's answers to all questions of a test set, and its hidden states at the gold ones;
    in a `way` of the method that it was trained by, if that has several. `pool` serves the
    demonstration."""
    return Run(
        "answers",
        plan_parts.asking(eval_prompt, seed, precision) | ({"way": way} if way else {}),
        {"model": asked_model, "test": test, "pool": pool},
        plan_parts.versions_of(eval_prompt, "answering"),
        f"{label}, {way}" if way else label,
    )


def build(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    """Answer all questions; several processes share the contexts."""
    model, tokenizer = inputs.load(store, run.needs["model"])
    answers = answered(
        run,
        model,
        tokenizer,
        inputs.prompted(run, "test", tokenizer, model.config),
        shared=True,
        progress=bar.over,
        work=folder / "work",
    )
    chosen = best(answers)
    inputs.note(
        folder / "answers.json",
        {
            key: {"text": answer.text, "probability": answer.probability}
            for key, answer in chosen.items()
        },
    )
    if parallel.first():
        save_file(
            {
                f"{number} {answer.question_id}": answer.gold.cpu()
                for number, answer in enumerate(answers)
                if answer.gold is not None
            },
            folder / "gold.safetensors",
        )
    # of a way, too, tokens of all answers, and the steps that they took, in each of which the model
    # is run
    counts = ("tokens", "steps") if "way" in run.parameters else ()
    return {"questions": len(chosen)} | {
        name: sum(getattr(answer, name) for answer in chosen.values()) for name in counts
    }


def answered(
    run: Run,
    model: transformers.PreTrainedModel,
    tokenizer: transformers.PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    **how: Any,
) -> list[Answer]:
    """The model's answers to some of a run's prompts, in its precision and way, with the hidden
    states at gold answers; `how` goes to `generate.answer`."""
    precision, way = run.parameters.get("precision", "fp32"), run.parameters.get("way", "")
    round_frozen(model.requires_grad_(False), precision)

    def plain(current: transformers.PreTrainedModel, **more: Any) -> list[Answer]:
        return ask(current, tokenizer, prompts, precision, gold=True, **how, **more)

    return _method(run).answer(model, way, plain) if way else plain(model)


def _method(run: Run) -> Method:
    """The method that the model was trained by last."""
    return method_stages.parse(run.needs["model"].parameters["stages"])[-1].method()


def ask(
    model: transformers.PreTrainedModel,
    tokenizer: transformers.PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    precision: str,
    **how: Any,
) -> list[Answer]:
    """The answers of a model that multiplies in a precision; `how` goes to `generate.answer`."""
    with products_in(model, precision):
        return generate.answer(model, tokenizer, prompts, **how)


def cost(work: budget.Budget, run: Run) -> budget.Took:
    """Each context is read once, then a token of each question after the other."""
    shape, text = work.shape(run.needs["model"]), work.text(run, "test")
    way = run.parameters.get("way", "")
    share = _method(run).share(way) if way else 1.0
    longest, together = max(text.lengths), generate.BATCH
    kept = 2 * budget.FLOAT * shape.kept * shape.layers * together * longest  # keys and values
    gold = budget.FLOAT * shape.hidden * text.answers * text.rows
    memory = (
        budget.FLOAT * shape.total
        + kept
        + together * longest * longest
        + 3 * budget.FLOAT * together * longest * shape.hidden
        + gold
    )  # as it is loaded
    done = {"answering": share * budget.answering(shape, text)}
    return budget.took(run, shape, text.rows * text.tokens, done, memory, gold, gold)
