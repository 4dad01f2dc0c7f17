"""`study search`: a planted best is found, a stopped search ends with the same bytes, and what
fails is told. No training but in the last test."""

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from miniatures import grouped
from refusals import SMALL

from studylib.app import batch, notebooks, search, time_budget
from studylib.app.cli import main
from studylib.core.errors import StudyError
from studylib.core.filesystem import NoRoom, write_json
from studylib.core.labels import STUDENT
from studylib.engines import engines
from studylib.runs import inputs, kinds
from studylib.store.store import Store
from studylib.training.checkpoint import Diverged

BEST = {"temperature": 6.0, "hard": 0.2}
DEFAULTS = {"temperature": 2.0, "hard": 0.5}
PROFILE = {name: value for name, value in SMALL.items() if name not in ("sizes", "from_base")} | {
    "profile": "searched",
    "size": 2,
    "teacher_steps": 2,
    "pruning_contexts": 2,
    "calibration_contexts": 2,
    "num_evals": 1,
    "stages": [{"steps": 2, "losses": {"forward_kl": 1, "cross_entropy": 0.5}}],
}


def score(options: dict, seed: int) -> float:
    """F1 with a best in the middle, where nothing but options counts."""
    away = math.log(options["temperature"] / BEST["temperature"]) ** 2
    return 100 * math.exp(-away - 4 * (options["hard"] - BEST["hard"]) ** 2)


class Stubs:
    """What stands for trainings: a score by the options of hinton, and a list of what was made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.score, self.made_runs = score, []
        self.stop_at, self.diverges = 0, lambda options: False
        self.fails: str = ""
        self.error: Exception = Diverged(
            "the loss is nan at step 1: lower the learning rate of 0.001."
        )
        monkeypatch.setattr(kinds, "make", lambda *_: self.make)
        monkeypatch.setattr(time_budget, "seconds", lambda *_: 60.0)
        monkeypatch.setattr(batch, "needed", lambda *_: ["what it needs"])
        monkeypatch.setattr(inputs, "rehearse", lambda missing: None)

    def make(self, run, folder: Path) -> dict:
        if run.kind == self.fails:
            raise ValueError("no luck")
        if run.kind == "student":
            students = sum(kind == "student" for kind, _ in self.made_runs)
            if self.stop_at and students == self.stop_at:
                raise KeyboardInterrupt
            options = DEFAULTS | run.parameters["stages"][-1].get("options", {})
            if self.diverges(options):
                self.made_runs.append((run.kind, run.planned))
                raise self.error
            f1 = self.score(options, run.parameters["seed"])
            curve = [{"step": 2, "loss": 1.0, "dev_f1": f1, "dev_cross_entropy": 1.0}]
            write_json(folder / "curve.json", curve)
        self.made_runs.append((run.kind, run.planned))
        return {}

    def counts(self) -> Counter:
        """How often each run was made."""
        return Counter(self.made_runs)


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> Stubs:
    return Stubs(monkeypatch)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a search of hinton writes."""
    place = tmp_path / "figures"
    monkeypatch.setattr(search, "figures_folder", lambda profile, name: place / profile / name)
    return place / "searched" / "search" / "hinton"


@pytest.fixture
def profile(tmp_path: Path) -> Callable[..., str]:
    """Writes a profile of the experiment `methods` with these changes."""

    def write(**changes: object) -> str:
        path = tmp_path / "methods.yaml"
        path.write_text(yaml.safe_dump(grouped(PROFILE | changes)), encoding="utf-8")
        return str(path)

    return write


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def trials_of(folder: Path) -> dict:
    return json.loads((folder / "trials.json").read_text(encoding="utf-8"))


def test_a_planted_best_is_nearly_found(stubs, written, profile, capsys):
    assert main(["search", profile(), "--method", "hinton"]) == 0
    output, record = capsys.readouterr().out, trials_of(written)
    assert len(record["trials"]) == 24 and record["trials"][0]["options"] == DEFAULTS
    scores = [trial["dev_f1"] for trial in record["trials"]]
    assert scores[0] < 30 and max(scores) > 90
    (recommended,) = record["recommended"]["parameters"]["methods"]
    options = recommended["hinton"]
    assert options["temperature"] == pytest.approx(BEST["temperature"], rel=0.5)
    assert options["hard"] == pytest.approx(BEST["hard"], abs=0.15)
    first, needed, time, *_ = output.splitlines()
    assert first.startswith("hinton: 24 trials of 2 steps of 2 contexts. Searched: temperature 0.2")
    assert needed == "what it needs" and time.startswith("This takes about 34 minutes")
    assert "trial 0: dev F1 20.9 (defaults: temperature 2.0, hard 0.5)" in output
    assert "is recommended: mean dev F1 9" in output and "over seeds 1 and 2" in output
    assert output.endswith(f"Trials, table and what is recommended: {written}\n")


def test_all_students_have_the_same_steps_and_batches(stubs, written, profile, home):
    assert main(["search", profile(), "--method", "hinton", "--trials", "6"]) == 0
    manifests = [json.loads(file.read_text()) for file in home.glob("runs/student/*/manifest.json")]
    assert len(manifests) == 6 + 2 * 4
    budgets = {
        (manifest["parameters"]["batch_size"], stage["steps"])
        for manifest in manifests
        for stage in manifest["parameters"]["stages"]
    }
    assert budgets == {(2, 2)}
    assert not list(home.glob("runs/answers/*")), "no test set was asked"


def test_the_same_command_makes_nothing_twice_and_writes_the_same_bytes(stubs, written, profile):
    command = ["search", profile(), "--method", "hinton", "--trials", "10", "--seed", "3"]
    assert main(command) == 0
    before, counts = contents(written), stubs.counts()
    assert set(counts.values()) == {1}
    assert main(command) == 0
    assert contents(written) == before and stubs.counts() == counts
    assert main([*command[:-1], "4"]) == 0
    assert contents(written)["trials.json"] != before["trials.json"]


def test_more_trials_go_on_from_those_that_are_there(stubs, written, profile):
    command = ["search", profile(), "--method", "hinton", "--trials"]
    assert main([*command, "9"]) == 0
    few = trials_of(written)["trials"]
    assert main([*command, "12"]) == 0
    assert trials_of(written)["trials"][:9] == few and set(stubs.counts().values()) == {1}


@pytest.mark.parametrize(
    ("stop_at", "size"),
    [
        (5, "1"),
        pytest.param(10, "3", marks=pytest.mark.slow),
        pytest.param(13, "1", marks=pytest.mark.slow),
    ],
)
def test_a_search_that_was_stopped_ends_with_the_same_bytes(
    stop_at, size, stubs, written, profile, tmp_path, monkeypatch, capsys
):
    """In the search, and among the trainings with fresh seeds."""
    several = {"engine_options": {"workers": 1}, "threads": 1}  # the stubs are of this process
    path = profile(machine=several)
    command = ["search", path, "--method", "hinton", "--trials", "11", "--batch", size]
    assert main(command) == 0
    whole = contents(written)
    monkeypatch.setenv("STUDY_HOME", str(tmp_path / "another"))
    stubs.made_runs.clear()
    stubs.stop_at = stop_at
    for file in list(written.iterdir()):
        file.unlink()
    assert main(command) == 130
    assert "stopped. The same command goes on from here." in capsys.readouterr().err
    assert not list(written.iterdir())
    stubs.stop_at = 0
    assert main(command) == 0
    assert contents(written) == whole and set(stubs.counts().values()) == {1}


def test_trials_that_diverge_stay_in_the_table_and_are_not_tried_again(stubs, written, profile):
    stubs.diverges = lambda options: options["temperature"] > 4
    command = ["search", profile(), "--method", "hinton", "--trials", "8"]
    assert main(command) == 0
    before, counts = contents(written), stubs.counts()
    trials = trials_of(written)["trials"]
    failed = [trial for trial in trials if trial["state"] == "failed"]
    assert 0 < len(failed) < 8
    for trial in failed:
        assert trial["options"]["temperature"] > 4 and trial["dev_f1"] is None
        assert trial["why"].startswith("the loss is nan at step 1")
    table = (written / "table.md").read_text(encoding="utf-8")
    assert table.count("the loss is nan at step 1") == len(failed)
    assert main(command) == 0
    assert contents(written) == before and stubs.counts() == counts


def test_what_fails_in_training_is_a_failed_trial_and_what_all_need_ends_the_search(
    stubs, written, profile, capsys, monkeypatch
):
    stubs.diverges = lambda options: options["temperature"] > 4
    stubs.error = StudyError("mapping must be skip: it has no such block.")
    assert main(["search", profile(), "--method", "hinton", "--trials", "8"]) == 0
    trials = trials_of(written)["trials"]
    failed = [trial for trial in trials if trial["state"] == "failed"]
    assert 0 < len(failed) < 8 and {trial["why"][:20] for trial in failed} == {
        "mapping must be skip"
    }
    stubs.error = NoRoom("the disk is full")
    monkeypatch.setenv("STUDY_HOME", str(written / "home"))
    assert main(["search", profile(), "--method", "hinton", "--trials", "8"]) == 2
    assert "the disk is full" in capsys.readouterr().err


def test_options_that_are_refused_are_failed_trials(stubs, written, profile):
    stubs.score = lambda options, seed: 50.0
    assert main(["search", profile(), "--method", "taid", "--trials", "8"]) == 0
    trials = trials_of(written.with_name("taid"))["trials"]
    refused = [trial for trial in trials if trial["state"] == "failed"]
    assert 0 < len(refused) < 8
    for trial in refused:
        assert trial["why"].startswith("start of taid must not be above its end")
        assert trial["options"]["start"] > trial["options"]["end"] and trial["runs"] == []


def test_equal_scores_recommend_the_defaults_and_say_so(stubs, written, profile, capsys):
    stubs.score = lambda options, seed: 50.0
    assert main(["search", profile(), "--method", "hinton", "--trials", "4"]) == 0
    sentence = (
        "hinton: keep the defaults, no trial did better with each seed: mean dev F1 50.0 over"
        " seeds 1 and 2."
    )
    assert sentence in capsys.readouterr().out
    text = (written / "recommended.yaml").read_text(encoding="utf-8")
    assert text.startswith(f"# {sentence}\n")
    assert yaml.safe_load(text) == {"methods": ["hinton"]}


def test_who_was_lucky_with_the_first_seed_is_not_recommended(stubs, written, profile):
    """Far from the defaults the search's own seed does well, and no other."""

    def lucky(options: dict, seed: int) -> float:
        return {0: 90.0, 1: 40.0, 2: 20.0}[seed] if options["hard"] > 0.6 else 60.0

    stubs.score = lucky
    assert main(["search", profile(), "--method", "hinton", "--trials", "12"]) == 0
    record = trials_of(written)
    best = max(record["trials"], key=lambda trial: trial["dev_f1"])
    assert best["dev_f1"] == 90 and record["recommended"]["trial"] == 0
    assert "| -30.0 |" in (written / "table.md").read_text(encoding="utf-8")


def test_what_is_recommended_is_accepted_by_the_profile(stubs, written, profile):
    path = profile()
    assert main(["search", path, "--method", "hinton", "--trials", "9"]) == 0
    pasted = yaml.safe_load((written / "recommended.yaml").read_text(encoding="utf-8"))
    before, plan = (
        {called.get("arm"): Store().key(run) for run, called in job.plan.trained}
        for (job,) in (notebooks.jobs(profile()), notebooks.jobs(profile(**pasted)))
    )
    record = trials_of(written)
    (key,) = record["trials"][record["recommended"]["trial"]]["runs"]
    assert key in plan.values()
    assert plan[STUDENT] == before[STUDENT], "plain distillation stays what it was"


def test_ranges_come_from_a_file(stubs, written, profile, tmp_path, capsys):
    space = tmp_path / "space.yaml"
    space.write_text("temperature: {low: 3, high: 8}\nhard: 0.5\nlr: [1e-3, 2e-3]\n")
    command = ["search", profile(), "--method", "hinton", "--trials", "5", "--space", str(space)]
    assert main(command) == 0
    assert (
        "temperature 3 to 8; lr 0.001 or 0.002. Fixed: hard 0.5, noise." in capsys.readouterr().out
    )
    record = trials_of(written)
    first, *others = [trial["options"] for trial in record["trials"]]
    assert first == {"temperature": 2.0, "hard": 0.5, "lr": 0.001}, "the defaults, out of the space"
    assert all(3 <= options["temperature"] <= 8 and options["hard"] == 0.5 for options in others)
    assert {options["lr"] for options in others} == {0.001, 0.002}
    assert record["recommended"]["parameters"]["training"]["lrs"][0] in (0.001, 0.002)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "hinton", "--trials", "0"], "--trials must be a whole number of at least 1"),
        (["--method", "hinton", "--batch", "0"], "--batch must be a whole number of at least 1"),
        (["--method", "hinton", "--seed", "-1"], "--seed must be a whole number of at least 0"),
        (["--method", "hintom"], "method 'hintom' is unknown: did you mean 'hinton'?"),
        (["--method", "multi_exit"], "multi_exit has nothing to search"),
        (["--method", "hinton", "--space", "no.yaml"], "There is no no.yaml"),
        ([], "the following arguments are required: --method"),
    ],
)
def test_what_cannot_be_searched_is_refused(arguments, message, profile, refused):
    assert message in refused("search", profile(), *arguments)


def test_the_parameters_are_those_of_methods(refused, params_file):
    assert "has no methods.yaml" in refused("search", params_file(), "--method", "hinton")


def test_without_optuna_it_says_what_to_install(refused, profile, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "pip install 'studylib[search]'" in refused("search", profile(), "--method", "hinton")


def test_other_errors_end_the_search(stubs, written, profile, capsys):
    stubs.fails = "teacher"
    assert main(["search", profile(), "--method", "hinton"]) == 2
    assert "ValueError: no luck" in capsys.readouterr().err and not written.exists()


def test_a_search_all_of_whose_trials_failed_says_why(stubs, written, profile, capsys):
    stubs.diverges = lambda options: True
    assert main(["search", profile(), "--method", "hinton", "--trials", "3"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("study: All 3 trials failed, the first one because: the loss is nan")


def test_a_batch_has_as_many_workers(stubs, written, profile, monkeypatch):
    workers = []

    @contextmanager
    def opened(machine) -> Iterator[engines.Here]:
        workers.append(machine.engine_options.get("workers"))
        yield engines.Here()

    monkeypatch.setattr(engines, "opened", opened)
    assert main(["search", profile(), "--method", "hinton", "--trials", "4", "--batch", "2"]) == 0
    asked = profile(profile="other", machine={"engine_options": {"workers": 3}})
    assert main(["search", asked, "--method", "hinton", "--trials", "4", "--batch", "2"]) == 0
    assert workers == [2, 3] or workers == [2], "the second has all in the store"


@pytest.mark.slow
def test_a_search_of_real_trainings(written, profile, tmp_path, capsys):
    space = tmp_path / "space.yaml"
    space.write_text("mapping: [kept, skip]\ntargets: [gold, sequence_kd]\nweight: 1")
    command = ["search", profile(), "--method", "distiller", "--trials", "3", "--batch", "2"]
    assert main([*command, "--space", str(space)]) == 0
    folder = written.with_name("distiller")
    before = contents(folder)
    assert set(before) == {
        *("trials.json", "trials.csv", "table.md", "recommended.yaml", "digests.json")
    }
    assert {trial["state"] for trial in trials_of(folder)["trials"]} == {"done"}
    assert main([*command, "--space", str(space)]) == 0
    assert contents(folder) == before
