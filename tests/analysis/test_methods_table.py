"""Methods beside the control and beside plain distillation, on made-up scores."""

import numpy as np
import pandas as pd
import pytest
from invented import rows
from matplotlib.axes import Axes

from studylib.analysis import contrasts, figures, methods_table, run_ids, statistics
from studylib.analysis.fidelity import correlations
from studylib.core.labels import CONTROL, GOLD_ONLY, METHOD, SMALLER_TEACHER, STUDENT

NOTHING = pd.DataFrame()
PLAIN, METHODS = "forward_kl", {"better": 0.7, "worse": 0.4}
COSTS = pd.DataFrame(
    [
        {
            "family": "f",
            "student": "f-10",
            "objective": name,
            "steps": 5,
            "extra_data": "",
            "training_flops": flops,
            "answer_flops": 2.0,
        }
        for name, flops in {"cross_entropy": 1.0, PLAIN: 2.0, "better": 4.0, "worse": 3.0}.items()
    ]
)


@pytest.fixture
def answered() -> pd.DataFrame:
    """A control of 50 F1, plain distillation of 60, a method of 70 and another of 40."""
    control = {"teacher": GOLD_ONLY, "objective": "cross_entropy"}
    frames = [rows(CONTROL, 0.5, articles=40, **control), rows(STUDENT, 0.6, articles=40)]
    frames += [
        rows(STUDENT, score, articles=40, objective=name, arm=METHOD)
        for name, score in METHODS.items()
    ]
    return pd.concat(frames, ignore_index=True)


def test_differences_are_to_the_control_and_to_plain_distillation(answered):
    table = methods_table.compare(answered, COSTS).set_index("objective")
    assert table.f1.to_dict() == pytest.approx(
        {"cross_entropy": 50, PLAIN: 60, "better": 70, "worse": 40}
    )
    assert table.control_f1_difference[[PLAIN, *METHODS]].tolist() == pytest.approx([10, 20, -10])
    assert table.plain_f1_difference[["cross_entropy", *METHODS]].tolist() == pytest.approx(
        [-10, 10, -20]
    )
    assert pd.isna(table.control_f1_difference["cross_entropy"])
    assert pd.isna(table.plain_f1_difference[PLAIN])
    assert table.training_flops.to_dict() == dict(
        zip(COSTS.objective, COSTS.training_flops, strict=True)
    )
    tested = table.control_f1_p[table.role == STUDENT].dropna()
    assert list(table.control_f1_p_holm.dropna()) == pytest.approx(statistics.holm(list(tested)))


def test_test_sets_stand_side_by_side(answered):
    both = pd.concat([answered, answered.assign(test_set="far", f1=answered.f1 / 2)])
    table = methods_table.compare(both.reset_index(drop=True), COSTS)
    wide = methods_table.domains(table)
    assert list(wide.columns)[-2:] == ["near", "far"] and len(wide) == 4
    by_name = wide.set_index("objective")
    assert by_name.near["better"].startswith("70.0 [+20.0 (")
    assert by_name.far["better"].startswith("35.0 [+10.0 (")
    assert by_name.near["cross_entropy"] == "50.0", "the control itself"


def test_a_sweep_over_teachers_is_no_line_of_the_table(answered):
    control = {"teacher": GOLD_ONLY, "objective": "cross_entropy", "articles": 40}
    taught = {"teacher": "control of 20", "arm": SMALLER_TEACHER, "articles": 40}
    swept = [answered, rows(CONTROL, 0.9, depth=20, **control), rows(STUDENT, 0.8, **taught)]
    larger = COSTS.assign(student="f-20", training_flops=100.0)
    table = methods_table.compare(pd.concat(swept, ignore_index=True), pd.concat([COSTS, larger]))
    pd.testing.assert_frame_equal(table, methods_table.compare(answered, COSTS))


def test_the_answer_counts_methods_and_names_the_best_student(answered):
    table = methods_table.compare(answered, COSTS)
    assert methods_table.answer(table) == (
        "On near, zero-shot, 2 methods have answered: 1 significantly above the control, 1 below"
        " it. The best distilled student learns by better and has 70.0 F1. Its difference to the"
        " control is +20.0 (20.0 to 20.0), in loyalty to the teacher +0.0 (0.0 to 0.0). (1 training"
        " seed: others may differ.)\n"
    )
    few = methods_table.compare(answered[~answered.objective.isin(METHODS)], COSTS)
    assert "no method but plain distillation has answered yet" in methods_table.answer(few)


def test_no_method_stands_in_for_plain_distillation_that_has_not_answered(answered):
    table = methods_table.compare(answered[answered.objective != PLAIN], COSTS)
    assert table.plain_f1_difference.isna().all() and table.control_f1_difference.notna().sum() == 2
    assert "2 methods have answered: 1 significantly above" in methods_table.answer(table)


def test_exact_match_and_loyalty_have_differences_too(answered):
    moved = answered.assign(
        exact_match=answered.f1 / 2, loyalty=answered.objective.map({"better": 0.9}).fillna(0.6)
    )
    table = methods_table.compare(moved, COSTS).set_index("objective")
    assert table.control_exact_match_difference["better"] == pytest.approx(10)
    assert table.plain_exact_match_difference["worse"] == pytest.approx(-10)
    assert table.control_loyalty_difference[[PLAIN, "better"]].tolist() == pytest.approx([0, 30])


def test_a_control_is_not_among_those_that_are_tested(answered):
    table = methods_table.compare(answered, COSTS).set_index("objective")
    assert pd.notna(table.plain_f1_p["cross_entropy"])
    assert pd.isna(table.plain_f1_p_holm["cross_entropy"])


def test_the_conclusion_tells_who_is_significantly_nearer_to_the_teacher(answered):
    loyalty = answered.objective.map({"better": 0.9, "worse": 0.5}).fillna(0.6)
    near = answered.assign(loyalty=loyalty)
    table, fidelity = methods_table.compare(near, COSTS), correlations(near)
    text = methods_table.conclusion(table, fidelity)
    assert (
        "loyalty to the teacher, compared with the control's, is significantly higher with better;"
        " significantly lower with worse; not significantly different with forward_kl." in text
    )
    assert "rank correlation" not in text and "drawn with replacement" in text


def test_the_least_detectable_difference_is_that_of_holms_first_step(answered):
    noise = np.random.default_rng(0).normal(0, 0.2, len(answered))
    noisy = answered.assign(f1=answered.f1 + noise)
    table = methods_table.compare(noisy, COSTS).set_index("objective")
    control, better = (noisy[noisy.objective == name] for name in ("cross_entropy", "better"))
    single = contrasts.difference(better, control)["detectable"]
    assert table.control_f1_detectable["better"] == pytest.approx(single * statistics.stricter(3))
    shown = methods_table.shown(table.reset_index()).set_index("objective")
    least = shown["MDE, F1 minus plain"]
    assert least["cross_entropy"] == "–" and least["better"] != "–", "controls are not tested"


def test_loyalty_that_was_not_tested_is_not_told(answered):
    table = methods_table.compare(answered.assign(loyalty=np.nan), COSTS)
    text = methods_table.conclusion(table, correlations(answered))
    assert "significantly higher" not in text and "not significantly different" not in text


def frontier(table: pd.DataFrame) -> Axes:
    """The panel of a table of one test set."""
    (axis,) = figures.methods(table, NOTHING, NOTHING)["frontier"][0].axes
    return axis


def handles(axis: Axes) -> dict:
    """What a panel draws, by its label."""
    return dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))


def test_the_frontier_draws_the_interval_of_each_difference_to_the_control(answered):
    table = methods_table.compare(answered, COSTS).assign(control_f1_low=-12, control_f1_high=22)
    drawn = handles(frontier(table))
    level = "control of as many steps"
    assert set(drawn) == {"control", level, PLAIN, *METHODS}
    assert list(drawn[level].get_ydata()) == pytest.approx([50, 50])
    for objective in (PLAIN, *METHODS):
        point, _, (bar,) = drawn[objective]
        (line,) = table[table.objective == objective].itertuples()
        assert np.hstack(point.get_data()) == pytest.approx([line.training_flops, line.f1])
        assert bar.get_segments()[0][:, 1] == pytest.approx([50 - 12, 50 + 22])


def test_only_the_control_is_a_square_and_only_several_budgets_are_joined(answered):
    table = methods_table.compare(answered, COSTS)
    longer = table[table.role == CONTROL].assign(steps=10, training_flops=8.0, f1=55.0)
    for lines, style in ((table, "None"), (pd.concat([table, longer]), "--")):
        drawn = handles(frontier(lines.reset_index(drop=True)))
        assert (drawn["control"].get_linestyle(), drawn["control"].get_marker()) == (style, "s")
        assert "s" not in {drawn[objective][0].get_marker() for objective in (PLAIN, *METHODS)}


def test_methods_of_the_same_cost_stand_side_by_side(answered):
    drawn = handles(frontier(methods_table.compare(answered, COSTS.assign(training_flops=4.0))))
    places = [drawn[objective][0].get_xdata()[0] for objective in (PLAIN, *METHODS)]
    assert places == sorted(set(places)) and places == pytest.approx(3 * [4], rel=0.02)


@pytest.mark.parametrize("reach", [1.0, 1.2, 3.0, 15.0, 90.0, 120.0, 1e6])
def test_the_axis_of_training_has_two_labels_whatever_its_range(answered, reach):
    costs = COSTS.assign(training_flops=[1.7e14, *3 * [1.7e14 * reach]])
    axis = frontier(methods_table.compare(answered, costs))
    axis.figure.draw_without_rendering()
    low, high = axis.get_xlim()
    ticks = [tick for tick in axis.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    assert len([tick for tick in ticks if tick.label1.get_text()]) >= 2


def test_a_line_names_its_runs_and_those_that_it_is_compared_with(answered):
    table = methods_table.compare(answered, COSTS)
    keys = {
        objective: run_ids.of(part) for objective, part in answered.groupby("objective", sort=False)
    }
    compared = {keys["cross_entropy"], keys[PLAIN]}
    for line in table.itertuples():
        assert line.runs == run_ids.joined(compared | {keys[line.objective]})
    assert list(figures.methods(table, NOTHING, NOTHING)["frontier"][1].runs) == list(table.runs)


def test_another_way_to_answer_is_a_line_of_the_table_and_no_method_more(answered):
    early = answered[answered.objective == "better"].assign(objective="better, exit 1/2")
    table = methods_table.compare(pd.concat([answered, early], ignore_index=True), COSTS)
    assert list(table.objective[methods_table.other_way(table)]) == ["better, exit 1/2"]
    assert "2 methods have answered: 1 significantly above" in methods_table.answer(table)
    assert "better, exit 1/2" not in handles(frontier(table))
