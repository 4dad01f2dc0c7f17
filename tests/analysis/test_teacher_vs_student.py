"""Scores of teachers and of their students, and how they correlate."""

import numpy as np
import pandas as pd
import pytest
from invented import rows

from studylib.analysis import retention, teacher_vs_student


def schools(noise):
    """Four teachers and their students: half of a teacher's lead is its student's, and `noise` of
    every article's is nobody's."""
    rng, frames = np.random.default_rng(5), []
    for number, name in enumerate(("tuned", "raw", "small", "its twin")):
        own, its = 0.3 + 0.1 * number, 0.3 + 0.05 * number
        shaken = [np.repeat(rng.normal(0, noise, 40), 4) for _ in range(2)]
        role = {"tuned": "teacher", "its twin": "twin"}.get(name, "guide")
        about = {"teacher": "nobody" if role == "twin" else name} | (
            {"depth": 5} if role == "twin" else {}
        )
        mode = {"asked": "one-shot"} if role == "guide" else {}
        frames.append(rows(role, own + shaken[0], articles=40, **about, **mode))
        frames.append(rows("student", its + shaken[1], depth=5, articles=40, teacher=name))
    return pd.concat(frames)


def test_the_scores_of_teachers_and_students_correlate_in_closed_form():
    """Teachers of 30, 40, 50 and 60 F1, students of 30, 35, 40 and 45: guides asked as they taught,
    a twin as its own teacher."""
    found = teacher_vs_student.schooling(schools(0)).set_index("teacher")
    assert found.teacher_f1.to_dict() == pytest.approx(
        {"tuned": 30, "raw": 40, "small": 50, "its twin": 60}
    )
    assert found.student_f1.to_dict() == pytest.approx(
        {"tuned": 30, "raw": 35, "small": 40, "its twin": 45}
    )
    assert found.r.to_list() == pytest.approx([1] * 4) and found.r_low.to_list() == pytest.approx(
        [1] * 4
    )
    shaken = teacher_vs_student.schooling(schools(0.3))
    means = shaken[["teacher_f1", "student_f1"]].to_numpy().T
    assert shaken.r[0] == pytest.approx(np.corrcoef(means)[0, 1])
    assert shaken.r_low[0] < shaken.r[0] <= shaken.r_high[0] <= 1 and shaken.r_low[0] < 0.9


def test_raw_teachers_are_left_out_of_a_correlation_beside():
    table = schools(0)
    four = table.assign(teacher=table.teacher.replace("raw", "plain"))
    raw = [
        rows("guide", 0.1, articles=40, teacher="raw", asked="one-shot"),
        rows("student", 0.9, depth=5, articles=40, teacher="raw"),
    ]
    found = teacher_vs_student.schooling(pd.concat([four, *raw]))
    assert len(found) == 5 and found.r[0] < 0
    assert found.tuned_r.to_list() == pytest.approx(
        [1] * 5
    ) and found.tuned_r_low.to_list() == pytest.approx([1] * 5)
    assert teacher_vs_student.schooling(four).tuned_r.isna().all(), "nobody is left out"


def test_few_teachers_have_no_correlation_and_guides_are_no_students():
    table = schools(0)
    few = teacher_vs_student.schooling(table[table.teacher != "raw"])
    assert few.r.isna().all() and len(few) == 3
    assert "guide" not in set(retention.compare(table).role)
