"""Results of other weights or of another plan are refused."""

import pytest
from miniatures import exported, planned

from studylib.app import study
from studylib.core.errors import StudyError
from studylib.store import output_folder
from studylib.store.store import Store

pytestmark = pytest.mark.slow


def test_results_of_other_weights_are_not_mixed_with_those_of_the_store(finished, tmp_path):
    plan, store = finished
    exported(plan, store, tmp_path / "shown")
    teacher = next(run for run, called in plan.trained if called["role"] == "teacher")
    file = tmp_path / "shown" / "runs.csv"
    file.write_text(file.read_text().replace(store.result(teacher)["digest"], "0" * 64))
    (tmp_path / "shown" / output_folder.DIGESTS).unlink()
    for verb in (study.complete, study.rows):
        with pytest.raises(
            StudyError,
            match=r"has results of another mini s0 teacher than .*: move that folder away",
        ):
            verb(plan, store, tmp_path / "shown")
        with pytest.raises(StudyError, match="move that folder away"):
            verb(plan, store, tmp_path / "beside")
        verb(plan, store, tmp_path / "methods")  # stands apart
    assert len(study.rows(plan, Store(tmp_path / "empty"), tmp_path / "shown"))


def test_a_plan_with_nothing_of_what_a_folder_shows_is_refused(finished, raw, tmp_path):
    """Before anything is computed, and before anything is written."""
    plan, store = finished
    exported(plan, store, tmp_path / "shown")
    written = {file.name: file.read_bytes() for file in (tmp_path / "shown").iterdir()}
    other, nothing = (
        planned(raw, families={"other": raw}, sizes=[3], from_base=[]),
        Store(tmp_path / "empty"),
    )
    message = (
        rf"{tmp_path / 'shown'} shows other models and test sets, none of those of this plan: give"
        r" the plan a `profile` of its own\."
    )
    with pytest.raises(StudyError, match=message):
        study.complete(other, nothing, tmp_path / "shown")
    assert not nothing.root.exists()
    with pytest.raises(StudyError, match=message):
        study.export(tmp_path / "shown", study.rows(plan, store).assign(family="other"), {}, {}, {})
    assert {file.name: file.read_bytes() for file in (tmp_path / "shown").iterdir()} == written
