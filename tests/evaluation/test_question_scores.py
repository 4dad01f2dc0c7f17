"""Scores question by question."""

import math

from studylib.data.squad import Loaded, Question
from studylib.evaluation import question_scores

LOADED = Loaded([Question("a", "t", "24–10", "?", (("24–10", 0),))], 0)
ANSWERS = {"a": {"text": "2410", "probability": 0.5}}


def test_a_teacher_is_compared_with_nothing():
    (row,) = question_scores.of(LOADED, ANSWERS, mlqa=True)
    assert row["exact_match"] == row["f1"] == 1.0 and row["probability"] == 0.5
    assert math.isnan(row["agreement"]) and math.isnan(row["loyalty"])


def test_agreement_is_by_the_rules_of_the_scores():
    """A dash is punctuation by MLQA's rules and none by SQuAD's."""
    beside = {"teacher": {"a": {"text": "24–10"}}, "loyalty": {"a": 0.25}}
    for mlqa in (True, False):
        (row,) = question_scores.of(LOADED, ANSWERS, mlqa=mlqa, **beside)
        assert row["agreement"] == row["exact_match"] == float(mlqa)
        assert row["loyalty"] == 0.25
