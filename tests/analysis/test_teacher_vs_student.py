"""Scores of teachers and of their students, and how they correlate."""

import numpy as np
import pandas as pd
import pytest
from invented import rows

from studylib.analysis import retention, teacher_vs_student


def taught(noise):
    """Four teachers and their students: half of a teacher's lead is its student's, and `noise` of
    every article's is neither's."""
    rng, frames = np.random.default_rng(5), []
    for number, name in enumerate(
        ("fine-tuned", "base", "smaller, fine-tuned", "self-distillation")
    ):
        teacher_f1, student_f1 = 0.3 + 0.1 * number, 0.3 + 0.05 * number
        shaken = [np.repeat(rng.normal(0, noise, 40), 4) for _ in range(2)]
        role = {"fine-tuned": "teacher", "self-distillation": "control"}.get(name, "teacher")
        arguments = {"teacher": "none (gold only)" if role == "control" else name} | (
            {"depth": 5} if role == "control" else {}
        )
        mode = {} if name in ("fine-tuned", "self-distillation") else {"eval_prompt": "one-shot"}
        frames.append(rows(role, teacher_f1 + shaken[0], articles=40, **arguments, **mode))
        frames.append(rows("student", student_f1 + shaken[1], depth=5, articles=40, teacher=name))
    return pd.concat(frames)


def test_the_scores_of_teachers_and_students_correlate_in_closed_form():
    """Teachers of 30, 40, 50 and 60 F1, students of 30, 35, 40 and 45: other teachers asked as they
    taught, a control as its own teacher."""
    scores = teacher_vs_student.compare(taught(0)).set_index("teacher")
    assert scores.teacher_f1.to_dict() == pytest.approx(
        {"fine-tuned": 30, "base": 40, "smaller, fine-tuned": 50, "self-distillation": 60}
    )
    assert scores.student_f1.to_dict() == pytest.approx(
        {"fine-tuned": 30, "base": 35, "smaller, fine-tuned": 40, "self-distillation": 45}
    )
    assert scores.r.to_list() == pytest.approx([1] * 4) and scores.r_low.to_list() == pytest.approx(
        [1] * 4
    )
    shaken = teacher_vs_student.compare(taught(0.3))
    means = shaken[["teacher_f1", "student_f1"]].to_numpy().T
    assert shaken.r[0] == pytest.approx(np.corrcoef(means)[0, 1])
    assert shaken.r_low[0] < shaken.r[0] <= shaken.r_high[0] <= 1 and shaken.r_low[0] < 0.9


def test_base_teachers_are_left_out_of_a_correlation_beside():
    table = taught(0)
    four = table.assign(teacher=table.teacher.replace("base", "plain"))
    base = [
        rows("teacher", 0.1, articles=40, teacher="base", eval_prompt="one-shot"),
        rows("student", 0.9, depth=5, articles=40, teacher="base"),
    ]
    scores = teacher_vs_student.compare(pd.concat([four, *base]))
    assert len(scores) == 5 and scores.r[0] < 0
    assert scores.fine_tuned_r.to_list() == pytest.approx(
        [1] * 5
    ) and scores.fine_tuned_r_low.to_list() == pytest.approx([1] * 5)
    assert teacher_vs_student.compare(four).fine_tuned_r.isna().all(), "none is left out"


def test_few_teachers_have_no_correlation_and_other_teachers_are_no_lines():
    table = taught(0)
    few = teacher_vs_student.compare(table[table.teacher != "base"])
    assert few.r.isna().all() and len(few) == 3
    kept = retention.compare(table)
    assert set(kept.teacher[kept.role == "teacher"]) == {"fine-tuned"}
