"""Files of a folder are replaced whole or not at all, and only those that the study wrote."""

from pathlib import Path

import pytest
from exported_tables import exported, table

from studylib.core.errors import StudyError
from studylib.store import exports, output_folder


def test_all_files_are_replaced_or_none_is_and_nothing_is_left_over(tmp_path: Path):
    for left in ("dead", "empty"):
        (tmp_path / f"{output_folder.DRAFT}{left}").mkdir()
    (tmp_path / f"{output_folder.DRAFT}dead" / output_folder.MARK).touch()
    (tmp_path / f"{output_folder.DRAFT}dead" / "a.csv").write_text("half")
    (tmp_path / "a.csv").write_text("old")
    output_folder.adopt(tmp_path)
    with pytest.raises(ZeroDivisionError), output_folder.draft(tmp_path) as place:
        (place / "a.csv").write_text("new")
        raise ZeroDivisionError
    assert {
        file.name: file.read_text()
        for file in tmp_path.iterdir()
        if file.name != output_folder.DIGESTS
    } == {"a.csv": "old"}
    with output_folder.draft(tmp_path) as place:
        (place / "a.csv").write_text("new")
        assert (tmp_path / "a.csv").read_text() == "old"
    assert {
        file.name: file.read_text()
        for file in tmp_path.iterdir()
        if file.name != output_folder.DIGESTS
    } == {"a.csv": "new"}


def test_what_the_study_did_not_write_is_neither_replaced_nor_deleted(tmp_path: Path):
    exported(tmp_path, runs=table(a1=1), cost=table(b1=2))
    foreign = {
        "my_plot.svg": "<svg/>",
        "my_plot.csv": "x",
        f"{output_folder.DRAFT}notes/a.txt": "mine",
        f"{exports.PARTS}/mine/a.txt": "mine",
    }
    for name, text in foreign.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    exported(tmp_path, runs=table(a1=3))
    exports.clear_parts(tmp_path)
    output_folder.drop(tmp_path, ["my_plot.svg", "my_plot.csv", "cost.csv", "none.csv"])
    assert {name: (tmp_path / name).read_text() for name in foreign} == foreign
    assert not (tmp_path / "cost.csv").exists() and set(output_folder.listed(tmp_path)) == {
        "runs.csv"
    }
    (tmp_path / "cost.csv").write_text("mine")
    with pytest.raises(
        StudyError,
        match=(
            rf"{tmp_path}/cost.csv would be replaced, and digests.json does not list it .*: move it"
            r" away\."
        ),
    ):
        exported(tmp_path, cost=table(b1=2), runs=table(a1=4))
    assert (tmp_path / "cost.csv").read_text() == "mine" and list(
        exports.read(tmp_path / "runs.csv").value
    ) == [3], "all or none"


def test_what_was_edited_is_neither_replaced_nor_deleted(tmp_path: Path):
    exported(tmp_path, cost=table(b1=2))
    (tmp_path / "cost.csv").write_text("mine")
    output_folder.drop(tmp_path, ["cost.csv"])
    with pytest.raises(
        StudyError,
        match=(
            r"cost\.csv is not what was written \(digest differs\): restore it, or delete it and"
            r" run again\."
        ),
    ):
        exported(tmp_path, cost=table(b1=3))
    assert (tmp_path / "cost.csv").read_text() == "mine"
