"""Files of a folder are replaced whole or not at all."""

from pathlib import Path

import pytest

from studylib.store import output_folder


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
