"""Several processes that make one run together give what one gives."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import shared_work
import torch
from launcher import TORCHRUN
from miniatures import SETTINGS, planned
from patience import PATIENCE
from shared_work import CASES
from torch.distributed.elastic.multiprocessing import errors  # noqa: F401  (torch's launcher)

from studylib.app import worker
from studylib.core import filesystem, parallel
from studylib.core.errors import StudyError
from studylib.core.machine import Machine
from studylib.engines import distributed, engines
from studylib.store.store import Store

pytestmark = pytest.mark.slow

ALONE = "one"


def by_two(folder: Path, *names: str) -> dict[str, list]:
    """What two processes find, by what was wanted."""
    command = [sys.executable, *TORCHRUN, shared_work.__file__, str(folder)]
    files = [folder / f"{what}.json" for what in names]
    for file in files:
        file.unlink(missing_ok=True)
    done = subprocess.run([*command, *names], capture_output=True, text=True, timeout=PATIENCE)
    assert all(file.exists() for file in files), done.stderr[-3000:]
    return {what: json.loads((folder / f"{what}.json").read_text()) for what in names}


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> tuple[Path, dict]:
    """The same by this process: a folder, and what it finds; trainings stopped after their third
    step among it."""
    folder = tmp_path_factory.mktemp("alone")
    names = [*(f"curve: {name}" for name in CASES), "states", "answers"]
    before = torch.get_num_threads(), filesystem.CHECKPOINT_SECONDS
    torch.set_num_threads(1)
    shared_work.main(folder, names)
    shared_work.main(folder, [f"stop: {name}" for name in CASES])
    torch.set_num_threads(before[0])
    filesystem.CHECKPOINT_SECONDS = before[1]
    return folder, {what: json.loads((folder / f"{what}.json").read_text()) for what in names}


@pytest.fixture(scope="module")
def both(alone, tmp_path_factory) -> tuple[Path, dict]:
    """By two: the same, and what one has begun gone on with."""
    folder = tmp_path_factory.mktemp("both")
    shutil.copytree(
        alone[0], folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("states", "*.json")
    )
    for name in CASES:
        shutil.copytree(alone[0] / name, folder / name, dirs_exist_ok=True)
    going = by_two(folder, *(f"go on: {name}" for name in CASES))
    for name in CASES:
        shutil.rmtree(folder / name)
    fresh = by_two(
        folder,
        *(f"curve: {name}" for name in CASES),
        "states",
        "answers",
        *(f"stop: {name}" for name in CASES),
    )
    return folder, going | fresh


def same_curves(curve: list[dict], other: list[dict]) -> bool:
    """Whether two curves are the same to 1e-5 in all that they hold."""
    assert len(curve) == len(other) == 4
    return all(
        step.keys() == other_step.keys()
        and all(abs(step[key] - other_step[key]) <= 1e-5 * max(1, abs(step[key])) for key in step)
        for step, other_step in zip(curve, other, strict=True)
    )


@pytest.mark.parametrize("name", CASES)
def test_the_loss_curve_of_two_is_that_of_one(name, alone, both):
    assert same_curves(alone[1][f"curve: {name}"], both[1][f"curve: {name}"])


@pytest.mark.parametrize("name", CASES)
def test_two_go_on_from_the_checkpoint_of_one(name, alone, both):
    assert same_curves(alone[1][f"curve: {name}"], both[1][f"go on: {name}"])


@pytest.mark.parametrize("name", CASES)
def test_one_goes_on_from_the_checkpoint_of_two(name, alone, both, monkeypatch):
    (checkpoint,) = (both[0] / name).glob("step-*")
    assert len(list(checkpoint.glob("*.safetensors"))) == 2  # each has written its own part
    monkeypatch.setattr(filesystem, "CHECKPOINT_SECONDS", 1e9)
    shared_work.main(both[0], [f"go on: {name}"])
    assert same_curves(
        alone[1][f"curve: {name}"], json.loads((both[0] / f"go on: {name}.json").read_text())
    )


def test_states_and_answers_of_two_are_those_of_one_to_the_bit(alone, both):
    assert alone[1]["answers"] == both[1]["answers"]
    names = [
        file.relative_to(alone[0])
        for file in [*alone[0].glob("states/*.safetensors"), alone[0] / "gold.safetensors"]
    ]
    assert len(names) > 2 and all(
        (alone[0] / name).read_bytes() == (both[0] / name).read_bytes() for name in names
    )


def test_steps_that_cannot_be_shared_are_refused(monkeypatch):
    monkeypatch.setattr(parallel, "count", lambda: 3)
    with pytest.raises(StudyError, match="4 contexts a step cannot be shared by 3 processes"):
        parallel.divides(4)


def machine(count: int) -> Machine:
    return Machine(threads=SETTINGS["threads"], processes=count)


def chain(raw: str):
    """A teacher, its student and what both answer."""
    return planned(raw, sizes=[3], from_base=[], eval_prompts=["zero-shot"], lrs=[1e-3, 1e-4])


def test_a_teacher_is_fine_tuned_and_answers_by_two_processes(raw, tmp_path):
    """By torch's launcher, as the engines do it; one whose rows cannot be shared fails with its
    reason."""
    plan, store = chain(raw), Store(tmp_path)
    teacher = plan.runs[0]
    distributed.complete(teacher, store, machine(2))
    result, manifest = (
        store.result(teacher),
        json.loads((store.folder(teacher) / "manifest.json").read_text()),
    )
    assert (
        manifest["processes"] == 2
        and {"curve.json", "model/model.safetensors"} <= result["files"].keys()
    )
    other = Store(tmp_path / "alone")
    distributed.make(teacher, other)
    curve, reference = (
        json.loads((place.folder(teacher) / "curve.json").read_text()) for place in (store, other)
    )
    assert [entry["loss"] for entry in curve[1:]] == pytest.approx(
        [entry["loss"] for entry in reference[1:]], rel=1e-5
    )
    assert [entry.get("dev_f1") for entry in curve] == [entry.get("dev_f1") for entry in reference]
    with pytest.raises(StudyError, match="2 contexts a step cannot be shared by 3 processes"):
        distributed.complete(teacher, Store(tmp_path / "three"), machine(3))


@pytest.mark.slow
def test_an_engine_makes_runs_by_two_processes_as_by_one(raw, tmp_path):
    """A teacher and its answers, each by processes of its own."""
    runs, answers = chain(raw).runs[:2], {}
    assert [run.kind for run in runs] == ["teacher", "answers"]
    for count in (1, 2):
        store = Store(tmp_path / str(count))
        with engines.opened(machine(count)) as pool:
            engines.complete(runs, store, machine(count), pool, lambda run: None)
        answers[count] = json.loads(store.path(runs[1], "answers.json").read_text())
    assert {key: answer["text"] for key, answer in answers[1].items()} == {
        key: answer["text"] for key, answer in answers[2].items()
    }
    both = ([answer["probability"] for answer in answers[count].values()] for count in (1, 2))
    assert next(both) == pytest.approx(next(both), abs=1e-3)


def test_a_run_is_found_by_its_label_and_by_nothing_less(raw, tmp_path, capsys):
    assert worker.main(["smoke", "gpt_neox"]) == 2
    assert (
        "0 runs of smoke are called 'gpt_neox': `study status smoke` lists them."
        in capsys.readouterr().err
    )
    assert worker.main(["smoke", "gpt_neox s0 4 layers, fine-tuned init, student"]) == 2
    assert "builds on a run that is not there yet" in capsys.readouterr().err
    assert worker.main(["smoke", "gpt_neox s0 teacher"]) == 0
    assert len(list(tmp_path.glob("home/runs/teacher/*/result.json"))) == 1
