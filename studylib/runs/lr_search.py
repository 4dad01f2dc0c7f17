"""The learning rate of a training: each is tried for a few steps, the one with the least loss on
dev is taken."""

import math
from collections.abc import Mapping, Sequence
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
    wanted, kept = run.parameters, folder / "work" / "tried.json"
    found: list[dict[str, Any]] = (read_sealed(kept) or {"found": []})["found"]
    model, tokenizer = inputs.load(store, run.needs["start"])
    school, gold = (
        supervision.School(run, model, tokenizer, store),
        Objective(losses={"cross_entropy": 1.0}),
    )
    stages = method_stages.shortened(school.stages, wanted["search_steps"])
    bar.total(method_stages.steps(stages) * len(wanted["rate"]))
    micro = wanted["micro"] or wanted["packs"]
    for number, rate in enumerate(wanted["rate"]):
        if number < len(found):
            continue
        model, _ = inputs.load(store, run.needs["start"])

        def report(step: int, values: dict, number: int = number) -> None:
            bar.step(number * method_stages.steps(stages) + step, loss=values["loss"])

        def measure(rate: float = rate, model: PreTrainedModel = model) -> None:
            with torch.no_grad(), parts.precision(model, wanted["precision"]):
                values = loop.backward(
                    model, school.dev, gold, (), vocabulary.size(tokenizer), micro
                )
            loss = values["loss"]
            found.append({"rate": rate, "dev_cross_entropy": loss if math.isfinite(loss) else None})

        try:
            work = folder / "work" / str(number)
            loop.train(
                model,
                school.packs,
                stages=stages,
                work=work,
                report=report,
                last=measure,
                **school.shared(rate),
            )
        except Diverged:
            found.append({"rate": rate, "dev_cross_entropy": None})
        if parallel.first():
            write_sealed(kept, {"found": found})
    fit = [tried for tried in found if tried["dev_cross_entropy"] is not None]
    if not fit:
        raise StudyError(
            f"{run.label}: the loss is no number at any of the rates {wanted['rate']}: name lower"
            " ones."
        )
    best = min(fit, key=lambda tried: tried["dev_cross_entropy"])["rate"]
    inputs.note(folder / "rate.json", {"best": best, "tried": found})
    return {"rate": best}


cost = supervision.cost
