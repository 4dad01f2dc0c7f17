"""Files over HTTP: where a package index serves an archive, and its bytes, which go on from what is
there.

The address comes through whichever index pip is configured for.
"""

import os
import shutil
import ssl
import subprocess
import sys
import urllib.request
from ast import literal_eval
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

from tqdm.auto import tqdm

from studylib.core.errors import StudyError, sentence_of
from studylib.core.filesystem import FULL
from studylib.core.progress import watched

PIP_SECONDS = 120  # that pip may take to tell its configuration
TRIES = 10  # connections, each of which brings more than the last one


def address(archive: str, instead: str) -> str:
    """Where the package index serves an archive, NAME==VERSION. Raises StudyError where it does
    not, with what can be done `instead`."""
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
        raise StudyError(f"The package index has no {archive}: check the network, or {instead}.")
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


def fetch(url: str, path: Path, title: str, instead: str) -> None:
    """Fetch into a file, going on from what is there, as often as more comes. What has come stays,
    for the next call. Raises StudyError where it does not come, with what can be done `instead`."""
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
        f"{title} could not be fetched ({reason}): check the network{kept}, or {instead}."
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
