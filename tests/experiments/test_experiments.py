"""What is planned, without computing anything."""

from collections import Counter

import pytest
from miniatures import FACTS, chosen, planned, prompted, stages, students

from studylib.core.errors import StudyError
from studylib.core.labels import OTHER_LOSSES, SMALLER_TEACHER
from studylib.runs import plan_parts
from studylib.store.run import Input


def alternative(*sizes, **losses) -> dict:
    """Other losses for these sizes."""
    return {"sizes": list(sizes), "stages": stages(**losses)}


def test_a_plan_is_made_without_computing_or_writing(raw, tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_HOME", str(tmp_path / "store"))
    plan = planned(raw)
    assert [run.kind for run in plan.runs].count("student") == 6
    kinds_of = Counter(run.kind for run in plan.runs)
    assert (kinds_of["answers"], kinds_of["loyalty"]) == (
        14,
        12,
    )  # seven models, six of them with a teacher, asked in two ways
    assert (
        kinds_of["states"] == 1
    )  # the teacher's on the training rows: models are compared by what comes with their answers
    assert not (tmp_path / "store").exists()


def test_runs_stand_after_what_they_build_on(raw):
    seen = set()
    for run in planned(raw).runs:
        assert all(id(need) in seen for need in run.needs.values() if not isinstance(need, Input))
        seen.add(id(run))


def test_student_and_control_differ_in_nothing_but_their_targets(raw):
    by_name = students(planned(raw))
    for start in ("fine-tuned", "base"):
        taught, control = by_name["student", start, "mini-3"], by_name["control", start, "mini-3"]
        assert {k: v for k, v in taught.parameters.items() if k != "stages"} == {
            k: v for k, v in control.parameters.items() if k != "stages"
        }
        assert control.parameters["stages"] == [{"steps": 2, "losses": {"cross_entropy": 1.0}}]
        assert "teacher" not in control.needs and "states" not in control.needs
        assert all(taught.needs[name] is control.needs[name] for name in control.needs)
    cut_from = {
        start: by_name["student", start, "mini-3"].needs["init"].needs["init"]
        for start in ("fine-tuned", "base")
    }
    assert cut_from["base"].value == raw and cut_from["fine-tuned"].kind == "teacher"


def test_who_splits_words_matters_where_they_find_the_demonstration(raw):
    for trained, asked in (
        ("zero-shot", "one-shot retrieved"),
        ("one-shot retrieved", "zero-shot"),
    ):
        for run in planned(raw, train_prompt=trained, eval_prompts=[asked]).runs:
            mode = run.parameters.get("eval_prompt") or run.parameters["train_prompt"]
            assert "scoring" in run.recipe or not mode.endswith("retrieved")
            assert run.kind != "teacher" or ("scoring" in run.recipe) == (
                trained == "one-shot retrieved"
            )


def test_rates_come_through_papermill_as_text(raw):
    given, injected = (planned(raw, teacher_lr=rate) for rate in (1e-3, "1e-3"))
    assert [run.parameters for run in given.runs] == [run.parameters for run in injected.runs]


def test_answers_are_in_the_precision_that_is_named_for_them_and_nothing_else_changes(raw):
    plain, lower = (
        planned(raw, precision={"training": "fp32", "answers": answers}, targets="sequence_kd")
        for answers in ("fp32", "bf16")
    )
    assert all(
        "precision" not in run.parameters for run in plain.runs if run.kind in ("answers", "cost")
    )
    asking = [run for run in lower.runs if run.kind in ("answers", "cost")]
    assert {run.needs["test"].label for run in asking} == {"train", "dev", "near"}
    assert {run.parameters["precision"] for run in asking} == {"bf16"}
    assert [
        run.parameters for run in lower.runs if run.kind not in ("answers", "cost", "loyalty")
    ] == [run.parameters for run in plain.runs if run.kind not in ("answers", "cost", "loyalty")]


def test_states_are_needed_only_where_the_teacher_does_not_run_beside(raw):
    stored, beside = (
        students(planned(raw, stages=stages(**{name: 1.0})))
        for name in ("forward_kl", "hidden_mse")
    )
    assert "states" in stored["student", "fine-tuned", "mini-3"].needs
    assert "states" not in beside["student", "fine-tuned", "mini-3"].needs


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"sizes": []}, "sizes"),
        ({"sizes": [0]}, "0 is no size"),
        ({"sizes": ["24x"]}, "'24x' is no size"),
        ({"sizes": [True]}, "True is no size"),
        ({"alternative": alternative(4, taid=1.0)}, "alternative names 4"),
        ({"alternative": alternative(taid=1.0)}, "alternative.sizes is empty"),
        ({"teacher_sizes": [2]}, "teacher_sizes names 2 alone"),
        ({"alternative": alternative(2, taaid=1.0)}, "taaid"),
        ({"teacher_sizes": [2, 4]}, "teacher_sizes names 4"),
        (
            {"alternative": {"sizes": [2], "stages": [{"steps": 3, "losses": {"taid": 1.0}}]}},
            "3 steps in all, stages 2",
        ),
        (
            {"sizes": [3, "3>2"], "from_base": [], "alternative": alternative("3>2", taid=1.0)},
            "alternative: 3>2 is cut in stages",
        ),
        (
            {"sizes": [3, "3>2"], "from_base": [], "teacher_sizes": ["3>2", 3]},
            "teacher_sizes: 3>2 is cut in stages",
        ),
        ({"teacher_sizes": [3, 2]}, "2 is no larger than its student, 3"),
        ({"teacher_sizes": [2, 3], "stages": stages(hidden_mse=1.0)}, "hidden states"),
        ({"from_base": ["3"]}, "from_base"),
        ({"train_prompt": "two-shot"}, "two-shot"),
        ({"eval_prompts": ["few"]}, "few"),
        ({"stages": [{"steps": 2, "losses": {"reverse": 1.0}}]}, "reverse"),
        ({"targets": "nothing"}, "targets must be 'gold'"),
        ({"lrs": []}, "lrs is empty"),
        ({"families": {"x": "gpt2"}}, "gpt2"),
        ({"seeds": []}, "seeds"),
        ({"families": {"a|b": "tiny:qwen2"}}, "cannot be a name in tables"),
        ({"dev": {"source": "path:README.md", "language": "fr"}}, "'fr'"),
        ({"seeds": [-1]}, "seed"),
        ({"seeds": ["a"]}, "seed"),
        ({"seeds": [1, 1]}, "twice"),
        ({"sizes": [2, 2]}, "twice"),
        ({"sizes": [2, "2"]}, "twice"),
        ({"sizes": [3, 2, "2>3"]}, "3 cannot be cut from 2"),
        ({"sizes": [3, 2, "3x9>2"]}, "2 cannot be cut from 3x9"),
        ({"sizes": [3, 2, "4>1"]}, "4>1 is cut from the student of 4: name that before it"),
        ({"eval_prompts": ["zero-shot", "zero-shot"]}, "twice"),
        ({"threads": 0}, "threads"),
        ({"pruning_contexts": 0}, "pruning_contexts"),
        ({"calibration_contexts": 0}, "calibration_contexts"),
        (
            {"pruning_criterion": "magnitude"},
            "training.pruning_criterion must be 'reconstruction' or 'gradient', not 'magnitude'",
        ),
        ({"num_evals": 0}, "num_evals"),
        ({"families": {"x": 5}}, "families"),
        ({"batch_size": 0}, "training.batch_size must be greater than or equal to 1, not 0"),
        ({"teacher_steps": 0}, "steps"),
        ({"lrs": [1e-3, 5.0]}, r"training.lrs.1 must be less than 1, not 5.0"),
        ({"lrs": ["fast"]}, r"training.lrs.0 must be a valid number, not 'fast'"),
        ({"lrs": [None]}, r"training.lrs.0 must be a valid number, not None"),
        ({"lr_search_steps": "x"}, "lr_search_steps"),
        (
            {"targets": "gold, sequence_kd where withheld"},
            "give `train` its `labelled_paragraphs`, or",
        ),
        ({"precision": "bf16"}, "training.precision must be a mapping, not 'bf16'"),
        (
            {"precision": {"training": "fp16", "answers": "fp32"}},
            "precision.training must be 'fp32' or 'bf16', not 'fp16'",
        ),
        (
            {"precision": {"training": "bf16", "answers": "fp16"}},
            "precision.answers must be 'fp32' or 'bf16', not 'fp16'",
        ),
        ({"precision": {"learning": "bf16"}}, "'training.precision.learning' is unknown"),
    ],
)
def test_values_that_cannot_be_are_refused(raw, changes, word):
    with pytest.raises(StudyError, match=word):
        planned(raw, **changes)


def test_a_criterion_of_pruning_matters_where_neurons_go_and_the_usual_one_is_in_no_key(raw):
    def cuts(**changes):
        plan = planned(raw, sizes=[3, "3x24"], from_base=[], **changes)
        runs = [run for run in plan.runs if run.kind == "cut"]
        return {run.parameters["neurons"]: run.parameters for run in runs}

    usual, gradient = cuts(), cuts(pruning_criterion="gradient")
    assert cuts(pruning_criterion="reconstruction") == usual
    assert gradient == usual | {24: usual[24] | {"pruning_criterion": "gradient"}}
    assert not any("pruning_criterion" in parameters for parameters in usual.values())


@pytest.mark.parametrize("name", ["train", "dev"])
def test_a_test_set_is_not_called_like_another_set(name, raw):
    with pytest.raises(StudyError, match=f"tests names a set {name!r}"):
        planned(raw, tests={name: {"source": "facts:test", **FACTS}})


def test_training_alone_has_unlabelled_questions(raw):
    unlabelled = {"source": "facts:test", **FACTS, "unlabelled": [{"source": "facts:dev"}]}
    for sets in ({"dev": unlabelled}, {"tests": {"near": unlabelled}}):
        with pytest.raises(StudyError, match=r"(dev|near) has `unlabelled`, which is for `train`"):
            planned(raw, **sets)
    train = {"source": "facts:train", **FACTS, "unlabelled": [{"source": "facts:dev"}]}
    with pytest.raises(StudyError, match="'gold' leaves the data sets out that are `unlabelled`"):
        planned(raw, train=train)


def test_a_contrast_of_a_single_pair_is_not_declared_to_be_of_several(raw):
    alone = {"sizes": [2], "from_base": [], "eval_prompts": ["zero-shot"]}
    with pytest.raises(StudyError, match=r"data.pooled_declared: there is a single pair"):
        planned(raw, **alone, pooled_declared=True)
    assert planned(raw, **alone | {"sizes": [2, 3]}, pooled_declared=True).pooled_declared


def test_unlabelled_questions_change_the_student_alone_that_learns_the_teachers_answers(raw):
    train = {"source": "facts:train", **FACTS}
    more = train | {"unlabelled": [{"source": "facts:dev", "paragraphs": 2}]}
    few, many = (
        planned(raw, sizes=[2], from_base=[], train=source, targets="sequence_kd")
        for source in (train, more)
    )
    before = {run.planned for run in few.runs}
    changed = {run.label for run in many.runs if run.planned not in before}
    student = "mini s0 2 layers, fine-tuned init, student"
    assert student in changed and "mini s0 teacher answers" in changed
    assert all(
        label.startswith((student, "mini s0 teacher answers", "mini s0 teacher states"))
        for label in changed
    )


def test_other_losses_and_smaller_teachers_are_all_that_some_students_differ_in(raw):
    plan = planned(raw, alternative=alternative(2, taid=0.5), teacher_sizes=[2, 3])
    arms = {
        (called["role"], called["student"], called["teacher"], called["objective"]): run
        for run, called in plan.trained
        if called["init"] == "fine-tuned"
    }
    student, control = (
        arms["student", "mini-2", "fine-tuned", "forward_kl"],
        arms["control", "mini-3", "none (gold only)", "cross_entropy"],
    )
    other, swept = (
        arms["student", "mini-2", "fine-tuned", "0.5 taid"],
        arms["student", "mini-2", "control of 3", "forward_kl"],
    )
    assert other.needs == student.needs and other.parameters == student.parameters | {
        "stages": stages(taid=0.5)
    }
    assert swept.parameters == student.parameters and swept.needs["init"] is student.needs["init"]
    assert swept.needs["teacher"] is control is swept.needs["states"].needs["teacher"]
    assert {arm for arm in plan.arms.values()} == {
        *("student", "control", OTHER_LOSSES, SMALLER_TEACHER)
    }
    assert plan.arms["student", "fine-tuned", "0.5 taid"] == OTHER_LOSSES
    assert plan.arms["student", "control of 3", "forward_kl"] == SMALLER_TEACHER
    costs = {id(run.needs["model"]) for run in plan.runs if run.kind == "cost"}
    assert costs == {
        id(arms["student", name, "fine-tuned", "forward_kl"]) for name in ("mini-3", "mini-2")
    }, "one of each size"
    assert len(plan.costs) == len(plan.trained) - 1


def test_a_single_learning_rate_needs_no_search(raw):
    plan = planned(raw)
    assert "lr_search" not in {run.kind for run in plan.runs}


def test_students_of_different_teachers_differ_in_nothing_else(raw):
    plan = chosen(raw)
    arms = {called["teacher"]: run for run, called in plan.trained if called["role"] == "student"}
    assert list(arms) == [
        "fine-tuned",
        "base",
        "base with a demonstration",
        "smaller, fine-tuned",
        "smaller, distilled",
        "ensemble: fine-tuned and smaller",
        "self-distillation",
    ]
    (nobody,) = (run for run, called in plan.trained if called["role"] == "control")
    assert nobody.needs.keys() == {"init", "train", "dev"}
    for run in arms.values():
        assert run.parameters == arms["fine-tuned"].parameters
        assert all(run.needs[name] is nobody.needs[name] for name in nobody.needs)
    assert (
        arms["base"].needs["teacher"].value == raw
        and arms["self-distillation"].needs["teacher"] is nobody
    )
    assert (
        arms["base with a demonstration"].needs["states"].parameters["train_prompt"] == "one-shot"
    )
    both = arms["ensemble: fine-tuned and smaller"].needs
    assert (both["teacher"], both["teacher 2"]) == (
        arms["fine-tuned"].needs["teacher"],
        arms["smaller, fine-tuned"].needs["teacher"],
    )
    assert (
        both["states"] is arms["fine-tuned"].needs["states"]
        and both["states 2"] is arms["smaller, fine-tuned"].needs["states"]
    )
    assert (
        arms["smaller, distilled"].needs["teacher"].needs["teacher"]
        is arms["fine-tuned"].needs["teacher"]
    )


def test_the_students_of_a_teacher_are_those_of_the_capacity_gap(raw):
    """What both experiments need is computed once."""
    gap = students(planned(raw, sizes=[3, 2], from_base=[2]))
    arms = {called["teacher"]: run for run, called in chosen(raw).trained}
    pairs = [
        (arms["fine-tuned"], gap["student", "base", "mini-2"]),
        (arms["none (gold only)"], gap["control", "base", "mini-2"]),
    ]
    pairs += [
        (arms["smaller, fine-tuned"].needs["teacher"], gap["control", "fine-tuned", "mini-3"])
    ]
    pairs += [(arms["smaller, distilled"].needs["teacher"], gap["student", "fine-tuned", "mini-3"])]
    for run, other in pairs:
        assert (run.kind, run.parameters, run.recipe, run.needs.keys()) == (
            other.kind,
            other.parameters,
            other.recipe,
            other.needs.keys(),
        )


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"size": "3>2"}, "cut in stages"),
        ({"smaller": 0}, "no size"),
        ({"demonstration": "two-shot"}, "two-shot"),
        ({"targets": "sequence_kd"}, "targets: gold"),
        ({"stages": stages(hidden_mse=1.0)}, "hidden states"),
        ({"demonstration": "zero-shot"}, "another way"),
    ],
)
def test_choices_that_cannot_be_are_refused(raw, changes, word):
    with pytest.raises(StudyError, match=word):
        chosen(raw, **changes)


def test_teacher_and_student_are_trained_in_every_way_and_asked_in_all(raw):
    plan = prompted(raw)
    ways = {
        (called["role"], called["teacher"], called["train_prompt"]): run
        for run, called in plan.trained
    }
    plain, shown, folded = (
        ways["student", *way]
        for way in (
            ("fine-tuned", "zero-shot"),
            ("fine-tuned", "one-shot"),
            ("fine-tuned with a demonstration", "zero-shot"),
        )
    )
    assert len(ways) == 5 and len(plan.asked) == 5 * 2 + 2
    base = [asked.called["eval_prompt"] for asked in plan.asked if asked.called["role"] == "base"]
    assert base == ["zero-shot", "one-shot"], "before any training"
    assert (
        plain.needs["teacher"] is ways["teacher", "fine-tuned", "zero-shot"]
        and shown.needs["teacher"] is ways["teacher", "fine-tuned", "one-shot"]
    )
    assert folded.parameters == plain.parameters and folded.needs["init"] is plain.needs["init"]
    assert (
        folded.needs["teacher"] is shown.needs["teacher"]
        and folded.needs["states"] is shown.needs["states"]
    )
    assert (
        folded.needs["states"].parameters["train_prompt"]
        == "one-shot"
        != folded.parameters["train_prompt"]
    )


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"train_prompts": []}, "train_prompts is empty"),
        ({"train_prompts": ["zero-shot", "zero-shot"]}, "twice"),
        ({"train_prompts": ["zero-shot"]}, "two ways"),
        ({"eval_prompts": ["zero-shot"]}, "two ways"),
        ({"train_prompt": "zero-shot"}, "'train_prompt' is unknown: did you mean 'train_prompts'"),
        ({"stages": stages(forward_kl={"tokens": "all"})}, "tokens: all"),
    ],
)
def test_ways_of_prompting_that_cannot_be_are_refused(raw, changes, word):
    with pytest.raises(StudyError, match=word):
        prompted(raw, **changes)


SIBLINGS = {"siblings": {"mini": {"Small one": "tiny:qwen2"}}}


def test_siblings_are_students_and_controls_as_they_were_pretrained(raw):
    plan = planned(
        raw, sizes=[], from_base=[], alternative=alternative("Small one", taid=1.0), **SIBLINGS
    )
    arms = {
        (called["role"], called["objective"]): run
        for run, called in plan.trained
        if called["student"]
    }
    assert {called["init"] for _, called in plan.trained if called["student"]} == {"pretrained"}
    student, control, other = (
        arms[key]
        for key in (
            ("student", "forward_kl"),
            ("control", "cross_entropy"),
            ("student", "taid"),
        )
    )
    assert {run.needs["init"].value for run in (student, control, other)} == {"tiny:qwen2"}
    assert (
        "teacher" in student.needs
        and "teacher" not in control.needs
        and "depth" not in student.parameters
    )
    assert (
        plan_parts.base_of(student).value == "tiny:qwen2"
        and plan_parts.base_of(student.needs["teacher"]).value == raw
    )
    assert not any(run.kind in ("cut", "layers") for run in plan.runs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"siblings": {"other": {"Small": "tiny:qwen2"}}},
            "siblings names the family 'other', which `families` does not",
        ),
        ({"siblings": {"mini": {"4x": "tiny:qwen2"}}}, "is no size of a student"),
        ({"siblings": {"mini": {"12": "tiny:qwen2"}}}, "let a sibling's name begin with a letter"),
        (
            {"siblings": {"mini": ["tiny:qwen2"]}},
            "siblings.mini must be a mapping",
        ),
        ({"sizes": [3, "Small one"]}, "name a sibling in `siblings`"),
        (
            {"sizes": [], "from_base": []},
            "sizes is empty: name at least one, or `siblings`",
        ),
        (
            {"alternative": alternative("Nobody", taid=1.0)},
            "alternative names Nobody, which `sizes` does not",
        ),
    ],
)
def test_siblings_that_cannot_be_are_refused(raw, changes, message):
    with pytest.raises(StudyError, match=message):
        planned(raw, **changes)


def test_the_first_and_the_last_sibling_are_each_familys_own(raw):
    siblings = {"mini": {"Large one": "tiny:gpt_neox", "Small one": "tiny:qwen2"}}
    plan = chosen(raw, size="last sibling", smaller="first sibling", siblings=siblings)
    assert {called["student"] for _, called in plan.trained if called["student"]} == {
        "mini-Small one"
    }
    teachers = {
        asked.called["teacher"] for asked in plan.asked if asked.called["role"] == "teacher"
    }
    assert "smaller, fine-tuned" in teachers and {
        called["init"] for _, called in plan.trained if called["student"]
    } == {"pretrained"}
    with pytest.raises(
        StudyError, match="mini has no sibling 'last sibling': name it in `siblings`"
    ):
        chosen(raw, size="last sibling")


def test_models_are_asked_as_they_come_before_anything_is_trained(raw):
    plan = planned(raw, **SIBLINGS, base_prompts=["zero-shot", "chat zero-shot"], seeds=[0, 1])
    bases = [asked for asked in plan.asked if asked.called["role"] == "base"]
    assert [
        (asked.called["student"], asked.called["eval_prompt"], asked.counted.value)
        for asked in bases
    ] == [
        ("", "zero-shot", raw),
        ("", "chat zero-shot", raw),
        ("mini-Small one", "zero-shot", "tiny:qwen2"),
        ("mini-Small one", "chat zero-shot", "tiny:qwen2"),
    ]
    assert plan.runs[: len(bases)] == [asked.answers for asked in bases]
    assert all(asked.answers.needs["model"] is asked.counted for asked in bases)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"base_prompts": ["two-shot"]}, "prompting 'two-shot' is unknown"),
        ({"teacher_lora": -1}, "teacher_lora must be greater than or equal to 0, not -1"),
        ({"teacher_lora": True}, "teacher_lora must be a valid integer, not True"),
        ({"seeds": list(range(9000))}, "seeds should have at most 100 items, not 9000"),
        ({"teacher_lora": 8, "processes": 2}, "several processes do not share adapters"),
    ],
)
def test_ways_of_asking_bases_and_ranks_that_cannot_be_are_refused(raw, changes, sentence):
    with pytest.raises(StudyError, match=sentence):
        planned(raw, **changes)
