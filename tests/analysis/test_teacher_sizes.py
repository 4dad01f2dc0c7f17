"""A student under ever larger teachers, in closed form."""

import numpy as np
import pandas as pd
import pytest
from invented import rows

from studylib.analysis import teacher_sizes
from studylib.core.labels import SMALLER_TEACHER


def test_a_sweep_has_a_student_s_teachers_by_their_size():
    frames = [
        rows("teacher", 0.8),
        rows("control", 0.7, depth=5, teacher="none (gold only)"),
        rows("student", 0.3, depth=2),
    ]
    frames += [
        rows("student", 0.4, depth=2, teacher="control of 5", arm=SMALLER_TEACHER),
        rows("student", 0.6, depth=5),
        rows("student", 0.1, depth=2, init="base"),
    ]
    frames += [
        rows("teacher", 0.1, seed=1),
        rows("student", 0.9, depth=2, seed=1),
    ]  # a seed without the smaller teacher
    sweep = teacher_sizes.sweep(pd.concat(frames))
    assert sweep.teacher.tolist() == ["control of 5", "fine-tuned"]
    assert sweep[["teacher_f1", "f1"]].to_numpy() == pytest.approx(np.array([[70, 40], [80, 30]]))
    assert sweep.ratio.tolist() == pytest.approx([150 / 120, 200 / 120])
    assert teacher_sizes.sweep(pd.concat(frames[:3])).empty


def siblings(scores: dict[str, float]) -> pd.DataFrame:
    """Rows of one sibling of 100 parameters under teachers that are so many times larger, with
    these F1, and of the teachers: 40 articles."""
    frames = []
    for times, f1 in scores.items():
        shared = {"family": f"T{times}", "articles": 40}
        student = {"student": f"T{times}-Small", "init": "pretrained", **parameters(100)}
        teacher = {"init": "base", **parameters(round(100 * float(times)))}
        frames += [
            rows("student", f1, **shared, **student),
            rows("teacher", 0.9, **shared, **teacher),
        ]
    return pd.concat(frames, ignore_index=True)


def parameters(count: int) -> dict[str, int]:
    """The sizes of a model all of whose parameters count."""
    return {"parameters_total": count, "parameters_nonembedding": count}


def test_the_best_teacher_of_a_sibling_is_where_a_parabola_in_log_ratio_is_highest():
    """Scores that lie on one are given back its summit, exactly; with the same score in all
    articles every draw agrees."""
    summit = 2.5
    rows = siblings(
        {f"{times}": 0.6 - 0.05 * np.log(times / summit) ** 2 for times in (1.5, 2.0, 4.0, 8.0)}
    )
    (line,) = teacher_sizes.law(rows).to_dict("records")
    assert (
        line["student"] == "Small"
        and line["teachers"] == 4
        and (line["least"], line["most"]) == (1.5, 8.0)
    )
    assert (
        line["ratio"] == pytest.approx(summit, rel=1e-6)
        and line["low"] == pytest.approx(line["high"])
        and line["within"] == 1
    )
    swept = teacher_sizes.sweep(rows)
    assert swept.ratio.tolist() == pytest.approx([1.5, 2.0, 4.0, 8.0]) and set(swept.family) == {
        "Small"
    }
    assert swept.teacher.tolist() == ["T1.5", "T2.0", "T4.0", "T8.0"] and set(
        swept.teacher_f1.round(6)
    ) == {90.0}


def cut(scores: dict[int, float], whole: float) -> pd.DataFrame:
    """Rows of a student of two layers under the controls of so many layers and under the whole
    teacher, with these F1: 40 articles."""
    frames = [
        rows("teacher", 0.9, articles=40, **parameters(800)),
        rows("student", whole, depth=2, articles=40, **parameters(100)),
        rows("student", 0.1, depth=2, articles=40, init="base", **parameters(100)),
        rows("control", 0.2, depth=2, articles=40, **parameters(100)),
    ]
    for depth, f1 in scores.items():
        taught = {"teacher": f"control of {depth}", "arm": SMALLER_TEACHER}
        frames += [
            rows("control", 0.8, depth=depth, articles=40, **parameters(50 * depth)),
            rows("student", f1, depth=depth, articles=40, **parameters(50 * depth)),
            rows("student", f1, depth=2, articles=40, **taught, **parameters(100)),
        ]
    return pd.concat(frames, ignore_index=True)


def test_the_best_teacher_of_a_cut_student_is_found_among_controls_and_the_whole_teacher():
    curve = {times: 0.6 - 0.05 * np.log(times / 3.0) ** 2 for times in (1.5, 2.5, 4.0, 8.0)}
    *smaller, whole = curve.values()
    (line,) = teacher_sizes.law(cut(dict(zip((3, 5, 8), smaller, strict=True)), whole)).to_dict(
        "records"
    )
    assert line["student"].endswith("-2") and line["teachers"] == 4
    assert (line["least"], line["most"]) == (1.5, 8.0)
    assert line["ratio"] == pytest.approx(3.0, rel=1e-6)
    assert teacher_sizes.law(cut({3: 0.5, 5: 0.6}, 0.4)).empty
    partial = cut({3: 0.5, 5: 0.6, 8: 0.6}, 0.4)
    without = partial[~((partial.role == "control") & (partial.student == "f-8"))]
    assert teacher_sizes.law(without).empty, "a teacher has not answered yet"


def test_without_a_summit_between_the_teachers_none_is_named():
    rising = teacher_sizes.law(
        siblings({f"{times}": 0.1 * times for times in (1.5, 2.0, 4.0, 8.0)})
    )
    assert rising.ratio.isna().all() and (rising.within == 0).all() and rising.low.isna().all()
    assert teacher_sizes.law(
        siblings({f"{times}": 0.5 for times in (1.5, 2.0, 4.0)})
    ).empty  # of three teachers every parabola fits


def test_a_sibling_that_gains_by_no_size_of_teacher_has_a_wide_interval():
    """Noise alone: the draws scatter over all teachers, or have no summit."""
    rows = siblings({f"{times}": 0.5 for times in (1.5, 2.0, 4.0, 8.0)})
    rng = np.random.default_rng(0)
    rows.loc[rows.role == "student", "f1"] = rng.random((rows.role == "student").sum())
    (line,) = teacher_sizes.law(rows).to_dict("records")
    assert line["within"] < 0.95 and line["high"] / line["low"] > 1.5
