"""Learning rates that were chosen, and what student and control differ in besides the teacher."""

import numpy as np
import pandas as pd
import pytest
from miniatures import planned, prompted, stages

from studylib.analysis import rates
from studylib.app import origins

SEARCHED = dict(lrs=[1e-3, 5e-3], lr_search_steps=2)


def chosen(plan, **by_role: float) -> pd.DataFrame:
    """As `study.origins` has it: every run that is trained, with the rate that models of its role
    took."""
    lines = [
        {"planned": run.planned, "lr": by_role.get(called["role"], np.nan)}
        for run, called in plan.trained
    ]
    return pd.DataFrame(lines)


@pytest.mark.parametrize(
    ("taken", "words"),
    [
        ({"student": 1e-3, "control": 5e-3}, "the same one in 0 of 3 pairs"),
        ({"student": 5e-3, "control": 5e-3}, "the same one in 3 of 3 pairs"),
        ({"student": 5e-3}, "and which ones were chosen was not recorded"),
    ],
)
def test_what_differs_besides_the_teacher_is_said(taken: dict, words: str):
    plan = planned("tiny:gpt_neox", stages=stages(forward_kl=1.0, cross_entropy=0.5), **SEARCHED)
    table = origins.rates(plan, chosen(plan, teacher=1e-3, **taken))
    assert (
        rates.differences(table)
        == "Student and control differ in more than the teacher. The student's loss weights add up"
        " to 1.5, the control's to 1 (gradients are clipped to a norm of 1). Each takes the"
        f" learning rate that its own search finds best, {words}."
    )
    text = rates.markdown(table)
    assert ("–: the learning rate that the search chose was not recorded." in text) == (
        len(taken) < 2
    )
    assert "| 0.001, 0.005 |" in text


def test_of_models_without_a_control_only_the_search_is_said():
    for settings, words in (
        (SEARCHED, "Each model takes the learning rate that its own search finds best."),
        ({}, ""),
    ):
        plan = prompted("tiny:gpt_neox", **settings)
        table = origins.rates(plan, chosen(plan, teacher=1e-3, student=1e-3))
        assert rates.differences(table) == words
        assert rates.markdown(table).endswith(f"|\n\n{words}\n" if words else "|\n")


def test_where_searches_find_the_same_rate_and_weights_are_equal_nothing_differs():
    plan = planned("tiny:gpt_neox", stages=stages(forward_kl=0.5, cross_entropy=0.5), **SEARCHED)
    same, other, unknown = (
        rates.differences(origins.rates(plan, chosen(plan, student=1e-3, **control)))
        for control in ({"control": 1e-3}, {"control": 5e-3}, {})
    )
    assert same.startswith("Student and control differ in the teacher's losses alone")
    assert same.endswith("and learning rates are the same, though each was searched.")
    assert all("differ in more than the teacher" in text for text in (other, unknown))


def test_of_one_rate_and_weights_alike_nothing_differs():
    plan = planned("tiny:gpt_neox", stages=stages(forward_kl=1.0))
    table = origins.rates(plan, chosen(plan, teacher=1e-3, student=1e-3, control=1e-3))
    assert rates.differences(table).startswith(
        "Student and control differ in the teacher's losses alone"
    )
    assert (
        origins.rates(plan, chosen(plan)[:0]).empty
        and rates.markdown(origins.rates(plan, chosen(plan)[:0])) == "Nothing was trained yet.\n"
    )
