"""A folder of tables and figures under figures/: files of it are replaced whole, by one process at
a time, and known by their digests.

with output_folder.draft(folder) as place:
    (place / "summary.md").write_text("...")

Only files that are listed in `digests.json` are ever replaced or deleted.
"""

import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

from studylib.core import filesystem
from studylib.core.errors import StudyError

FEW = 1_000_000  # bytes that tables and figures take at least
DIGESTS = "digests.json"  # of all that is written beside it
PAUSES = (0, 0.1, 1)  # seconds before each look at a file that is not what was written
# begins the name of a folder in which files are written before they replace others
DRAFT = ".draft-"
MARK = ".study-draft"  # a file in each such folder, by which it is known to be one


def check(file: Path) -> None:
    """Raise StudyError, naming it, for a file that is not what was written."""
    if not as_written(file):
        raise StudyError(
            f"{file} is not what was written (digest differs): restore it, or delete it and run"
            " again."
        )


def as_written(file: Path) -> bool:
    """Whether a file is what was written, as far as `DIGESTS` beside it tells."""
    for pause in PAUSES:  # another process may be about to replace both
        time.sleep(pause)
        known = listed(file.parent).get(file.name)
        if known is None or not file.exists() or filesystem.file_digest(file) in known:
            return True
    return False


def listed(folder: Path) -> dict[str, list[str]]:
    """What the study wrote in a folder: the digests that files of a folder may have: one each, or
    two while a file is being replaced."""
    return (filesystem.read_sealed(folder / DIGESTS) or {}).get("files", {})


@contextmanager
def draft(folder: Path, called: Path | None = None) -> Iterator[Path]:
    """A folder to write into; when all is written, its files replace those in `folder`. What a
    process that died has left there goes. A full disk is told of the folder `called`, if another.

    Raises StudyError for a file there that is not listed, or not as it was written: it is
    somebody's own.
    """
    _clear(folder)
    there = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    with (
        filesystem.room(called or folder, "tables and figures", lambda: max(there, FEW)),
        TemporaryDirectory(dir=folder, prefix=DRAFT) as place,
    ):
        (Path(place) / MARK).touch()
        yield Path(place)
        files = [file for file in sorted(Path(place).iterdir()) if file.name != MARK]
        for target in (folder / file.name for file in files):
            if target.exists() and target.name not in listed(folder):
                raise StudyError(
                    f"{target} would be replaced, and {DIGESTS} does not list it among what the"
                    " study wrote: move it away."
                )
            check(target)
        _replace(folder, files)


def _replace(folder: Path, files: Sequence[Path]) -> None:
    """Let files take the places of those in a folder. While they do, the digests of both are
    listed."""
    filesystem.settle(*files)
    either = {
        file.name: [
            filesystem.file_digest(version)
            for version in (folder / file.name, file)
            if version.exists()
        ]
        for file in files
    }
    digests = {name: known[-1:] for name, known in either.items()}
    others = {
        name: known
        for name, known in listed(folder).items()
        if name not in digests and (folder / name).exists()
    }
    filesystem.write_sealed(folder / DIGESTS, {"files": others | either})
    for file in files:
        file.replace(folder / file.name)
    filesystem.settle(folder)
    filesystem.write_sealed(folder / DIGESTS, {"files": others | digests})


def _clear(folder: Path) -> None:
    """Delete drafts that a process that died has left; a folder that is only called so stays."""
    for left in folder.glob(f"{DRAFT}*"):
        if (left / MARK).is_file() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            with suppress(OSError):  # unless it is empty
                left.rmdir()
    for file in folder.glob(f"{DIGESTS}.*{filesystem.DRAFT}"):
        file.unlink()


def adopt(folder: Path) -> None:
    """List all files of a folder as they are, as written: for a folder that holds copies."""
    files = {
        file.name: [filesystem.file_digest(file)]
        for file in folder.iterdir()
        if file.is_file() and file.name != DIGESTS
    }
    filesystem.write_sealed(folder / DIGESTS, {"files": files})


def drop(folder: Path, names: Collection[str]) -> None:
    """Delete those of these files that are listed and as they were written."""
    known = listed(folder)
    gone = {
        name
        for name in names
        if name in known and (folder / name).exists() and as_written(folder / name)
    }
    for name in gone:
        (folder / name).unlink()
    if gone:
        filesystem.write_sealed(
            folder / DIGESTS,
            {"files": {name: digests for name, digests in known.items() if name not in gone}},
        )


def remove(folder: Path) -> None:
    """Delete what is listed and as it was written, and the folder if nothing else lies there."""
    _clear(folder)
    for name in listed(folder):
        if as_written(folder / name):
            (folder / name).unlink(missing_ok=True)
    if set(folder.iterdir()) <= {folder / DIGESTS}:
        (folder / DIGESTS).unlink(missing_ok=True)
        folder.rmdir()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Within, no other process changes what is exported to the folder: it is read, merged and
    written."""
    folder.mkdir(parents=True, exist_ok=True)
    # whichever store a process has
    lock = folder.parent.parent / ".locks" / f"{folder.parent.name}-{folder.name}.lock"
    lock.parent.mkdir(exist_ok=True)
    with FileLock(lock):
        yield
