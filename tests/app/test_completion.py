"""Missing runs are made, once, and what they add is exported at once."""

import shutil

import pandas as pd
import pytest
from miniatures import (
    exported,
    model,
    planned,
    tokenizer,
)

from studylib.app import run_states, study
from studylib.app.origins import outdated
from studylib.core import versions
from studylib.core.errors import StudyError
from studylib.models import loading
from studylib.runs import kinds
from studylib.store import exports, output_folder
from studylib.store.store import Store

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("size", "message"), [(6, "4 layers only"), ("3x9999", "neurons a layer only")]
)
def test_a_size_larger_than_the_model_is_refused_before_anything_is_made(
    raw, tmp_path, size, message
):
    plan = planned(raw, sizes=[size, 2], from_base=[])
    with pytest.raises(StudyError, match=message):
        study.complete(plan, Store(tmp_path))
    assert not any(tmp_path.rglob("manifest.json"))


def test_everything_planned_is_there_afterwards_and_nothing_is_made_twice(finished, monkeypatch):
    plan, store = finished
    assert {store.state(run)[0] for run in plan.runs} == {"done"}
    monkeypatch.setattr(kinds, "make", lambda *_: lambda *_: pytest.fail("made twice"))
    study.complete(plan, store)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eval_prompts": ["chat zero-shot"]}, "no chat template"),
        ({"tests": {"near": {"source": "facts:test", "facts": 10}}}, "fits"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_trained(
    changes, message, raw, tmp_path
):
    if message == "fits":
        loading.save(model("llama", max_position_embeddings=60), tokenizer(), tmp_path / "base")
        raw = f"path:{tmp_path / 'base'}"
    with pytest.raises(StudyError, match=message):
        study.complete(planned(raw, **changes), Store(tmp_path / "home"))
    assert not list((tmp_path / "home").glob("runs/*/*"))


def test_what_changed_after_it_was_planned_is_not_kept_under_the_old_key(
    raw, squad, save, tmp_path, home
):
    """As a file of questions may, or a model's folder, while runs before it are made."""
    shutil.copytree(raw.removeprefix("path:"), tmp_path / "model")
    questions, weights = save(squad), tmp_path / "model" / "config.json"
    for file in (questions, weights):
        plan = planned(
            f"path:{tmp_path / 'model'}",
            sizes=[2],
            from_base=[],
            tests={"near": {"source": f"path:{questions}"}},
        )
        before = file.read_text()
        file.write_text(before + " ")
        with pytest.raises(
            StudyError,
            match=(
                rf"path:{file if file == questions else file.parent} has changed since .*: run"
                r" again"
            ),
        ):
            study.complete(plan, Store())
        file.write_text(before)
        assert not [
            run
            for run in plan.runs
            if run.kind == ("answers" if file == questions else "teacher") and Store().result(run)
        ]


def interrupt_at(run, monkeypatch):
    """Stop the study as a user does, when it comes to this run."""
    make_kind = kinds.make

    def interrupted(*given):
        make = make_kind(*given)

        def make_unless_reached(current, into):
            if current is run:
                raise KeyboardInterrupt
            return make(current, into)

        return make_unless_reached

    monkeypatch.setattr(kinds, "make", interrupted)


def test_rows_are_exported_as_soon_as_their_run_is_done(raw, tmp_path, monkeypatch):
    plan, store, folder = (
        planned(raw, sizes=[3], from_base=[]),
        Store(tmp_path / "home"),
        tmp_path / "shown",
    )
    interrupt_at(plan.asked[3].loyalty, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        study.complete(plan, store, folder)
    assert set(exports.exported(folder, "rows.parquet")) == {
        asked.planned for asked in plan.asked[:3]
    } and not run_states.lacking(tmp_path)
    assert len(exports.exported(folder, "learning.csv")) == 2, "the teacher's and the student's"
    monkeypatch.undo()
    study.complete(plan, store, folder)
    rows, origins = study.rows(plan, store), study.origins(plan, store)
    assert not (folder / "rows.parquet").exists()
    study.export(folder, rows[rows.planned == plan.asked[0].planned], {}, {}, {})
    shown = (
        pd.read_parquet(folder / "rows.parquet")
        .set_index(["planned", "question"])
        .loc[rows.set_index(["planned", "question"]).index]
    )
    pd.testing.assert_frame_equal(shown.reset_index()[rows.columns], rows)
    answered = [run.planned for asked in plan.asked for run in asked.answers.ancestry()]
    assert set(answered) <= set(pd.read_csv(folder / "runs.csv").planned) <= set(origins.planned)
    assert {file.name for file in folder.iterdir()} == {
        *exports.KEPT,
        "results.csv",
        output_folder.DIGESTS,
    } - {"timing.csv", "costs.csv"}


def test_what_is_made_anew_replaces_what_earlier_versions_made(raw, tmp_path, monkeypatch):
    few = dict(sizes=[3], from_base=[], eval_prompts=["zero-shot"])
    plan, folder = planned(raw, **few), tmp_path / "shown"
    study.complete(plan, Store(tmp_path / "before"), folder)
    exported(plan, Store(tmp_path / "before"), folder)
    monkeypatch.setitem(versions.VERSIONS, "training", versions.VERSIONS["training"] + 1)
    today, store = planned(raw, **few), Store(tmp_path / "after")
    for run in today.runs:  # of other weights, by another version
        run.parameters.update({"lr": 2e-3} if "lr" in run.parameters else {})
    assert [run.planned for run in today.runs] == [run.planned for run in plan.runs], (
        "remembered: the same was asked for"
    )
    study.complete(today, store, folder)
    rows, _ = exported(today, store, folder)
    assert (
        set(pd.read_parquet(folder / "rows.parquet").run)
        == set(rows.run)
        == {store.key(asked.answers) for asked in today.asked}
    )
    runs = exports.read(folder / "runs.csv")
    assert len(runs) == len(plan.runs) and not outdated(today, runs)
