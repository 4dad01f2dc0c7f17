"""What notebooks export, written anew from their rows in a copy of the project, and compared.
Computes no model.

with copied([job]) as place: print(*redrawn(job, place), sep="\n")
"""

import csv
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass, replace
from math import isclose
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from studylib.app import execution
from studylib.app.notebooks import Job
from studylib.core.errors import StudyError
from studylib.core.filesystem import home, read_sealed
from studylib.core.project import root
from studylib.store import exports, output_folder

LAST = 1e-9  # of a number in a table: what threads and processors make of its last digits
PICTURES = (".svg", ".png")  # of which the numbers are compared, in the table beside them


@dataclass(frozen=True)
class Difference:
    """What was found, in a sentence, whether it is `wrong`, and whether all of it was `seen`."""

    sentence: str
    wrong: bool = True
    seen: bool = True


def files(folder: Path) -> list[str]:
    """The names of what a notebook exported; none where it did not."""
    return sorted(
        file.name
        for file in (folder.iterdir() if folder.is_dir() else ())
        if file.is_file() and not file.name.startswith(".") and file.name != output_folder.DIGESTS
    )


@contextmanager
def copied(jobs: Sequence[Job]) -> Iterator[Path]:
    """A copy of the project that shows nothing yet but has the rows of these jobs' profiles."""
    with TemporaryDirectory(prefix="study-verify-") as folder:
        place = Path(folder)
        for entry in root().iterdir():
            if entry.name not in ("figures", "notebooks", ".git"):
                (place / entry.name).symlink_to(entry)
        shutil.copytree(
            root() / "notebooks",
            place / "notebooks",
            ignore=shutil.ignore_patterns(".ipynb_checkpoints"),
        )
        for profile in {job.folder.parent for job in jobs}:
            for file in (file for name in exports.KEPT for file in profile.glob(f"*/{name}")):
                copy = place / "figures" / profile.name / file.parent.name / file.name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
            for folder_copy in (place / "figures" / profile.name).glob("*/"):
                output_folder.adopt(folder_copy)
        yield place


@contextmanager
def _home(place: Path) -> Iterator[None]:
    """Within, STUDY_HOME is another folder."""
    before = os.environ.copy()
    os.environ["STUDY_HOME"] = str(place)
    try:
        yield
    finally:
        del os.environ["STUDY_HOME"]
        os.environ |= before


def redrawn(job: Job, place: Path) -> Iterator[Difference]:
    """What differs between the files that a notebook exported and those that it writes in the copy
    of the project: with a home that has no runs, so that only rows are shown. What is executed
    there stays to be looked into."""
    shown, drawn = job.folder, place / "figures" / job.profile / job.notebook.stem
    copy = replace(job, notebook=place / "notebooks" / job.notebook.name)
    try:
        with _home(home() / "verified"), chdir(place):
            execution.execute(copy, compute=False)
    except StudyError as error:
        yield Difference(str(error))
        return
    for name in sorted({*files(shown), *files(drawn)}):
        if not (shown / name).exists():
            yield Difference(f"{name} is missing")
        elif (drawn / name).exists():
            difference = differing(shown / name, drawn / name)
            if (difference and difference.wrong) or output_folder.as_written(shown / name):
                yield from filter(None, [difference])
            else:
                yield Difference(f"{name} is not what was written (digest differs)")
        elif name in output_folder.listed(shown):
            yield Difference(f"{name} is none of the files that the notebook writes")
        else:
            yield Difference(f"{name} is not the study's: left alone", wrong=False, seen=False)
    if read_sealed(shown / output_folder.DIGESTS) is None:
        yield Difference(f"{output_folder.DIGESTS} is missing, or not what was written")


def differing(shown: Path, redrawn: Path) -> Difference | None:
    """The first place where a file differs from the one that follows from the rows."""
    if shown.read_bytes() == redrawn.read_bytes():
        return None
    if shown.suffix in PICTURES:
        return Difference(
            f"{shown.name}: not compared, another drawing of the numbers of {shown.stem}.csv",
            wrong=False,
            seen=False,
        )
    compare = {".parquet": _columns, ".csv": _cells}.get(shown.suffix, _lines)
    try:
        return compare(shown, redrawn)
    except (OSError, ValueError, csv.Error) as error:  # pyarrow's own are among them
        return Difference(f"{shown.name} is damaged ({type(error).__name__})")


def _read(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def _lines(shown: Path, redrawn: Path) -> Difference:
    """The first line that differs, or that one of the files has no more lines."""
    lines, others = _read(shown), _read(redrawn)
    for number, (line, other) in enumerate(zip(lines, others, strict=False), start=1):
        if line != other:
            return Difference(
                f"{shown.name}, line {number}: {line[:120]!r} is shown, {other[:120]!r} follows"
                " from the rows"
            )
    return Difference(f"{shown.name} has {len(lines)} lines, {len(others)} follow from the rows")


def _columns(shown: Path, redrawn: Path) -> Difference | None:
    """The first column of a table that differs."""
    table, other = pd.read_parquet(shown), pd.read_parquet(redrawn)
    if list(table) != list(other) or len(table) != len(other):
        return Difference(
            f"{shown.name} has other columns or lines ({len(table)}) than the notebook writes"
            f" ({len(other)})"
        )
    for name in table:
        if not table[name].equals(other[name]):
            return Difference(f"{shown.name}: {name} is not what the notebook writes")
    return None


def _cells(shown: Path, redrawn: Path) -> Difference:
    """The first cell that differs, or that some do in their last digits alone."""
    (heads, *lines), (others, *follow) = (
        [*csv.reader(_read(file))] or [[]] for file in (shown, redrawn)
    )
    if heads != others or list(map(len, lines)) != list(map(len, follow)):
        return Difference(
            f"{shown.name} has other columns or lines ({len(lines)}) than follow from the rows"
            f" ({len(follow)})"
        )
    for number, (line, other) in enumerate(zip(lines, follow, strict=True), start=2):
        for head, a, b in zip(heads, line, other, strict=True):
            if not close(a, b):
                return Difference(
                    f"{shown.name}, line {number}, {head}: {a or 'nothing'} is shown,"
                    f" {b or 'nothing'} follows from the rows"
                )
    return Difference(
        f"{shown.name}: the same numbers but for their last digits (another processor or number of"
        " threads)",
        wrong=False,
    )


def close(a: str, b: str) -> bool:
    """Whether two cells are the same, but for last digits."""
    try:
        return a == b or isclose(float(a), float(b), rel_tol=LAST)
    except ValueError:
        return False
