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
    assert {file.name: file.read_text() for file in tmp_path.iterdir() if file.name != outputs.DIGESTS} == {"a.csv": "new"}


def exported(place: Path, **tables_: pd.DataFrame) -> None:
    """Write tables of these names into the folder."""
    place.mkdir(exist_ok=True)
    with outputs.draft(place) as made:
        for name, lines in tables_.items():
            outputs.save(lines, made / f"{name}.csv")


def test_a_table_that_was_edited_is_refused_and_others_are_not(tmp_path: Path):
    place = tmp_path / "shown"
    exported(place, runs=table(a1=1, b1=2), learning=table(a1=3))
    exported(place, runs=table(a1=1, b1=4))
    assert list(outputs.read(place / "runs.csv").value) == [1, 4] and list(outputs.read(place / "learning.csv", ["value"]).value) == [3]
    file = place / "runs.csv"
    for changed in (file.read_text().replace("4", "5"), file.read_text()[:-8], ""):
        file.write_text(changed)
        assert not outputs.as_written(file) and outputs.as_written(place / "learning.csv")
        with pytest.raises(
            StudyError, match=rf"{file} is not what was written \(digest differs\): restore it, or delete it and run again\."
        ):
            outputs.parts(file)
    file.unlink()
    assert outputs.parts(file) == {}
    exported(place, runs=table(c1=6))
    assert list(outputs.parts(file)) == ["c1"]


@pytest.mark.parametrize("after", range(4))
def test_whenever_it_is_killed_no_table_is_refused(after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In replacing two tables and what is known of them, whichever replacement was the last one."""
    place = tmp_path / "shown"
    exported(place, runs=table(a1=1), learning=table(a1=2))
    done, replace = [], os.replace

    def counted(*paths: Path) -> None:
        if len(done) == after:
            raise KeyboardInterrupt
        done.append(paths)
        replace(*paths)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", counted)
        exported(place, runs=table(a2=3), learning=table(a2=4))
    found = {name: next(iter(outputs.parts(place / f"{name}.csv"))) for name in ("runs", "learning")}
    assert found in ({"runs": runs, "learning": learning} for runs, learning in (("a1", "a1"), ("a1", "a2"), ("a2", "a2")))
    assert sum(name == "a2" for name in found.values()) == max(0, after - 1)
    exported(place, runs=table(a3=5), learning=table(a3=6))
    assert list(outputs.parts(place / "runs.csv")) == ["a3"]


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
