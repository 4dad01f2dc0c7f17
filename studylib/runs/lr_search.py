"""The learning rate of a training: each is tried for a few steps, the one with the least loss on
dev is taken."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from studylib.core import parallel
from studylib.core.filesystem import read_sealed, write_sealed
from studylib.core.libraries import torch
from studylib.core.progress import Progress
from studylib.data import vocabulary
from studylib.methods import stages as method_stages
from studylib.methods.objective import Objective
from studylib.models.precision import products_in
from studylib.runs import inputs, supervision
from studylib.store.run import Run
from studylib.store.store import Store
from studylib.training import loop
from studylib.training.checkpoint import Diverged


def plan(
    training: Mapping,
    needs: Mapping,
    recipe: Mapping[str, int],
    *,
    lrs: Sequence[float],
    steps: int,
    label: str,
) -> Run:
    """A search among `lrs` for a training of these parameters and needs, each tried for so many
    steps."""
    # a search is not watched
    tried = {name: value for name, value in training.items() if name != "num_evals"}
    return Run(
        "lr_search",
        tried | {"lr": list(lrs), "lr_search_steps": steps},
        needs,
        recipe,
        f"{label}, learning rate search",
    )


def build(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    """Short trainings at each rate; the best is the one with the least loss of gold answers on
    dev."""
    lrs, work = run.parameters["lr"], folder / "work"
    tried: list[dict[str, Any]] = (read_sealed(work / "tried.json") or {"found": []})["found"]
    given = supervision.TrainingInputs(run, *inputs.load(store, run.needs["init"]), store)
    stages = method_stages.shortened(given.stages, run.parameters["lr_search_steps"])
    steps = method_stages.steps(stages)
    bar.total(steps * len(lrs))
    for number, rate in enumerate(lrs[len(tried) :], start=len(tried)):

        def report(step: int, values: dict, before: int = number * steps) -> None:
            bar.step(before + step, loss=values["loss"])

        how = dict(stages=stages, work=work / str(number), report=report, **given.shared(rate))
        tried.append({"rate": rate, "dev_cross_entropy": _trial(given, store, how)})
        parallel.give_back()
        if parallel.first():
            write_sealed(work / "tried.json", {"found": tried})
    fit = [trial for trial in tried if trial["dev_cross_entropy"] is not None]
    if not fit:
        raise Diverged(
            f"{run.label}: the loss is no number at any of the learning rates {lrs}:"
            " name lower ones."
        )
    best = min(fit, key=lambda trial: trial["dev_cross_entropy"])["rate"]
    inputs.note(folder / "rate.json", {"best": best, "tried": tried})
    return {"rate": best}


def _trial(given: supervision.TrainingInputs, store: Store, how: Mapping) -> float | None:
    """The loss of gold answers on dev after a training from the init; None where it is no
    number."""
    model, _ = inputs.load(store, given.run.needs["init"])
    parameters, loss = given.run.parameters, math.nan

    def measure() -> None:
        nonlocal loss
        gold, size = Objective(losses={"cross_entropy": 1.0}), vocabulary.size(given.tokenizer)
        micro = parameters["micro_batch_size"] or parameters["batch_size"]
        with torch.no_grad(), products_in(model, parameters["precision"]):
            loss = loop.backward(model, given.dev, gold, (), size, micro)["loss"]

    with suppress(Diverged):
        loop.train(model, given.packs, last=measure, **how)
    return loss if math.isfinite(loss) else None


cost = supervision.cost
