"""The tables of a notebook in its folder under figures/: read by what was planned, and merged.

What a run adds is first appended as a folder of its own under `parts/`, which costs the same
however much is there; the next export merges these parts into the tables.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd

from studylib.core import provenance
from studylib.core.errors import StudyError
from studylib.store import output_folder

IDENTITY = [
    "family",
    "teacher",
    "student",
    "role",
    "init",
    "targets",
    "objective",
    "train_prompt",
    "eval_prompt",
    "test_set",
    "language",
    "seed",
    "steps",
]
NUMBERS = ("seed", "steps")  # of what identifies a row; the rest is text
TEXT = {
    *IDENTITY,
    "kind",
    "label",
    "key",
    "digest",
    "planned",
    "versions",
    "run",
    "runs",
    "article",
    "question",
    "answer",
    "started",
    "python",
    "unicode",
    "git",
    "dirty",
    "system",
    "processor",
    "processor_name",
    *provenance.LIBRARIES,
    "contrast",
    "extra_data",
    "ways",
    "trait",
    "metric",
    "asks",
} - {*NUMBERS}
WHEN = ["started", "seconds"]  # what differs when the same is computed again: in a table of its own
# what is read again, where nothing is computed
KEPT = ("rows.parquet", "runs.csv", "times.csv", "learning.csv", "timing.csv", "costs.csv")
# Experiments that show no results of others, nor lend them theirs: with dozens of trainings they
# may come from another machine, on which the same runs have other weights.
APART = {"methods"}
PARTS = "parts"  # holds a folder for each run that was done since the tables were last written


def exported(folder: Path | None, name: str) -> dict[str, pd.DataFrame]:
    """The rows of this file, by what was planned for them, in `folder` and in those of a profile's
    other experiments, where they share results."""
    return {
        planned: rows
        for table in _profile_tables(folder, name)
        for planned, rows in grouped(table).items()
    }


def records(folder: Path | None, name: str) -> dict[str, dict]:
    """The same of a file that has one row of each."""
    return {
        row["planned"]: row
        for table in _profile_tables(folder, name)
        if "planned" in table
        for row in table.to_dict("records")
    }


def _profile_tables(folder: Path | None, name: str) -> Iterator[pd.DataFrame]:
    """This table of all experiments that share results with that in `folder`, whose own is last."""
    for place in sharing(folder) if folder is not None else ():
        yield from reversed(tables(place, name))


def sharing(folder: Path) -> list[Path]:
    """The folders of a profile's experiments that show each other's results, `folder` last."""
    others = [
        place
        for place in sorted(folder.parent.glob("*/"))
        if place != folder and not place.name.startswith(".")
    ]
    return [place for place in others if APART.isdisjoint({place.name, folder.name})] + [folder]


def tables(folder: Path, name: str, columns: Sequence[str] | None = None) -> list[pd.DataFrame]:
    """What a folder has of a table, or some columns of it: appended parts, the last one first, then
    the table itself.

    In this order nothing is missed while another process merges parts into the table: only when it
    is written, they are deleted.
    """
    frames = []
    for file in appended(folder, name):
        try:
            frames.append(read(file, columns))
        except StudyError:
            if file.exists():
                raise
    return [*frames, read(folder / name, columns)] if (folder / name).exists() else frames


def appended(folder: Path, name: str) -> list[Path]:
    """The parts of a table that were appended, the last one first."""
    dated = []
    for file in folder.glob(f"{PARTS}/*/{name}"):
        with suppress(FileNotFoundError):  # merged meanwhile
            dated.append((file.stat().st_mtime_ns, file))
    return [file for _, file in sorted(dated, reverse=True)]


def parts(file: Path) -> dict[str, pd.DataFrame]:
    """The rows of a file by what was planned for them; none if there is no such file."""
    return grouped(read(file)) if file.exists() else {}


def grouped(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of a table by what was planned for them."""
    return dict(list(table.groupby("planned", sort=False))) if "planned" in table else {}


def read(file: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A table, or some columns of it. Raises StudyError, naming it, for one that is damaged or not
    what was written."""
    output_folder.check(file)
    try:
        if file.suffix == ".parquet":
            return pd.read_parquet(file, columns=columns, page_checksum_verification=True)
        return typed(pd.read_csv(file, usecols=columns, dtype=str, na_filter=False))
    except (OSError, ValueError, KeyError) as error:  # pyarrow's and pandas' own are among them
        raise StudyError(
            f"{file} is damaged ({type(error).__name__}): restore it, or delete it and run again."
        ) from error


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """A table of texts with numbers where there are any but for columns of `TEXT`: there `001`,
    `NA` and `1.10` are names."""
    return pd.DataFrame(
        {name: column if name in TEXT else _numbers(column) for name, column in table.items()}
    )


def _numbers(column: pd.Series) -> pd.Series:
    """A column of texts as numbers, none where a cell is empty; as it is where a cell is no
    number."""
    for kind in ("int64", "float64"):
        with suppress(ValueError, OverflowError):
            return column.replace("", "nan").astype(kind)
    return column


def timed(kept: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The tables, when and in how many seconds runs were made (`times`) apart from what they are
    (`runs`)."""
    if "runs" not in kept:
        return dict(kept)
    runs = kept["runs"]
    return {
        **kept,
        "runs": runs.drop(columns=WHEN, errors="ignore"),
        "times": runs[["label", "key", "planned", *WHEN]],
    }


def append(folder: Path, name: str, added: Mapping[str, pd.DataFrame]) -> None:
    """Keep tables, by their files' names, as a part of this name beside the tables of a folder."""
    place = folder / PARTS / name
    with output_folder.alone(folder):
        place.mkdir(parents=True, exist_ok=True)
        with output_folder.draft(place, called=folder) as scratch:
            for file, table in added.items():
                save(table, scratch / file)


def merge(folder: Path, written: Mapping[str, pd.DataFrame], into: Path) -> None:
    """Write tables, by their files' names, to a draft, each with what `folder` and its parts have
    besides."""
    for name in dict.fromkeys((*written, *(name for name in KEPT if appended(folder, name)))):
        save(merged(written.get(name, pd.DataFrame()), folder, name), into / name)


def clear_parts(folder: Path) -> None:
    """Delete the parts of a folder, once the tables have all that they hold."""
    for place in folder.glob(f"{PARTS}/*/"):
        output_folder.remove(place)
    with suppress(OSError):  # there are none, or something else lies there
        (folder / PARTS).rmdir()


def save(table: pd.DataFrame, file: Path) -> None:
    """Write a table as the file's name ends."""
    if file.suffix == ".parquet":
        table.to_parquet(file, index=False, write_page_checksum=True)
    else:
        table.to_csv(file, index=False)


def merged(table: pd.DataFrame, folder: Path, name: str) -> pd.DataFrame:
    """The table, and what the file in `folder` and its parts have besides, but for what is called
    the same and was planned otherwise."""
    known = _called(table)
    others: list[list[pd.DataFrame]] = []
    for there in tables(folder, name):
        others.append([part for part in grouped(there).values() if not known & _called(part)])
        known |= {called for part in others[-1] for called in _called(part)}
    every = [table, *(part for group in reversed(others) for part in group)]
    return pd.concat([part for part in every if len(part.columns)] or every, ignore_index=True)


def _called(table: pd.DataFrame) -> set[tuple]:
    """What the rows of a table are called."""
    columns = [column for column in (*IDENTITY, "label") if column in table]
    names = table[columns].drop_duplicates().itertuples(index=False, name=None)
    return {tuple(map(str, name)) for name in names}
