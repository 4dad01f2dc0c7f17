"""A folder of tables is replaced whole or not at all, by one at a time, and what it held of other runs stays."""

import multiprocessing
import os
from pathlib import Path

import pandas as pd
import pytest

from studylib import outputs
from studylib.errors import StudyError


def table(**planned: int) -> pd.DataFrame:
    """A line per run: what was planned, what it is called, and a number."""
    return pd.DataFrame([{"planned": name, "label": name[0], "value": value} for name, value in planned.items()])


def test_all_files_are_replaced_or_none_is_and_nothing_is_left_over(tmp_path: Path):
    (tmp_path / f"{outputs.DRAFT}dead").mkdir()
    (tmp_path / f"{outputs.DRAFT}dead" / "a.csv").write_text("half")
    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(ZeroDivisionError), outputs.draft(tmp_path) as place:
        (place / "a.csv").write_text("new")
        raise ZeroDivisionError
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a.csv": "old"}
    with outputs.draft(tmp_path) as place:
        (place / "a.csv").write_text("new")
        assert (tmp_path / "a.csv").read_text() == "old"
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a.csv": "new"}


@pytest.mark.parametrize("name", ["runs.csv", "rows.parquet"])
def test_lines_of_the_same_name_are_replaced_and_others_are_kept(name: str, tmp_path: Path):
    outputs.save(table(a1=1, b1=2), tmp_path / name)
    both = outputs.merged(table(a2=3), tmp_path, name)
    assert dict(zip(both.planned, both.value, strict=True)) == {"a2": 3, "b1": 2}
    assert set(outputs.exported(tmp_path, name)) == {"a1", "b1"}


def test_what_was_planned_alike_is_found_in_a_folder_beside_it_and_first_of_all_in_its_own(tmp_path: Path):
    for place, value in (("first", 1), ("own", 2), ("third", 3)):
        (tmp_path / place).mkdir()
        outputs.save(table(shared=value, **{place: 0}), tmp_path / place / "runs.csv")
    found = outputs.exported(tmp_path / "own", "runs.csv")
    assert set(found) == {"shared", "first", "own", "third"} and list(found["shared"].value) == [2]
    assert outputs.exported(None, "runs.csv") == {}


@pytest.mark.parametrize("name", ["runs.csv", "rows.parquet"])
def test_a_table_that_cannot_be_read_is_named(name: str, tmp_path: Path):
    file = tmp_path / "mine" / name
    file.parent.mkdir()
    file.write_bytes(b"\xff\0\n\xff,,\n")
    with pytest.raises(StudyError, match=rf"{file} is damaged \(\w+\): restore it, or delete it and run again\."):
        outputs.exported(file.parent, name)


def _add(place: Path, name: str) -> None:
    os.environ["STUDY_HOME"] = f"{place} {name}"  # each with a store of its own
    with outputs.alone(place), outputs.draft(place) as draft:
        outputs.save(outputs.merged(table(**{name: 1}), place, "runs.csv"), draft / "runs.csv")


def test_what_several_processes_add_is_all_there(tmp_path: Path):
    names = ["a", "b", "c", "d"]
    context = multiprocessing.get_context("spawn")
    each = [context.Process(target=_add, args=(tmp_path / "shown", name)) for name in names]
    for process in each:
        process.start()
    for process in each:
        process.join(120)
    assert [process.exitcode for process in each] == [0] * len(names)
    assert set(outputs.exported(tmp_path / "shown", "runs.csv")) == set(names)
