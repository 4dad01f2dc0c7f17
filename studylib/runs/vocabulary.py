"""A vocabulary trimmed to the tokens that the training text uses most."""

from __future__ import annotations

from pathlib import Path

from studylib.core.filesystem import write_json
from studylib.core.progress import Progress
from studylib.data import vocabulary
from studylib.models import loading, trimming
from studylib.runs import budget, inputs, plan_parts
from studylib.store.run import Input, Run
from studylib.store.store import Store


def plan(base: Input, train: Input, *, tokens: int, label: str) -> Run:
    """The `tokens` of a base model's vocabulary that its prompts of the training questions use
    most: contexts, questions, the words around them, and gold answers, but for those withheld."""
    return Run(
        "vocabulary",
        {"tokens": tokens, "train_prompt": "zero-shot", "seed": 0},
        {"base": base, "train": train},
        plan_parts.versions_of("zero-shot", "trimming"),
        label,
    )


def build(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    """Count, trim, and write the tokenizer, with the old ids of its tokens."""
    tokenizer, config = loading.reading(run.needs["base"].value)
    asked, texts = inputs.questions(run.needs["train"]), []
    gold = {question.id for question in inputs.learnt(run, store)}
    for prompt in bar.over(inputs.prompted(run, "train", tokenizer, config, learnt=asked)):
        answers = [b.target[:-1] for b in prompt.branches if b.question.id in gold]
        pieces = [prompt.prefix, *(branch.given for branch in prompt.branches), *answers]
        texts += [vocabulary.text(tokenizer, ids) for ids in pieces]
    trimmed = trimming.trim(tokenizer, texts, run.parameters["tokens"])
    trimmed.tokenizer.save_pretrained(folder / "tokenizer")
    write_json(folder / "ids.json", trimmed.ids.tolist())
    return {"added": trimming.added(tokenizer, trimmed.tokenizer, texts)}


def cost(work: budget.Budget, run: Run) -> budget.Took:
    """Text is split; no model is run."""
    shape, text = work.shape(run.needs["base"]), work.text(run, "train", True)
    return budget.took(run, shape, text.rows * text.tokens, {}, 0, 0, 0)
