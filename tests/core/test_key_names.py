"""Names of parameters may change, keys stay."""

import pytest

from studylib.core import key_names

NAMES = {
    "student": {"batch_size": 4, "lr": "searched", "targets": "sequence_kd", "num_evals": 2},
    "layers": {"pruning_contexts": 3, "train_prompt": "zero-shot", "seed": 0},
    "cut": {"calibration_contexts": 16, "depth": 2},
    "answers": {"eval_prompt": "one-shot", "precision": "bf16"},
}


@pytest.mark.parametrize("kind", NAMES)
def test_what_keys_hold_is_read_by_todays_names(kind):
    before = key_names.run(kind, NAMES[kind], {})["parameters"]
    assert before != NAMES[kind] and key_names.today(kind, before) == NAMES[kind]
    assert key_names.run(kind, before, {})["parameters"] == before, "earlier names stay"


def test_needs_and_kinds_have_the_names_that_keys_had():
    named = key_names.run("lr_search", {"targets": "filtered"}, {"init": "a", "lr_search": "b"})
    assert named == {
        "kind": "rate",
        "parameters": {"learn": "teacher where right"},
        "needs": {"start": "a", "rate": "b"},
    }
