"""Figures draw what their tables hold."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from drawings import TAUGHT, choice_figures, kinds, learned, timed
from invented import choice, compared

from studylib.analysis import figures, retention, teacher_vs_student
from studylib.analysis.figures.retention import MOVED, SIDES
from studylib.core.labels import OTHER_LOSSES

NONE = pd.DataFrame()


def drawn_bars(axis):
    """What an axis shows as points with bars: label -> (x, y, lower ends, upper ends)."""
    series = {}
    for bars in axis.containers:
        points, _, lines = bars
        ends = [np.array(segment) for several in lines for segment in several.get_segments()]
        upright = [segment for segment in ends if segment[0, 0] == segment[1, 0]]
        series[bars.get_label()] = (
            *points.get_data(),
            [segment[:, 1].min() for segment in upright],
            [segment[:, 1].max() for segment in upright],
        )
    return series


def test_retention_is_drawn_where_the_comparison_has_it():
    kept, _ = compared(
        {("student", 5): 0.76, ("student", 2): 0.4, ("control", 5): 0.7, ("control", 2): 0.3},
        articles=30,
    )
    kept = kept.assign(
        retention_f1_low=kept.retention_f1 - 3, retention_f1_high=kept.retention_f1 + 2
    )
    axes = figures.retention_figure(kept, kept.assign(seed=0), "zero-shot").axes
    for axis, side in zip(axes, SIDES, strict=True):
        for role, beside in (("student", 0), ("control", MOVED)):
            models = kept[kept.role == role].sort_values(side)
            x, y, low, high = drawn_bars(axis)[f"{role}, fine-tuned init"]
            assert x == pytest.approx(models[side] + beside) and y == pytest.approx(
                models.retention_f1
            )
            assert low == pytest.approx(models.retention_f1_low) and high == pytest.approx(
                models.retention_f1_high
            )


def test_a_curve_of_retention_joins_the_points_of_students_alone():
    kept, _ = compared(
        {(role, size): size / 10 for role in ("student", "control") for size in (2, 5)}
    )
    axes = figures.retention_figure(kept, kept.assign(seed=0), "zero-shot").axes
    students = kept[kept.role == "student"]
    for axis, side in zip(axes, SIDES, strict=True):
        solid = [line for line in axis.lines if line.get_linestyle() == "-"]
        (curve,) = (line for line in solid if len(set(line.get_ydata())) == 2)
        assert sorted(curve.get_xdata()) == pytest.approx(sorted(students[side]))


def test_the_margin_is_on_both_sides_and_the_reduction_of_the_paper_on_that_of_all_parameters():
    kept, _ = compared({("student", 5): 0.6}, articles=30)
    drawn = figures.retention_figure(kept, kept.assign(seed=0), "zero-shot")
    level = [
        {
            line.get_ydata()[0]: line.get_linestyle()
            for line in axis.lines
            if len(line.get_ydata()) == 2
        }
        for axis in drawn.axes
    ]
    assert all(lines[90.0] != lines[100.0] == "-" for lines in level)
    marks = [57.1 in np.hstack([line.get_xdata() for line in axis.lines]) for axis in drawn.axes]
    assert marks == [True, False]
    assert "all questions" in drawn.axes[0].get_ylabel()
    assert "95 % intervals" in drawn.legends[0].get_title().get_text()


def test_bars_of_costs_are_of_students_and_of_time_once_a_size():
    kept, _ = compared({("student", 5): 0.6, ("control", 5): 0.55, (OTHER_LOSSES, 5): 0.5})
    costs = timed(kept)
    again = costs[costs.arm == "student"].assign(init="base", f1=51.0)
    costs = pd.concat([costs, again], ignore_index=True)
    drawn = figures.cost_figure(costs.assign(f1_low=costs.f1 - 3, f1_high=costs.f1 + 2))
    ends = {
        bars.get_label(): [np.array(bar) for lines in bars[2] for bar in lines.get_segments()]
        for bars in drawn.axes[0].containers
    }
    (time,) = again.time
    across, upright = ends["student, fine-tuned init"]
    assert across.tolist() == [[50.0, 60.0], [200.0, 60.0]]
    assert upright.tolist() == [[time, 57.0], [time, 62.0]]
    across, upright = ends["student, base init"]
    assert not across.size and upright.tolist() == [[time, 48.0], [time, 53.0]]
    others = ("control, fine-tuned init", "student (other losses), fine-tuned init")
    assert not any(ends[name] for name in others)


def test_the_teacher_stands_at_its_own_cost():
    kept, _ = compared({("student", 5): 0.6})
    costs = timed(kept).assign(f1_low=50.0, f1_high=90.0)
    for axis in figures.cost_figure(costs).axes:
        (teacher,) = (line for line in axis.lines if line.get_label() == "teacher")
        assert np.hstack(teacher.get_data()) == pytest.approx([100, 80])


def test_what_is_drawn_of_costs_and_teachers_is_exported_beside():
    kept, _ = compared({("student", 5): 0.6, ("student", 2): 0.4}, articles=30)
    kept = kept.assign(f1_low=kept.f1 - 3, f1_high=kept.f1 + 2)
    figure, costs = figures.capacity_gap(
        kept, kept.assign(seed=0), timed(kept), pd.DataFrame(), learned(), "zero-shot"
    )["cost"]
    x, y, low, high = drawn_bars(figure.axes[0])["student, fine-tuned init"]
    students = costs[costs.role == "student"]
    assert (
        x == pytest.approx(students.time)
        and y == pytest.approx(students.f1)
        and sorted(y) == pytest.approx([40, 60])
    )
    assert (
        low == pytest.approx(students.f1_low)
        and low == pytest.approx(y - 3)
        and high == pytest.approx(students.f1_high)
    )
    rows = choice(**TAUGHT)
    kept = retention.compare(rows)
    kept = kept.assign(f1_low=kept.f1 - 3, f1_high=kept.f1 + 2)
    figure, scores = figures.teacher_choice(
        kept, retention.by_seed(rows), teacher_vs_student.compare(rows), learned()
    )["teacher_vs_student"]
    bars = drawn_bars(figure.axes[0])
    for line in scores.itertuples():
        assert np.hstack(bars[line.teacher]) == pytest.approx(
            [line.teacher_f1, line.student_f1, line.student_f1 - 3, line.student_f1 + 2]
        )
        assert line.f1_low == pytest.approx(line.student_f1 - 3)


def test_panels_of_fewer_than_three_teachers_are_not_drawn():
    rows = choice(**TAUGHT)
    (panel,) = choice_figures(rows)["teacher_vs_student"].axes
    assert panel.get_xlabel() == "teacher's F1, as it taught"
    few = rows[(rows.role != "student") | rows.teacher.isin(["fine-tuned", "base"])]
    assert "teacher_vs_student" not in choice_figures(few)
    both = pd.concat([rows, few.assign(test_set="far")])
    (panel,) = choice_figures(both)["teacher_vs_student"].axes
    assert panel.get_title() == "near, zero-shot"


def test_students_of_all_panels_share_their_axes():
    rows = choice(**TAUGHT)
    drawn = choice_figures(pd.concat([rows, rows.assign(test_set="far", f1=rows.f1 / 4)]))
    near, far = drawn["students"].axes
    assert near.get_xlim() == far.get_xlim() and near.get_ylim() == far.get_ylim()
    assert (near.get_ylabel(), far.get_ylabel()) == ("teacher", "")


def test_teachers_keep_their_order_where_some_were_not_asked_everywhere():
    kept = retention.compare(
        choice(**{name: TAUGHT[name] for name in TAUGHT if "smaller" not in name})
    )
    harder = kept[kept.teacher != "self-distillation"].assign(eval_prompt="one-shot", f1=1.0)
    drawn = figures.choice_figure(
        pd.concat([kept, harder]), retention.by_seed(choice(**{"fine-tuned": 0.6}))
    )
    assert list(drawn.axes[0].containers[0][0].get_ydata()) == [
        "base",
        "self-distillation",
        "none (gold only)",
        "fine-tuned",
    ]


def test_kinds_of_question_are_drawn_with_their_difference_to_the_others_and_their_number():
    (axis,) = figures.traits_figure(kinds()).axes
    points, _, (bars,) = axis.containers[0]
    assert points.get_xdata().tolist() == [1.0, 2.0]
    assert bars.get_segments()[0].tolist() == [[-2.0, 0.0], [3.0, 0.0]]
    (counts,) = axis.child_axes
    labels = [[text.get_text() for text in side.get_yticklabels()] for side in (axis, counts)]
    assert labels == [["asks: who", "answer in the first third"], ["n = 30", "n = 40"]]


def test_kinds_that_are_compared_with_no_others_are_not_drawn():
    kept = retention.compare(choice(**TAUGHT))
    alone = kinds().assign(apart=[1.0, None])
    _, drawn = figures.prompting_mode(kept, kept.assign(seed=0), alone, NONE)["traits"]
    assert list(drawn.trait) == ["asks"]
    none = figures.prompting_mode(kept, kept.assign(seed=0), alone.assign(apart=np.nan), NONE)
    assert "traits" not in none


def test_models_before_any_training_have_a_panel_of_their_own():
    rows = choice(**{"fine-tuned": 0.6})
    models = pd.concat([rows, rows[rows.role == "teacher"].assign(seed=1)])
    setting = {"family": "f", "test_set": "near", "f1_low": 8.0, "f1_high": 32.0}
    asked = {"student": ["", "", "f-S"], "eval_prompt": ["zero-shot", "one-shot", "zero-shot"]}
    bases = pd.DataFrame({**asked, "f1": [10.0, 30.0, 20.0], **setting})
    drawn = figures.modes_figure(retention.compare(models), retention.by_seed(models), bases)
    titles = ["near, teacher", "near, control", "near, student", "near, base"]
    assert [axis.get_title() for axis in drawn.axes] == titles
    *trained, base = (axis.get_ylim() for axis in drawn.axes)
    assert len(set(trained)) == 1 and base not in trained, "scales"
    bars = drawn_bars(drawn.axes[-1])
    assert bars.keys() == {"not trained", "S, not trained"}
    assert bars["not trained"][0] == pytest.approx([0, 1], abs=0.1)
    assert bars["not trained"][1].tolist() == [10, 30]
    assert bars["not trained"][2:] == ([8, 8], [32, 32])


def test_the_figure_of_prompting_has_a_line_per_way_of_training_and_a_dot_per_seed(tmp_path):
    each = []
    for seed, (trained, asked), role in product(
        (0, 1), product(("zero-shot", "one-shot"), repeat=2), ("teacher", "student")
    ):
        each.append(
            choice()[lambda rows: (rows.role == "teacher") & (rows.teacher == "fine-tuned")].assign(
                seed=seed, train_prompt=trained, eval_prompt=asked, role=role
            )
        )
    rows = pd.concat(each)
    drawn = figures.modes_figure(retention.compare(rows), retention.by_seed(rows), NONE)
    panel = drawn.axes[0]
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == [
        "trained zero-shot",
        "trained one-shot",
    ]
    dots = [line for line in panel.lines if line.get_marker() == "."]
    assert sorted(len(line.get_xdata()) for line in dots) == [4, 4]
