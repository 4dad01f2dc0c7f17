"""Files that are not what was written, in every kind of run: found by their digests, named, and
refused or made again, never used."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
import torch
from miniatures import built, model, packs, planned, stages, tokenizer

from studylib.app import run_states, study, training_cost
from studylib.core import filesystem
from studylib.core.errors import StudyError
from studylib.core.filesystem import file_digest
from studylib.evaluation import generate
from studylib.evaluation.answers import Answer
from studylib.experiments.plans import Plan
from studylib.store import exports
from studylib.store.run import Run
from studylib.store.store import Store
from studylib.training import teachers

pytestmark = pytest.mark.faults

KINDS = ("teacher", "layers", "cut", "states", "lr_search", "student", "answers", "loyalty", "cost")


def flip(path: Path) -> None:
    """Another bit somewhere."""
    content = bytearray(path.read_bytes())
    content[Random(len(content)).randrange(len(content))] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    """The first half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(path: Path) -> None:
    """What somebody may have thought better: another digit, or another end."""
    content = path.read_bytes()
    digit = next((digit for digit in b"0123456789" if digit in content), None)
    path.write_bytes(
        content + b"!"
        if digit is None
        else content.replace(bytes([digit]), b"7" if digit != ord("7") else b"3", 1)
    )


DAMAGES = {"flipped": flip, "truncated": truncate, "edited": edit, "missing": Path.unlink}


@pytest.fixture(scope="module")
def finished(raw: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Store]:
    """A study that has a run of every kind: its plan and its store."""
    shared = dict(
        sizes=[3],
        from_base=[],
        lrs=[1e-3, 2e-3],
        eval_prompts=["zero-shot"],
        stages=stages(forward_kl=1.0),
    )
    plan, store = planned(raw, **shared), Store(tmp_path_factory.mktemp("home"))
    study.complete(plan, store)
    assert {run.kind for run in plan.runs} == set(KINDS)
    return plan, store


@pytest.fixture
def copied(finished: tuple[Plan, Store], tmp_path: Path) -> tuple[Plan, Store]:
    """The same, in a store that may be damaged."""
    shutil.copytree(finished[1].root, tmp_path / "home" / "runs")
    return finished[0], Store(tmp_path / "home")


def first(plan: Plan, kind: str) -> Run:
    return next(run for run in plan.runs if run.kind == kind)


def noticed(store: Store, folder: Path, file: Path) -> bool:
    """Whether the store finds out, and names the file."""
    if file.name == "result.json":
        return store.finished(folder) is None
    try:
        store.manifest(folder) if file.name == "manifest.json" else store.checked(folder)
    except StudyError as error:
        return (
            f"{file} is not what the run stored (digest differs): delete {folder} and run again."
            in str(error)
        )
    return False


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_file_of_every_kind_of_run_is_watched(
    kind: str, damage: Callable[[Path], None], finished: tuple[Plan, Store]
):
    plan, store = finished
    folder = store.folder(first(plan, kind))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(files) >= 3
    for file in files:
        before = file.read_bytes()
        damage(file)
        is_noticed = noticed(store, folder, file)
        file.write_bytes(before)
        assert is_noticed, file
    assert store.checked(folder) and store.manifest(folder)


def needing(plan: Plan, run: Run) -> list[Run]:
    """The runs that build on it."""
    return [
        dependent
        for dependent in plan.runs
        if dependent is not run and run.planned in {need.planned for need in dependent.ancestry()}
    ]


def digests(plan: Plan, store: Store) -> dict[str, str | None]:
    """What every run has made, but for what is measured."""
    return {run.planned: store.digest(run) for run in plan.runs if run.kind != "cost"}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("loyalty", "cost")])
def test_what_is_damaged_is_not_built_on_and_is_made_again_once_deleted(
    kind: str, copied: tuple[Plan, Store]
):
    plan, store = copied
    run, before = first(plan, kind), digests(plan, store)
    folder, built_on = (
        store.folder(run),
        [store.folder(dependent) for dependent in needing(plan, run)],
    )
    for each in built_on:
        (each / "result.json").unlink()
    names = {
        "layers": "order.json",
        "states": "states-00000.safetensors",
        "lr_search": "rate.json",
        "answers": "gold.safetensors",
    }
    file = folder / names.get(kind, "model/model.safetensors")
    flip(file)
    with pytest.raises(
        StudyError,
        match=rf"Failed: .*{file} is not what the run stored \(digest differs\): delete {folder}",
    ):
        study.complete(plan, store)
    directly = [dependent for dependent in plan.runs if run in dependent.needs.values()]
    assert directly and all(store.result(dependent) is None for dependent in directly)
    shutil.rmtree(folder)
    study.complete(plan, store)
    assert digests(plan, store) == before


@pytest.mark.parametrize("kind", ["answers", "loyalty"])
def test_damaged_answers_are_not_shown(kind: str, copied: tuple[Plan, Store]):
    plan, store = copied
    file = store.folder(first(plan, kind)) / f"{kind}.json"
    edit(file)
    with pytest.raises(StudyError, match=f"{file} is not what the run stored"):
        study.rows(plan, store)


def test_a_result_that_was_edited_is_made_again_and_it_is_said(
    copied: tuple[Plan, Store], capsys: pytest.CaptureFixture
):
    plan, store = copied
    run = first(plan, "student")
    file, before = store.folder(run) / "result.json", store.result(run)
    file.write_text(file.read_text().replace('"total": ', '"total": 1'))
    assert store.state(run)[0] == "damaged" and store.result(run) is None
    assert {store.state(dependent)[0] for dependent in needing(plan, run)} == {"missing"}, (
        "nothing that builds on it counts"
    )
    study.complete(plan, store)
    assert f"{file} is not what was written: the run is made again." in capsys.readouterr().out
    assert (
        store.result(run)["facts"] == before["facts"]
        and store.result(run)["digest"] == before["digest"]
    )


def test_a_result_without_its_seal_is_made_again(copied: tuple[Plan, Store]):
    """As someone may take it off who edits the rest."""
    plan, store = copied
    run = first(plan, "teacher")
    file = store.folder(run) / "result.json"
    result = json.loads(file.read_text())
    file.write_text(
        json.dumps({name: result[name] for name in ("digest", "files", "facts", "seconds")})
    )
    assert store.result(run) is None and store.state(run)[0] == "damaged"
    study.complete(plan, store)
    assert store.result(run)["digest"] == result["digest"]


class Stop(Exception):
    """Stands for a process that ends."""


def test_a_damaged_part_of_answers_is_answered_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(filesystem, "CHECKPOINT_SECONDS", -1)
    net, asked, everything, again = model("llama"), built(paragraphs=4), [], []

    def noting(batches: list, into: list, most: int = 1000) -> Iterator[list]:
        for batch in batches[:most]:
            into.append(batch)
            yield batch
        if len(batches) > most:
            raise Stop

    def answer(work: Path | None, *how: object) -> list[Answer]:
        return generate.answer(
            net,
            tokenizer(),
            asked,
            batch=2,
            gold=True,
            work=work,
            progress=lambda batches: noting(batches, *how),
        )

    undisturbed = answer(None, everything)
    with pytest.raises(Stop):
        answer(tmp_path, [], 3)
    parts = sorted(tmp_path.glob("*.safetensors"))
    assert len(parts) == 3
    flip(parts[1])
    answers = answer(tmp_path, again)
    assert len(again) == len(everything) - 2, "two of three parts are sound"
    assert answers == undisturbed and all(
        torch.equal(actual.gold, expected.gold)
        for actual, expected in zip(answers, undisturbed, strict=True)
    )


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_of_states_is_made_again(
    damage: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(teachers, "SHARD", 4)
    net, numbers = model("qwen2"), []
    teachers.store(net, packs(), tmp_path, iter)
    files = sorted(tmp_path.glob("states-*.safetensors"))
    before = [file_digest(file) for file in files]
    damage(files[1])
    teachers.store(net, packs(), tmp_path, lambda missing: numbers.extend(missing) or missing)
    assert numbers == [1] and [file_digest(file) for file in files] == before


@pytest.mark.parametrize("name", exports.KEPT)
@pytest.mark.parametrize("damage", [flip, truncate, edit])
def test_a_damaged_table_that_is_read_again_is_named(
    name: str, damage: Callable[[Path], None], finished: tuple[Plan, Store], tmp_path: Path
):
    plan, store = finished
    folder, rows = tmp_path / "a" / "b", study.rows(plan, store)
    kept = {
        "runs": study.origins(plan, store),
        "learning": study.curves(plan, store),
        "timing": study.timing(plan, rows, store),
        "costs": training_cost.of(plan, rows, store),
    }
    study.export(folder, rows, kept, {}, {})
    damage(folder / name)
    message = (
        rf"{folder / name} is not what was written \(digest differs\): restore it, or delete it and"
        r" run again"
    )
    with pytest.raises(StudyError, match=message):
        exports.exported(folder, name)
    if name in ("rows.parquet", "runs.csv"):
        with pytest.raises(StudyError, match=message):
            study.rows(plan, Store(tmp_path / "nothing"), folder)
    if name == "rows.parquet":
        with pytest.raises(StudyError, match=message):
            run_states.lacking(folder)


def test_a_file_that_was_added_to_a_run_is_not_used(copied: tuple[Plan, Store]):
    """As another shard of states would be, or a template of chats in a model's folder."""
    plan, store = copied
    for kind, name, used in (
        ("states", "states-00009.safetensors", ""),
        ("teacher", "model/chat_template.jinja", "model"),
    ):
        run = first(plan, kind)
        file = store.folder(run) / name
        file.write_text("{{ messages }}")
        with pytest.raises(
            StudyError,
            match=f"{file} is none of the files that the run stored: delete it and run again",
        ):
            store.path(run, used)
        file.unlink()
        assert store.path(run, used)


def test_what_lies_beside_a_damaged_result_is_no_part_of_the_next_one(copied: tuple[Plan, Store]):
    plan, store = copied
    run, before = first(plan, "student"), digests(plan, store)
    folder = store.folder(run)
    (folder / "result.json~").write_text("what an editor kept")
    (folder / "result.json").write_text("{}")
    study.complete(plan, store)
    assert digests(plan, store) == before and not (folder / "result.json~").exists()
