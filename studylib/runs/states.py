"""A teacher's hidden states on the training rows, kept on disk."""

from collections.abc import Mapping
from pathlib import Path

from studylib.core.progress import Progress
from studylib.models import loading, trimming
from studylib.models.precision import round_frozen
from studylib.runs import budget, inputs, plan_parts
from studylib.store.run import Input, Run
from studylib.store.store import Store
from studylib.training import teachers


def plan(
    teacher: Run | Input,
    setting: plan_parts.Setting,
    text: Mapping[str, Run],
    *,
    prompted: str,
    tokens: str,
    targets: str,
    trimmed: Run | None,
    label: str,
) -> Run:
    """A teacher's hidden states on the training rows, at answer positions or at all; `text` are the
    runs that the text to learn is of. Where the student's vocabulary is `trimmed`, the teacher
    reads the rows in the student's tokens."""
    parameters = {
        "train_prompt": prompted,
        "seed": setting.seed,
        "precision": setting.precision,
        "tokens": tokens,
        "targets": targets,
    }
    return Run(
        "states",
        parameters,
        {"teacher": teacher, "train": setting.questions(targets), **text}
        | ({"vocabulary": trimmed} if trimmed else {}),
        # scoring judges the teacher's answers
        plan_parts.versions_of(prompted, "teaching", "scoring"),
        label,
    )


def build(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    """Write the states of all training rows, in shards."""
    model, tokenizer = inputs.load(store, run.needs["teacher"])
    if "vocabulary" in run.needs:
        tokenizer, ids = inputs.trimmed(store, run.needs["vocabulary"])
        trimming.cut(model, ids)
    packed = inputs.rows(run, store, tokenizer, model)
    round_frozen(model.requires_grad_(False), run.parameters["precision"])
    teachers.store(
        model, packed, folder, bar.over, run.parameters["tokens"], run.parameters["precision"]
    )
    return {"rows": len(packed), "vocabulary": loading.vocabulary_digest(tokenizer)}


def cost(work: budget.Budget, run: Run) -> budget.Took:
    """Each row is read once."""
    shape, text = work.shape(run.needs["teacher"]), work.text(run, "train", True)
    stored = text.tokens if run.parameters["tokens"] == "all" else text.answers
    disk = budget.FLOAT * shape.hidden * stored * text.rows
    held = budget.FLOAT * shape.hidden * stored * min(text.rows, teachers.SHARD)
    memory = budget.FLOAT * (shape.total + 8 * shape.hidden * max(text.lengths)) + held
    done = {"reading": text.rows * shape.forward.flops(text.tokens, text.pairs, 0)}
    return budget.took(run, shape, text.rows * text.tokens, done, memory, disk, disk)
