"""Retention and its table in closed form; figures written the same twice."""

import pandas as pd
import pytest

from studylib import figures, study


def results(scores, teacher=80.0):
    """Tidy results of a teacher and of students: {(role, depth): f1}."""
    base = dict(family="f", teacher="f", start="tuned", targets="teacher", objective="forward_kl", trained="zero-shot", asked="zero-shot")
    base |= dict(test_set="near", language="en", seed=0, steps=5, n=100)
    lines = []
    for (role, depth), value in {("teacher", 10): teacher, **scores}.items():
        counts = {"parameters_total": 100 + 10 * depth, "parameters_nonembedding": 10 * depth, "run": f"{role}{depth}"}
        for metric, share in (("exact_match", 0.5), ("f1", 1.0), ("rouge_l", 1.0)):
            name = "" if role == "teacher" else f"f-{depth}"
            lines.append(base | counts | {"role": role, "student": name, "metric": metric, "value": value * share})
    return pd.DataFrame(lines)


def test_retention_and_reduction_in_closed_form():
    kept = figures.retention(results({("student", 5): 60.0, ("twin", 5): 40.0})).set_index("role")
    assert kept.retention_f1.to_dict() == {"teacher": 100, "student": 75, "twin": 50}
    assert kept.retention_exact_match["student"] == 75
    assert kept.reduction_total["student"] == 25 and kept.reduction_nonembedding["student"] == 50


def test_no_retention_where_the_teacher_knows_nothing():
    kept = figures.retention(results({("student", 5): 60.0}, teacher=19.0))
    assert kept.retention_f1.isna().all()
    assert "| – |" in figures.table(kept)


def test_a_student_is_compared_with_its_own_teacher_on_the_same_test():
    frames = [
        results({("student", 5): 60.0}),
        results({("student", 5): 60.0}, teacher=60.0).assign(seed=1),
        results({("student", 5): 20.0}).assign(test_set="far"),
    ]
    kept = figures.retention(pd.concat(frames))
    students = kept[kept.role == "student"].set_index(["test_set", "seed"]).retention_f1
    assert students.to_dict() == {("near", 0): 75, ("near", 1): 100, ("far", 0): 25}


def test_the_table_has_a_line_per_model_and_says_once_what_is_the_same():
    lines = figures.table(figures.retention(results({("student", 5): 60.0, ("twin", 5): 40.0}))).splitlines()
    rows, said = [line for line in lines if line.startswith("|")], lines[-1]
    assert len(rows) == 2 + 3 and all(line.count("|") == rows[0].count("|") for line in rows)
    assert "75.0" in next(line for line in rows if "| student |" in line)
    assert "test set near" in said and "questions 100" in said and "test set" not in rows[0]


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (
            {("student", 5): 76.0, ("student", 2): 40.0, ("twin", 5): 72.0},
            ["25.0 % fewer", "95.0 % kept", "40.0 % fewer and keeps 50.0 %", "+5.0 (f-5)"],
        ),
        ({("student", 5): 60.0}, ["no student keeps 90 %"]),
    ],
)
def test_the_conclusion_says_what_the_numbers_say(scores, words):
    said = figures.conclusion(figures.retention(results(scores)), "zero-shot")
    assert all(word in said for word in words), said
    assert "1 seed," in said


def test_the_conclusion_is_silent_below_the_floor():
    said = figures.conclusion(figures.retention(results({("student", 5): 9.0}, teacher=10.0)), "zero-shot")
    assert "nothing is said" in said


def test_figures_are_the_same_bytes_twice_and_show_every_student(tmp_path):
    kept = figures.retention(results({("student", 5): 60.0, ("student", 2): 40.0, ("twin", 5): 30.0}))
    curve = pd.DataFrame(
        [
            {
                "family": "f",
                "student": s,
                "role": r,
                "start": "tuned",
                "targets": "gold",
                "seed": 0,
                "run": s,
                "step": i,
                "loss": 1 / i,
                "dev_f1": 5.0 * i,
            }
            for s, r in (("", "teacher"), ("f-5", "student"), ("f-5", "twin"))
            for i in (1, 2)
        ]
    )
    for folder in ("a", "b"):
        figures.save(figures.retention_figure(kept), tmp_path / folder, "retention")
        figures.save(figures.learning_figure(curve), tmp_path / folder, "learning")
    for name in ("retention.svg", "learning.svg", "retention.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    drawn = (tmp_path / "a" / "retention.svg").read_text()
    assert all(
        word in drawn for word in ("90 %", "57.1 %", "f, student, tuned start", "f, twin, tuned start", "fewer non-embedding parameters")
    )


def test_results_survive_the_way_through_the_csv(tmp_path):
    tidy = results({("student", 5): 60.0})
    tidy[[*study.IDENTITY, "metric", "value", "n", "run", *study.COUNTS]].to_csv(tmp_path / "r.csv", index=False)
    read = pd.read_csv(tmp_path / "r.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(figures.retention(read), figures.retention(tidy), check_dtype=False)
