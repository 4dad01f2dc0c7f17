"""How long optimiser steps take."""

import time
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from studylib.data.packing import Pack
from studylib.methods.objective import Objective
from studylib.models.precision import products_in
from studylib.training import loop
from studylib.training.checkpoint import Learner
from studylib.training.config import Recipe


def step_times(
    model: PreTrainedModel, rows: Sequence[Pack], vocabulary: int, recipe: Recipe, count: int
) -> list[float]:
    """Seconds of each of so many optimiser steps on these rows by cross-entropy, until the model's
    device has done it."""
    method, took = Objective(losses={"cross_entropy": 1.0}), []
    learner = Learner(model, method, recipe, "")
    for _ in range(count):
        started = time.perf_counter()
        with products_in(model, recipe.precision):
            loop.backward(model, rows, method, (), vocabulary, recipe.micro_batch_size)
        learner.step(recipe.lr)
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
        took.append(time.perf_counter() - started)
    return took
