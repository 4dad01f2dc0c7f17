"""The order in which a teacher's layers can go."""

from pathlib import Path

from studylib.core.filesystem import read_sealed, write_json, write_sealed
from studylib.core.progress import Progress
from studylib.data import vocabulary
from studylib.methods import objective
from studylib.models import prune
from studylib.runs import budget, inputs, plan_parts
from studylib.store.run import Run
from studylib.store.store import Store


def plan(taught_by: Run, setting: plan_parts.Setting, *, contexts: int, label: str) -> Run:
    """The order in which the teacher's layers can go, down to one, by the answer loss on `contexts`
    rows without them."""
    return Run(
        "layers",
        {
            "train_prompt": setting.train_prompt,
            "seed": setting.seed,
            "pruning_contexts": contexts,
        },
        {"teacher": taught_by, "train": setting.questions()},
        plan_parts.versions_of(setting.train_prompt, "cutting", "objectives"),
        f"{label} layer choice",
    )


def build(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    """Take out the block whose absence costs the least, again and again; goes on from the last
    one."""
    model, tokenizer = inputs.load(store, run.needs["teacher"])
    size, depth = run.parameters["pruning_contexts"], model.config.num_hidden_layers
    rows = inputs.rows(run, store, tokenizer, model)
    (batch,) = inputs.some(rows, size, size, run.parameters["seed"])
    bar.total(depth - 1)
    kept = folder / "work" / "order.json"

    def report(removed: list[tuple[int, float]]) -> None:
        bar.step(len(removed), loss=removed[-1][1])
        write_sealed(kept, {"found": removed})

    order = prune.removal_order(
        model,
        batch,
        objective.cross_entropy,
        count=depth - 1,
        vocabulary=vocabulary.size(tokenizer),
        begun=(read_sealed(kept) or {"found": []})["found"],
        report=report,
    )
    write_json(folder / "order.json", {"depth": depth, "order": order})
    return {"removed": [block for block, _ in order]}


def cost(work: budget.Budget, run: Run) -> budget.Took:
    """Without each block that is left, from the place where it stood on, until one is left."""
    shape, text = work.shape(run.needs["teacher"]), work.text(run, "train", True)
    rows = run.parameters["pruning_contexts"]
    passes = sum(left * left / 2 for left in range(2, shape.layers + 1)) / shape.layers
    memory = budget.FLOAT * shape.total + budget.FLOAT * rows * max(text.lengths) * (
        8 * shape.hidden + text.questions
    )
    comparing = rows * passes * shape.forward.flops(text.tokens, text.pairs, 0)
    return budget.took(run, shape, rows * text.tokens, {"comparing": comparing}, memory, 0, 0)
