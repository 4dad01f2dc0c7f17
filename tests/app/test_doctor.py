"""The doctor finds what is wrong in a store, names it, and never stumbles over it; what departs in
the environment is said."""

import json
import re
import shutil
from collections.abc import Callable
from importlib.metadata import requires, version
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from studylib.app import cli, doctor
from studylib.core.errors import StudyError
from studylib.core.filesystem import file_digest, write_json, write_sealed
from studylib.core.project import root
from studylib.core.provenance import LIBRARIES
from studylib.data import archives
from studylib.data.archives import Archive
from studylib.store.run import Run
from studylib.store.store import Store

FIRST = Run("number", {"value": 1}, label="one")
SECOND = Run("sum", {}, {"first": FIRST}, label="two")


@pytest.fixture
def store(home: Path) -> Store:
    """Two finished runs, the second of which builds on the first."""
    built = Store(home)
    for run in (FIRST, SECOND):
        built.complete(
            run,
            lambda run, folder: write_json(folder / "value.json", run.parameters) or {"fact": 1},
        )
    return built


def fail(run: Run, folder: Path) -> dict:
    """A maker that leaves some work and then fails."""
    (folder / "work").mkdir()
    (folder / "work" / "step.json").write_text("{}")
    raise ValueError("no such luck")


def failed(store: Store) -> None:
    """A third run that failed."""
    with pytest.raises(ValueError, match="luck"):
        store.complete(Run("number", {"value": 3}), fail)


def edited(store: Store, name: str, change: Callable[[dict], dict]) -> None:
    """Change what a JSON file of the first run says."""
    file = store.folder(FIRST) / name
    write_json(file, change(json.loads(file.read_text(encoding="utf-8"))))


CASES = {
    "a byte flipped": (
        lambda store: (store.folder(FIRST) / "value.json").write_text("{}"),
        "value.json is not what the run stored",
    ),
    "a file missing": (
        lambda store: (store.folder(FIRST) / "value.json").unlink(),
        "value.json is not what the run stored",
    ),
    "a result cut off": (
        lambda store: (store.folder(FIRST) / "result.json").write_text('{"dig'),
        "its result.json is not what was written: run again, and it is made anew",
    ),
    "a result of another kind": (
        lambda store: (store.folder(FIRST) / "result.json").write_text("[]"),
        "its result.json is not what was written: run again, and it is made anew",
    ),
    "a result without files": (
        lambda store: edited(store, "result.json", lambda result: {"digest": "0"}),
        "its result.json is not what was written: run again, and it is made anew",
    ),
    "an edited digest": (
        lambda store: edited(store, "result.json", lambda result: result | {"digest": "0"}),
        "its result.json is not what was written: run again, and it is made anew",
    ),
    "an edited list of files": (
        lambda store: edited(store, "result.json", lambda result: result | {"files": {}}),
        "its result.json is not what was written: run again, and it is made anew",
    ),
    "bytes that are no text": (
        lambda store: (store.folder(FIRST) / "result.json").write_bytes(b"\xff"),
        "its result.json is not what was written: run again, and it is made anew",
    ),
    "a manifest missing": (
        lambda store: (store.folder(FIRST) / "manifest.json").unlink(),
        "manifest.json is not what the run stored",
    ),
    "a result without its seal": (
        lambda store: edited(
            store,
            "result.json",
            lambda result: {name: result[name] for name in result if name != "seal"},
        ),
        "its result.json is not what was written: run again, and it is made anew",
    ),
    "a damaged checkpoint": (
        lambda store: write_json(
            store.root / "number" / "third" / "work" / "step-2" / "curve.json",
            {"curve": [], "files": {}},
        ),
        "step-2 is not what was written (digest differs): delete it, and the run begins anew",
    ),
    "a damaged checkpoint whose account is gone": (
        lambda store: (store.root / "number" / "third" / "work" / "step-2").mkdir(parents=True),
        "step-2 is not what was written (digest differs): delete it, and the run begins anew",
    ),
    "a file added": (
        lambda store: (store.folder(FIRST) / "more.json").write_text("{}"),
        "more.json is none of the files that the run stored",
    ),
    "a need that is gone": (
        lambda store: shutil.rmtree(store.root / "number"),
        "builds on number ",
    ),
}


@pytest.mark.parametrize(("change", "message"), CASES.values(), ids=CASES)
def test_what_is_wrong_in_the_store_is_named(store: Store, change: Callable, message: str):
    assert list(doctor.faults(store)) == []
    change(store)
    ((folder, why),) = doctor.faults(store)
    assert message in why and folder.parent.parent == store.root


def test_work_and_drafts_are_said_with_their_size_and_are_no_fault(store: Store):
    work = store.root / "number" / "begun" / "work"
    work.mkdir(parents=True)
    (work / "step.bin").write_bytes(bytes(3_000_000))
    (store.folder(SECOND) / "value.json.draft").write_bytes(bytes(2_000_000))
    first, *others = doctor.unfinished(store)
    assert "2 finished runs, 5 MB" in first
    assert [line.partition(": ")[2] for line in others] == [
        "unfinished work of 3 MB, goes on when it is run again",
        "left half-written, 2 MB",
    ]
    failed(store)
    assert any(
        line.endswith(": failed (ValueError: no such luck), is tried again when it is run again")
        for line in doctor.unfinished(store)
    )
    assert list(doctor.faults(store)) == [], (
        "what can go on is no fault: its folder is not to be deleted"
    )


def test_an_older_checkpoint_that_is_being_removed_and_a_run_that_goes_on_are_no_faults(
    store: Store,
):
    work = store.root / "number" / "third" / "work"
    write_sealed(work / "step-4" / "curve.json", {"curve": [], "files": {}})
    (work / "step-2").mkdir()
    assert list(doctor.faults(store)) == [], "the run goes on from step 4"
    (work / "step-6").mkdir()
    assert len(list(doctor.faults(store))) == 1
    with FileLock(work.parent.with_suffix(".lock")):
        assert list(doctor.faults(store)) == []


def test_damaged_tables_of_committed_results_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "figures" / "small" / "capacity_gap" / "runs.csv"
    file.parent.mkdir(parents=True)
    shutil.copy(root() / "constraints.txt", tmp_path)
    monkeypatch.setattr(doctor, "root", lambda: tmp_path)
    for content in (b"\xff,\n", b"key\n1\n", b""):
        file.write_bytes(content)
        assert next(doctor.environment()).startswith(f"{file} is damaged (")


def test_a_download_with_another_checksum_is_named(home: Path, monkeypatch: pytest.MonkeyPatch):
    file = home / "downloads" / "toy==1.0" / "toy.bin"
    file.parent.mkdir(parents=True)
    file.write_text("sound")
    monkeypatch.setattr(
        archives,
        "PINNED",
        {
            "toy==1.0": Archive(
                "", {"toy.bin": file_digest(file), "other.bin": "0", "any.json": ""}, 1
            )
        },
    )
    assert list(doctor.downloads()) == []
    file.write_text("unsound")
    ((path, why),) = doctor.downloads()
    assert path == file and "toy.bin has sha256" in why


def test_the_verb_ends_with_two_and_a_sentence_only_where_the_store_is_wrong(
    store: Store, monkeypatch, capsys
):
    monkeypatch.setattr(doctor, "_answering", lambda what, *_: f"{what} was not asked")
    monkeypatch.setattr(doctor, "pinned", lambda: {"numpy": "0.0", "no-such-package": "1.0"})
    assert cli.main(["doctor"]) == 0
    output = capsys.readouterr().out
    assert (
        f"numpy {version('numpy')}: constraints.txt has 0.0" in output
        and "no-such-package is not installed" in output
    )
    assert "0 of 2 packages are as in constraints.txt" in output and "nothing wrong" in output
    for what in (
        "cores",
        "threads",
        "of memory",
        "of disk free",
        "GPU",
        "hub",
        "package index was not asked",
        "browser",
        "ray",
        "trl",
    ):
        assert what in output
    (store.folder(FIRST) / "value.json").write_text("{}")
    assert cli.main(["doctor"]) == 2
    output = capsys.readouterr()
    assert (
        f"WRONG: {store.folder(FIRST)}: " in output.out
        and "is not sound (1 found, see above)" in output.err
        and "Traceback" not in output.err
    )


@pytest.mark.parametrize(
    ("address", "answer"),
    [
        ("http://someone:secret@127.0.0.1:{port}/simple/", "place: 127.0.0.1 answers"),
        ("http://127.0.0.1:{port}/nothing-here", "place: 127.0.0.1 answers"),
        (
            "http://someone:secret@127.0.0.1:1/simple/",
            "no place (127.0.0.1: URLError): needed for it",
        ),
        ("nonsense", "no place (no host: ValueError): needed for it"),
    ],
)
def test_a_server_is_at_hand_if_it_answers_and_its_password_is_never_shown(
    served, address: str, answer: str
):
    _, here = served
    assert doctor._answering("place", address.format(port=here.rpartition(":")[2]), "it") == answer


def test_an_offline_hub_and_a_missing_index_are_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor.constants, "HF_HUB_OFFLINE", True)
    assert "not asked, HF_HUB_OFFLINE is set" in doctor._hub()

    def none() -> list[str]:
        raise StudyError("pip is not installed here")

    monkeypatch.setattr(doctor, "indexes", none)
    assert doctor._index().startswith("no package index (pip is not installed here)")


RUNS = [
    pd.read_csv(file, dtype=str)
    for file in sorted((root() / "figures" / "small").glob("*/runs.csv"))
]


def numbers(written: str) -> tuple[int, ...]:
    """A version as numbers, by which versions are ordered."""
    return tuple(map(int, re.findall(r"\d+", written.partition("+")[0])))


@pytest.mark.parametrize("name", LIBRARIES)
def test_constraints_are_the_versions_that_the_committed_results_were_made_with(name: str):
    releases = {release.partition("+")[0] for runs in RUNS for release in runs[name]}
    assert doctor.pinned()[name] == max(releases, key=numbers)
    assert len(releases) == 1 or all(
        release in (root() / "constraints.txt").read_text(encoding="utf-8") for release in releases
    )


def test_constraints_say_the_python_of_the_committed_results():
    text = (root() / "constraints.txt").read_text(encoding="utf-8")
    assert all(f"Python {python}" in text for runs in RUNS for python in runs.python.unique())


def test_constraints_name_exactly_one_version_of_all_that_an_installation_brings():
    """Here, but for what the tests need: from each package to those that it requires."""
    pins, seen = doctor.pinned(), set()
    waiting = [
        requirement for requirement in requires("studylib") or [] if "extra ==" not in requirement
    ]
    while waiting:
        need = Requirement(waiting.pop())
        name = canonicalize_name(need.name)
        if name not in seen and (need.marker is None or need.marker.evaluate({"extra": ""})):
            seen.add(name)
            assert re.fullmatch(r"\d[\w.]*", pins.get(name, "")), (
                f"{name} is not in constraints.txt"
            )
            assert numbers(pins[name]) and need.specifier.contains(pins[name])
            waiting += [
                requirement
                for requirement in requires(need.name) or []
                if "extra ==" not in requirement
            ]
    assert not {"pytest", "ruff", "mypy", "hypothesis"} & pins.keys()
