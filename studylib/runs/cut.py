"""A model pruned to a size, and reconstructed in closed form."""

import json
from pathlib import Path

from studylib.core import sizes
from studylib.core.filesystem import write_json
from studylib.core.progress import Progress
from studylib.models import loading, parts, prune, reconstruct
from studylib.runs import budget, inputs, planning
from studylib.store.run import Input, Run
from studylib.store.store import Store


def plan(
    start: Run | Input,
    order: Run,
    setting: planning.Setting,
    *,
    size: sizes.Size,
    packs: int,
    label: str,
) -> Run:
    """`start` cut to `size`, layers going in the `order` that was found on a tuned teacher, and
    healed on `packs` training rows: the raw model, that teacher, or a student that was cut and
    trained before; this one is healed to the hidden states of the teacher."""
    parameters = {
        "depth": size.layers,
        "neurons": size.neurons,
        "packs": packs,
        "trained": setting.trained,
        "seed": setting.seed,
        "precision": setting.precision,
    }
    needs = {"start": start, "layers": order, "train": setting.train}
    if isinstance(start, Run) and start.kind == "student":
        needs["healed_to"] = order.needs["teacher"]
    return Run("cut", parameters, needs, planning.made_by(setting.trained, "cutting"), label)


def build(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    """Prune, then reconstruct block after block on some training rows."""
    wanted, found = (
        run.parameters,
        json.loads(store.path(run.needs["layers"], "order.json").read_text()),
    )
    gone = {block for block, _ in found["order"][: found["depth"] - wanted["depth"]]}
    keep, there = (
        [block for block in range(found["depth"]) if block not in gone],
        list(range(found["depth"])),
    )
    begin, tokenizer = inputs.load(store, run.needs["start"])
    healed_to = begin
    if "healed_to" in run.needs:
        there = json.loads(store.path(run.needs["start"].needs["start"], "layers.json").read_text())
        healed_to, _ = inputs.load(store, run.needs["healed_to"])
    batches = inputs.some(
        inputs.rows(run, store, tokenizer, begin), wanted["packs"], 4, wanted["seed"]
    )
    student, left = prune.cut(begin, [there.index(block) for block in keep]), []

    def report(step: int, gap: float) -> None:
        left.append(gap)
        bar.step(step, gap=gap)

    bar.total(len(keep))
    with parts.precision(student, wanted["precision"]):
        reconstruct.heal(
            student, healed_to, keep, batches, neurons=wanted["neurons"], report=report
        )
    loading.save(student, tokenizer, folder / "model")
    write_json(folder / "layers.json", keep)
    return {"layers": keep, "gaps": left, "parameters": parts.parameters(student)}


def cost(work: budget.Work, run: Run) -> budget.Took:
    """The uncut model once; for each block two passes, sums of what it reads as dear as one, and
    what is left to be made good for."""
    own, whole = work.shape(run), work.shape(planning.raw_of(run))
    text, rows = work.text(run, "train", True), run.parameters["packs"]
    passes = 1 + 4 * own.layers / whole.layers
    held = (2 if "healed_to" not in run.needs else 3) * whole.total
    streams = (
        6 * rows * text.tokens * own.hidden
    )  # of both models: at the start, before and after a block
    memory = budget.FLOAT * (held + streams) + budget.HALF * whole.total
    done = {"healing": rows * passes * whole.forward.flops(text.tokens, text.pairs, 0)}
    return budget.took(
        run,
        own,
        rows * text.tokens,
        done,
        memory,
        budget.FLOAT * own.total,
        budget.FLOAT * own.total,
        work,
    )
