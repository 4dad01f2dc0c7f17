"""What is planned, without computing anything."""

from collections import Counter

import pytest
from miniatures import FACTS, chosen, planned, prompted, stages, students

from studylib.core.errors import StudyError
from studylib.runs import planning
from studylib.store.run import Input


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


def test_student_and_twin_differ_in_nothing_but_their_targets(raw):
    by_name = students(planned(raw))
    for start in ("tuned", "raw"):
        taught, twin = by_name["student", start, "mini-3"], by_name["twin", start, "mini-3"]
        assert {k: v for k, v in taught.parameters.items() if k != "stages"} == {
            k: v for k, v in twin.parameters.items() if k != "stages"
        }
        assert twin.parameters["stages"] == [{"steps": 2, "losses": {"cross_entropy": 1.0}}]
        assert "teacher" not in twin.needs and "states" not in twin.needs
        assert all(taught.needs[name] is twin.needs[name] for name in twin.needs)
    cut_from = {
        start: by_name["student", start, "mini-3"].needs["start"].needs["start"]
        for start in ("tuned", "raw")
    }
    assert cut_from["raw"].value == raw and cut_from["tuned"].kind == "teacher"


def test_who_splits_words_matters_where_they_find_the_demonstration(raw):
    for trained, asked in (
        ("zero-shot", "one-shot retrieved"),
        ("one-shot retrieved", "zero-shot"),
    ):
        for run in planned(raw, trained=trained, asked=[asked]).runs:
            mode = run.parameters.get("asked") or run.parameters["trained"]
            assert "scoring" in run.recipe or not mode.endswith("retrieved")
            assert run.kind != "teacher" or ("scoring" in run.recipe) == (
                trained == "one-shot retrieved"
            )


def test_rates_come_through_papermill_as_text(raw):
    given, injected = (planned(raw, teacher_rate=rate) for rate in (1e-3, "1e-3"))
    assert [run.parameters for run in given.runs] == [run.parameters for run in injected.runs]


def test_answers_are_in_the_precision_that_is_named_for_them_and_nothing_else_changes(raw):
    plain, lower = (
        planned(raw, precision={"training": "fp32", "answers": answers}, learn="teacher")
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
    assert "states" in stored["student", "tuned", "mini-3"].needs
    assert "states" not in beside["student", "tuned", "mini-3"].needs


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"sizes": []}, "sizes"),
        ({"sizes": [0]}, "0 is no size"),
        ({"sizes": ["24x"]}, "'24x' is no size"),
        ({"sizes": [True]}, "True is no size"),
        ({"twins": [4]}, "twins"),
        ({"rivals": [4]}, "rivals"),
        ({"rival_stages": stages(taaid=1.0)}, "taaid"),
        ({"ladder": [2, 4]}, "ladder names 4"),
        (
            {"rivals": [2], "rival_stages": [{"steps": 3, "losses": {"taid": 1.0}}]},
            "3 steps in all, stages 2",
        ),
        (
            {"sizes": [3, "3>2"], "twins": [], "raw_starts": [], "rivals": ["3>2"]},
            "rivals: 3>2 is cut in stages",
        ),
        (
            {"sizes": [3, "3>2"], "twins": [3], "raw_starts": [], "ladder": ["3>2", 3]},
            "ladder: 3>2 is cut in stages",
        ),
        ({"ladder": [3, 2]}, "2 is no larger than its pupil, 3"),
        ({"ladder": [2, 3], "twins": [2]}, "name it among `twins`"),
        ({"ladder": [2, 3], "stages": stages(hidden_mse=1.0)}, "hidden states"),
        ({"raw_starts": ["3"]}, "raw_starts"),
        ({"trained": "two-shot"}, "two-shot"),
        ({"asked": ["few"]}, "few"),
        ({"stages": [{"steps": 2, "losses": {"reverse": 1.0}}]}, "reverse"),
        ({"learn": "nothing"}, "learn must be gold"),
        ({"rates": []}, "rates is empty"),
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
        ({"asked": ["zero-shot", "zero-shot"]}, "twice"),
        ({"threads": 0}, "threads"),
        ({"layer_packs": 0}, "layer_packs"),
        ({"heal_packs": 0}, "heal_packs"),
        ({"evaluations": 0}, "evaluations"),
        ({"families": {"x": 5}}, "families"),
        ({"packs": 0}, "packs"),
        ({"teacher_steps": 0}, "steps"),
        ({"rates": [1e-3, 5.0]}, "rate"),
        ({"rates": ["fast"]}, "must be numbers"),
        ({"rates": [None]}, "must be numbers"),
        ({"search_steps": "x"}, "search_steps"),
        ({"learn": "gold, teacher where withheld"}, "give `train` its `labelled_paragraphs`"),
        ({"precision": "bf16"}, "must name that of `training` and that of `answers`, not 'bf16'"),
        (
            {"precision": {"training": "fp16", "answers": "fp32"}},
            "precision of training must be fp32 or bf16, not 'fp16'",
        ),
        (
            {"precision": {"training": "bf16", "answers": "fp16"}},
            "precision of answers must be fp32 or bf16, not 'fp16'",
        ),
        ({"precision": {"training": "bf16"}}, "name that of `training` and that of `answers`"),
    ],
)
def test_values_that_cannot_be_are_refused(raw, changes, word):
    with pytest.raises(StudyError, match=word):
        planned(raw, **changes)


@pytest.mark.parametrize("name", ["train", "dev", 5])
def test_a_test_set_is_not_called_like_another_set(name, raw):
    with pytest.raises(StudyError, match=f"tests names a set {name!r}"):
        planned(raw, tests={name: {"source": "facts:test", **FACTS}})


def test_rivals_learn_by_other_losses_and_pupils_from_smaller_teachers_and_by_nothing_else(raw):
    plan = planned(raw, rivals=[2], rival_stages=stages(taid=0.5), ladder=[2, 3])
    arms = {
        (called["role"], called["start"], called["student"], called["teacher"]): run
        for run, called in plan.trained
    }
    student, twin = (
        arms["student", "tuned", "mini-2", "tuned"],
        arms["twin", "tuned", "mini-3", "nobody"],
    )
    rival, pupil = (
        arms["rival", "tuned", "mini-2", "tuned"],
        arms["pupil", "tuned", "mini-2", "twin of 3"],
    )
    assert rival.needs == student.needs and rival.parameters == student.parameters | {
        "stages": stages(taid=0.5)
    }
    assert pupil.parameters == student.parameters and pupil.needs["start"] is student.needs["start"]
    assert pupil.needs["teacher"] is twin is pupil.needs["states"].needs["teacher"]
    costs = {id(run.needs["model"]) for run in plan.runs if run.kind == "cost"}
    assert costs == {
        id(arms["student", "tuned", name, "tuned"]) for name in ("mini-3", "mini-2")
    }, "one of each size"
    assert len(plan.costs) == len(arms) - 1


def test_xquad_adds_a_test_set_per_language(raw, tmp_path):
    for name in ("de", "zh"):
        (tmp_path / f"xquad.{name}.json").write_text("{}")
    plan = planned(raw, xquad=str(tmp_path))
    assert [test.label for test in plan.tests] == ["near", "xquad de", "xquad zh"]


def test_one_rate_needs_no_search(raw):
    plan = planned(raw)
    assert "rate" not in {run.kind for run in plan.runs}


def test_students_of_different_teachers_differ_in_nothing_else(raw):
    plan = chosen(raw)
    arms = {called["teacher"]: run for run, called in plan.trained if called["role"] == "student"}
    assert list(arms) == [
        "tuned",
        "raw",
        "raw with a demonstration",
        "smaller, tuned",
        "smaller, taught",
        "tuned and smaller, averaged",
        "its twin",
    ]
    (nobody,) = (run for run, called in plan.trained if called["role"] == "twin")
    assert nobody.needs.keys() == {"start", "train", "dev"}
    for run in arms.values():
        assert run.parameters == arms["tuned"].parameters
        assert all(run.needs[name] is nobody.needs[name] for name in nobody.needs)
    assert arms["raw"].needs["teacher"].value == raw and arms["its twin"].needs["teacher"] is nobody
    assert arms["raw with a demonstration"].needs["states"].parameters["trained"] == "one-shot"
    both = arms["tuned and smaller, averaged"].needs
    assert (both["teacher"], both["teacher 2"]) == (
        arms["tuned"].needs["teacher"],
        arms["smaller, tuned"].needs["teacher"],
    )
    assert (
        both["states"] is arms["tuned"].needs["states"]
        and both["states 2"] is arms["smaller, tuned"].needs["states"]
    )
    assert (
        arms["smaller, taught"].needs["teacher"].needs["teacher"] is arms["tuned"].needs["teacher"]
    )


def test_the_students_of_a_teacher_are_those_of_the_capacity_gap(raw):
    """What both experiments need is computed once."""
    gap = students(planned(raw, sizes=[3, 2], twins=[3, 2], raw_starts=[2]))
    arms = {called["teacher"]: run for run, called in chosen(raw).trained}
    pairs = [
        (arms["tuned"], gap["student", "raw", "mini-2"]),
        (arms["nobody"], gap["twin", "raw", "mini-2"]),
    ]
    pairs += [(arms["smaller, tuned"].needs["teacher"], gap["twin", "tuned", "mini-3"])]
    pairs += [(arms["smaller, taught"].needs["teacher"], gap["student", "tuned", "mini-3"])]
    for one, other in pairs:
        assert (one.kind, one.parameters, one.recipe, one.needs.keys()) == (
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
        ({"learn": "teacher"}, "learn: gold"),
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
        (called["role"], called["teacher"], called["trained"]): run for run, called in plan.trained
    }
    plain, shown, folded = (
        ways["student", *way]
        for way in (
            ("tuned", "zero-shot"),
            ("tuned", "one-shot"),
            ("tuned, shown a demonstration", "zero-shot"),
        )
    )
    assert len(ways) == 5 and len(plan.asked) == 5 * 2
    assert (
        plain.needs["teacher"] is ways["teacher", "tuned", "zero-shot"]
        and shown.needs["teacher"] is ways["teacher", "tuned", "one-shot"]
    )
    assert folded.parameters == plain.parameters and folded.needs["start"] is plain.needs["start"]
    assert (
        folded.needs["teacher"] is shown.needs["teacher"]
        and folded.needs["states"] is shown.needs["states"]
    )
    assert (
        folded.needs["states"].parameters["trained"] == "one-shot" != folded.parameters["trained"]
    )


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"trained": []}, "trained is empty"),
        ({"trained": ["zero-shot", "zero-shot"]}, "twice"),
        ({"trained": ["zero-shot"]}, "two ways"),
        ({"asked": ["zero-shot"]}, "two ways"),
        ({"stages": stages(forward_kl={"tokens": "all"})}, "tokens: all"),
    ],
)
def test_ways_of_prompting_that_cannot_be_are_refused(raw, changes, word):
    with pytest.raises(StudyError, match=word):
        prompted(raw, **changes)


SIBLINGS = {"siblings": {"mini": {"Small one": "tiny:qwen2"}}}


def test_siblings_are_students_and_twins_as_they_were_pretrained(raw):
    plan = planned(
        raw,
        sizes=[],
        twins=[],
        raw_starts=[],
        rivals=["Small one"],
        rival_stages=stages(taid=1.0),
        **SIBLINGS,
    )
    made = students(plan)
    roles = {(role, start) for role, start, name in made if name}
    assert roles == {("student", "pretrained"), ("twin", "pretrained"), ("rival", "pretrained")}
    student, twin, rival = (
        made[role, "pretrained", "mini-Small one"] for role in ("student", "twin", "rival")
    )
    assert {run.needs["start"].value for run in (student, twin, rival)} == {"tiny:qwen2"}
    assert (
        "teacher" in student.needs
        and "teacher" not in twin.needs
        and "depth" not in student.parameters
    )
    assert (
        planning.raw_of(student).value == "tiny:qwen2"
        and planning.raw_of(student.needs["teacher"]).value == raw
    )
    assert not any(run.kind in ("cut", "layers") for run in plan.runs)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"siblings": {"other": {"Small": "tiny:qwen2"}}},
            "siblings names the family 'other', which `families` does not",
        ),
        ({"siblings": {"mini": {"4x": "tiny:qwen2"}}}, "is no size of a student"),
        ({"siblings": {"mini": {"12": "tiny:qwen2"}}}, "let a sibling's name begin with a letter"),
        (
            {"siblings": {"mini": ["tiny:qwen2"]}},
            "siblings of mini must map names to model references",
        ),
        ({"sizes": [3, "Small one"]}, "name a sibling in `siblings`"),
        (
            {"sizes": [], "twins": [], "raw_starts": []},
            "sizes is empty: name at least one, or `siblings`",
        ),
        ({"rivals": ["Nobody"]}, "rivals names Nobody, which `sizes` does not"),
    ],
)
def test_siblings_that_cannot_be_are_refused(raw, changes, said):
    with pytest.raises(StudyError, match=said):
        planned(raw, **changes)


def test_the_first_and_the_last_sibling_are_each_familys_own(raw):
    siblings = {"mini": {"Large one": "tiny:gpt_neox", "Small one": "tiny:qwen2"}}
    plan = chosen(raw, size="last sibling", smaller="first sibling", siblings=siblings)
    assert {called["student"] for _, called in plan.trained if called["student"]} == {
        "mini-Small one"
    }
    guides = {one.called["teacher"] for one in plan.asked if one.called["role"] == "guide"}
    assert "smaller, tuned" in guides and {
        called["start"] for _, called in plan.trained if called["student"]
    } == {"pretrained"}
    with pytest.raises(
        StudyError, match="mini has no sibling 'last sibling': name it in `siblings`"
    ):
        chosen(raw, size="last sibling")


def test_a_variant_stands_in_references(raw):
    folder = raw.removeprefix("path:")
    plan = planned("path:{variant}", variant=folder)
    assert planning.raw_of(plan.runs[0]).value == raw


def test_models_are_asked_as_they_come_before_anything_is_trained(raw):
    plan = planned(raw, **SIBLINGS, base_asked=["zero-shot", "chat zero-shot"], seeds=[0, 1])
    bases = [one for one in plan.asked if one.called["role"] == "base"]
    assert [(one.called["student"], one.called["asked"], one.counted.value) for one in bases] == [
        ("", "zero-shot", raw),
        ("", "chat zero-shot", raw),
        ("mini-Small one", "zero-shot", "tiny:qwen2"),
        ("mini-Small one", "chat zero-shot", "tiny:qwen2"),
    ]
    assert plan.runs[: len(bases)] == [one.answers for one in bases]
    assert all(one.answers.needs["model"] is one.counted for one in bases)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"base_asked": ["two-shot"]}, "prompting 'two-shot' is unknown"),
        ({"teacher_lora": -1}, "teacher_lora must be a rank of 1 to 1024, or 0"),
        ({"teacher_lora": True}, "teacher_lora must be a rank"),
        ({"seeds": list(range(9000))}, "seeds names 9000: name at most 100"),
        ({"teacher_lora": 8, "processes": 2}, "several processes do not share adapters"),
    ],
)
def test_ways_of_asking_bases_and_ranks_that_cannot_be_are_refused(raw, changes, sentence):
    with pytest.raises(StudyError, match=sentence):
        planned(raw, **changes)
