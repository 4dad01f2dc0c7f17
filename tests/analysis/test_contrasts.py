"""Paired differences, their tests and what they could detect, in closed form."""

from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from invented import rows

from studylib.analysis import contrasts, statistics
from studylib.core.labels import OTHER_LOSSES, SMALLER_TEACHER


def test_a_difference_in_closed_form():
    """Student minus control is 0.2 in half of the articles and 0 in the others."""
    gain = np.repeat(np.tile([0.2, 0.0], 20), 4)
    table = pd.concat(
        [
            rows("student", 0.5 + gain, depth=5, articles=40),
            rows("control", 0.5, depth=5, articles=40),
        ]
    )
    line = contrasts.contrasts(table).iloc[0]
    assert line.difference == pytest.approx(10) and (line.n, line.articles, line.seeds) == (
        160,
        40,
        1,
    )
    error = 100 * statistics.clustered_error(gain, np.repeat(np.arange(40), 4))[1]
    assert (line.low, line.high) == pytest.approx((10 - 1.96 * error, 10 + 1.96 * error), abs=0.3)
    assert line.p < 0.001 and line.p_holm == line.p
    effect = statistics.design_effect(gain, np.repeat(np.arange(40), 4))
    assert line.detectable == pytest.approx(
        statistics.detectable(100 * gain.std(ddof=1), 160, effect)
    )


def test_differences_are_corrected_for_their_number_and_never_shown_on_little():
    rng = np.random.default_rng(3)
    models = [
        rows(role, rng.random(160), depth=depth, articles=40)
        for depth in (5, 4, 3)
        for role in ("student", "control")
    ]
    lines = contrasts.contrasts(pd.concat(models))
    assert list(lines.student) == ["f-5", "f-4", "f-3"]
    assert list(lines.p_holm) == pytest.approx(statistics.holm(list(lines.p)))
    alone = [
        contrasts.contrasts(pd.concat(models[2 * i : 2 * i + 2])).detectable.iloc[0]
        for i in range(3)
    ]
    normal = NormalDist().inv_cdf
    by_holm = (normal(1 - 0.05 / 6) + normal(0.8)) / (normal(1 - 0.05 / 2) + normal(0.8))
    assert list(lines.detectable) == pytest.approx([by_holm * value for value in alone]), (
        "a stricter test finds less"
    )
    few = contrasts.contrasts(
        pd.concat([rows("student", 0.6, depth=5), rows("control", 0.5, depth=5)])
    ).iloc[0]
    assert (
        few.difference == pytest.approx(10)
        and np.isnan([few.low, few.high, few.p, few.p_holm, few.detectable]).all()
    )


def test_a_student_without_a_control_has_no_difference():
    assert contrasts.contrasts(
        pd.concat([rows("teacher", 0.8), rows("student", 0.6, depth=5)])
    ).empty


def test_two_models_that_say_the_same_differ_by_nothing_at_all():
    same = [
        rows(role, np.tile([0.2, 0.9], 80), depth=5, articles=40) for role in ("student", "control")
    ]
    line = contrasts.contrasts(pd.concat(same)).iloc[0]
    assert (line.difference, line.low, line.high, line.p, line.detectable) == (0, 0, 0, 1, 0)


def test_the_spread_of_seeds_is_in_what_can_be_detected():
    rng, frames = np.random.default_rng(5), []
    for seed, shift in enumerate((-0.08, -0.03, 0.0, 0.04, 0.05)):
        noise = 0.1 * rng.standard_normal(160)
        frames += [
            rows("student", 0.5 + shift + noise, depth=5, seed=seed, articles=40),
            rows("control", 0.5, depth=5, seed=seed, articles=40),
        ]
    line = contrasts.contrasts(pd.concat(frames)).iloc[0]
    spread = 100 * np.std([-0.08, -0.03, 0.0, 0.04, 0.05], ddof=1)
    assert line.detectable > statistics.detectable(spread, 5) * 0.8 > abs(line.difference)


@pytest.mark.parametrize("seeds", [2, 4])
def test_with_few_seeds_what_can_be_detected_is_of_the_test_that_is_made(seeds):
    """Which is of means over these seeds: how far the seeds lie apart is no part of it."""
    noise, frames = 0.1 * np.random.default_rng(5).standard_normal(160), []
    for seed in range(seeds):
        frames += [
            rows("student", 0.5 + 0.02 * seed + noise, depth=5, seed=seed, articles=40),
            rows("control", 0.5, depth=5, seed=seed, articles=40),
        ]
    line = contrasts.contrasts(pd.concat(frames)).iloc[0]
    effect = statistics.design_effect(noise, np.repeat(np.arange(40), 4))
    assert line.detectable == pytest.approx(
        statistics.detectable(100 * noise.std(ddof=1), 160, effect)
    )


def test_each_teacher_has_a_line_and_the_primary_one_is_not_corrected():
    rng = np.random.default_rng(3)
    models = [
        rows("student", rng.random(160), depth=5, articles=40, teacher=name)
        for name in ("fine-tuned", "base", "self-distillation")
    ]
    lines = contrasts.contrasts(
        pd.concat(
            [*models, rows("control", 0.5, depth=5, articles=40, teacher="none (gold only)")]
        ),
        "fine-tuned",
    ).set_index("teacher")
    assert set(lines.index) == {"fine-tuned", "base", "self-distillation"}
    assert lines.p_holm["fine-tuned"] == lines.p["fine-tuned"]
    assert list(lines.p_holm[["base", "self-distillation"]]) == pytest.approx(
        statistics.holm(list(lines.p[["base", "self-distillation"]]))
    )


def test_contrasts_change_one_thing_at_a_time():
    size = dict(depth=5, articles=12)
    frames = [
        rows("teacher", 0.8, articles=12),
        rows("student", 0.6, **size),
        rows("control", 0.5, teacher="none (gold only)", **size),
    ]
    frames += [
        rows("student", 0.65, objective="other", arm=OTHER_LOSSES, **size),
        rows("student", 0.55, teacher="control of 7", arm=SMALLER_TEACHER, **size),
    ]
    frames += [
        rows("student", 0.3, init="base", **size),
        rows("control", 0.15, init="base", teacher="none (gold only)", **size),
    ]
    differences = contrasts.contrasts(pd.concat(frames)).set_index(["contrast", "init"]).difference
    expected = {
        ("student − control", "fine-tuned"): 10,
        ("student − control", "base"): 15,
        (contrasts.OTHER_LOSSES, "fine-tuned"): 5,
        (contrasts.SMALLER_TEACHER, "fine-tuned"): -5,
        ("fine-tuned − base init, students", "fine-tuned"): 30,
        ("fine-tuned − base init, controls", "fine-tuned"): 35,
    }
    assert differences.to_dict() == pytest.approx(expected)


def test_a_student_by_other_losses_is_no_main_student_where_it_alone_has_answered():
    size = dict(depth=5, articles=12)
    other = rows("student", 0.6, objective="other", arm=OTHER_LOSSES, **size)
    control = rows("control", 0.5, teacher="none (gold only)", **size)
    assert contrasts.contrasts(pd.concat([other, control])).empty


def test_the_primary_line_is_of_untouched_questions_and_the_others_are_of_all():
    rng, half = np.random.default_rng(8), np.arange(160) % 2 == 0
    frames = [
        rows(
            role,
            rng.random(160),
            depth=5,
            articles=40,
            eval_prompt=asked,
            teacher=teacher,
            untouched=half,
        )
        for role, teacher in (("student", "fine-tuned"), ("control", "none (gold only)"))
        for asked in ("zero-shot", "one-shot")
    ]
    table = pd.concat(frames)
    lines, every, fresh = (
        contrasts.contrasts(some, "fine-tuned")
        for some in (table, table.assign(untouched=True), table[table.untouched])
    )
    numbers = ["n", "articles", "difference", "low", "high", "p"]
    assert lines[lines.primary][numbers].equals(fresh[fresh.primary][numbers]) and lines[
        lines.primary
    ].n.tolist() == [80]
    assert lines[~lines.primary][numbers].equals(every[~every.primary][numbers]) and list(
        lines.columns
    ) == list(every.columns)
    assert list(lines.eval_prompt) == list(every.eval_prompt)


def test_only_the_first_test_set_has_a_primary_line():
    frames = [
        rows(role, f1, depth=depth, test_set=test, eval_prompt=asked, teacher=teacher, articles=12)
        for role, depth, f1, teacher in (
            ("teacher", 10, 0.8, "fine-tuned"),
            ("control", 5, 0.3, "none (gold only)"),
            ("student", 5, 0.5, "fine-tuned"),
            ("student", 5, 0.4, "base"),
        )
        for test in ("near", "far")
        for asked in ("zero-shot", "one-shot")
    ]
    lines = contrasts.contrasts(pd.concat(frames), "fine-tuned")
    assert lines[lines.primary][["test_set", "eval_prompt", "teacher"]].to_numpy().tolist() == [
        ["near", "zero-shot", "fine-tuned"]
    ]
    assert len(lines) == 8 and not contrasts.contrasts(pd.concat(frames)).primary.any()


def pair(depth, gain, *, seed=0, loyalty=0.1, **more):
    """A student and its control, 40 articles of four questions: F1 apart by the gain, EM, loyalty
    and probability by chance."""
    rng = np.random.default_rng(depth)
    near, right = rng.random(160), rng.integers(0, 2, (2, 160)).astype(float)
    both = {"depth": depth, "articles": 40, "seed": seed, **more}
    student, control = (
        rows(role, 0.5 + added, **both).assign(
            loyalty=near + nearer, exact_match=correct, probability=rng.random(160)
        )
        for role, added, nearer, correct in (
            ("student", gain, loyalty, right[0]),
            ("control", 0.0, 0.0, right[1]),
        )
    )
    return student, control


def test_all_sizes_together_are_the_mean_of_each_question():
    rng = np.random.default_rng(1)
    gains = rng.normal(0.02, 0.2, (2, 160))
    models = [
        model for depth, gain in zip((5, 3), gains, strict=True) for model in pair(depth, gain)
    ]
    (line,) = contrasts.pooled(pd.concat(models)).itertuples()
    mean, clusters = 100 * gains.mean(0), np.repeat(np.arange(40), 4)
    assert (line.pairs, line.n, line.articles, line.seeds) == (2, 160, 40, 1)
    assert line.difference == pytest.approx(mean.mean())
    _, error = statistics.clustered_error(mean, clusters)
    assert (line.low, line.high) == pytest.approx(
        (mean.mean() - 1.96 * error, mean.mean() + 1.96 * error), abs=0.1 * error
    )
    each = contrasts.contrasts(pd.concat(models))
    assert line.difference == pytest.approx(each.difference.mean())
    assert line.loyalty == pytest.approx(each.loyalty.mean())
    assert line.calibration_error == pytest.approx(each.calibration_error.mean())
    assert line.detectable < each.detectable.min()


def test_all_sizes_together_are_tested_on_untouched_questions_where_that_was_declared():
    models = pd.concat([*pair(5, 0.1), *pair(3, -0.02)])
    near = models.assign(untouched=models.question.str[-1] > "2")
    gain = np.random.default_rng(2).normal(0, 0.3, 160)
    far = pd.concat([*pair(5, gain), *pair(3, gain)]).assign(test_set="far")
    lines = contrasts.judged(contrasts.pooled(pd.concat([near, far]), declared=True))
    alone = [
        contrasts.pooled(table, declared=True).iloc[0]
        for table in (near[near.untouched].assign(untouched=True), far)
    ]
    assert list(lines.n) == [line.n for line in alone] == [112, 160]
    assert list(lines.p_holm) == pytest.approx(statistics.holm([line.p for line in alone]))
    assert list(lines.detectable) == pytest.approx(
        [statistics.stricter(2) * line.detectable for line in alone]
    )
    assert list(lines.significant) == [True, False] and lines.primary.all()
    unfinished = contrasts.pooled(near, declared=True, complete=False)
    assert list(unfinished.n) == [112] and unfinished.p.isna().all()
    described = contrasts.judged(contrasts.pooled(near))
    assert list(described.n) == [160] and not described.tested.any()
    assert contrasts.pooled(models.assign(untouched=False), declared=True).empty


def test_an_uncut_control_is_compared_with_its_teacher_and_is_in_no_mean_of_sizes():
    whole = {"parameters_total": 10.0, "init": "fine-tuned"}
    teacher = rows("teacher", 0.5, articles=40).assign(parameters_total=10.0)
    uncut = [model.assign(**whole) for model in pair(10, 0.2)]
    cut = [model for depth in (5, 3) for model in pair(depth, 0.1)]
    table = pd.concat([teacher, *uncut, *cut])
    lines = contrasts.contrasts(table)
    (more,) = lines[lines.contrast == contrasts.MORE_TRAINING].itertuples()
    gap = uncut[1].set_index("question").f1 - teacher.set_index("question").f1
    assert more.student == "f-10" and more.difference == pytest.approx(100 * gap.mean())
    (line,) = contrasts.pooled(table).itertuples()
    assert line.pairs == 2 and line.difference == pytest.approx(10)


def test_one_pair_alone_and_students_of_base_init_are_not_pooled():
    assert contrasts.pooled(pd.concat(pair(5, 0.1))).empty
    models = [*pair(5, 0.1), *(model.assign(init="base") for model in pair(3, 0.1))]
    assert contrasts.pooled(pd.concat(models)).empty


def test_pairs_that_share_no_seed_or_were_asked_otherwise_are_not_pooled():
    assert contrasts.pooled(pd.concat([*pair(5, 0.1), *pair(3, 0.1, seed=1)])).empty
    few = [model[model.question != "q0"] for model in pair(3, 0.1)]
    assert contrasts.pooled(pd.concat([*pair(5, 0.1), *few])).empty
    assert len(contrasts.pooled(pd.concat([*pair(5, 0.1), *pair(3, 0.1)]))) == 1


def test_nearness_and_calibration_stand_beside_the_difference():
    student, control = pair(5, 0.1)
    line = contrasts.contrasts(pd.concat([student, control])).iloc[0]
    assert line.loyalty == pytest.approx(10) and line.loyalty_low == pytest.approx(10)
    errors = [
        100 * statistics.calibration_error(model.probability, model.exact_match)
        for model in (student, control)
    ]
    assert line.calibration_error == pytest.approx(errors[0] - errors[1])
    assert line.calibration_error_low < line.calibration_error < line.calibration_error_high


def test_questions_without_a_loyalty_are_left_out_of_it_alone():
    loyalty = np.where(np.arange(160) < 120, 0.1, np.nan)
    student, control = pair(5, 0.1, loyalty=loyalty)
    control.loyalty = control.loyalty.where(np.arange(160) < 120)
    line = contrasts.contrasts(pd.concat([student, control])).iloc[0]
    assert line.n == 160 and line.loyalty == pytest.approx(10)
    none = [model.assign(loyalty=np.nan) for model in (student, control)]
    assert np.isnan(contrasts.contrasts(pd.concat(none)).iloc[0].loyalty)
