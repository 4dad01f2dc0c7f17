"""What is done, exported or outdated."""

import pandas as pd
import pytest
from miniatures import exported, planned, stages

from studylib.app import origins, run_states, study
from studylib.app.origins import outdated
from studylib.core import versions
from studylib.store.store import Store

pytestmark = pytest.mark.slow


def test_what_was_exported_is_shown_without_a_store_and_changed_runs_are_not(
    finished, raw, tmp_path, home
):
    plan, store = finished
    rows, learned = exported(plan, store, tmp_path / "shown")
    written = {file.name: file.read_bytes() for file in (tmp_path / "shown").iterdir()}
    assert run_states.lacking(tmp_path / "shown") and not home.exists()
    assert not run_states.lacking(tmp_path / "nothing")
    states = run_states.states(plan, tmp_path / "shown", Store(tmp_path / "empty"))
    assert [run for run, _, _ in states] == plan.runs and {state for _, state, _ in states} == {
        "exported"
    }
    assert run_states.to_compute(states) == []
    assert {state for _, state, _ in run_states.states(plan, tmp_path / "shown", store)} == {"done"}
    again = exported(plan, Store(tmp_path / "empty"), tmp_path / "shown")
    for table, other in zip((rows, learned), again, strict=True):
        pd.testing.assert_frame_equal(table, other[table.columns], check_dtype=False)
    assert [
        name
        for name, content in written.items()
        if (tmp_path / "shown" / name).read_bytes() != content
    ] == []
    other = planned(raw, stages=stages(reverse_kl=1.0))
    other_rows = study.rows(other, Store(tmp_path / "empty"), tmp_path / "shown")
    assert set(other_rows.role) == {
        "teacher",
        "control",
    }, "students of another objective are none of those that were exported"
    states = run_states.states(other, tmp_path / "shown", Store(tmp_path / "empty"))
    left, needs = run_states.to_compute(states), set[object]()
    for run in left:
        needs |= set(run.needs.values())
    assert {run.kind for run in left} >= {"teacher", "student", "answers"}
    assert {run for run, state, _ in states if state == "exported"} & set(left) <= needs, (
        "an exported run is computed only for others"
    )


def test_what_was_made_with_earlier_versions_is_shown_and_marked(
    finished, raw, tmp_path, monkeypatch
):
    """A module that makes students and teachers is of another version today; what was exported is
    shown, and replaced when it is made."""
    plan, store = finished
    rows, _ = exported(plan, store, tmp_path / "shown")
    before = versions.VERSIONS["training"]
    for recipe, how in (
        (before, ""),
        (before + 1, f"made with training {before}, today {before + 1}"),
    ):
        monkeypatch.setitem(versions.VERSIONS, "training", recipe)
        today = planned(raw, stages=stages(forward_kl=1.0, hidden_mse=0.5))
        for place in (Store(tmp_path / "empty"), store):
            pd.testing.assert_frame_equal(
                study.rows(today, place, tmp_path / "shown"), rows, check_dtype=False
            )
        states = {
            state: why
            for _, state, why in run_states.states(
                today, tmp_path / "shown", Store(tmp_path / "empty")
            )
        }
        assert states == {"exported": how} and run_states.superseded(
            today, tmp_path / "shown"
        ) == bool(how)
        done = study.origins(today, Store(tmp_path / "empty"), tmp_path / "shown")
        assert set(outdated(today, done).values()) == ({how} if how else set())
        note = origins.summary(today, done).outdated
        assert bool(note) == bool(how)
        assert note.count(f"answers of all models ({how})") == bool(how)
        assert not any(run.label in note for run, _ in today.trained)


def test_models_that_were_answered_by_other_versions_are_named(finished):
    """By name, unless they are all of them."""
    plan, store = finished
    done = study.origins(plan, store)
    assert origins.superseded(plan, done) == ""
    old, *others = dict.fromkeys(asked.counted.label for asked in plan.asked)
    of_old = {asked.answers.planned for asked in plan.asked if asked.counted.label == old}
    before = done.versions.str.replace(r"answering \d+", "answering 0", regex=True)
    some = done.versions.where(~done.planned.isin(of_old), before)
    text = origins.superseded(plan, done.assign(versions=some))
    assert f"answers of {old} (made with answering 0, today" in text and others
    assert not any(other in text for other in others)
    everything = origins.superseded(plan, done.assign(versions=before))
    assert "answers of all models (made with" in everything and old not in everything
