"""The methods experiment: what is planned, and all of it made on a miniature."""

import json

import pytest
from miniatures import compared

from studylib.analysis import methods_table
from studylib.app import study, training_cost
from studylib.app.results import Source
from studylib.core.errors import StudyError
from studylib.methods import stages
from studylib.store.store import Store


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


def test_what_a_method_reads_of_its_teacher_is_what_its_student_needs(raw):
    needs = {
        called["objective"]: set(run.needs) - {"init", "train", "dev"}
        for run, called in compared(raw).trained
    }
    assert needs["multi_exit"] == set()
    assert needs["ddk"] == needs["taid"] == {"teacher", "states"}
    assert needs["redi"] == {"examples 1"} and needs["step_by_step"] == {"examples 0"}


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
    ],
)
def test_methods_that_cannot_be_are_refused(raw, changes, word):
    with pytest.raises(StudyError, match=word):
        compared(raw, **changes)


@pytest.mark.slow
def test_all_of_it_is_made_and_stands_in_one_table(raw, tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_HOME", str(tmp_path))
    plan, store = compared(raw, methods=["redi", "ddk", "multi_exit", "step_by_step"]), Store()
    study.complete(plan, store)
    assert not study.curves(plan, store).duplicated(["planned", "step"]).any()
    rows = Source(plan, tmp_path / "shown" / "methods").rows
    table = methods_table.compare(rows, training_cost.of(plan))
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
    assert methods_table.answer(table).startswith("On near, zero-shot, 0 of 7 methods score")
