"""Files that are whole or not there: JSON by atomic rename, digests and seals, and what is free on
the disk.

write_sealed(path, {"steps": 3}); read_sealed(path)        None, if anybody changed it
"""

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from platformdirs import user_cache_path

from studylib.core.errors import StudyError

CHECKPOINT_SECONDS = 120.0  # after which a run keeps what it goes on from
FULL = (errno.ENOSPC, errno.EDQUOT)
DRAFT = ".draft"  # ends the name of a file that is being written
FEW_INODES = 100  # some may be free again when an error is told


def home() -> Path:
    """Where runs and downloads are kept: `STUDY_HOME`, or the user's cache folder."""
    named = os.environ.get("STUDY_HOME")
    try:
        return Path(named or user_cache_path("studylib")).expanduser().absolute()
    except RuntimeError as error:
        raise StudyError(
            f"STUDY_HOME {named} names a user who is not known: name a folder."
            if named
            else "This user has no home to keep the store in: name a folder in STUDY_HOME."
        ) from error


def canonical(value: object) -> bytes:
    """JSON with sorted keys and no blanks: the same bytes for the same value."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest(value: object) -> str:
    """sha256 of the canonical JSON of `value`, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:  # what fails in reading does not name the file
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_json(path: Path, value: object) -> None:
    """Write JSON as `write_text` does."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))


def write_text(path: Path, text: str) -> None:
    """Write by atomic rename: a reader sees the old file or the new one, never half of it, even if
    the machine stops."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(
        f"{path.name}.{uuid4().hex}{DRAFT}"
    )  # another writer of this path has another
    try:
        draft.write_text(text, encoding="utf-8")
        settle(draft)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    settle(path.parent)


def settle(*paths: Path) -> None:
    """Wait until what was written to these files, or into these folders, is on the disk, and not in
    the system's memory only."""
    for path in paths:
        place = os.open(path, os.O_RDONLY)
        try:
            os.fsync(place)
        finally:
            os.close(place)


def seal(content: Mapping) -> str:
    """Digest of all that a mapping says but for its own seal."""
    return digest({name: value for name, value in content.items() if name != "seal"})


def write_sealed(path: Path, content: Mapping) -> dict:
    """Write JSON with a seal over all of it, and return what was written."""
    sealed = {**content, "seal": seal(content)}
    write_json(path, sealed)
    return sealed


def read_sealed(path: Path) -> dict | None:
    """What was written so, or None if there is no such file or it is not what was written."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if content["seal"] == seal(content) else None
    # no such file; no JSON in UTF-8, or no mapping with a seal
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return None


class NoRoom(StudyError):
    """The disk is full."""


@contextmanager
def room(place: Path, what: str, needed: Callable[[], float] | None = None) -> Iterator[None]:
    """Within, an error that means a full disk becomes one that says where, what was to be written,
    and how many bytes that needs, if that is known."""
    try:
        yield
    except NoRoom:
        raise
    except Exception as error:  # each library has its own for this
        if getattr(error, "errno", None) not in FULL and "No space left on device" not in str(
            error
        ):
            raise
        if (inodes := free_inodes(place)) < FEW_INODES:
            raise NoRoom(
                f"{place} has no room left for {what} ({inodes:.0f} inodes are free, one of which"
                " every file takes): delete files and run again, or move the store (STUDY_HOME)."
            ) from error
        space = f"{free(place) / 1e6:.0f} MB are free" + (
            f", about {needed() / 1e6:.0f} MB are needed" if needed else ""
        )
        raise NoRoom(
            f"{place} has no room left for {what} ({space}): make room and run again, or move the"
            " store (STUDY_HOME)."
        ) from error


def free(place: Path) -> int:
    """Bytes that are free where a file or folder lies or is to lie."""
    return shutil.disk_usage(_there(place)).free


def free_inodes(place: Path) -> float:
    """How many more files can be made there, however many bytes are free; without end where the
    file system does not count them."""
    if not hasattr(os, "statvfs"):  # Windows
        return math.inf
    stats = os.statvfs(_there(place))
    return stats.f_favail if stats.f_files else math.inf


def _there(place: Path) -> Path:
    """A place, or the nearest folder above it that exists."""
    return next(folder for folder in (place, *place.absolute().parents) if folder.exists())


def size(place: Path) -> int:
    """Bytes of a file, or of all that lies in a folder, but for what other processes are just
    taking away."""
    files = (
        [place]
        if place.is_file()
        else [Path(folder) / name for folder, _, names in os.walk(place) for name in names]
    )
    total = 0
    for file in files:
        with suppress(FileNotFoundError):
            total += file.lstat().st_size
    return total
