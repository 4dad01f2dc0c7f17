"""Retention, reductions and their intervals, in closed form."""

import numpy as np
import pandas as pd
import pytest
from invented import marked, rows

from studylib.analysis import contrasts, retention, statistics, teacher_vs_student


def test_retention_and_reduction_in_closed_form():
    kept = retention.compare(
        pd.concat(
            [rows("teacher", 0.8), rows("student", 0.6, depth=5), rows("control", 0.4, depth=5)]
        )
    ).set_index("role")
    assert kept.retention_f1.to_dict() == pytest.approx(
        {"teacher": 100, "student": 75, "control": 50}
    )
    assert kept.retention_exact_match["student"] == pytest.approx(75) and kept.f1[
        "control"
    ] == pytest.approx(40)
    assert kept.reduction_total["student"] == 25 and kept.reduction_nonembedding["student"] == 50
    assert kept.retention_f1_low.isna().all()  # five articles are too few


def test_nothing_is_kept_of_a_teacher_below_the_floor():
    kept = retention.compare(
        pd.concat([rows("teacher", 0.19, articles=40), rows("student", 0.1, depth=5, articles=40)])
    )
    assert (
        kept.retention_f1.isna().all()
        and kept.retention_f1_low.isna().all()
        and kept.f1_low.notna().all()
    )


def test_a_student_is_compared_with_its_teacher_on_the_same_test_and_the_same_seeds():
    frames = [
        rows("teacher", 0.8),
        rows("student", 0.6, depth=5),
        rows("teacher", 0.4, test_set="far"),
        rows("student", 0.1, depth=5, test_set="far"),
    ]
    frames += [rows("teacher", 0.4, seed=1)]  # the student of this seed is not there yet
    kept = retention.compare(pd.concat(frames))
    assert kept[kept.role == "student"].set_index(
        "test_set"
    ).retention_f1.to_dict() == pytest.approx({"near": 75, "far": 25})
    frames += [rows("student", 0.3, depth=5, seed=1)]
    kept = retention.compare(pd.concat(frames)).set_index(["role", "test_set"])
    assert (
        kept.retention_f1["student", "near"] == pytest.approx(100 * 0.45 / 0.6)
        and kept.seeds["student", "near"] == 2
    )


def repeating() -> pd.DataFrame:
    """A teacher, a student and its control; half of the questions repeat another, and there all
    have other scores."""
    scores = {"teacher": (0.8, 0.4), "student": (0.6, 0.1), "control": (0.4, 0.3)}
    abouts = {
        "teacher": {"depth": 10},
        "student": {"depth": 5},
        "control": {"depth": 5, "teacher": "none (gold only)"},
    }
    return pd.concat(
        marked(role, *scores[role], column="repeat", value=True, **abouts[role]) for role in scores
    )


def test_a_repeated_question_counts_once():
    kept = retention.compare(repeating()).set_index("role")
    assert kept.f1.to_dict() == pytest.approx(
        {"teacher": 80, "student": 60, "control": 40}
    ) and set(kept.n) == {80}
    (gained,) = contrasts.contrasts(repeating()).to_dict("records")
    assert gained["difference"] == pytest.approx(20) and (gained["n"], gained["articles"]) == (
        80,
        20,
    )
    once = repeating()[lambda table: ~table.repeat]
    for compared in (
        retention.compare,
        contrasts.contrasts,
        retention.by_seed,
        teacher_vs_student.compare,
    ):
        pd.testing.assert_frame_equal(compared(repeating()), compared(once))


def test_claims_are_compared_on_untouched_questions_alone():
    """Of a test set that was looked at, the other questions; of one that was not, the same lines as
    of all."""
    looked_at = [
        marked(role, *scores, column="untouched", value=False, test_set="near", depth=depth)
        for role, depth, scores in (("teacher", 10, (0.8, 0.8)), ("student", 5, (0.4, 0.8)))
    ]
    others = [
        rows("teacher", 0.8, test_set="far", articles=40),
        rows("student", 0.6, depth=5, test_set="far", articles=40),
    ]
    table = pd.concat([*looked_at, *others])
    kept = retention.compare(table)
    assert kept.set_index(["role", "test_set"]).untouched.to_dict() == {
        (role, test): count
        for role in ("teacher", "student")
        for test, count in (("near", 80), ("far", 160))
    }
    claimed = retention.on_untouched(table, kept).set_index(["role", "test_set"])
    assert claimed.retention_f1.to_dict() == pytest.approx(
        {
            ("teacher", "far"): 100,
            ("student", "far"): 75,
            ("teacher", "near"): 100,
            ("student", "near"): 50,
        }
    )
    assert claimed.n["student", "near"] == 80 and claimed.articles["student", "near"] == 20
    untouched = retention.compare(pd.concat(others))
    pd.testing.assert_frame_equal(retention.on_untouched(pd.concat(others), untouched), untouched)
    none = retention.on_untouched(
        pd.concat(looked_at).assign(untouched=False), kept[kept.test_set == "near"]
    )
    assert none.empty and set(kept) <= set(none)


def test_the_interval_of_a_ratio_shares_its_draws():
    """A student at exactly three quarters of its teacher on every question keeps three quarters in
    every draw."""
    scores = np.random.default_rng(1).random(160)
    kept = retention.compare(
        pd.concat(
            [
                rows("teacher", scores, articles=40),
                rows("student", 0.75 * scores, depth=5, articles=40),
            ]
        )
    )
    student = kept.set_index("role").loc["student"]
    assert (student.retention_f1_low, student.retention_f1_high) == pytest.approx((75, 75))
    assert student.f1_high - student.f1_low > 4


def test_intervals_are_the_statistics_ones_whatever_the_order_of_rows():
    rng = np.random.default_rng(2)
    table = pd.concat(
        [
            rows("teacher", rng.random(160), articles=40),
            rows("student", rng.random(160), depth=5, articles=40),
        ]
    )
    kept, shuffled = (
        retention.compare(table),
        retention.compare(table.sample(frac=1, random_state=0)),
    )
    columns = ["f1_low", "f1_high", "retention_f1_low", "retention_f1_high"]
    a, b = (
        comparison.set_index("role").loc["student", columns].astype(float)
        for comparison in (kept, shuffled)
    )
    pd.testing.assert_series_equal(a, b)
    student = table[table.role == "student"]
    mean, error = statistics.clustered_error(student.f1.to_numpy(), student.article.to_numpy())
    assert (a.f1_low, a.f1_high) == pytest.approx(
        (100 * (mean - 1.96 * error), 100 * (mean + 1.96 * error)), abs=0.6
    )


def test_agreement_loyalty_and_calibration_are_in_percent():
    kept = (
        retention.compare(pd.concat([rows("teacher", 0.8), rows("student", 0.6, depth=5)]))
        .set_index("role")
        .loc["student"]
    )
    assert (kept.agreement, kept.loyalty) == (25, 75)
    assert kept.calibration_error == pytest.approx(100 * (0.5 - 0.3))


def test_a_mixed_set_says_how_many_languages_it_has():
    table = pd.concat([rows("teacher", 0.8), rows("student", 0.6, depth=5)])
    assert set(retention.compare(table).language) == {"en"}
    table["language"] = np.where(table.question.isin(["q0", "q1"]), "de", "zh")
    kept = retention.compare(table)
    assert set(kept.language) == {"2 languages"} and len(kept) == 2


def test_a_model_without_a_seed_of_its_teacher_is_left_out():
    kept = retention.compare(
        pd.concat([rows("teacher", 0.8, seed=0), rows("student", 0.6, depth=5, seed=1)])
    )
    assert list(kept.role) == ["teacher"]
    assert contrasts.contrasts(
        pd.concat([rows("student", 0.8, depth=5), rows("control", 0.6, depth=5, seed=1)])
    ).empty


@pytest.mark.parametrize("seeds", [2, 5])
def test_few_seeds_are_averaged_and_enough_are_drawn(seeds):
    """All questions alike within a seed, seeds far apart: only drawing seeds makes an interval
    wide."""
    table = pd.concat(
        [
            rows(role, 0.5 + 0.08 * seed, depth=5, seed=seed, articles=40)
            for role in ("teacher", "student")
            for seed in range(seeds)
        ]
    )
    student = retention.compare(table).set_index("role").loc["student"]
    assert (student.f1_high - student.f1_low > 5) == (seeds == 5)
    assert student.retention_f1_low == pytest.approx(100) == student.retention_f1_high


def test_models_before_any_training_have_a_line_of_their_own_and_are_in_no_comparison():
    rng = np.random.default_rng(4)
    shipped = rows("base", rng.random(160), depth=5, articles=40, init="pretrained")
    teacher, student = rows("teacher", 0.8, articles=40), rows("student", 0.6, depth=5, articles=40)
    (line,) = retention.bases(pd.concat([shipped, teacher, student])).to_dict("records")
    assert line["f1"] == pytest.approx(100 * shipped.f1.mean()) and line[
        "exact_match"
    ] == pytest.approx(50 * shipped.f1.mean())
    error = 100 * statistics.clustered_error(shipped.f1.to_numpy(), shipped.article.to_numpy())[1]
    assert (line["f1_low"], line["f1_high"]) == pytest.approx(
        (line["f1"] - 1.96 * error, line["f1"] + 1.96 * error), abs=0.5
    )
    assert set(retention.compare(pd.concat([shipped, teacher, student])).role) == {
        "teacher",
        "student",
    }
    assert set(retention.by_seed(pd.concat([shipped, teacher, student])).role) == {
        "teacher",
        "student",
    }
    assert contrasts.contrasts(pd.concat([shipped, student])).empty
    assert retention.bases(pd.concat([teacher, student])).empty


def test_every_measure_has_its_interval():
    rng = np.random.default_rng(6)
    table = pd.concat(
        [
            rows("teacher", rng.random(160), articles=40),
            rows("student", rng.random(160), depth=5, articles=40),
        ]
    )
    for name in ("agreement", "loyalty", "probability"):
        table[name] = rng.random(len(table))
    kept = retention.compare(table).set_index("role")
    for name, (low, high) in retention.BOUNDS.items():
        assert kept[low]["student"] < kept[name]["student"] < kept[high]["student"], name
    student = table[table.role == "student"]
    mean, error = statistics.clustered_error(student.loyalty.to_numpy(), student.article.to_numpy())
    assert kept.loyalty_low["student"] == pytest.approx(100 * (mean - 1.96 * error), abs=0.6)
    assert kept.loc["teacher", ["agreement_low", "loyalty_low", "retention_f1_low"]].isna().all()


def test_the_interval_of_the_calibration_error_is_that_of_the_error_drawn_again():
    rng = np.random.default_rng(7)
    table = pd.concat(
        [
            rows(role, rng.integers(0, 2, 160), depth=5, articles=40)
            for role in ("teacher", "student")
        ]
    )
    table["exact_match"], table["probability"] = table.f1, rng.random(len(table))
    kept = retention.compare(table).set_index("role").loc["student"]
    student = table[table.role == "student"]
    groups = [group for _, group in student.groupby("article")]
    again = [pd.concat([groups[i] for i in rng.integers(0, 40, 40)]) for _ in range(400)]
    errors = [
        100 * statistics.calibration_error(sample.probability, sample.exact_match)
        for sample in again
    ]
    assert (kept.calibration_error_low, kept.calibration_error_high) == pytest.approx(
        np.quantile(errors, [0.025, 0.975]), abs=1.5
    )


def test_each_seed_has_its_own_score_and_its_own_teacher():
    scores = {
        ("teacher", 0): 0.8,
        ("student", 0): 0.6,
        ("teacher", 1): 0.5,
        ("student", 1): 0.4,
        ("teacher", 2): 0.1,
        ("student", 2): 0.1,
    }
    seeds = retention.by_seed(
        pd.concat([rows(role, f1, seed=seed, depth=5) for (role, seed), f1 in scores.items()])
    )
    students = seeds[seeds.role == "student"].set_index("seed")
    assert students.f1.to_dict() == pytest.approx({0: 60, 1: 40, 2: 10})
    assert students.retention_f1[[0, 1]].to_dict() == pytest.approx({0: 75, 1: 80}) and np.isnan(
        students.retention_f1[2]
    )
