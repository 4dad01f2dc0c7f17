"""A model pruned to a size, and reconstructed in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from studylib.core import sizes
from studylib.core.filesystem import write_json
from studylib.core.libraries import torch, transformers
from studylib.core.progress import Progress
from studylib.data import packing, vocabulary
from studylib.methods import objective
from studylib.models import loading, parts, prune, reconstruct, trimming
from studylib.models.precision import products_in
from studylib.runs import budget, inputs, plan_parts
from studylib.store.run import Input, Run
from studylib.store.store import Store


def plan(
    init: Run | Input,
    order: Run,
    setting: plan_parts.Setting,
    *,
    size: sizes.Size,
    trimmed: Run | None,
    contexts: int,
    criterion: prune.Criterion,
    label: str,
) -> Run:
    """`init` cut to `size`, layers going in the `order` that was found on a fine-tuned teacher, and
    reconstructed on `contexts` training rows: the base model, that teacher, or a student that was
    cut and trained before; this one is reconstructed towards the teacher's hidden states. Neurons
    go by a `criterion`: the usual one is left out, so that keys from before there was another
    stay. Then, if a vocabulary is `trimmed`, the embeddings of its tokens alone are kept."""
    parameters = {
        "depth": size.layers,
        "neurons": size.neurons,
        "calibration_contexts": contexts,
        "train_prompt": setting.train_prompt,
        "seed": setting.seed,
        "precision": setting.precision,
    }
    if size.neurons and criterion != "reconstruction":
        parameters["pruning_criterion"] = criterion
    trained = isinstance(init, Run) and init.kind == "student"
    return Run(
        "cut",
        parameters,
        {"init": init, "layers": order, "train": setting.questions()}
        | ({"reference": order.needs["teacher"]} if trained else {})
        | ({"vocabulary": trimmed} if trimmed else {}),
        plan_parts.versions_of(setting.train_prompt, "cutting"),
        label,
    )


def build(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    """Prune, then reconstruct block after block on some training rows."""
    parameters = run.parameters
    removal = store.read(run.needs["layers"], "order.json")
    gone = {block for block, _ in removal["order"][: removal["depth"] - parameters["depth"]]}
    there = list(range(removal["depth"]))
    keep = [block for block in there if block not in gone]
    begin, tokenizer = inputs.load(store, run.needs["init"])
    reference = begin
    if "reference" in run.needs:
        there = store.read(run.needs["init"].needs["init"], "layers.json")
        reference, _ = inputs.load(store, run.needs["reference"])
    rows = inputs.rows(run, store, tokenizer, begin)
    blocks = [there.index(block) for block in keep]
    student, left = prune.cut(begin, blocks), []
    importance = _importance(run, begin, rows, vocabulary.size(tokenizer))

    def report(step: int, gap: float) -> None:
        left.append(gap)
        bar.step(step, gap=gap)

    bar.total(len(keep))
    with products_in(student, parameters["precision"]):
        reconstruct.blocks(
            student,
            reference,
            keep,
            inputs.some(rows, parameters["calibration_contexts"], 4, parameters["seed"]),
            neurons=parameters["neurons"],
            importance=[importance[block] for block in blocks if importance],
            report=report,
        )
    if "vocabulary" in run.needs:
        tokenizer, ids = inputs.trimmed(store, run.needs["vocabulary"])
        trimming.cut(student, ids)
    loading.save(student, tokenizer, folder / "model")
    write_json(folder / "layers.json", keep)
    return {"layers": keep, "gaps": left, "parameters": parts.parameters(student)}


def _importance(
    run: Run,
    model: transformers.PreTrainedModel,
    rows: Sequence[packing.Pack],
    words: int,
) -> list[torch.Tensor]:
    """That of the model's neurons, block by block, row after row of those it is reconstructed on;
    none where neurons do not go by it."""
    parameters = run.parameters
    if parameters.get("pruning_criterion") != "gradient":
        return []
    single = inputs.some(rows, parameters["calibration_contexts"], 1, parameters["seed"])
    with products_in(model, parameters["precision"]):
        return prune.neuron_importance(model, single, objective.cross_entropy, vocabulary=words)


def cost(work: budget.Budget, run: Run) -> budget.Took:
    """The uncut model once; for each block two passes, sums of what it reads as dear as one, and
    what is left to be made good for. Before that, where neurons go by gradients, the model that is
    cut forward and backward, row after row."""
    shape, whole = work.shape(run), work.shape(plan_parts.base_of(run))
    text, rows = work.text(run, "train", True), run.parameters["calibration_contexts"]
    passes = 1 + 4 * shape.layers / whole.layers
    held = (2 if "reference" not in run.needs else 3) * whole.total
    # of both models: at the start, before and after a block
    streams = 6 * rows * text.tokens * shape.hidden
    memory = budget.FLOAT * (held + streams) + budget.HALF * whole.total
    done = {"reconstruction": rows * passes * whole.forward.flops(text.tokens, text.pairs, 0)}
    if "pruning_criterion" in run.parameters:
        init = run.needs["init"]
        begin = work.shape(init).forward.flops(text.tokens, text.pairs, text.answers)
        done["importance"] = 2 * rows * begin  # of weights there is no gradient
        saved = budget.BACKWARD * work.backward(run, init, max(text.lengths), 1)
        memory = max(memory, budget.FLOAT * held + saved)
    disk = budget.FLOAT * shape.total
    return budget.took(run, shape, rows * text.tokens, done, memory, disk, disk)
