"""Answers in bf16: what they cost, and asking some of them again."""

from random import Random

import pytest
from miniatures import planned

from studylib.app import study, verify
from studylib.store.store import Store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(raw, tmp_path_factory):
    """A student and its control that are asked in bf16."""
    precision = {"training": "fp32", "answers": "bf16"}
    few = {"sizes": [2], "from_base": [], "eval_prompts": ["zero-shot"], "precision": precision}
    plan, store = planned(raw, **few), Store(tmp_path_factory.mktemp("store"))
    study.complete(plan, store)
    return plan, store


def test_what_they_cost_is_measured(finished):
    plan, store = finished
    (run,) = {run for run, _ in plan.costs}
    facts = store.result(run)["facts"]
    assert run.parameters["precision"] == "bf16"
    assert 0 < facts["model"]["memory"] < facts["teacher"]["memory"]


def test_asked_again_they_are_as_they_were(finished):
    plan, store = finished
    for answers in plan.asked:
        assert list(verify._again(answers, store, Random(0), 20)) == []
