"""A folder of tables is replaced whole or not at all, by one at a time, and what it held of other
runs stays."""

import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
from exported_tables import exported, table
from hypothesis import given
from hypothesis import strategies as st

from studylib.core import filesystem
from studylib.core.errors import StudyError
from studylib.store import exports, output_folder

NAMES = (
    "NA",
    "null",
    "nan",
    "None",
    "",
    "001",
    "1.10",
    "1e5",
    "inf",
    "True",
    "=1+1",
    " a ",
    'a "b", c',
    "a\nb",
    "ü 你好",
    "-",
)


@pytest.mark.parametrize("name", ["runs.csv", "rows.parquet"])
def test_text_comes_back_from_a_table_as_it_went_in(name: str, tmp_path: Path):
    for text in (*NAMES, *map(str, range(3))):
        named = dict.fromkeys(
            ("family", "student", "test_set", "teacher", "label", "article", "question", "torch"),
            text,
        )
        lines = pd.DataFrame(
            [
                named | {"planned": "a1", "seed": 0, "f1": 0.1 + 0.2},
                named | {"planned": "b1", "seed": 1, "f1": None},
            ]
        )
        exports.save(lines, tmp_path / name)
        pd.testing.assert_frame_equal(
            exports.read(tmp_path / name),
            lines,
            check_exact=True,
            check_dtype=name.endswith("parquet"),
        )
        assert exports.read(tmp_path / name, ["family"]).family.tolist() == [text, text]


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])),
    st.floats(allow_nan=False),
    st.integers(0, 2**62),
)
def test_any_text_and_number_comes_back(text: str, number: float, seed: int):
    lines = pd.DataFrame([{"planned": "a1", "family": text, "seed": seed, "f1": number}])
    with TemporaryDirectory() as place:
        exports.save(lines, Path(place) / "runs.csv")
        pd.testing.assert_frame_equal(
            exports.read(Path(place) / "runs.csv"), lines, check_exact=True, check_dtype=False
        )


@pytest.mark.parametrize("text", NAMES)
def test_a_table_does_not_grow_when_the_same_is_merged_again(text: str, tmp_path: Path):
    lines = table(a1=1, b1=2).assign(
        family=text, test_set=text, student=text, teacher="fine-tuned", seed=0
    )
    for _ in range(3):
        exports.save(exports.merged(lines, tmp_path, "learning.csv"), tmp_path / "learning.csv")
        assert len(exports.read(tmp_path / "learning.csv")) == 2


def test_a_table_that_was_edited_is_refused_and_others_are_not(tmp_path: Path):
    place = tmp_path / "shown"
    exported(place, runs=table(a1=1, b1=2), learning=table(a1=3))
    exported(place, runs=table(a1=1, b1=4))
    assert list(exports.read(place / "runs.csv").value) == [1, 4] and list(
        exports.read(place / "learning.csv", ["value"]).value
    ) == [3]
    file = place / "runs.csv"
    for changed in (file.read_text().replace("4", "5"), file.read_text()[:-8], ""):
        file.write_text(changed)
        assert not output_folder.as_written(file) and output_folder.as_written(
            place / "learning.csv"
        )
        with pytest.raises(
            StudyError,
            match=(
                rf"{file} is not what was written \(digest differs\): restore it, or delete it and"
                r" run again\."
            ),
        ):
            exports.parts(file)
    file.unlink()
    assert exports.parts(file) == {}
    exported(place, runs=table(c1=6))
    assert list(exports.parts(file)) == ["c1"]


@pytest.mark.parametrize("after", range(4))
def test_whenever_it_is_killed_no_table_is_refused(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
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
    planned = {
        name: next(iter(exports.parts(place / f"{name}.csv"))) for name in ("runs", "learning")
    }
    assert planned in (
        {"runs": runs, "learning": learning}
        for runs, learning in (("a1", "a1"), ("a1", "a2"), ("a2", "a2"))
    )
    assert sum(name == "a2" for name in planned.values()) == max(0, after - 1)
    exported(place, runs=table(a3=5), learning=table(a3=6))
    assert list(exports.parts(place / "runs.csv")) == ["a3"]


@pytest.mark.parametrize("name", ["runs.csv", "rows.parquet"])
def test_lines_of_the_same_name_are_replaced_and_others_are_kept(name: str, tmp_path: Path):
    exports.save(table(a1=1, b1=2), tmp_path / name)
    both = exports.merged(table(a2=3), tmp_path, name)
    assert dict(zip(both.planned, both.value, strict=True)) == {"a2": 3, "b1": 2}
    assert set(exports.exported(tmp_path, name)) == {"a1", "b1"}


def test_what_was_planned_alike_is_found_in_a_folder_beside_it_and_first_of_all_in_its_own(
    tmp_path: Path,
):
    for place, value in (("first", 1), ("own", 2), ("third", 3), ("methods", 4)):
        (tmp_path / place).mkdir()
        exports.save(table(shared=value, **{place: 0}), tmp_path / place / "runs.csv")
    rows = exports.exported(tmp_path / "own", "runs.csv")
    assert set(rows) == {"shared", "first", "own", "third"} and list(rows["shared"].value) == [2]
    apart = exports.exported(tmp_path / "methods", "runs.csv")
    assert set(apart) == {"shared", "methods"} and list(apart["shared"].value) == [4]
    assert exports.exported(None, "runs.csv") == {}


@pytest.mark.parametrize("name", ["runs.csv", "rows.parquet"])
def test_a_table_that_cannot_be_read_is_named(name: str, tmp_path: Path):
    file = tmp_path / "mine" / name
    file.parent.mkdir()
    file.write_bytes(b"\xff\0\n\xff,,\n")
    with pytest.raises(
        StudyError, match=rf"{file} is damaged \(\w+\): restore it, or delete it and run again\."
    ):
        exports.exported(file.parent, name)


def merge(place: Path, **tables_: pd.DataFrame) -> None:
    """Write tables of these names with what was there and what was appended, as an export does."""
    with output_folder.alone(place):
        with output_folder.draft(place) as draft:
            exports.merge(place, {f"{name}.csv": lines for name, lines in tables_.items()}, draft)
        exports.clear_parts(place)


def seen(place: Path, name: str = "runs.csv") -> dict[str, int]:
    """What readers see of a table, by what was planned: each once."""
    rows = exports.exported(place, name)
    assert all(len(lines) == 1 for lines in rows.values())
    return {planned: int(lines.value.iloc[0]) for planned, lines in rows.items()}


def test_what_was_appended_is_seen_and_merged_into_the_table(tmp_path: Path):
    place = tmp_path / "shown"
    exported(place, runs=table(a1=1, b1=2))
    exports.append(place, "b2", {"runs.csv": table(b2=3)})
    exports.append(place, "c1", {"runs.csv": table(c1=4), "learning.csv": table(c1=5)})
    exports.append(place, "c1", {"runs.csv": table(c1=6), "learning.csv": table(c1=7)})
    assert seen(place) == {"a1": 1, "b1": 2, "b2": 3, "c1": 6} and seen(place, "learning.csv") == {
        "c1": 7
    }
    assert seen(tmp_path / "beside") == seen(place)
    merge(place, runs=table(a2=8))
    assert exports.read(place / "runs.csv").value.tolist() == [
        8,
        3,
        6,
    ], "b2 is called like b1, and newer"
    assert exports.read(place / "learning.csv").value.tolist() == [7]
    assert {file.name for file in place.iterdir()} == {
        "runs.csv",
        "learning.csv",
        output_folder.DIGESTS,
    }


def test_appending_costs_the_same_however_much_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """In rows that are written, and in bytes and tables that are read."""
    saved, opened, read = [], [], exports.read
    real = filesystem.file_digest
    with monkeypatch.context() as patch:
        patch.setattr(
            exports,
            "save",
            lambda lines, file, save=exports.save: (saved.append(len(lines)), save(lines, file)),
        )
        patch.setattr(exports, "read", lambda file, columns=None: pytest.fail("read"))
        patch.setattr(
            filesystem,
            "file_digest",
            lambda file: (opened.append(file.stat().st_size), real(file))[1],
        )
        costs = []
        for number in range(40):
            saved.clear(), opened.clear()
            exports.append(
                tmp_path / "shown",
                f"{number:03}",
                {"rows.parquet": table(**{f"{number:03}": number}).assign(label=str(number))},
            )
            costs.append((sum(saved), len(opened)))
        assert set(costs) == {(1, 1)}
    tables: list[Path] = []
    monkeypatch.setattr(
        exports, "read", lambda file, columns=None: (tables.append(file), read(file, columns))[1]
    )
    merge(tmp_path / "shown")
    assert len(tables) == 40 and len(pd.read_parquet(tmp_path / "shown" / "rows.parquet")) == 40, (
        "each part is read once"
    )


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("action", ["append", "merge"])
def test_whenever_it_is_killed_nothing_is_lost_or_there_twice(action: str, tmp_path: Path):
    """At each step that changes files: what was there is seen once, what is added is seen or not,
    and the next export has all of it."""

    def act(place: Path) -> None:
        if action == "append":
            exports.append(place, "c1", {"runs.csv": table(c1=3), "learning.csv": table(c1=4)})
        else:
            merge(place, runs=table(c1=3))

    last = 0
    for last in range(1, 1000):
        place = tmp_path / str(last) / "shown"
        exported(place, runs=table(a1=1))
        exports.append(place, "b1", {"runs.csv": table(b1=2)})
        with dying(place, last) as count, suppress(Killed):
            act(place)
        assert seen(place) in ({"a1": 1, "b1": 2}, {"a1": 1, "b1": 2, "c1": 3})
        merge(place)
        assert len(exports.read(place / "runs.csv")) == len(seen(place)) >= 2
        act(place)
        merge(place)
        assert sorted(exports.read(place / "runs.csv").value) == [1, 2, 3]
        assert {file.name for file in place.iterdir()} <= {
            "runs.csv",
            "learning.csv",
            output_folder.DIGESTS,
        }
        if len(count) < last:
            break
    assert 10 < last < 999


@contextmanager
def dying(place: Path, last: int) -> Iterator[list[str]]:
    """Within, the process ends at the `last` change of files in the folder; whatever would tidy up
    afterwards does not."""
    watched[:] = [(str(place), last, touched := [])]
    try:
        yield touched
    finally:
        watched.clear()


watched: list[tuple[str, int, list[str]]] = []


def _watch(event: str, given: tuple) -> None:
    changes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir") or (
        event == "open" and given[1] not in (None, "r", "rb")
    )
    for place, last, touched in watched if changes else ():
        if str(given[0]).startswith(place):
            touched.append(event)
            if len(touched) >= last:
                raise Killed


sys.addaudithook(_watch)


def _add(place: Path, name: str) -> None:
    os.environ["STUDY_HOME"] = f"{place} {name}"  # each with a store of its own
    exports.append(place, name, {"runs.csv": table(**{name: 1})})
    if name in "bd":
        merge(place)


def test_what_several_processes_add_is_all_there(tmp_path: Path):
    names = ["a", "b", "c", "d"]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_add, args=(tmp_path / "shown", name)) for name in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * len(names)
    assert set(exports.exported(tmp_path / "shown", "runs.csv")) == set(names)
