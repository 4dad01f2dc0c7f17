"""What tables and conclusions say."""

import numpy as np
import pandas as pd
import pytest
from invented import FREE, choice, compared, table_of

from studylib.analysis import (
    conclusions,
    contrasts,
    figures,
    prompting,
    retention,
    tables,
    teacher_vs_student,
)
from studylib.core.labels import FINE_TUNED_SHOWN, OTHER_LOSSES, SMALLER_TEACHER

# F1 of students by who taught them
TAUGHT = {"fine-tuned": 0.6, "base": 0.4, "smaller, fine-tuned": 0.5, "self-distillation": 0.45}
# F1 of a student by how it was trained, and asked
F1_BY_PROMPTS = {
    "zero-shot": {"zero-shot": 0.5, "one-shot": 0.45},
    "one-shot": {"zero-shot": 0.4, "one-shot": 0.6},
}


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (
            {("student", 5): 0.76, ("student", 2): 0.4, ("control", 5): 0.72},
            [
                "There is no claim without intervals. Estimates alone are compared with 90 % of F1",
                "Students pass down to 25.0 % fewer parameters",
                "keeps 95.0 % of F1 and 95.0 % of EM",
                "40.0 % fewer parameters (80.0 % fewer non-embedding) and keeps 50.0 %",
                "- **near, student − control**: 5 layers: +4.0 points of F1.",
            ],
        ),
        (
            {("student", 5): 0.6},
            ["Estimates alone are compared with 90 % of F1 and EM. No student passes."],
        ),
    ],
)
def test_the_conclusion_says_what_the_numbers_say(scores, words):
    text = conclusions.capacity_conclusion(*compared(scores), FREE, "zero-shot")
    assert all(word in text for word in words), text
    assert "No intervals on near: 100 questions of 4 articles are too few" in text


def test_the_conclusion_is_silent_below_the_floor():
    text = conclusions.capacity_conclusion(
        *compared({("student", 5): 0.09}, teacher=0.1), FREE, "zero-shot"
    )
    assert "nothing is said" in text


def test_with_enough_articles_intervals_are_shown_and_decide():
    kept, gained = compared({("student", 5): 0.76, ("student", 2): 0.71}, articles=30)
    assert "76.0 (76.0 to 76.0)" in tables.table(kept) and "these seeds only" in tables.table(kept)
    text = conclusions.capacity_conclusion(kept, gained, FREE, "zero-shot")
    assert (
        "The test is to keep at least 90 % of F1 and EM. Students pass down to 25.0 % fewer" in text
    )
    for metric in (
        "f1",
        "exact_match",
    ):  # either of the two lower bounds below the margin is enough to claim nothing
        bound = f"retention_{metric}_low"
        assert (
            "No student passes: the largest is undecided, as 90 % lies within its interval of"
            in conclusions.capacity_conclusion(
                kept.assign(**{bound: kept[bound] - 6}), gained, FREE, "zero-shot"
            )
        )


def test_a_difference_is_claimed_only_where_its_interval_leaves_out_zero():
    kept, gained = compared(
        {("student", 5): 0.76, ("control", 5): 0.7, ("student", 2): 0.71, ("control", 2): 0.71},
        articles=30,
    )
    text = conclusions.capacity_conclusion(kept, gained.assign(detectable=1.5), FREE, "zero-shot")
    both = (
        "- **near, student − control**: 5 layers: +6.0 (6.0 to 6.0); 2 layers: +0.0 (0.0 to 0.0)"
        " points of F1. Significant after Holm: "
    )
    assert f"{both}5 layers; MDE of the others 1.5." in text
    text = conclusions.capacity_conclusion(
        kept, gained.assign(detectable=[1.5, 2.5], p_holm=0.06), FREE, "zero-shot"
    )
    assert f"{both}none; MDE 1.5 to 2.5." in text
    line = gained[gained.student == "f-5"].assign(detectable=1.5)
    assert (
        "5 layers: +6.0 points of F1 (6.0 to 6.0), p < 0.001 after Holm: significant. Loyalty"
        in conclusions.capacity_conclusion(kept, line, FREE, "zero-shot")
    )
    nothing = (
        "5 layers: +6.0 points of F1 (6.0 to 6.0), p = 0.060 after Holm: not significant, MDE 1.5."
    )
    assert nothing in conclusions.capacity_conclusion(
        kept, line.assign(p_holm=0.06), FREE, "zero-shot"
    )
    assert (
        "| fine-tuned | zero-shot | near | 5 | +6.0 (6.0 to 6.0) | < 0.001 | < 0.001 |"
        in tables.contrasts(gained)
    )
    few = tables.contrasts(compared({("student", 5): 0.76, ("control", 5): 0.7})[1])
    assert "| +6.0 | – | – | – |" in few
    assert tables.contrasts(compared({("student", 5): 0.76})[1]).startswith(
        "Nothing is compared: no two models"
    )


def test_pairs_together_are_judged_where_that_was_declared_and_described_elsewhere():
    scores = {("student", 5): 0.76, ("control", 5): 0.7, ("student", 2): 0.71, ("control", 2): 0.7}
    rows = table_of(scores, articles=30)
    kept, gained = compared(scores, articles=30)
    described, declared = (
        conclusions.capacity_conclusion(
            kept, gained, FREE, "zero-shot", pooled=contrasts.pooled(rows, declared=by_yaml)
        )
        for by_yaml in (False, True)
    )
    start = "- **near, student − control, 2 pairs together (2 sizes, zero-shot)**: "
    assert f"{start}+3.5 (3.5 to 3.5) points of F1, MDE 0.0. Loyalty" in described
    assert "This is described, not tested" in described
    primary = (
        "points of F1 (3.5 to 3.5) on 750 untouched questions, p < 0.001: significant. Loyalty"
    )
    assert f"{start}+3.5 {primary}" in declared
    assert "It is of 1 training of each model." in declared
    primary = contrasts.pooled(rows, declared=True, complete=False)
    unfinished = conclusions.capacity_conclusion(kept, gained, FREE, "zero-shot", pooled=primary)
    assert "It is tested when all evaluations are done" in unfinished and "p <" not in unfinished
    answer = conclusions.capacity_answer(
        kept, gained, "zero-shot", pooled=contrasts.pooled(rows, declared=True)
    )
    gain = (
        "student minus control in F1 is +3.5 points (3.5 to 3.5) on near (750 untouched questions)"
    )
    assert f"the mean of all sizes, {gain}, significant" in answer


def test_the_claim_stops_at_the_first_student_that_falls_short():
    """ "Down to" is true of every student above: a lucky smaller one changes nothing."""
    kept, gained = compared(
        {("student", 5): 0.76, ("student", 4): 0.5, ("student", 2): 0.78}, articles=30
    )
    assert "Students pass down to 25.0 % fewer" in conclusions.capacity_conclusion(
        kept, gained, FREE, "zero-shot"
    )
    kept, gained = compared({("student", 5): 0.5, ("student", 2): 0.78}, articles=30)
    assert "No student passes: the largest keeps less, as 90 % lies above its intervals of F1" in (
        conclusions.capacity_conclusion(kept, gained, FREE, "zero-shot")
    )


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (88.0, 93.0, "the largest is undecided, as 90 % lies within its intervals of F1 and EM."),
        (92.0, 93.0, "the largest is undecided, as 90 % lies within its interval of EM."),
        (80.0, 89.9, "the largest keeps less, as 90 % lies above its interval of F1."),
    ],
)
def test_what_is_undecided_is_no_failure(low, high, words):
    """By either score: the other is undecided here. Of the control it is said by its score."""
    scores = {("student", 5): 0.72, ("student", 2): 0.5, ("control", 5): 0.5, ("control", 2): 0.5}
    kept, gained = compared(scores, articles=30)
    other = {"retention_exact_match_low": 89.0, "retention_exact_match_high": 91.0}
    bounds = {"retention_f1_low": low, "retention_f1_high": high} | other
    students = kept.role == "student"
    bounded = kept.assign(**{name: kept[name].mask(students, end) for name, end in bounds.items()})
    text = conclusions.capacity_conclusion(bounded, gained, FREE, "zero-shot")
    assert f"No student passes: {words}" in text
    verdict = "undecided" if "undecided" in words else "no"
    answer = conclusions.capacity_answer(bounded, gained, "zero-shot")
    assert f"Students: near {verdict}. Controls: near no." in answer


def test_loyalty_stands_beside_student_minus_control():
    scores = {(role, size): 0.7 for role in ("student", "control") for size in (5, 4, 2)}
    kept, gained = compared(scores, articles=30)
    names = ("loyalty", "loyalty_low", "loyalty_high")
    lines = {"f-5": (1.0, 0.5, 1.5), "f-4": (0.0, -0.5, 0.5), "f-2": (-1.0, -1.5, -0.5)}
    for name, values in zip(names, zip(*map(lines.get, gained.student), strict=True), strict=True):
        gained[name] = values
    assert (
        "Loyalty to the teacher (intervals not corrected) is higher for 5 layers (+1.0, 0.5 to"
        " 1.5); it is lower for 2 layers (-1.0, -1.5 to -0.5); it is undecided for 4 layers (+0.0,"
    ) in conclusions.capacity_conclusion(kept, gained, FREE, "zero-shot")
    answer = conclusions.capacity_answer(kept, gained, "zero-shot")
    assert "In loyalty to the teacher it is -1.0 to +1.0 points (1 of 3 intervals above" in answer


def test_ways_of_cutting_are_judged_apart():
    kept, gained = compared(
        {
            ("student", 5): 0.5,
            ("student", "5x8"): 0.78,
            ("student", "2x8"): 0.77,
            ("control", "2x8"): 0.7,
        },
        articles=30,
    )
    both, layers, added = sorted(
        conclusions.capacity_conclusion(kept, gained, FREE, "zero-shot").splitlines()[:3]
    )
    assert layers.startswith(
        "- **near, layers**: The test is to keep at least 90 % of F1 and EM. No student passes: the"
        " only one so far keeps less, as 90 % lies above its intervals of F1 and EM. The only"
    )
    assert (
        both.startswith("- **near, layers and neurons**")
        and "Students pass down to 36.0 % fewer" in both
    )
    assert added.startswith(
        "- **near, student − control**: 2 layers of 8 neurons: +7.0 points of F1"
    )
    drawn = figures.retention_figure(kept, kept.assign(seed=0), "zero-shot")
    labels = {text.get_text() for text in drawn.legends[0].get_texts()}
    assert {
        "student, fine-tuned init: layers",
        "student, fine-tuned init: layers and neurons",
    } <= labels


def test_a_conclusion_on_an_eval_prompt_of_no_model_is_on_the_first():
    kept, gained = compared({("student", 5): 0.76}, articles=30)
    assert conclusions.capacity_conclusion(
        kept, gained, FREE, "one-shot"
    ) == conclusions.capacity_conclusion(kept, gained, FREE, "zero-shot")


def test_what_an_answer_costs_is_told_once_a_student_with_the_range_of_its_time():
    kept, gained = compared({("student", 5): 0.76}, articles=30)
    line = {
        "family": "f",
        "student": "f-5",
        "role": "student",
        "init": "fine-tuned",
        "teacher": "fine-tuned",
        "objective": "forward_kl",
        "time": 50.0,
        "time_low": 45.0,
        "time_high": 60.0,
    }
    line |= {"memory": 30.0, "teacher_memory": 40.0, "disk": 10.0, "teacher_disk": 50.0}
    costs = pd.DataFrame([line | {"test_set": name} for name in ("near", "far")])
    text = conclusions.capacity_conclusion(kept, gained, costs, "zero-shot")
    assert (
        text.count(
            "percent of the teacher's: 5 layers: 50.0 (45.0 to 60.0) / 75.0 / 20.0. Time is"
            " measured"
        )
        == 1
    )


def test_the_choice_of_teachers_is_told_by_its_declared_contrast_and_the_correlation():
    rows = choice(**TAUGHT)
    kept, gained, scores = (
        retention.compare(rows),
        contrasts.contrasts(rows, "fine-tuned"),
        teacher_vs_student.compare(rows),
    )
    text = conclusions.choice_conclusion(
        gained.assign(detectable=1.5), scores, "fine-tuned", "zero-shot"
    )
    assert (
        "the fine-tuned teacher adds +10.0 points of F1 (10.0 to 10.0) on 160 untouched questions,"
        " p < 0.001: significant." in text
    )
    assert (
        "Of 3 other teachers 2 make a significant difference: base (-10.0), self-distillation"
        " (-5.0)." in text
    )
    only = "Over the 4 teachers with a score, and for them only, the scores of teacher and student"
    assert f"{only} correlate by 0.9" in text
    table = tables.contrasts(gained)
    assert (
        "| base | zero-shot | near | 5 | fine-tuned | +10.0 (10.0 to 10.0) | < 0.001 | primary |"
        in table
        and "| base | zero-shot | near | 5 | smaller, fine-tuned | +0.0" in table
    )
    assert "| teacher |" in tables.table(kept) and set(kept.teacher[kept.role == "teacher"]) == {
        "fine-tuned"
    }


@pytest.fixture(scope="module")
def worth():
    """What prompting changes for the teacher and a student, each trained and asked in two ways."""
    frames = []
    for trained, scores in F1_BY_PROMPTS.items():
        for asked, f1 in scores.items():
            rows = choice(**{"fine-tuned": f1})
            frames.append(
                rows[rows.teacher == "fine-tuned"].assign(train_prompt=trained, eval_prompt=asked)
            )
    modes = list(F1_BY_PROMPTS)
    return prompting.prompting(pd.concat(frames), modes, modes).assign(detectable=1.5)


@pytest.fixture(scope="module")
def gains(worth):
    """What prompting changes by the word that a question begins with, made up: for one of two kinds
    significantly otherwise than for the others, and one that has too few questions."""
    table = pd.DataFrame(
        {
            "trait": "asks",
            "value": ["who", "why", "when"],
            "difference": [4.0, -1.0, 9.0],
            "low": [3.0, -2.0, np.nan],
            "apart": [2.0, 1.0, np.nan],
            "apart_low": [1.0, -1.0, np.nan],
            "apart_high": 3.0,
        }
    )
    return table.assign(family=worth.family[0], test_set="near", high=table.low + 2)


@pytest.mark.parametrize(
    ("ways", "points"),
    [
        ("one-shot in training and evaluation, not zero-shot", 10),
        ("trained one-shot: asked one-shot, not zero-shot", 20),
        ("asked zero-shot: trained one-shot, not zero-shot", -10),
    ],
)
def test_the_worth_of_prompting_is_the_difference_between_two_ways(worth, ways, points):
    students = worth[worth.role == "student"].set_index("ways").difference
    assert students[ways] == pytest.approx(points)


def test_the_worth_of_prompting_is_told_by_its_declared_comparison(worth, gains):
    text = conclusions.prompting_conclusion(worth, gains, list(F1_BY_PROMPTS))
    assert (
        "- **near**: Training and evaluating the student one-shot, not zero-shot, changes its score"
        " by +10.0 points of F1 (10.0 to 10.0) on 160 untouched questions, p < 0.001: significant."
        in text
    )
    assert (
        "- **near, in training and evaluation**: teacher, one-shot in training and evaluation, not"
        " zero-shot: +0.0 points of F1 (0" in text
    )
    (declared,) = (line for line in tables.prompting(worth).splitlines() if "| primary |" in line)
    assert "| one-shot in training and evaluation, not zero-shot | +10.0" in declared


def test_what_asking_alone_changes_is_told_as_a_range_with_the_significant_comparisons(
    worth, gains
):
    text = conclusions.prompting_conclusion(worth, gains, list(F1_BY_PROMPTS))
    plain, last = (
        "student, trained zero-shot: asked one-shot, not zero-shot (-5.0)",
        "student, trained one-shot: asked one-shot, not zero-shot (+20.0)",
    )
    asking = (
        f"-5.0 to +20.0 points of F1 in 4 comparisons. Significant after Holm: {plain}; {last}; MDE"
        " of the others 1.5."
    )
    assert f"- **near, in evaluation**: {asking}\n" in text


def test_what_prompting_changes_by_question_is_described_and_not_tested(worth, gains):
    text = conclusions.prompting_conclusion(worth, gains, list(F1_BY_PROMPTS))
    assert (
        "by question**: On all questions, the same change differs from that of the other questions"
        " for 1 of 2 kinds of question: asks who: +2.0 (1.0 to 3.0). This is described, not"
        " tested.\n" in text
    )


def test_the_worth_of_prompting_has_no_significance_without_tests_and_no_kinds_without_traits(
    worth, gains
):
    untested = worth.assign(p_holm=np.nan)
    text = conclusions.prompting_conclusion(untested, gains[:0], list(F1_BY_PROMPTS))
    assert "ignificant" not in text and "by question" not in text


def test_what_a_student_learns_of_a_demonstration_that_it_never_sees_has_a_sentence_of_its_own():
    modes = ["zero-shot", "one-shot"]
    each = {("fine-tuned", mode): 0.5 for mode in modes} | {
        (FINE_TUNED_SHOWN, "zero-shot"): 0.6,
        (FINE_TUNED_SHOWN, "one-shot"): 0.4,
    }
    frames = [
        choice(**{name: value})[lambda rows: rows.role == "student"].assign(eval_prompt=mode)
        for (name, mode), value in each.items()
    ]
    worth = prompting.prompting(pd.concat(frames), modes, modes)
    text = conclusions.prompting_conclusion(
        worth, prompting.by_trait(pd.concat(frames), modes), modes
    )
    assert (
        "**near, context distillation**: student, asked zero-shot: with context distillation, not"
        " without: +10.0 points of F1" in text
    )
    assert (
        "**near, context distillation, with a demonstration in evaluation**: student, asked"
        " one-shot: with context distillation, not without: -10.0 points of F1" in text
    )


def test_the_conclusion_names_what_is_compared_besides():
    kept, gained = compared(
        {
            ("student", 5): 0.6,
            ("student", 2): 0.4,
            (OTHER_LOSSES, 5): 0.7,
            (SMALLER_TEACHER, 2): 0.3,
            ("control", 5): 0.4,
        },
        articles=40,
    )
    text = conclusions.capacity_conclusion(kept, gained, FREE, "zero-shot")
    assert (
        "- **near, other losses − main losses**: 5 layers by taid: +10.0 points of F1 (10.0 to"
        " 10.0), p < 0.001 after Holm: significant." in text
    )
    assert (
        "- **near, smaller teacher − uncut teacher**: 2 layers under the control of 5: -10.0 points"
        in text
    )
    two = pd.concat([gained, gained.assign(student="f-3", difference=1.0, low=-1.0, high=3.0)])
    listed = (
        "5 layers by taid: +10.0 (10.0 to 10.0); 3 layers by taid: +1.0 (-1.0 to 3.0) points of F1."
        " Significant after Holm: 5 layers by taid;"
    )
    assert listed in conclusions.capacity_conclusion(kept, two, FREE, "zero-shot")


def test_a_family_is_named_where_there_are_several():
    kept, gained = compared({("student", 5): 0.6, ("control", 5): 0.4}, articles=40)
    several = [
        pd.concat([frame, frame.assign(family="g", student=frame.student.str.replace("f-", "g-"))])
        for frame in (kept, gained)
    ]
    assert (
        "- **f, near**" in (text := conclusions.capacity_conclusion(*several, FREE, "zero-shot"))
        and "- **g, near, student − control**" in text
    )
    for table, single in (
        (tables.table(several[0]), tables.table(kept)),
        (tables.contrasts(several[1]), tables.contrasts(gained)),
    ):
        assert table.startswith("| family |") and "family |" not in single
    assert "In every line: family f" in tables.table(kept)


def test_the_answer_says_how_far_and_what_the_teacher_adds_beside_what_the_paper_reports():
    kept, gained = compared(
        {("student", 5): 0.76, ("student", 2): 0.4, ("control", 5): 0.7, ("control", 2): 0.4},
        articles=30,
    )
    answer = conclusions.capacity_answer(kept, gained, "zero-shot")
    assert answer.startswith(
        "Are at least 90 % of F1 and EM kept? Students: near yes (up to 25.0 % fewer parameters)."
        " Controls: near no. At 40.0 % fewer (Datta et al. (2025): up to 57.1 %, by model names)"
        " our student keeps 50.0 % of F1 (50.0 to 50.0) and 50.0 % of EM (50.0 to 50.0) on near."
        " In F1, student minus control is +0.0 to +6.0 points (1 of 2 significant; MDE 0.0). In"
        " loyalty to the teacher it is +0.0 points (0 of 2 intervals above 0). (Zero-shot"
    )
    assert answer.endswith("(Zero-shot, 1 training seed: others may differ.)\n")
    assert "1 to 5 training seeds" in conclusions.capacity_answer(
        kept.assign(seeds=[1, 5, 5, 5, 5]), gained, "zero-shot"
    )
    none = kept[kept.student != "f-5"]
    assert conclusions.capacity_answer(none, gained, "zero-shot").startswith(
        "Are at least 90 % of F1 and EM kept? Students: near no. Controls: near no. At 40.0 % fewer"
    )
    few = conclusions.capacity_answer(*compared({("student", 5): 0.76}), "zero-shot")
    assert few.startswith(
        "Are at least 90 % of F1 and EM kept? Students, by estimates alone: near yes (up to 25.0 %"
    )
    assert "significant" not in few
    of_base = kept.assign(init=kept.init.where(kept.role == "teacher", "base"))
    assert conclusions.capacity_answer(of_base, gained, "zero-shot").startswith(
        "Nothing to compare"
    )
    weak = kept.assign(retention_f1=float("nan"))
    assert conclusions.capacity_answer(weak, gained, "zero-shot").startswith(
        "The teacher is below 20 F1: nothing is said about what is kept. In F1, student minus"
    )
    assert (
        conclusions.capacity_answer(*compared({}), "zero-shot")
        == "Nothing to compare was answered yet.\n"
    )


def test_the_answer_to_whom_to_learn_from_is_the_declared_contrast_and_the_significant_others():
    gained = contrasts.contrasts(choice(**TAUGHT), "fine-tuned")
    text = conclusions.choice_answer(gained, "fine-tuned", "zero-shot")
    declared = "the fine-tuned teacher adds +10.0 points (10.0 to 10.0) on near"
    nearer = "Loyalty to the teacher: +0.0 points (0.0 to 0.0) on near."
    assert f"{declared} (160 untouched questions), significant. {nearer} " in text
    assert (
        "Of 3 other teachers these make a significant difference: base (-10.0 on near),"
        " self-distillation (-5.0 on near). (Zero-shot, 1 training seed: oth" in text
    )
    chance = conclusions.choice_answer(gained.assign(p_holm=0.06), "fine-tuned", "zero-shot")
    assert "questions), not significant. " in chance
    assert "Of 3 other teachers none makes a significant" in chance
    none = conclusions.choice_answer(gained[:0], "fine-tuned", "zero-shot")
    assert none == "Nothing to compare was answered yet.\n"


def test_the_answer_to_whom_to_learn_from_tells_of_no_others_where_there_are_none():
    gained = contrasts.contrasts(choice(**{"fine-tuned": TAUGHT["fine-tuned"]}), "fine-tuned")
    assert "other teachers" not in conclusions.choice_answer(gained, "fine-tuned", "zero-shot")


def test_the_correlation_over_fine_tuned_teachers_stands_beside_that_over_all():
    rows = choice(**TAUGHT)
    gained, scores = contrasts.contrasts(rows, "fine-tuned"), teacher_vs_student.compare(rows)
    assert (
        "by 0" in (text := conclusions.choice_conclusion(gained, scores, "fine-tuned", "zero-shot"))
        and "fine-tuned teachers the correlation" not in text
    ), "too few"
    text = conclusions.choice_conclusion(
        gained,
        scores.assign(fine_tuned_r=0.25, fine_tuned_r_low=-0.5, fine_tuned_r_high=0.75),
        "fine-tuned",
        "zero-shot",
    )
    assert "over the 3 fine-tuned teachers the correlation is 0.25 (-0.50 to 0.75)." in text


def test_the_answer_to_what_a_demonstration_is_worth_is_by_where_it_is_seen():
    scores = {
        "zero-shot": {"zero-shot": 0.5, "one-shot": 0.45},
        "one-shot": {"zero-shot": 0.4, "one-shot": 0.6},
    }
    both = [
        choice(**{"fine-tuned": value})[lambda rows: rows.teacher == "fine-tuned"].assign(
            train_prompt=trained, eval_prompt=asked
        )
        for trained, modes in scores.items()
        for asked, value in modes.items()
    ]
    worth = prompting.prompting(pd.concat(both), list(scores), list(scores))
    text = conclusions.prompting_answer(worth, list(scores))
    assert (
        "Training and evaluating one-shot instead of zero-shot changes a student's F1 by +10.0"
        " points (10.0 to 10.0) on near (160 untouched questions), significant (Datta et al. (2025)"
        " report gains)." in text
    )
    assert (
        "A demonstration in evaluation alone changes the F1 of a student trained zero-shot by -5.0"
        " points (1 of 1 significant)." in text
    )


def test_the_law_of_capacity_gap_in_words():
    line = dict(
        student="Small",
        train_prompt="zero-shot",
        eval_prompt="zero-shot",
        test_set="near",
        teachers=4,
        least=1.4,
        most=6.0,
    )
    fitted = pd.DataFrame([line | {"ratio": 2.2, "low": 1.8, "high": 3.1, "within": 0.9}])
    expected = (
        "- **Small, near, law of capacity gap**: Among 4 teachers of 1.4 to 6.0 times its"
        " parameters, it does best under one of 2.2 times (1.8 to 3.1), in 90 % of the draws. The"
        " law predicts 2.5.\n"
    )
    assert (
        conclusions.summits(fitted, "zero-shot") == expected
        and conclusions.summits(fitted, "one-shot") == ""
    )
    none = fitted.assign(ratio=float("nan"))
    assert (
        "No size between was best among 4 teachers of 1.4 to 6.0 times its parameters. The law"
        " predicts 2.5 times." in conclusions.summits(none, "zero-shot")
    )


def looked_at(**scores):
    """A comparison of all questions, half of which were looked at, with the one of the other half,
    where scores are others."""
    kept, gained = compared(
        {("student", 5): 0.76, ("student", 2): 0.74, ("control", 5): 0.78, ("control", 2): 0.3},
        articles=30,
    )
    claimed, _ = compared(
        {("student", 5): 0.5, ("student", 2): 0.4, ("control", 5): 0.79, ("control", 2): 0.3}
        | scores,
        articles=15,
    )
    bounds = {
        bound: claimed[name]
        for name in ("retention_f1", "retention_exact_match")
        for bound in retention.BOUNDS[name]
    }
    return kept.assign(untouched=375), gained.assign(untouched=375), claimed.assign(**bounds)


def test_the_claim_rests_on_untouched_questions_alone():
    """On all questions both students keep the margin; on those that were not looked at, none does,
    but a control does."""
    kept, gained, claimed = looked_at()
    assert "Students pass down to 40.0 % fewer" in conclusions.capacity_conclusion(
        kept.assign(untouched=kept.n), gained, FREE, "zero-shot"
    )
    text = conclusions.capacity_conclusion(kept, gained, FREE, "zero-shot", claimed)
    (line,) = (line for line in text.splitlines() if line.startswith("- **near**"))
    assert line.startswith(
        "- **near**: The test is to keep at least 90 % of F1 and EM on the 375 of 750 questions"
        " that were not looked at while choices were made. No student passes: the largest keeps"
        " less, as 90 % lies above its intervals of F1 and EM. It has 25.0 % fewer"
        " parameters (50.0 % fewer non-embedding) and keeps 62.5 % "
    )
    assert "Controls pass down to 25.0 % fewer" in line
    assert (
        line.endswith("keeps 95.0 % of F1 (95.0 to 95.0) and 95.0 % of EM (95.0 to 95.0).")
        and "On all questions the largest" in line
    )
    answer = conclusions.capacity_answer(kept, gained, "zero-shot", claimed)
    assert answer.startswith(
        "Are at least 90 % of F1 and EM kept? Students: near no. Controls: near yes (up to 25.0 %"
    )
    assert "At 40.0 % fewer (Datta et al. (2025): up to 57.1 %, by model names) our" in answer
    assert answer.endswith("; what is kept is of untouched questions.)\n")


def test_nothing_is_claimed_of_questions_that_were_all_looked_at():
    """And none on all questions, if it is not said which comparison is of untouched ones."""
    kept, gained, claimed = looked_at()
    for comparison_of_none in (claimed[:0], None):
        text = conclusions.capacity_conclusion(kept, gained, FREE, "zero-shot", comparison_of_none)
        assert (
            "- **near**: There is no claim: all 750 questions were looked at while choices were"
            " made. The smallest student has" in text
        )
        answer = conclusions.capacity_answer(kept, gained, "zero-shot", comparison_of_none)
        assert answer.startswith(
            "Nothing is claimed: all questions were looked at while choices were made. In F1"
        )


def test_tables_say_that_they_are_of_all_questions():
    kept, gained, _ = looked_at()
    sentence = (
        "Unless stated otherwise, all questions count. Some were looked at while choices were made:"
        " 375 of 750 on near."
    )
    assert all(
        sentence in text
        for text in (tables.table(kept), tables.headline(kept), tables.contrasts(gained))
    )
    assert "looked at" not in tables.table(kept.assign(untouched=kept.n))
