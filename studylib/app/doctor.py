"""`study doctor`: where the environment departs from constraints.txt, what is at hand, and what is
wrong in the store."""

import os
import platform
import shutil
import ssl
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import psutil
from huggingface_hub import constants
from tqdm.auto import tqdm

from studylib.core.errors import StudyError
from studylib.core.escaping import printable
from studylib.core.filesystem import free, home, size
from studylib.core.libraries import torch
from studylib.core.progress import watched
from studylib.core.project import root
from studylib.data import archives
from studylib.data.downloads import indexes
from studylib.store import exports
from studylib.store.store import Store, busy, failure
from studylib.training import checkpoint

PATIENCE = 5  # seconds that a server has to answer in
EXTRAS = {
    "ray": ("ray", "`engine: ray`"),
    "submitit": ("slurm", "`engine: slurm`"),
    "lm_eval": ("lm-eval", "asking an exported model by lm-evaluation-harness"),
    "playwright": ("browser", "`pytest -m browser`"),
    "optuna": ("search", "`study search`"),
    "trl": ("bench", "`study bench`"),
}


def examine(say: Callable[[str], None]) -> None:
    """Say all of it. Raises StudyError if something is wrong in the store; an environment that
    departs is no error."""
    store = Store()
    for title, lines in (
        ("environment", environment()),
        ("at hand", at_hand()),
        ("store", unfinished(store)),
    ):
        say(f"{title}:")
        for line in lines:
            say(f"  {line}")
    wrong = [*faults(store), *downloads()]
    for place, what in wrong:
        say(f"  WRONG: {place}: {what}")
    say(f"  {len(wrong) or 'nothing'} wrong")
    if wrong:
        raise StudyError(
            f"{home()} is not sound ({len(wrong)} found, see above): do what is said there."
        )


def pinned() -> dict[str, str]:
    """The versions of constraints.txt by package. Raises StudyError if it is missing."""
    file = root() / "constraints.txt"
    if not file.exists():
        raise StudyError(f"{file} is missing, which has the versions to compare with: restore it.")
    return dict(
        line.split("==")
        for line in file.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )


def environment() -> Iterator[str]:
    """A line per package, and for Python, that is of another version than the committed results
    were made with, or not there."""
    try:
        recorded = {
            release
            for file in (root() / "figures" / "small").glob("*/runs.csv")
            for release in exports.read(file, ["python"]).python
        }
    except StudyError as error:
        yield str(error)
    else:
        if recorded and platform.python_version() not in recorded:
            yield (
                f"Python {platform.python_version()}: the committed results were made with"
                f" {' and '.join(sorted(recorded))}"
            )
    expected, same = pinned(), 0
    for name, required in expected.items():
        try:
            installed = version(name)
        except PackageNotFoundError:
            yield f"{name} is not installed: constraints.txt has {required}"
        else:
            if installed.partition("+")[0] == required:
                same += 1
            else:
                yield f"{name} {installed}: constraints.txt has {required}"
    yield f"{same} of {len(expected)} packages are as in constraints.txt"


def at_hand() -> Iterator[str]:
    """A line for each thing that computing, fetching or looking needs: how much of it there is, or
    what it is needed for."""
    memory, browser = psutil.virtual_memory(), shutil.which("chromium")
    cards = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    yield (
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads unless parameters say otherwise"
    )
    yield f"{memory.total / 1e9:.1f} GB of memory, {memory.available / 1e9:.1f} GB of it free"
    yield f"{free(home()) / 1e9:.1f} GB of disk free at {home()}"
    yield from [f"GPU: {card.name}, {card.total_memory / 1e9:.1f} GB" for card in cards] or [
        "no GPU: needed for `paper` only"
    ]
    yield _hub()
    yield _index()
    yield (
        f"browser: {browser}"
        if browser
        else "no browser (chromium): needed for `pytest -m browser` only"
    )
    for module, (extra, purpose) in EXTRAS.items():
        yield (
            f"{module} is installed"
            if find_spec(module)
            else f"no {module} (pip install -e '.[{extra}]'): needed for {purpose} only"
        )


def _hub() -> str:
    return (
        "hub: not asked, HF_HUB_OFFLINE is set; needed for what comes from `hub:` only"
        if constants.HF_HUB_OFFLINE
        else _answering(
            "hub", constants.ENDPOINT, "what comes from `hub:`, unless it lies in HF_HOME"
        )
    )


def _index() -> str:
    use = "what comes from `archive:`, unless it lies in the downloads"
    try:
        return _answering("package index", indexes()[0], use)
    except StudyError as error:
        return f"no package index ({error}): needed for {use}"


def _answering(what: str, address: str, use: str) -> str:
    """Whether a server answers, whatever it says; of its address the host alone is shown, as
    passwords may stand before it."""
    parts = urlsplit(address)
    host = parts.hostname or "no host"
    bare = parts._replace(netloc=host + (f":{parts.port}" if parts.port else ""))
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT") or None)
    try:
        urlopen(Request(bare.geturl(), method="HEAD"), timeout=PATIENCE, context=context).close()
    except HTTPError as error:
        error.close()
    except (OSError, ValueError) as error:
        return f"no {what} ({host}: {type(error).__name__}): needed for {use}"
    return f"{what}: {host} answers"


def unfinished(store: Store) -> Iterator[str]:
    """How much is stored, and a line per run that has begun and not ended, and for what was left
    half-written, with their sizes."""
    done = set(store.root.glob("*/*/result.json"))
    yield f"{home()}: {len(done)} finished runs, {size(store.root) / 1e6:.0f} MB"
    for folder in sorted(store.root.glob("*/*/")):
        if (folder / "work").exists():
            goes_on = (
                "not needed any more"
                if folder / "result.json" in done
                else "goes on when it is run again"
            )
            yield f"{folder}: unfinished work of {size(folder / 'work') / 1e6:.0f} MB, {goes_on}"
        if (why := failure(folder)) is not None:
            yield f"{folder}: failed ({printable(why)}), is tried again when it is run again"
        for draft in folder.rglob("*.draft"):
            yield f"{draft}: left half-written, {size(draft) / 1e6:.0f} MB"


def faults(store: Store) -> Iterator[tuple[Path, str]]:
    """Every run that is not what was stored, or that builds on one that is gone, and every
    checkpoint that is not what was written: its folder, and what is wrong."""
    folders = sorted(store.root.glob("*/*/"))
    for folder in tqdm(folders, desc="checking digests", disable=not watched()):
        try:
            # what other processes make now is left out
            if not busy(folder) and (fault := _fault(store, folder)):
                yield folder, fault
        except StudyError as error:
            yield folder, str(error)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            yield (
                folder,
                f"its files cannot be read ({type(error).__name__}): delete it and run again",
            )


def _fault(store: Store, folder: Path) -> str:
    if not (folder / "result.json").exists():
        for work in {kept.parent for kept in folder.glob("work/**/step-*")}:
            if (latest := checkpoint.latest(work)) is not None:
                checkpoint.sound(latest)
        return ""
    if store.finished(folder) is None:
        return "its result.json is not what was written: run again, and it is made anew"
    store.checked(folder)
    gone = [
        f"{need['kind']} {need['key']}"
        for need in store.manifest(folder)["needs"].values()
        if "key" in need
        and not (store.root / need["kind"] / str(need["key"]) / "result.json").exists()
    ]
    return f"builds on {gone[0]}, which is gone: run again, and that is made anew" if gone else ""


def downloads() -> Iterator[tuple[Path, str]]:
    """Every download that has not the checksum that is pinned."""
    for name, archive in archives.PINNED.items():
        for member, expected in archive.members.items():
            path = home() / "downloads" / name / member
            digest = archives.digest_of(path, expected or "/")
            if path.exists() and digest is not None:
                try:
                    archives.check(path, digest)
                except (StudyError, OSError) as error:
                    yield path, str(error)
