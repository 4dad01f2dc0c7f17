"""What evaluation sets share with training."""

import pytest
from miniatures import FACTS, planned

from studylib.app import study
from studylib.data import demonstrations
from studylib.runs import inputs

pytestmark = pytest.mark.slow


def test_what_test_sets_share_with_training_is_counted(raw):
    same = {"source": "facts:train", **FACTS}
    leaks = study.leakage(
        planned(raw, tests={"near": {"source": "facts:test", **FACTS}, "same": same})
    )
    assert list(leaks.columns) == ["set", "articles", "contexts", "questions", "demonstrations"]
    assert leaks[leaks.set != "train"].set_index("set").T.to_dict("list") == {
        "dev": [0] * 4,
        "near": [0] * 4,
        "same": [6, 6, 12, 0],
    }


def test_unlabelled_questions_are_training_questions(raw):
    train = {"source": "facts:train", **FACTS, "unlabelled": [{"source": "facts:test", **FACTS}]}
    plan = planned(raw, train=train, targets="sequence_kd")
    assert study.leakage(plan).set_index("set").T.near.tolist() == [6, 6, 12, 0]


def test_a_demonstration_of_the_asked_article_would_be_counted(raw, monkeypatch):
    plan = planned(raw)
    monkeypatch.setitem(
        demonstrations.DEMONSTRATIONS, "one-shot", lambda asked, pool, seed: list(asked)
    )
    assert study.leakage(plan).demonstrations.tolist() == [
        0,
        0,
        6,
    ]  # train, dev, near: the last alone is shown any
    trained = planned(raw, train_prompt="one-shot", eval_prompts=["zero-shot"])
    assert study.leakage(trained).demonstrations.tolist() == [6, 6, 0]


def test_one_article_is_enough_to_train_on_where_demonstrations_are_shown_in_asking_alone(raw):
    plan = planned(
        raw,
        train={"source": "facts:train", **FACTS, "paragraphs": 1},
        eval_prompts=["one-shot"],
        calibration_contexts=1,
        pruning_contexts=1,
        batch_size=1,
    )
    inputs.rehearse(plan.runs)
    assert study.leakage(plan).set_index("set").demonstrations.tolist() == [0, 0, 0]
