"""What answers cost."""

import pandas as pd
import pytest

from studylib.app import exhibits, study
from studylib.app.timing import MEASURED
from studylib.models import loading, parts

pytestmark = pytest.mark.slow


def test_results_and_costs_leave_out_repeats(finished):
    plan, store = finished
    rows = study.rows(plan, store)
    marked = rows.assign(
        repeat=rows.groupby("planned").cumcount() % 2 == 1,
        f1=rows.f1.where(rows.groupby("planned").cumcount() % 2 == 0, 9),
    )
    once = marked[~marked.repeat]
    pd.testing.assert_frame_equal(exhibits.results(marked), exhibits.results(once))
    pd.testing.assert_frame_equal(
        study.timing(plan, marked, store), study.timing(plan, once, store)
    )


def test_costs_are_measured_beside_the_teacher_s_and_joined_with_scores(finished):
    plan, store = finished
    rows = study.rows(plan, store)
    costs = study.timing(plan, rows, store)
    students = costs[costs.role != "teacher"]
    assert (
        len(costs) == 7 and students.planned.nunique() == 2 and (costs[MEASURED] > 0).all(axis=None)
    )
    (teacher,) = costs[costs.role == "teacher"].itertuples()
    assert (
        (costs.time_low <= costs.time).all()
        and (costs.time <= costs.time_high).all()
        and students.time_low.min() > 0
    )
    assert teacher.time == teacher.time_high == 100 and teacher.milliseconds == pytest.approx(
        students.teacher_milliseconds.median()
    )
    by_name = costs.set_index(["role", "init", "student"])
    run = next(run for run, called in plan.trained if called["student"] == "mini-2")
    net, _ = loading.load_folder(store.path(run, "model"))
    weights, deeper = (
        by_name.memory["student", "fine-tuned", name] for name in ("mini-2", "mini-3")
    )
    assert weights > 4e-6 * parts.parameters(net)["total"] and weights < deeper < teacher.memory
    assert by_name.disk["student", "fine-tuned", "mini-2"] > 4e-6 * parts.parameters(net)["total"]
    student_rows = rows[
        (rows.role == "student")
        & (rows.init == "fine-tuned")
        & (rows.student == "mini-2")
        & (rows.eval_prompt == "zero-shot")
    ]
    measured = {called["student"]: store.key(run)[:12] for run, called in plan.costs}
    (answered,) = student_rows.run.unique()
    assert by_name.runs["student", "fine-tuned", "mini-2"].split() == sorted(
        [measured["mini-2"], answered[:12]]
    )
    assert set(teacher.runs.split()) > set(measured.values())
    assert by_name.f1["student", "fine-tuned", "mini-2"] == pytest.approx(
        100 * student_rows.f1.mean()
    )
