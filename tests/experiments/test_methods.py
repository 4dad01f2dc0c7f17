"""The methods experiment: what is planned, and all of it made on a miniature."""

import json

import pandas as pd
import pytest
import torch
from miniatures import compared
from miniatures import stages as losses

from studylib.analysis import methods_table
from studylib.app import results as app_results
from studylib.app import study, training_cost
from studylib.app.results import Source
from studylib.core import filesystem, labels
from studylib.core.errors import StudyError
from studylib.core.progress import Progress
from studylib.methods import stages
from studylib.models import loading
from studylib.runs import inputs, kinds, plan_parts
from studylib.store.store import Store
from studylib.training import loop


def test_every_method_has_a_student_that_differs_in_nothing_else(raw):
    plan = compared(raw)
    by_name = {called["objective"]: run for run, called in plan.trained if called["student"]}
    assert list(by_name) == [
        *("cross_entropy", "forward_kl + 0.5 cross_entropy"),
        *stages.known(),
    ]
    answering = {asked.called["objective"] for asked in plan.asked if asked.called["student"]}
    ways = {(name, way) for name, method in stages.known().items() for way in method.ways if way}
    assert answering - set(by_name) == {f"{name}, {way}" for name, way in ways}
    assert {("multi_exit", "exit 1/4"), ("dparallel", "parallel")} <= ways
    steps = {called["objective"]: called["steps"] for _, called in plan.trained}
    assert {steps[name] for name in stages.known()} == {2}
    assert [called["steps"] for _, called in plan.trained if called["role"] == "control"] == [2, 4]
    plain = by_name["forward_kl + 0.5 cross_entropy"]
    for name in stages.known():
        run = by_name[name]
        assert run.needs["init"] is plain.needs["init"]
        same = run.parameters.keys() - {"stages"}
        assert all(run.parameters[key] == plain.parameters[key] for key in same)


def test_a_method_may_be_compared_with_itself_by_other_options(raw):
    written = ["hinton", {"hinton": {"temperature": 8, "hard": 0.1}}, {"taid": {"start": 0.1}}]
    plan = compared(raw, methods=written)
    by_name = {c["objective"]: run for run, c in plan.trained if c.get("arm") == labels.METHOD}
    hotter = "hinton (temperature 8; hard 0.1)"
    assert list(by_name) == ["hinton", hotter, "taid (start 0.1)"]
    (stage,) = by_name[hotter].parameters["stages"]
    assert stage["options"] == {"temperature": 8.0, "hard": 0.1}
    assert by_name["hinton"].planned != by_name[hotter].planned
    with pytest.raises(StudyError, match="hinton has no option 'heat'"):
        compared(raw, methods=[{"hinton": {"heat": 8}}])
    with pytest.raises(StudyError, match="twice"):
        compared(raw, methods=["hinton", "hinton"])


def test_the_student_learns_from_controls_of_larger_sizes_too(raw):
    plan = compared(raw, teacher_sizes=[3])
    (taught,) = (run for run, called in plan.trained if called.get("arm") == labels.SMALLER_TEACHER)
    (control,) = (run for run, called in plan.trained if called["student"] == "mini-3")
    assert taught.needs["teacher"] is control
    plain = next(run for run, c in plan.trained if c["objective"].startswith("forward_kl +"))
    assert taught.needs["init"].planned == plain.needs["init"].planned
    assert taught.parameters == plain.parameters
    with pytest.raises(StudyError, match="teacher_sizes: 2 is no larger than its student, 2"):
        compared(raw, teacher_sizes=[2])


def test_what_a_method_reads_of_its_teacher_is_what_its_student_needs(raw):
    needs = {
        called["objective"]: set(run.needs) - {"init", "train", "dev"}
        for run, called in compared(raw).trained
    }
    assert needs["multi_exit"] == set()
    assert needs["gkd"] == needs["minillm"] == {"teacher"}
    assert needs["context_distillation"] == {"teacher", "states"}
    assert needs["sequence_kd"] == {"examples 0"}
    assert needs["ddk"] == needs["taid"] == {"teacher", "states"}
    assert needs["vlm_ood"] == needs["multi_granularity"] == {"teacher"}
    assert needs["several_teachers"] == {"teacher", "teacher 2"}
    assert needs["redi"] == {"examples 1"} and needs["step_by_step"] == {"examples 0"}


def test_the_base_model_teaches_the_stages_that_name_it(raw, tmp_path, monkeypatch):
    """It is needed beside the fine-tuned teacher, and by no other method; the student is made."""
    monkeypatch.setenv("STUDY_HOME", str(tmp_path))
    plain = [losses(forward_kl=1.0, cross_entropy=0.5)[0] | {"steps": 4}]
    plan = compared(raw, methods=["ernie_tiny", "dm_codec"], stages=plain, control_steps=[])
    by_name = {called["objective"]: run for run, called in plan.trained}
    run, other = by_name["ernie_tiny"], by_name["dm_codec"]
    assert set(run.needs) - {"init", "train", "dev"} == {"teacher", "teacher base"}
    assert run.needs["teacher base"].value == raw
    assert "teacher base" not in other.needs
    taught_by, train = {}, loop.train

    def recorded(model, packs, **given):
        taught_by.update({teacher.base: teacher.model for teacher in given["teachers"]})
        return train(model, packs, **given)

    monkeypatch.setattr(loop, "train", recorded)
    store = Store()
    for needed in plan_parts.each_run([run]):
        store.complete(needed, kinds.make(store, Progress(quiet=True)))
    base, _ = loading.load(raw)
    fine_tuned, _ = inputs.load(store, run.needs["teacher"])
    for net, key in ((base, True), (fine_tuned, False)):
        for weight, other in zip(net.parameters(), taught_by[key].parameters(), strict=True):
            assert torch.equal(weight, other)
    curve = json.loads(store.path(run, "curve.json").read_text())
    assert [("forward_kl" in step, "attention_mse" in step) for step in curve] == [
        (False, False),
        *[(False, True)] * 3,
        (True, True),
    ]
    assert {"dev_forward_kl", "dev_cross_entropy", "dev_hidden_mse"} <= curve[0].keys()


def test_a_method_of_several_teachers_has_the_same_one_fine_tuned_in_other_orders(raw):
    plan = compared(raw, methods=["several_teachers", "ddk"], num_teachers=3, seeds=[4, 5])
    runs = {(called["objective"], called["seed"]): run for run, called in plan.trained}
    assert "teacher 2" not in runs["ddk", 4].needs
    needs = runs["several_teachers", 4].needs
    teachers = [needs[name] for name in ("teacher", "teacher 2", "teacher 3")]
    assert [teacher.parameters["seed"] for teacher in teachers] == [4, 5, 6]
    assert teachers[0].planned == runs["ddk", 4].needs["teacher"].planned
    for teacher in teachers:
        assert teacher.needs["base"].planned == teachers[0].needs["base"].planned
        assert dict(teacher.parameters) | {"seed": 4} == dict(teachers[0].parameters)
    others = runs["several_teachers", 5].needs
    assert others["teacher"].planned == teachers[1].planned, "made once"
    single = compared(raw, methods=["several_teachers"], num_teachers=1)
    (run,) = (run for run, called in single.trained if called["objective"] == "several_teachers")
    assert {name for name in run.needs if name.startswith("teacher")} == {"teacher"}


def test_a_methods_version_is_part_of_its_students_key_alone(raw, monkeypatch):
    def keys():
        return {called["objective"]: run.recipe for run, called in compared(raw).trained}

    before = keys()
    monkeypatch.setattr(stages.known()["ddk"], "version", 7)
    changed = {name for name, recipe in keys().items() if recipe != before[name]}
    assert changed == {"ddk"}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"methods": ["dkk"]}, r"method 'dkk' is unknown: did you mean 'ddk'\?"),
        ({"methods": ["redi", "redi"]}, "methods names 'redi' twice"),
        ({"num_teachers": 0}, "num_teachers must be greater than or equal to 1, not 0"),
        ({"num_teachers": 9}, "num_teachers must be less than or equal to 8, not 9"),
    ],
)
def test_methods_that_cannot_be_are_refused(raw, changes, word):
    with pytest.raises(StudyError, match=word):
        compared(raw, **changes)


class Stop(Exception):
    """Stands for a killed process."""


class Bar:
    """Progress that nobody sees, until a step at which the process is killed."""

    def __init__(self, killed_at=None):
        self.killed_at = killed_at

    def total(self, count):
        """Not shown."""

    def step(self, number, **losses):
        if number == self.killed_at:
            raise Stop


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gkd", "minillm"])
def test_a_student_that_answers_in_training_is_the_same_to_the_bit_after_a_stop(
    raw, tmp_path, monkeypatch, name
):
    """With its teacher beside it: gold answers for three steps, then the student's for three, amid
    which it is stopped."""
    monkeypatch.setattr(filesystem, "CHECKPOINT_SECONDS", -1)
    plain = [{"steps": 6, "losses": {"forward_kl": 1.0}}]
    plan, store = compared(raw, methods=[name], control_steps=[], stages=plain), Store(tmp_path)
    run = next(run for run, called in plan.trained if called["objective"] == name)
    for need in plan_parts.each_run([run])[:-1]:
        store.complete(need, kinds.make(store, Progress(quiet=True)))
    build, whole, halves = kinds.KINDS["student"].build, tmp_path / "whole", tmp_path / "halves"
    facts = build(run, whole, store, Bar())
    with pytest.raises(Stop):
        build(run, halves, store, Bar(killed_at=5))
    assert build(run, halves, store, Bar()) == facts
    for file in ("curve.json", "model/model.safetensors"):
        assert (whole / file).read_bytes() == (halves / file).read_bytes(), file


@pytest.mark.slow
def test_all_of_it_is_made_and_stands_in_one_table(raw, tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_HOME", str(tmp_path))
    names = ["redi", "ddk", "multi_exit", "step_by_step"]
    plan, store = compared(raw, methods=names, teacher_sizes=[3]), Store()
    study.complete(plan, store)
    assert not study.curves(plan, store).duplicated(["planned", "step"]).any()
    folder = tmp_path / "shown" / "methods"
    shown = app_results.of("methods", plan, folder)
    rows, drawn = Source(plan, folder).rows, shown.figures
    assert list(drawn["teacher_sizes"][1].teacher) == ["control of 3", "fine-tuned"]
    costs, empty = training_cost.of(plan, rows), Store(tmp_path / "empty")
    pd.testing.assert_frame_equal(training_cost.of(plan, rows, empty, folder), costs)
    assert training_cost.of(plan, rows, empty).empty
    table = methods_table.compare(rows, training_cost.of(plan, rows))
    assert len(table) == 2 + 1 + 4 + 3, "controls, plain distillation, methods, exits"
    assert table[["f1", "exact_match", "training_flops", "answer_flops"]].notna().all(axis=None)
    flops = table.set_index(["objective", "steps"]).training_flops
    assert flops["cross_entropy", 4] > 1.2 * flops["cross_entropy", 2]
    assert flops["redi", 2] > flops["cross_entropy", 2], "what its examples took is counted"
    run = next(run for run in plan.runs if run.kind == "examples" and "redi" in run.label)
    roles = [each["role"] for each in json.loads(store.path(run, "examples.json").read_text())]
    assert roles.count("chosen") >= roles.count("rejected") > 0
    shown = methods_table.shown(table)
    assert len(shown) == len(table) and "F1 minus control" in shown
    assert methods_table.answer(table).startswith("On near, zero-shot, 4 methods have answered: 0")
