"""The run store: one thing computed once and kept.

A run's key is a digest of what matters: its parameters, the digests of what it builds on, and the
versions of the code that makes it. Its folder is `runs/<kind>/<key>/`; `result.json` is written
last, by an atomic rename, with a digest of every file beside it and a seal over all that it says
itself. Without `result.json`, or with one that was changed, it did not happen.

    >>> run = Run("number", {"value": 3})
    >>> Store().complete(run, lambda run, folder: {})
"""

import json
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from filelock import FileLock, Timeout

from studylib.core import filesystem, key_names, provenance
from studylib.core.errors import StudyError, redacted
from studylib.core.progress import say
from studylib.store.run import Input, Run, ordered

RECORDS = ("manifest.json", "result.json", "error.json")  # of a run, beside what it made


class Store:
    """Folders of finished, unfinished and failed runs under one root."""

    def __init__(self, root: Path | None = None):
        self.root = (root or filesystem.home()) / "runs"

    def open(self) -> None:
        """Make the store's folder, and try whether it can be written: what cannot be kept is not
        computed. Raises OSError."""
        self.root.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=self.root).close()

    def snapshot(self) -> "Snapshot":
        """The store as it is now, for whoever looks at many runs: each result is read once."""
        return Snapshot(self.root.parent)

    def key(self, run: Run) -> str | None:
        """The run's key (24 hex digits), or None while something it builds on is missing."""
        return self.snapshot().key(run)

    def digest(self, need: Run | Input) -> str | None:
        """Digest of what a need holds, or None if it is a run that is not finished."""
        if isinstance(need, Input):
            return need.digest
        return result["digest"] if (result := self.result(need)) else None

    def folder(self, run: Run) -> Path:
        """Where the run's files lie. Raises StudyError while something it builds on is missing."""
        key = self.key(run)
        if key is None:
            raise StudyError(
                f"{run.label or run.kind} builds on a run that is not there yet: complete that"
                " first."
            )
        return self.root / key_names.folder(run.kind) / key

    def result(self, run: Run) -> dict | None:
        """What `result.json` says, or None if the run is not finished."""
        return self.snapshot().result(run)

    def finished(self, folder: Path) -> dict | None:
        """The same, by the run's folder; None, too, where it is not what was written: such a run is
        made again."""
        return filesystem.read_sealed(folder / "result.json")

    def manifest(self, folder: Path) -> dict:
        """What a run's manifest says. Raises StudyError when it cannot be read or was changed since
        the run was finished."""
        path, result = folder / "manifest.json", self.finished(folder)
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _changed(path, folder) from error
        if result is not None and result["manifest"] != filesystem.file_digest(path):
            raise _changed(path, folder)
        today = key_names.today(str(manifest.get("kind")), manifest.get("parameters", {}))
        return manifest | {"parameters": today}

    def is_current(self, folder: Path) -> bool:
        """Whether a run's key follows from its manifest and from what it builds on as that is now:
        none of it was made anew since."""
        manifest = self.manifest(folder)
        needs = {name: self._digest_of(need) for name, need in manifest["needs"].items()}
        return folder.name == _key(
            manifest["kind"], manifest["parameters"], needs, manifest["recipe"]
        )

    def _digest_of(self, need: Mapping) -> str | None:
        """Digest of what a need of a manifest holds now."""
        if "key" not in need:
            return need["digest"]
        return (self.finished(self.root / need["kind"] / str(need["key"])) or {}).get("digest")

    def state(self, run: Run) -> tuple[str, str]:
        """('done' | 'damaged' | 'failed' | 'started' | 'missing', why)."""
        if self.result(run) is not None:
            return "done", ""
        if self.key(run) is None:
            snapshot = self.snapshot()
            return "missing", "waits for " + next(
                n.label or n.kind for n in run.ancestry() if snapshot.result(n) is None
            )
        folder = self.folder(run)
        if (result := folder / "result.json").exists():
            return "damaged", f"{result} is not what was written: the run is made again"
        if (why := failure(folder)) is not None:
            return "failed", why
        begun = (folder / "work").exists()
        return ("started", "goes on from its last checkpoint") if begun else ("missing", "")

    def path(self, run: Run, name: str = "") -> Path:
        """A file or folder of a finished run, checked against its digests. Raises StudyError when
        it was changed."""
        if self.result(run) is None:
            raise StudyError(f"{run.label or run.kind} is not finished: run `study run` first.")
        return self.checked(self.folder(run), name)

    def read(self, run: Run, name: str) -> Any:
        """What a JSON file of a finished run holds, checked as `path` does."""
        return json.loads(self.path(run, name).read_text(encoding="utf-8"))

    def checked(self, folder: Path, name: str = "") -> Path:
        """The same, by the run's folder."""
        result = self.finished(folder)
        if result is None:
            raise StudyError(f"{folder} holds no finished run: run `study run` first.")
        for file, expected in result["files"].items():
            if _within(file, name) and (
                not (folder / file).is_file() or filesystem.file_digest(folder / file) != expected
            ):
                raise _changed(folder / file, folder)
        for path in _made(folder):
            if (
                _within(file := path.relative_to(folder).as_posix(), name)
                and file not in result["files"]
            ):
                raise StudyError(
                    f"{path} is none of the files that the run stored: delete it and run again."
                )
        return folder / name

    def complete(
        self, run: Run, make: Callable[[Run, Path], dict], needed: Callable[[], float] | None = None
    ) -> dict:
        """Make the run unless it is finished, and return its result.

        `make(run, folder)` writes files into `folder` (and what it needs to go on with into
        `folder/work`) and returns facts worth keeping. One process at a time per key: others wait,
        then find it done. Raises NoRoom where the disk is full, which says how many bytes are
        `needed`.
        """
        folder, called = self.folder(run), run.label or run.kind
        with filesystem.room(self.root, called, needed), self._held(run, folder):
            if (result := self.result(run)) is not None:
                return result
            self._clear(run, folder)
            filesystem.write_json(folder / "manifest.json", self._manifest(run))
            started = time.time()
            try:
                with filesystem.room(self.root, called, needed):
                    facts = make(run, folder)
            except Exception as error:
                with suppress(OSError):  # the disk may be full
                    filesystem.write_json(folder / "error.json", _error(error))
                raise
            result = filesystem.write_sealed(
                folder / "result.json", _result(folder, facts, round(time.time() - started, 1))
            )
            # only now: until there is a result, the checkpoint is all there is
            shutil.rmtree(folder / "work", ignore_errors=True)
            return result

    def _clear(self, run: Run, folder: Path) -> None:
        """Delete what an earlier attempt has left, but for its checkpoint."""
        if (folder / "result.json").exists():
            say(f"{self.state(run)[1]}.")
            (folder / "result.json").unlink()
            for left in _made(folder):  # which nothing vouches for
                left.unlink()
        (folder / "error.json").unlink(missing_ok=True)
        # what a process that was killed has left
        for draft in folder.glob(f"*.json.*{filesystem.DRAFT}"):
            draft.unlink()

    @contextmanager
    def _held(self, run: Run, folder: Path) -> Iterator[None]:
        """Within, no other process makes this run; the lock of one that died is free."""
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_suffix(".lock"))
        try:
            held = lock.acquire(timeout=0)
        except Timeout:
            say(f"{run.label or run.kind}: another process makes it, this one waits.")
            held = lock.acquire()
        with held:
            yield

    def find(self, key: str) -> Path:
        """The folder of the run whose key starts with `key`. Raises StudyError unless there is
        exactly one."""
        folders = (
            [p.parent for p in self.root.glob(f"*/{key}*/manifest.json")] if key.isalnum() else []
        )
        if len(folders) != 1:
            raise StudyError(
                f"{len(folders)} runs in {self.root} have a key that starts with {key!r}: `study"
                " status` lists them."
            )
        return folders[0]

    def _manifest(self, run: Run) -> dict:
        return {
            "kind": run.kind,
            "label": run.label,
            "parameters": run.parameters,
            "needs": {
                name: (
                    {"kind": key_names.folder(need.kind), "key": self.key(need)}
                    if isinstance(need, Run)
                    else {"label": need.label, "input": need.value, "digest": need.digest}
                )
                for name, need in run.needs.items()
            },
            "recipe": run.recipe,
            **provenance.present(),
        }


class Snapshot(Store):
    """A store of which every result is read once and then remembered: what is finished, changed or
    lost later does not show."""

    def __init__(self, root: Path):
        super().__init__(root)
        self._keys: dict[Run, str | None] = {}
        self._results: dict[Run, dict | None] = {}

    def snapshot(self) -> "Snapshot":
        """Itself."""
        return self

    def key(self, run: Run) -> str | None:
        """As of any store."""
        for needed in ordered([run], self._keys.__contains__):
            needs = {name: self.digest(need) for name, need in needed.needs.items()}
            self._keys[needed] = (
                None
                if None in needs.values()
                else _key(needed.kind, needed.parameters, needs, needed.recipe)
            )
        return self._keys[run]

    def result(self, run: Run) -> dict | None:
        """As of any store."""
        if run not in self._results:
            key = self.key(run)
            self._results[run] = (
                self.finished(self.root / key_names.folder(run.kind) / key) if key else None
            )
        return self._results[run]


def _key(kind: str, parameters: Mapping, needs: Mapping, recipe: Mapping) -> str:
    """The key of a run that builds on what has these digests."""
    return filesystem.digest(key_names.run(kind, parameters, needs) | {"recipe": recipe})[:24]


def busy(folder: Path) -> bool:
    """Whether a process is making the run of this folder now."""
    lock = folder.with_suffix(".lock")
    try:
        if lock.exists():
            FileLock(lock).acquire(timeout=0).lock.release()
    except Timeout:
        return True
    except OSError:  # no process makes runs in a store that cannot be written
        pass
    return False


def failure(folder: Path, entry: str = "error") -> str | None:
    """Why the run in a folder failed, or None if it did not; of `type` the error's class."""
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        return str(json.loads((folder / "error.json").read_text(encoding="utf-8"))[entry])
    return None


def _error(error: Exception) -> dict:
    """What `error.json` is to say of an error that is being handled."""
    why = str(error) if isinstance(error, StudyError) else f"{type(error).__name__}: {error}"
    return {
        "type": type(error).__name__,
        "error": redacted(why),
        "traceback": redacted(traceback.format_exc()),
    }


def _result(folder: Path, facts: Mapping, seconds: float) -> dict:
    """What `result.json` is to say of the files that a run has made."""
    paths = _made(folder)
    filesystem.settle(*paths)
    files = {path.relative_to(folder).as_posix(): filesystem.file_digest(path) for path in paths}
    return {
        "digest": filesystem.digest(files),
        "files": files,
        "facts": facts,
        "seconds": seconds,
        "manifest": filesystem.file_digest(folder / "manifest.json"),
    }


def _changed(path: Path, folder: Path) -> StudyError:
    return StudyError(
        f"{path} is not what the run stored (digest differs): delete {folder} and run again."
    )


def _made(folder: Path) -> list[Path]:
    """The files that make up a result: not what is said of it, not work in progress, not what was
    left half-written."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.suffix != filesystem.DRAFT
        and path.relative_to(folder).as_posix() not in RECORDS
        and folder / "work" not in path.parents
    ]


def _within(file: str, name: str) -> bool:
    """Whether a file is the one of this name, or lies in the folder of this name; everything is in
    that of none."""
    return not name or file == name or file.startswith(name + "/")
