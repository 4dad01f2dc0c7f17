"""Steps that are timed are steps of a training."""

import torch
from miniatures import model, packs, tokenizer

from studylib.methods.objective import Objective
from studylib.training import checkpoint, loop
from studylib.training.config import Recipe
from studylib.training.step_times import step_times

VOCABULARY = len(tokenizer())


def test_each_step_is_timed_and_done():
    timed, trained = model("llama"), model("llama")
    rows, recipe = packs()[:2], Recipe(2, 1e-3, 0, 1, "fp32")
    times = step_times(timed, rows, VOCABULARY, recipe, 3)
    assert len(times) == 3 and min(times) > 0
    method = Objective(losses={"cross_entropy": 1.0})
    learner = checkpoint.Learner(trained, method, recipe, "")
    for _ in range(3):
        loop.backward(trained, rows, method, (), VOCABULARY, 1)
        learner.step(1e-3)
    for weight, expected in zip(timed.parameters(), trained.parameters(), strict=True):
        assert torch.equal(weight, expected)
