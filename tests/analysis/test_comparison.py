"""Retention, reductions and their intervals, in closed form."""

from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest

from studylib.analysis import comparison, statistics
from studylib.core.filesystem import digest

BASE = dict(
    family="f",
    teacher="tuned",
    trained="zero-shot",
    asked="zero-shot",
    language="en",
    start="tuned",
    targets="teacher",
    objective="o",
    steps=5,
    repeat=False,
    untouched=True,
)


def rows(role, f1, *, depth=10, seed=0, test_set="near", articles=5, per=4, questions=None, **more):
    """Per-question rows of one model; `f1` a number or a value per question."""
    names = questions or [f"q{i}" for i in range(articles * per)]
    values = np.broadcast_to(f1, len(names))
    table = pd.DataFrame(
        {"question": names, "article": [f"a{i // per}" for i in range(len(names))], "f1": values}
    )
    counts = {"parameters_total": 100 + 10 * depth, "parameters_nonembedding": 10 * depth}
    about = {
        "role": role,
        "student": "" if role == "teacher" else f"f-{depth}",
        "seed": seed,
        "test_set": test_set,
    }
    beside = {"probability": 0.5, "agreement": 0.25, "loyalty": 0.75}
    about |= {"run": digest(BASE | about | {name: str(value) for name, value in more.items()})}
    return table.assign(
        exact_match=values / 2, rouge_l=values, **BASE | beside | counts | about | more
    )


def test_retention_and_reduction_in_closed_form():
    kept = comparison.compare(
        pd.concat([rows("teacher", 0.8), rows("student", 0.6, depth=5), rows("twin", 0.4, depth=5)])
    ).set_index("role")
    assert kept.retention_f1.to_dict() == pytest.approx({"teacher": 100, "student": 75, "twin": 50})
    assert kept.retention_exact_match["student"] == pytest.approx(75) and kept.f1[
        "twin"
    ] == pytest.approx(40)
    assert kept.reduction_total["student"] == 25 and kept.reduction_nonembedding["student"] == 50
    assert kept.retention_f1_low.isna().all()  # five articles are too few


def test_nothing_is_kept_of_a_teacher_below_the_floor():
    kept = comparison.compare(
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
    kept = comparison.compare(pd.concat(frames))
    assert kept[kept.role == "student"].set_index(
        "test_set"
    ).retention_f1.to_dict() == pytest.approx({"near": 75, "far": 25})
    frames += [rows("student", 0.3, depth=5, seed=1)]
    kept = comparison.compare(pd.concat(frames)).set_index(["role", "test_set"])
    assert (
        kept.retention_f1["student", "near"] == pytest.approx(100 * 0.45 / 0.6)
        and kept.seeds["student", "near"] == 2
    )


def marked(role: str, f1: float, other: float, *, column: str, value: bool, **more) -> pd.DataFrame:
    """Rows of 40 articles, in every other of which the questions, marked so, score otherwise."""
    table = rows(role, f1, articles=40, **more)
    apart = table.article.str[1:].astype(int) % 2 == 1
    return table.assign(f1=table.f1.where(~apart, other), **{column: apart if value else ~apart})


def repeating() -> pd.DataFrame:
    """A teacher, a student and its twin; half of the questions repeat another, and there all have
    other scores."""
    scores = {"teacher": (0.8, 0.4), "student": (0.6, 0.1), "twin": (0.4, 0.3)}
    abouts = {
        "teacher": {"depth": 10},
        "student": {"depth": 5},
        "twin": {"depth": 5, "teacher": "nobody"},
    }
    return pd.concat(
        marked(role, *scores[role], column="repeat", value=True, **abouts[role]) for role in scores
    )


def test_a_repeated_question_counts_once():
    found = comparison.compare(repeating()).set_index("role")
    assert found.f1.to_dict() == pytest.approx({"teacher": 80, "student": 60, "twin": 40}) and set(
        found.n
    ) == {80}
    (gained,) = comparison.contrasts(repeating()).to_dict("records")
    assert gained["difference"] == pytest.approx(20) and (gained["n"], gained["articles"]) == (
        80,
        20,
    )
    once = repeating()[lambda table: ~table.repeat]
    for compared in (
        comparison.compare,
        comparison.contrasts,
        comparison.by_seed,
        comparison.schooling,
    ):
        pd.testing.assert_frame_equal(compared(repeating()), compared(once))


def test_repeats_are_left_out_of_prompting_and_of_traits():
    scores = {"zero-shot": (0.4, 0.9), "one-shot": (0.6, 0.1)}
    traits = {"asks": "who", "answer_words": 1, "answer_place": 0.5}
    both = [
        marked(
            "student",
            *pair,
            column="repeat",
            value=True,
            depth=5,
            trained=mode,
            asked=mode,
            **traits,
        )
        for mode, pair in scores.items()
    ]
    worth = comparison.prompting(pd.concat(both), list(scores), list(scores))
    assert worth.difference.tolist() == pytest.approx([20]) and worth.n.tolist() == [80]
    kinds = comparison.by_trait(pd.concat(both), list(scores))
    assert set(kinds.n) == {80} and kinds.difference.to_numpy() == pytest.approx(20)


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
    kept = comparison.compare(table)
    assert kept.set_index(["role", "test_set"]).untouched.to_dict() == {
        (role, test): count
        for role in ("teacher", "student")
        for test, count in (("near", 80), ("far", 160))
    }
    claimed = comparison.on_untouched(table, kept).set_index(["role", "test_set"])
    assert claimed.retention_f1.to_dict() == pytest.approx(
        {
            ("teacher", "far"): 100,
            ("student", "far"): 75,
            ("teacher", "near"): 100,
            ("student", "near"): 50,
        }
    )
    assert claimed.n["student", "near"] == 80 and claimed.articles["student", "near"] == 20
    untouched = comparison.compare(pd.concat(others))
    pd.testing.assert_frame_equal(comparison.on_untouched(pd.concat(others), untouched), untouched)
    none = comparison.on_untouched(
        pd.concat(looked_at).assign(untouched=False), kept[kept.test_set == "near"]
    )
    assert none.empty and set(kept) <= set(none)


def test_the_interval_of_a_ratio_shares_its_draws():
    """A student at exactly three quarters of its teacher on every question keeps three quarters in
    every draw."""
    scores = np.random.default_rng(1).random(160)
    kept = comparison.compare(
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
        comparison.compare(table),
        comparison.compare(table.sample(frac=1, random_state=0)),
    )
    columns = ["f1_low", "f1_high", "retention_f1_low", "retention_f1_high"]
    a, b = (
        found.set_index("role").loc["student", columns].astype(float) for found in (kept, shuffled)
    )
    pd.testing.assert_series_equal(a, b)
    own = table[table.role == "student"]
    mean, error = statistics.clustered_error(own.f1.to_numpy(), own.article.to_numpy())
    assert (a.f1_low, a.f1_high) == pytest.approx(
        (100 * (mean - 1.96 * error), 100 * (mean + 1.96 * error)), abs=0.6
    )


def test_agreement_loyalty_and_calibration_are_in_percent():
    kept = (
        comparison.compare(pd.concat([rows("teacher", 0.8), rows("student", 0.6, depth=5)]))
        .set_index("role")
        .loc["student"]
    )
    assert (kept.agreement, kept.loyalty) == (25, 75)
    assert kept.calibration_error == pytest.approx(100 * (0.5 - 0.3))


def test_a_mixed_set_says_how_many_languages_it_has():
    table = pd.concat([rows("teacher", 0.8), rows("student", 0.6, depth=5)])
    assert set(comparison.compare(table).language) == {"en"}
    table["language"] = np.where(table.question.isin(["q0", "q1"]), "de", "zh")
    kept = comparison.compare(table)
    assert set(kept.language) == {"2 languages"} and len(kept) == 2


def test_a_difference_in_closed_form():
    """Student minus twin is 0.2 in half of the articles and 0 in the others."""
    gain = np.repeat(np.tile([0.2, 0.0], 20), 4)
    table = pd.concat(
        [rows("student", 0.5 + gain, depth=5, articles=40), rows("twin", 0.5, depth=5, articles=40)]
    )
    found = comparison.contrasts(table).iloc[0]
    assert found.difference == pytest.approx(10) and (found.n, found.articles, found.seeds) == (
        160,
        40,
        1,
    )
    error = 100 * statistics.clustered_error(gain, np.repeat(np.arange(40), 4))[1]
    assert (found.low, found.high) == pytest.approx((10 - 1.96 * error, 10 + 1.96 * error), abs=0.3)
    assert found.p < 0.001 and found.p_holm == found.p
    effect = statistics.design_effect(gain, np.repeat(np.arange(40), 4))
    assert found.detectable == pytest.approx(
        statistics.detectable(100 * gain.std(ddof=1), 160, effect)
    )


def test_differences_are_corrected_for_their_number_and_never_shown_on_little():
    rng = np.random.default_rng(3)
    models = [
        rows(role, rng.random(160), depth=depth, articles=40)
        for depth in (5, 4, 3)
        for role in ("student", "twin")
    ]
    found = comparison.contrasts(pd.concat(models))
    assert list(found.student) == ["f-5", "f-4", "f-3"]
    assert list(found.p_holm) == pytest.approx(statistics.holm(list(found.p)))
    alone = [
        comparison.contrasts(pd.concat(models[2 * i : 2 * i + 2])).detectable.iloc[0]
        for i in range(3)
    ]
    normal = NormalDist().inv_cdf
    by_holm = (normal(1 - 0.05 / 6) + normal(0.8)) / (normal(1 - 0.05 / 2) + normal(0.8))
    assert list(found.detectable) == pytest.approx([by_holm * one for one in alone]), (
        "a stricter test finds less"
    )
    few = comparison.contrasts(
        pd.concat([rows("student", 0.6, depth=5), rows("twin", 0.5, depth=5)])
    ).iloc[0]
    assert (
        few.difference == pytest.approx(10)
        and np.isnan([few.low, few.high, few.p, few.p_holm, few.detectable]).all()
    )


def test_a_student_without_a_twin_has_no_difference():
    assert comparison.contrasts(
        pd.concat([rows("teacher", 0.8), rows("student", 0.6, depth=5)])
    ).empty


def test_two_models_that_say_the_same_differ_by_nothing_at_all():
    same = [
        rows(role, np.tile([0.2, 0.9], 80), depth=5, articles=40) for role in ("student", "twin")
    ]
    found = comparison.contrasts(pd.concat(same)).iloc[0]
    assert (found.difference, found.low, found.high, found.p, found.detectable) == (0, 0, 0, 1, 0)


def test_a_model_without_a_seed_of_its_teacher_is_left_out():
    kept = comparison.compare(
        pd.concat([rows("teacher", 0.8, seed=0), rows("student", 0.6, depth=5, seed=1)])
    )
    assert list(kept.role) == ["teacher"]
    assert comparison.contrasts(
        pd.concat([rows("student", 0.8, depth=5), rows("twin", 0.6, depth=5, seed=1)])
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
    student = comparison.compare(table).set_index("role").loc["student"]
    assert (student.f1_high - student.f1_low > 5) == (seeds == 5)
    assert student.retention_f1_low == pytest.approx(100) == student.retention_f1_high


def test_the_spread_of_seeds_is_in_what_can_be_detected():
    rng, frames = np.random.default_rng(5), []
    for seed, shift in enumerate((-0.08, -0.03, 0.0, 0.04, 0.05)):
        noise = 0.1 * rng.standard_normal(160)
        frames += [
            rows("student", 0.5 + shift + noise, depth=5, seed=seed, articles=40),
            rows("twin", 0.5, depth=5, seed=seed, articles=40),
        ]
    found = comparison.contrasts(pd.concat(frames)).iloc[0]
    spread = 100 * np.std([-0.08, -0.03, 0.0, 0.04, 0.05], ddof=1)
    assert found.detectable > statistics.detectable(spread, 5) * 0.8 > abs(found.difference)


@pytest.mark.parametrize("seeds", [2, 4])
def test_with_few_seeds_what_can_be_detected_is_of_the_test_that_is_made(seeds):
    """Which is of means over these seeds: how far the seeds lie apart is no part of it."""
    noise, frames = 0.1 * np.random.default_rng(5).standard_normal(160), []
    for seed in range(seeds):
        frames += [
            rows("student", 0.5 + 0.02 * seed + noise, depth=5, seed=seed, articles=40),
            rows("twin", 0.5, depth=5, seed=seed, articles=40),
        ]
    found = comparison.contrasts(pd.concat(frames)).iloc[0]
    effect = statistics.design_effect(noise, np.repeat(np.arange(40), 4))
    assert found.detectable == pytest.approx(
        statistics.detectable(100 * noise.std(ddof=1), 160, effect)
    )


def test_models_before_any_training_have_a_line_of_their_own_and_are_in_no_comparison():
    rng = np.random.default_rng(4)
    shipped = rows("base", rng.random(160), depth=5, articles=40, start="pretrained")
    teacher, student = rows("teacher", 0.8, articles=40), rows("student", 0.6, depth=5, articles=40)
    (line,) = comparison.bases(pd.concat([shipped, teacher, student])).to_dict("records")
    assert line["f1"] == pytest.approx(100 * shipped.f1.mean()) and line[
        "exact_match"
    ] == pytest.approx(50 * shipped.f1.mean())
    error = 100 * statistics.clustered_error(shipped.f1.to_numpy(), shipped.article.to_numpy())[1]
    assert (line["f1_low"], line["f1_high"]) == pytest.approx(
        (line["f1"] - 1.96 * error, line["f1"] + 1.96 * error), abs=0.5
    )
    assert set(comparison.compare(pd.concat([shipped, teacher, student])).role) == {
        "teacher",
        "student",
    }
    assert set(comparison.by_seed(pd.concat([shipped, teacher, student])).role) == {
        "teacher",
        "student",
    }
    assert comparison.contrasts(pd.concat([shipped, student])).empty
    assert comparison.bases(pd.concat([teacher, student])).empty


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
    kept = comparison.compare(table).set_index("role")
    for name, (low, high) in comparison.BOUNDS.items():
        assert kept[low]["student"] < kept[name]["student"] < kept[high]["student"], name
    own = table[table.role == "student"]
    mean, error = statistics.clustered_error(own.loyalty.to_numpy(), own.article.to_numpy())
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
    kept = comparison.compare(table).set_index("role").loc["student"]
    own = table[table.role == "student"]
    groups = [group for _, group in own.groupby("article")]
    again = [pd.concat([groups[i] for i in rng.integers(0, 40, 40)]) for _ in range(400)]
    errors = [100 * statistics.calibration_error(one.probability, one.exact_match) for one in again]
    assert (kept.calibration_error_low, kept.calibration_error_high) == pytest.approx(
        np.quantile(errors, [0.025, 0.975]), abs=1.5
    )


def test_each_teacher_has_a_line_and_the_primary_one_is_not_corrected():
    rng = np.random.default_rng(3)
    models = [
        rows("student", rng.random(160), depth=5, articles=40, teacher=name)
        for name in ("tuned", "raw", "its twin")
    ]
    found = comparison.contrasts(
        pd.concat([*models, rows("twin", 0.5, depth=5, articles=40, teacher="nobody")]), "tuned"
    ).set_index("teacher")
    assert set(found.index) == {"tuned", "raw", "its twin"}
    assert found.p_holm["tuned"] == found.p["tuned"]
    assert list(found.p_holm[["raw", "its twin"]]) == pytest.approx(
        statistics.holm(list(found.p[["raw", "its twin"]]))
    )


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
    found = comparison.schooling(schools(0)).set_index("teacher")
    assert found.teacher_f1.to_dict() == pytest.approx(
        {"tuned": 30, "raw": 40, "small": 50, "its twin": 60}
    )
    assert found.student_f1.to_dict() == pytest.approx(
        {"tuned": 30, "raw": 35, "small": 40, "its twin": 45}
    )
    assert found.r.to_list() == pytest.approx([1] * 4) and found.r_low.to_list() == pytest.approx(
        [1] * 4
    )
    shaken = comparison.schooling(schools(0.3))
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
    found = comparison.schooling(pd.concat([four, *raw]))
    assert len(found) == 5 and found.r[0] < 0
    assert found.tuned_r.to_list() == pytest.approx(
        [1] * 5
    ) and found.tuned_r_low.to_list() == pytest.approx([1] * 5)
    assert comparison.schooling(four).tuned_r.isna().all(), "nobody is left out"


def test_few_teachers_have_no_correlation_and_guides_are_no_students():
    table = schools(0)
    few = comparison.schooling(table[table.teacher != "raw"])
    assert few.r.isna().all() and len(few) == 3
    assert "guide" not in set(comparison.compare(table).role)


def test_contrasts_change_one_thing_at_a_time():
    size = dict(depth=5, articles=12)
    frames = [
        rows("teacher", 0.8, articles=12),
        rows("student", 0.6, **size),
        rows("twin", 0.5, teacher="nobody", **size),
    ]
    frames += [
        rows("rival", 0.65, objective="other", **size),
        rows("pupil", 0.55, teacher="twin of 7", **size),
    ]
    frames += [
        rows("student", 0.3, start="raw", **size),
        rows("twin", 0.15, start="raw", teacher="nobody", **size),
    ]
    found = comparison.contrasts(pd.concat(frames)).set_index(["contrast", "start"]).difference
    expected = {
        ("student − twin", "tuned"): 10,
        ("student − twin", "raw"): 15,
        ("rival − student", "tuned"): 5,
        ("pupil − student", "tuned"): -5,
        ("tuned − raw start, students", "tuned"): 30,
        ("tuned − raw start, twins", "tuned"): 35,
    }
    assert found.to_dict() == pytest.approx(expected)


def test_a_ladder_has_a_student_s_teachers_by_their_size():
    frames = [
        rows("teacher", 0.8),
        rows("twin", 0.7, depth=5, teacher="nobody"),
        rows("student", 0.3, depth=2),
    ]
    frames += [
        rows("pupil", 0.4, depth=2, teacher="twin of 5"),
        rows("student", 0.6, depth=5),
        rows("student", 0.1, depth=2, start="raw"),
    ]
    frames += [
        rows("teacher", 0.1, seed=1),
        rows("student", 0.9, depth=2, seed=1),
    ]  # a seed without pupils
    found = comparison.ladder(pd.concat(frames))
    assert found.teacher.tolist() == ["twin of 5", "tuned"]
    assert found[["teacher_f1", "f1"]].to_numpy() == pytest.approx(np.array([[70, 40], [80, 30]]))
    assert found.ratio.tolist() == pytest.approx([150 / 120, 200 / 120])
    assert comparison.ladder(pd.concat(frames[:3])).empty


def test_the_front_are_those_that_none_beats_in_time_and_score():
    lines = [
        ("a", 10, 40, 1),
        ("b", 20, 30, 0),
        ("c", 20, 50, 1),
        ("d", 20, 45, 0),
        ("e", 60, 50, 0),
        ("f", 100, 80, 1),
        ("g", 110, 70, 0),
    ]
    table = pd.DataFrame(
        [*lines, ("useless", 5, 19, 0)], columns=["student", "time", "f1", "expected"]
    ).sample(frac=1, random_state=0)
    about = {
        "family": "f",
        "trained": "zero-shot",
        "test_set": "near",
        "steps": 5,
        "planned": "p",
        "runs": "r",
    }
    seeds = [
        table.assign(seed=seed, time=table.time + more, f1=table.f1 - more, **about)
        for seed, more in ((0, -1), (1, 1))
    ]
    found = comparison.pareto(pd.concat(seeds, ignore_index=True))
    assert len(found) == len(table) and (found.front == found.expected).all()
    assert found.set_index("student").time["a"] == 10 and found.set_index("student").f1["g"] == 70


def test_partial_rows_of_prompting_compare_nothing_with_itself():
    trained, asked = ["zero-shot", "one-shot"], ["zero-shot", "one-shot"]
    plain = pd.concat(
        [
            rows(role, 0.5, depth=5, asked=mode, articles=12)
            for role in ("teacher", "student")
            for mode in asked
        ]
    )
    ways = comparison.prompting(plain, trained, asked).ways.unique()
    assert list(ways) == ["trained zero-shot: asked one-shot, not zero-shot"]
    assert comparison.prompting(plain[plain.asked == "zero-shot"], trained, asked).empty
    assert comparison.by_trait(
        plain.assign(asks="who", answer_words=1, answer_place=0.5), trained
    ).empty
    assert comparison.schooling(plain[plain.role == "teacher"]).empty


def test_values_of_a_trait_with_too_few_questions_for_an_interval_are_left_out():
    modes = ["zero-shot", "one-shot"]
    each = [
        rows("student", f1, depth=5, asked=mode, articles=40).assign(trained=mode)
        for mode, f1 in zip(modes, (0.5, 0.7), strict=True)
    ]
    both = pd.concat(each, ignore_index=True).assign(answer_words=1, answer_place=0.5)
    both["asks"] = np.where(both.question == "q0", "whose", "who")
    traits = comparison.by_trait(both, modes)
    assert set(traits.value) == {"who", "1 word", "second third"} and traits.low.notna().all()
    assert traits.difference.tolist() == pytest.approx(3 * [20.0])
    little = both[both.question.isin(["q0", "q1", "q2"])].assign(test_set="little")
    found = comparison.by_trait(pd.concat([both, little]), modes)
    assert {"whose", "who"} <= set(found.value[found.test_set == "little"]), (
        "what one test set has too little of another still shows"
    )


def test_rare_question_words_are_taken_together_and_only_english_ones_are_read():
    modes = ["zero-shot", "one-shot"]
    each = [
        rows("student", f1, depth=5, asked=mode, articles=60).assign(trained=mode)
        for mode, f1 in zip(modes, (0.5, 0.7), strict=True)
    ]
    both = pd.concat(each, ignore_index=True).assign(answer_words=1, answer_place=0.5)
    number = both.question.str[1:].astype(int)
    both["asks"] = np.select([number < 60, number < 120], ["whose", "why"], "who")
    found = comparison.by_trait(both, modes)
    assert dict(found[found.trait == "asks"][["value", "n"]].to_numpy()) == {
        "other": 120,
        "who": 120,
    }
    assert set(comparison.by_trait(both.assign(language="de"), modes).trait) == {
        "answer",
        "answer stands in the",
    }


def test_a_kind_of_question_stands_apart_only_by_what_it_gains_beyond_the_others():
    modes = ["zero-shot", "one-shot"]
    each = [
        rows("student", 0.5, depth=5, asked=mode, articles=60).assign(trained=mode)
        for mode in modes
    ]
    both = pd.concat(each, ignore_index=True).assign(answer_words=1, answer_place=0.5)
    number = both.question.str[1:].astype(int)
    both["asks"] = np.where(number < 120, "what", "who")
    rng = np.random.default_rng(2)
    gain = 0.2 + 0.1 * (both.asks == "what") + rng.normal(0, 0.05, 240)[number]
    both["f1"] += gain * (both.trained == "one-shot")
    found = comparison.by_trait(both, modes).set_index("value")
    per_kind = 100 * gain[both.trained == "one-shot"].groupby(both.asks).mean()
    assert (
        found.apart["what"]
        == pytest.approx(per_kind["what"] - per_kind["who"])
        == -found.apart["who"]
    )
    assert found.apart_low["what"] < 10 < found.apart_high["what"] < found.apart_low["what"] + 4
    assert np.isnan(found.apart["1 word"]), "there are no others"


def test_the_primary_line_is_of_untouched_questions_and_the_others_are_of_all():
    rng, half = np.random.default_rng(8), np.arange(160) % 2 == 0
    frames = [
        rows(
            role,
            rng.random(160),
            depth=5,
            articles=40,
            asked=asked,
            teacher=teacher,
            untouched=half,
        )
        for role, teacher in (("student", "tuned"), ("twin", "nobody"))
        for asked in ("zero-shot", "one-shot")
    ]
    table = pd.concat(frames)
    found, every, fresh = (
        comparison.contrasts(some, "tuned")
        for some in (table, table.assign(untouched=True), table[table.untouched])
    )
    numbers = ["n", "articles", "difference", "low", "high", "p"]
    assert found[found.primary][numbers].equals(fresh[fresh.primary][numbers]) and found[
        found.primary
    ].n.tolist() == [80]
    assert found[~found.primary][numbers].equals(every[~every.primary][numbers]) and list(
        found.columns
    ) == list(every.columns)
    assert list(found.asked) == list(every.asked)


def test_only_the_first_test_set_has_a_primary_line():
    frames = [
        rows(role, f1, depth=5, test_set=test, asked=asked, teacher=teacher, articles=12)
        for role, f1, teacher in (
            ("teacher", 0.8, "tuned"),
            ("twin", 0.3, "nobody"),
            ("student", 0.5, "tuned"),
            ("student", 0.4, "raw"),
        )
        for test in ("near", "far")
        for asked in ("zero-shot", "one-shot")
    ]
    found = comparison.contrasts(pd.concat(frames), "tuned")
    assert found[found.primary][["test_set", "asked", "teacher"]].to_numpy().tolist() == [
        ["near", "zero-shot", "tuned"]
    ]
    assert len(found) == 8 and not comparison.contrasts(pd.concat(frames)).primary.any()


def test_each_seed_has_its_own_score_and_its_own_teacher():
    scores = {
        ("teacher", 0): 0.8,
        ("student", 0): 0.6,
        ("teacher", 1): 0.5,
        ("student", 1): 0.4,
        ("teacher", 2): 0.1,
        ("student", 2): 0.1,
    }
    found = comparison.by_seed(
        pd.concat([rows(role, f1, seed=seed, depth=5) for (role, seed), f1 in scores.items()])
    )
    students = found[found.role == "student"].set_index("seed")
    assert students.f1.to_dict() == pytest.approx({0: 60, 1: 40, 2: 10})
    assert students.retention_f1[[0, 1]].to_dict() == pytest.approx({0: 75, 1: 80}) and np.isnan(
        students.retention_f1[2]
    )


def siblings(scores: dict[str, float], size: int = 100, articles: int = 40) -> pd.DataFrame:
    """Rows of one sibling of so many parameters under teachers that are so many times larger, with
    these F1, and of the teachers."""
    frames = []
    for times, value in scores.items():
        base = dict(
            family=f"T{times}",
            teacher="tuned",
            trained="zero-shot",
            asked="zero-shot",
            test_set="near",
            language="en",
            seed=0,
        )
        base |= {
            "objective": "o",
            "steps": 5,
            "targets": "teacher",
            "probability": 0.5,
            "agreement": 0.5,
            "loyalty": 0.5,
        }
        base |= {"repeat": False, "untouched": True}
        own = {
            "role": "student",
            "student": f"T{times}-Small",
            "start": "pretrained",
            "parameters_total": size,
        }
        whole = {
            "role": "teacher",
            "student": "",
            "start": "raw",
            "parameters_total": round(size * float(times)),
        }
        for about, f1 in ((own, value), (whole, 0.9)):
            lines = [
                {
                    "question": f"q{i}",
                    "article": f"a{i % articles}",
                    "f1": f1,
                    "exact_match": f1,
                    "rouge_l": f1,
                }
                for i in range(4 * articles)
            ]
            frames.append(
                pd.DataFrame(lines).assign(
                    **base
                    | about
                    | {
                        "parameters_nonembedding": about["parameters_total"],
                        "run": times,
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def test_the_best_teacher_of_a_sibling_is_where_a_parabola_in_log_ratio_is_highest():
    """Scores that lie on one are given back its summit, exactly; with the same score in all
    articles every draw agrees."""
    summit = 2.5
    rows = siblings(
        {f"{times}": 0.6 - 0.05 * np.log(times / summit) ** 2 for times in (1.5, 2.0, 4.0, 8.0)}
    )
    (found,) = comparison.law(rows).to_dict("records")
    assert (
        found["student"] == "Small"
        and found["teachers"] == 4
        and (found["least"], found["most"]) == (1.5, 8.0)
    )
    assert (
        found["ratio"] == pytest.approx(summit, rel=1e-6)
        and found["low"] == pytest.approx(found["high"])
        and found["within"] == 1
    )
    climbed = comparison.ladder(rows)
    assert climbed.ratio.tolist() == pytest.approx([1.5, 2.0, 4.0, 8.0]) and set(
        climbed.family
    ) == {"Small"}
    assert climbed.teacher.tolist() == ["T1.5", "T2.0", "T4.0", "T8.0"] and set(
        climbed.teacher_f1.round(6)
    ) == {90.0}


def test_without_a_summit_between_the_teachers_none_is_named():
    rising = comparison.law(siblings({f"{times}": 0.1 * times for times in (1.5, 2.0, 4.0, 8.0)}))
    assert rising.ratio.isna().all() and (rising.within == 0).all() and rising.low.isna().all()
    assert comparison.law(
        siblings({f"{times}": 0.5 for times in (1.5, 2.0, 4.0)})
    ).empty  # of three teachers every parabola fits


def test_a_sibling_that_gains_by_no_size_of_teacher_has_a_wide_interval():
    """Noise alone: the draws scatter over all teachers, or have no summit."""
    rows = siblings({f"{times}": 0.5 for times in (1.5, 2.0, 4.0, 8.0)})
    rng = np.random.default_rng(0)
    rows.loc[rows.role == "student", "f1"] = rng.random((rows.role == "student").sum())
    (found,) = comparison.law(rows).to_dict("records")
    assert found["within"] < 0.95 and found["high"] / found["low"] > 1.5
