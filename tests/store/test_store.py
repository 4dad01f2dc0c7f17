"""The run store: keys say what matters, one process computes, and nothing half done is taken for
done."""

import errno
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from patience import PATIENCE
from platformdirs import user_cache_path

from studylib.core import filesystem, provenance
from studylib.core.errors import StudyError
from studylib.runs import plan_parts
from studylib.store.run import Input, Run
from studylib.store.store import Store


def number(value: int = 3, **other) -> Run:
    return Run("number", {"value": value}, **other)


def write(run: Run, folder: Path) -> dict:
    """A maker: the value in two files."""
    (folder / "part").mkdir(exist_ok=True)
    (folder / "value.txt").write_text(str(run.parameters["value"]))
    (folder / "part" / "twice.txt").write_text(str(2 * run.parameters["value"]))
    return {"value": run.parameters["value"]}


def refuse(run: Run, folder: Path) -> dict:
    raise AssertionError("the maker was called")


def test_key_is_a_digest_of_kind_parameters_needs_and_recipe():
    text = b'{"kind":"number","needs":{"set":"d1"},"parameters":{"a":[1,2.5],"value":"\xc3\xa9"},'
    text += b'"recipe":{"module":7}}'
    run = Run(
        "number",
        {"value": "é", "a": [1, 2.5]},
        {"set": Input("a set", "anything", "d1")},
        recipe={"module": 7},
    )
    assert Store().key(run) == hashlib.sha256(text).hexdigest()[:24]


@pytest.mark.parametrize(
    "other",
    [
        Run("figure", {"value": 3}, {"set": Input("a", 1, "d1")}),
        Run("number", {"value": 4}, {"set": Input("a", 1, "d1")}),
        Run("number", {"value": 3, "more": None}, {"set": Input("a", 1, "d1")}),
        Run("number", {"value": 3}, {"set": Input("a", 1, "d2")}),
        Run("number", {"value": 3}, {"pool": Input("a", 1, "d1")}),
        Run("number", {"value": 3}, {"set": Input("a", 1, "d1")}, recipe={"module": 2}),
    ],
    ids=["kind", "parameter", "new parameter", "digest of a need", "name of a need", "recipe"],
)
def test_key_changes_with_what_matters(other: Run):
    assert Store().key(other) != Store().key(number(needs={"set": Input("a", 1, "d1")}))


def test_key_does_not_change_with_labels():
    assert Store().key(number(needs={"set": Input("a", 1, "d1")}, label="x")) == Store().key(
        number(needs={"set": Input("b", 2, "d1")}, label="y")
    )


def test_key_follows_the_content_of_what_a_run_builds_on(tmp_path: Path):
    def other(run: Run, folder: Path) -> dict:
        return write(run, folder) | {"changed": bool((folder / "value.txt").write_text("changed"))}

    keys = []
    for name, maker in (("a", write), ("b", write), ("c", other)):
        store, upstream = Store(tmp_path / name), number()
        store.complete(upstream, maker)
        keys.append(store.key(Run("sum", {}, {"first": upstream})))
    assert keys[0] == keys[1] != keys[2]


def test_without_its_need_a_run_has_no_key():
    store, upstream = Store(), number(label="the number")
    run = Run("sum", {}, {"first": upstream, "set": Input("a", 1, "d1")}, label="the sum")
    assert store.key(run) is None
    assert store.result(run) is None
    assert store.state(run) == ("missing", "waits for the number")
    with pytest.raises(StudyError, match="the sum builds on a run that is not there yet"):
        store.complete(run, refuse)
    store.complete(upstream, write)
    assert len(store.key(run)) == 24
    assert store.state(run) == ("missing", "")


def test_ancestry_is_deepest_first():
    first = number(1)
    second = Run("sum", {}, {"first": first, "set": Input("a", 1, "d1")})
    third = Run("sum", {"more": 1}, {"second": second})
    assert list(third.ancestry()) == [first, second, third]


def test_complete_computes_once():
    store = Store()
    result = store.complete(number(), write)
    assert result["facts"] == {"value": 3}
    assert store.state(number()) == ("done", "")
    assert Store().complete(number(label="another name"), refuse) == result


def test_result_holds_the_digest_of_every_file():
    store = Store()
    result = store.complete(number(), write)
    expected = {
        name: hashlib.sha256(content).hexdigest()
        for name, content in (("value.txt", b"3"), ("part/twice.txt", b"6"))
    }
    assert result["files"] == expected
    assert store.digest(number()) == result["digest"] == filesystem.digest(expected)


def test_result_is_written_last(monkeypatch: pytest.MonkeyPatch):
    there: dict[str, set[Path]] = {}
    plain = filesystem.write_json

    def noting(path: Path, value: object) -> None:
        there[path.name] = set(path.parent.rglob("*"))
        plain(path, value)

    def maker(run: Run, folder: Path) -> dict:
        (folder / "work").mkdir()
        assert (folder / "manifest.json").exists()
        return write(run, folder)

    monkeypatch.setattr(filesystem, "write_json", noting)
    Store().complete(number(), maker)
    folder = Store().folder(number())
    assert set(folder.rglob("*")) == there["result.json"] - {folder / "work"} | {
        folder / "result.json"
    }
    assert folder / "work" in there["result.json"], "until there is a result, the checkpoint stays"


def test_what_was_left_half_written_is_no_part_of_a_result():
    run, store = number(), Store()
    folder = store.folder(run)
    folder.mkdir(parents=True)
    (folder / "result.json.draft").write_text("{")
    (folder / "states.draft").write_text("half")
    result = store.complete(
        run, lambda run, folder: write(run, folder) | {"work": (folder / "work").mkdir() or "x"}
    )
    assert sorted(result["files"]) == ["part/twice.txt", "value.txt"]
    assert store.path(run) == folder


def test_a_failed_run_keeps_its_work_and_goes_on():
    store = Store()

    def fails(run: Run, folder: Path) -> dict:
        (folder / "work").mkdir()
        (folder / "work" / "half").write_text("half")
        raise ValueError("no luck")

    def goes_on(run: Run, folder: Path) -> dict:
        assert not (folder / "error.json").exists()
        return write(run, folder) | {"found": (folder / "work" / "half").read_text()}

    with pytest.raises(ValueError, match="no luck"):
        store.complete(number(), fails)
    assert store.state(number()) == ("failed", "ValueError: no luck")
    assert sorted(p.name for p in store.folder(number()).iterdir()) == [
        "error.json",
        "manifest.json",
        "work",
    ]
    assert store.result(number()) is None
    with pytest.raises(StudyError, match="number is not finished"):
        store.path(number(), "value.txt")

    assert store.complete(number(), goes_on)["facts"]["found"] == "half"
    assert store.state(number()) == ("done", "")
    assert sorted(p.name for p in store.folder(number()).iterdir()) == [
        "manifest.json",
        "part",
        "result.json",
        "value.txt",
    ]


def test_an_interrupted_run_is_started_and_not_failed():
    store = Store()

    def stopped(run: Run, folder: Path) -> dict:
        (folder / "work").mkdir()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.complete(number(), stopped)
    assert store.state(number()) == ("started", "goes on from its last checkpoint")


def test_manifest_says_what_a_run_builds_on():
    store, upstream = Store(), number()
    store.complete(upstream, write)
    run = Run(
        "sum",
        {"x": 1},
        {"first": upstream, "set": Input("a", {"source": "s"}, "d1")},
        recipe={"module": 4},
        label="the sum",
    )
    store.complete(run, lambda run, folder: {})
    manifest = json.loads((store.folder(run) / "manifest.json").read_text())
    named = {"label": "a", "input": {"source": "s"}, "digest": "d1"}
    assert manifest["needs"] == {
        "first": {"kind": "number", "key": store.key(upstream)},
        "set": named,
    }
    assert (manifest["kind"], manifest["parameters"], manifest["recipe"], manifest["label"]) == (
        "sum",
        {"x": 1},
        {"module": 4},
        "the sum",
    )
    assert manifest["python"] == ".".join(map(str, sys.version_info[:3]))
    assert set(manifest["versions"]) == set(provenance.LIBRARIES)


def test_a_changed_byte_is_refused_by_name():
    store = Store()
    store.complete(number(), write)
    changed = store.folder(number()) / "part" / "twice.txt"
    assert store.path(number(), "part/twice.txt") == changed
    changed.write_bytes(b"7")
    for name in ("part/twice.txt", "part", ""):
        with pytest.raises(StudyError, match=f"{changed} is not what the run stored"):
            store.path(number(), name)
    assert store.path(number(), "value.txt").read_text() == "3"


def test_a_lost_file_is_refused_by_name():
    store = Store()
    store.complete(number(), write)
    (store.folder(number()) / "value.txt").unlink()
    with pytest.raises(StudyError, match=r"value\.txt is not what the run stored"):
        store.path(number(), "value.txt")


def slow(run: Run, folder: Path) -> dict:
    (folder.parent / f"made-{os.getpid()}").touch()
    time.sleep(0.3)
    return {"by": os.getpid()}


def compute(
    root: Path, together: "multiprocessing.Barrier", results: "multiprocessing.SimpleQueue"
) -> None:
    together.wait(PATIENCE)
    results.put(Store(root).complete(number(), slow)["facts"]["by"])


def test_two_processes_compute_once(tmp_path: Path):
    fresh = multiprocessing.get_context("spawn")
    together, results = fresh.Barrier(2), fresh.SimpleQueue()
    processes = [
        fresh.Process(target=compute, args=(tmp_path, together, results)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
    assert [process.exitcode for process in processes] == [0, 0]
    ids = [
        int(path.name.removeprefix("made-"))
        for path in (tmp_path / "runs" / "number").glob("made-*")
    ]
    assert len(ids) == 1
    assert [results.get(), results.get()] == ids * 2


OWNER = """
import sys, time
from studylib.store.store import Run, Store

def make(run, folder):
    (folder / "work").mkdir(exist_ok=True)
    if sys.argv[1] == "hang":
        print("making", flush=True)
        time.sleep(3600)
    return {}

Store().complete(Run("number", {"value": 3}), make)
"""


def test_the_lock_of_a_killed_process_is_taken_over():
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, "hang"], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout.readline() == "making\n"
        owner.send_signal(signal.SIGKILL)
    assert Store().state(number())[0] == "started"
    subprocess.run([sys.executable, "-c", OWNER, "go on"], check=True, timeout=PATIENCE)
    assert Store().state(number())[0] == "done"


def test_find_by_the_first_digits_of_a_key():
    store = Store()
    store.complete(number(0), write)
    for pattern in ("", "*", "?*", "[0-9a-f]"):
        with pytest.raises(StudyError, match=r"0 runs in .* have a key that starts with"):
            store.find(pattern)
    for value in range(17):  # more than there are first digits: two keys begin alike
        store.complete(number(value), write)
    keys = [store.key(number(value)) for value in range(17)]
    prefix = next(
        first for first in "0123456789abcdef" if sum(key.startswith(first) for key in keys) > 1
    )
    assert store.find(keys[0]) == store.find(keys[0][:16]) == store.folder(number(0))
    for unclear in (prefix, "nothing", "../number"):
        with pytest.raises(StudyError, match="have a key that starts with"):
            store.find(unclear)


def test_json_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "new" / "value.json"
    filesystem.write_json(path, {"a": "é"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": "é"}
    for impossible in ({"a": object()}, {"a": float("nan")}):
        with pytest.raises((TypeError, ValueError)):
            filesystem.write_json(path, impossible)
    assert [p.name for p in path.parent.iterdir()] == ["value.json"]
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": "é"}

    def cut(draft: Path, target: Path) -> None:
        assert json.loads(Path(draft).read_text()) == {"a": 2}
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        filesystem.write_json(path, {"a": 2})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": "é"}


def test_sizes_pass_over_what_is_just_being_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("kept", "work/gone"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(3))
    assert filesystem.size(tmp_path) == 6 and filesystem.size(tmp_path / "kept") == 3
    look = Path.lstat

    def late(path: Path) -> os.stat_result:
        if path.name == "gone":
            path.unlink()
        return look(path)

    monkeypatch.setattr(Path, "lstat", late)
    assert filesystem.size(tmp_path) == 3


def test_home_is_the_named_folder_or_the_cache(home: Path, monkeypatch: pytest.MonkeyPatch):
    assert filesystem.home() == home
    monkeypatch.setenv("STUDY_HOME", "")
    assert filesystem.home() == user_cache_path("studylib")


def test_two_writers_of_one_path_leave_what_one_of_them_wrote(tmp_path: Path):
    """Neither renames or takes away the draft of the other."""
    path, texts = tmp_path / "shared.txt", ["a" * 1000, "b" * 1000]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: filesystem.write_text(path, texts[number % 2]), range(200)))
    assert path.read_text() in texts
    assert [file.name for file in tmp_path.iterdir()] == ["shared.txt"]


def test_drafts_that_a_killed_process_left_go_when_the_run_is_made(tmp_path: Path):
    store = Store(tmp_path)
    folder = store.folder(number())
    folder.mkdir(parents=True)
    (folder / "result.json.0123.draft").write_text("{")
    store.complete(number(), write)
    assert not list(folder.glob("*.draft"))


@pytest.mark.parametrize(
    ("files", "left", "message"),
    [
        (
            1000,
            3,
            r"\(3 inodes are free, one of which every file takes\): delete files and run again",
        ),
        (1000, 500, r"MB are free, about 20 MB are needed\): make room and run again"),
        (
            0,
            0,
            r"MB are free, about 20 MB are needed\): make room and run again",
        ),  # file systems without inodes
    ],
)
def test_a_file_system_without_inodes_is_not_told_to_lack_bytes(
    files: int, left: int, message: str, tmp_path: Path, monkeypatch
):
    def full(run: Run, folder: Path) -> dict:
        raise OSError(errno.ENOSPC, "No space left on device")

    real = os.statvfs(tmp_path)
    stats = SimpleNamespace(
        f_files=files,
        f_favail=left,
        f_bavail=real.f_bavail,
        f_blocks=real.f_blocks,
        f_bfree=real.f_bfree,
        f_frsize=1,
    )
    monkeypatch.setattr(os, "statvfs", lambda place: stats)
    with pytest.raises(filesystem.NoRoom, match=message):
        Store(tmp_path).complete(number(), full, lambda: 20e6)


def chain(length: int) -> list[Run]:
    """Runs that each build twice on the one before and on the first, as students do that are cut
    from students."""
    runs = [number(0)]
    for value in range(1, length):
        runs.append(number(value, needs={"init": runs[-1], "teacher": runs[-1], "first": runs[0]}))
    return runs


@pytest.mark.parametrize("length", [40, 400])
def test_what_a_chain_of_runs_takes_grows_with_its_length(
    length: int, monkeypatch: pytest.MonkeyPatch
):
    """In digests that are computed and results that are read, and without recursion into its
    depth."""
    every, computed, read, real, finished = chain(length), [], [], filesystem.digest, Store.finished
    monkeypatch.setattr(filesystem, "digest", lambda value: (computed.append(1), real(value))[1])
    monkeypatch.setattr(
        Store, "finished", lambda store, folder: (read.append(folder), finished(store, folder))[1]
    )
    assert plan_parts.each_run(every) == list(every[-1].ancestry()) == every
    assert len({run.planned for run in every}) == length == len(computed)
    computed.clear()
    store = Store().snapshot()
    assert {store.state(run)[0] for run in every} == {"missing"}
    assert len(computed) == 1 and not read[2:], "of the first run alone a key is known"
    for run in every[:6]:
        Store().complete(run, write)
    computed.clear(), read.clear()
    store = Store().snapshot()
    assert [store.state(run)[0] for run in every] == 6 * ["done"] + (length - 6) * ["missing"]
    assert len(read) == 7 and len(computed) == 7 + 6, "a key each, and the seal of each result"
    computed.clear(), read.clear()
    assert Store().result(every[5]) is not None and len(read) == 6


def test_what_is_planned_is_the_same_whatever_the_versions_of_code():
    def run(version: int, source: str = "s", value: int = 3) -> Run:
        data = Input("a set", "anything", f"d{version}", source, {"facts": version})
        upstream = Run("number", {"value": value}, {"set": data}, {"training": version})
        return Run("sum", {"a": 1}, {"first": upstream, "set": data}, {"scoring": 1})

    assert run(1).planned == run(2).planned and run(1).versions == {
        "facts": "1",
        "scoring": "1",
        "training": "1",
    }
    assert len({variant.planned for variant in (run(1), run(1, source="t"), run(1, value=4))}) == 3
    two = Run("pair", {}, {"a": run(1), "b": run(2)}, {"training": 2})
    assert two.versions == {"facts": "1/2", "scoring": "1", "training": "1/2"}
