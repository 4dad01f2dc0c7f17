"""The learning rate of a training: each is tried for a few steps, the one with the least loss on
dev is taken."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from studylib.core import parallel
from studylib.core.errors import StudyError
from studylib.core.filesystem import read_sealed, write_sealed
from studylib.core.progress import Progress
from studylib.data import vocabulary
from studylib.methods import stages as method_stages
from studylib.methods.objective import Objective
from studylib.models import parts
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
    rates: Sequence[float],
    steps: int,
    label: str,
) -> Run:
    """A search among `rates` for a training of these parameters and needs, each tried for so many
    steps."""
    tried = {
        name: value for name, value in training.items() if name != "evaluations"
    }  # a search is not watched
    return Run(
        "rate",
        tried | {"rate": list(rates), "search_steps": steps},
        needs,
        recipe,
        f"{label}, rate",
    )


def build(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    """Short trainings at each rate; the best is the one with the least loss of gold answers on
    dev."""
    rates, work = run.parameters["rate"], folder / "work"
    tried: list[dict[str, Any]] = (read_sealed(work / "tried.json") or {"found": []})["found"]
    school = supervision.School(run, *inputs.load(store, run.needs["start"]), store)
    stages = method_stages.shortened(school.stages, run.parameters["search_steps"])
    steps = method_stages.steps(stages)
    bar.total(steps * len(rates))
    for number, rate in enumerate(rates[len(tried) :], start=len(tried)):
        model, _ = inputs.load(store, run.needs["start"])

        def report(step: int, values: dict, before: int = number * steps) -> None:
            bar.step(before + step, loss=values["loss"])

        how = dict(stages=stages, work=work / str(number), report=report, **school.shared(rate))
        tried.append({"rate": rate, "dev_cross_entropy": _trial(school, model, how)})
        if parallel.first():
            write_sealed(work / "tried.json", {"found": tried})
    fit = [trial for trial in tried if trial["dev_cross_entropy"] is not None]
    if not fit:
        raise StudyError(
            f"{run.label}: the loss is no number at any of the rates {rates}: name lower ones."
        )
    best = min(fit, key=lambda trial: trial["dev_cross_entropy"])["rate"]
    inputs.note(folder / "rate.json", {"best": best, "tried": tried})
    return {"rate": best}


def _trial(school: supervision.School, model: PreTrainedModel, how: Mapping) -> float | None:
    """The loss of gold answers on dev after a training; None where it is no number."""
    wanted, loss = school.run.parameters, math.nan

    def measure() -> None:
        nonlocal loss
        gold, size = Objective(losses={"cross_entropy": 1.0}), vocabulary.size(school.tokenizer)
        micro = wanted["micro"] or wanted["packs"]
        with torch.no_grad(), parts.precision(model, wanted["precision"]):
            loss = loop.backward(model, school.dev, gold, (), size, micro)["loss"]

    with suppress(Diverged):
        loop.train(model, school.packs, last=measure, **how)
    return loss if math.isfinite(loss) else None


cost = supervision.cost
