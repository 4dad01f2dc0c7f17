"""The tables and figures of a notebook in its folder under figures/: read by what was planned, merged, and replaced whole, by one process
at a time."""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from filelock import FileLock

from studylib import runs
from studylib.errors import StudyError

IDENTITY = [
    "family",
    "teacher",
    "student",
    "role",
    "start",
    "targets",
    "objective",
    "trained",
    "asked",
    "test_set",
    "language",
    "seed",
    "steps",
]
WHEN = ["started", "seconds"]  # what differs when the same is computed again: in a table of its own
FEW = 1_000_000  # bytes that tables and figures take at least
KEPT = ("rows.parquet", "runs.csv", "times.csv", "learning.csv", "timing.csv")  # what is read again, where nothing is computed
DIGESTS = "digests.json"  # of all that is written beside it
PAUSES = (0, 0.1, 1)  # seconds before each look at a file that is not what was written
DRAFT = ".draft-"  # begins the name of a folder in which files are written before they replace others


def exported(folder: Path | None, name: str) -> dict[str, pd.DataFrame]:
    """The rows of this file, by what was planned for them, in `folder` and in those beside it: of a profile's other experiments."""
    if folder is None:
        return {}
    others = [file for file in sorted(folder.parent.glob(f"*/{name}")) if file.parent != folder]
    return {planned: part for file in (*others, folder / name) for planned, part in parts(file).items()}


def parts(file: Path) -> dict[str, pd.DataFrame]:
    """The rows of a file by what was planned for them; none if there is no such file."""
    if not file.exists():
        return {}
    table = read(file)
    return dict(list(table.groupby("planned", sort=False))) if "planned" in table else {}


def read(file: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A table, or some columns of it. Raises StudyError, naming it, for one that is damaged or not what was written."""
    check(file)
    try:
        if file.suffix == ".parquet":
            return pd.read_parquet(file, columns=columns, page_checksum_verification=True)
        return pd.read_csv(file, usecols=columns, dtype={"student": str, "key": str}).fillna({"student": ""})
    except (OSError, ValueError, KeyError) as error:  # pyarrow's and pandas' own are among them
        raise StudyError(f"{file} is damaged ({type(error).__name__}): restore it, or delete it and run again.") from error


def check(file: Path) -> None:
    """Raise StudyError, naming it, for a file that is not what was written."""
    if not as_written(file):
        raise StudyError(f"{file} is not what was written (digest differs): restore it, or delete it and run again.")


def as_written(file: Path) -> bool:
    """Whether a file is what was written, as far as `DIGESTS` beside it tells."""
    for pause in PAUSES:  # another process may be about to replace both
        time.sleep(pause)
        known = _written(file.parent).get(file.name)
        if known is None or not file.exists() or runs.file_digest(file) in known:
            return True
    return False


def _written(folder: Path) -> dict[str, list[str]]:
    """The digests that files of a folder may have: one each, or two while a file is being replaced."""
    return (runs.read_sealed(folder / DIGESTS) or {}).get("files", {})


def timed(kept: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The tables, when and in how many seconds runs were made (`times`) apart from what they are (`runs`)."""
    if "runs" not in kept:
        return dict(kept)
    made = kept["runs"]
    return {**kept, "runs": made.drop(columns=WHEN, errors="ignore"), "times": made[["label", "key", "planned", *WHEN]]}


@contextmanager
def draft(folder: Path) -> Iterator[Path]:
    """A folder to write into; when all is written, its files replace those in `folder`. What a process that died has left there goes."""
    for left in folder.glob(f"{DRAFT}*"):
        shutil.rmtree(left)
    for left in folder.glob(f"{DIGESTS}.*{runs.DRAFT}"):
        left.unlink()
    there = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    with runs.room(folder, "tables and figures", lambda: max(there, FEW)), TemporaryDirectory(dir=folder, prefix=DRAFT) as place:
        yield Path(place)
        made = sorted(Path(place).iterdir())
        runs.settle(*made)
        digests = {file.name: [runs.file_digest(file)] for file in made}
        before = {name: [runs.file_digest(folder / name)] for name in digests if (folder / name).exists()}
        others = {name: known for name, known in _written(folder).items() if name not in digests and (folder / name).exists()}
        runs.write_sealed(folder / DIGESTS, {"files": others | {name: before.get(name, []) + known for name, known in digests.items()}})
        for file in made:
            file.replace(folder / file.name)
        runs.settle(folder)
        runs.write_sealed(folder / DIGESTS, {"files": others | digests})


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Within, no other process changes what is exported to the folder: it is read, merged and written."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder.parent.parent / ".locks" / f"{folder.parent.name}-{folder.name}.lock"  # whichever store a process has
    lock.parent.mkdir(exist_ok=True)
    with FileLock(lock):
        yield


def save(table: pd.DataFrame, file: Path) -> None:
    """Write a table as the file's name ends."""
    if file.suffix == ".parquet":
        table.to_parquet(file, index=False, write_page_checksum=True)
    else:
        table.to_csv(file, index=False)


def merged(table: pd.DataFrame, folder: Path, name: str) -> pd.DataFrame:
    """The table, and what the file in `folder` has besides, but for what is called the same and was planned otherwise."""
    called = [column for column in (*IDENTITY, "label") if column in table]
    known = set(table[called].astype(str).itertuples(index=False, name=None))
    others = [
        part for part in parts(folder / name).values() if not known & set(part[called].astype(str).itertuples(index=False, name=None))
    ]
    return pd.concat([table, *others], ignore_index=True)
