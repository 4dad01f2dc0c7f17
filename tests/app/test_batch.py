"""What a profile is, and that a notebook that did not finish is not believed."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import papermill
import pytest
import yaml
from miniatures import chosen, planned

import studylib
from studylib.app import execution, notebooks, time_budget
from studylib.core import progress, project
from studylib.core.errors import StudyError
from studylib.core.filesystem import write_json
from studylib.core.project import root
from studylib.experiments import experiments
from studylib.runs import kinds
from studylib.runs.budget import Budget
from studylib.store.run import Run
from studylib.store.store import Store

WORK = Budget()


def test_a_profile_is_its_folder_of_yamls():
    jobs = notebooks.jobs("tiny")
    assert [(job.notebook.stem, job.profile) for job in jobs] == [
        (name, "tiny") for name in experiments.EXPERIMENTS
    ]
    job = jobs[0]
    assert {called["family"] for _, called in job.plan.trained} == {"gpt_neox", "qwen2"}
    models = [
        (called["role"], called["init"], called["teacher"])
        for _, called in job.plan.trained
        if called["family"] == "qwen2"
    ]
    students = models.count(("student", "fine-tuned", "fine-tuned"))
    assert students == 3 + 1, "of three sizes, one of them by other losses, too"
    assert models.count(("student", "fine-tuned", "control of 4")) == 1
    assert models.count(("control", "base", "none (gold only)")) == 1


def test_unknown_profiles_and_notebooks_are_refused(tmp_path):
    with pytest.raises(StudyError, match="small-unlabelled, tiny"):
        notebooks.jobs("huge")
    (tmp_path / "other.yaml").write_text("profile: x\n")
    with pytest.raises(StudyError, match="no notebook other"):
        notebooks.jobs(str(tmp_path / "other.yaml"))
    (tmp_path / "report.yaml").write_text("profile: x\n")
    with pytest.raises(
        StudyError, match="report is no experiment: name the file after one of capacity_gap"
    ):
        notebooks.jobs(str(tmp_path / "report.yaml"))


@pytest.mark.parametrize("profile", ["smoke", "tiny"])
def test_another_engine_has_none_of_the_options_of_the_parameters(profile):
    for job in notebooks.jobs(profile, "ray"):
        assert (job.plan.machine.engine, job.plan.machine.engine_options) == ("ray", {})
    for job in notebooks.jobs(profile, "local"):
        assert job.plan.machine.workers == {"smoke": 1, "tiny": 2}[profile]


def test_computing_is_no_parameter_of_a_yaml(tmp_path):
    (tmp_path / "capacity_gap.yaml").write_text("profile: x\ncompute: false\n")
    with pytest.raises(StudyError, match="leave out `compute`"):
        notebooks.jobs(str(tmp_path / "capacity_gap.yaml"))


def test_a_yaml_from_elsewhere_cannot_replace_what_a_profile_of_params_shows(tmp_path):
    """Be it of other models, or of some of the same; a copy of the profile's own may."""
    given = (root() / "params" / "small" / "capacity_gap.yaml").read_text()
    committed = yaml.safe_load(given)
    file = tmp_path / "capacity_gap.yaml"
    for values in (
        {"profile": "small"},
        committed
        | {
            "sizes": committed["sizes"][:2],
            "from_base": [],
            "alternative": None,
            "teacher_sizes": [],
        },
    ):
        file.write_text(yaml.safe_dump(values))
        with pytest.raises(
            StudyError,
            match=(
                rf"{file}: profile 'small' is that of params/small, whose tables are in .*: name"
                r" another\."
            ),
        ):
            notebooks.jobs(str(file))
        file.write_text(yaml.safe_dump(values | {"profile": "mine"}))
        assert notebooks.jobs(str(file))
    file.write_text(given)
    assert [job.profile for job in notebooks.jobs(str(file))] == ["small"]


def test_the_forecast_counts_downloads_once_an_archive():
    for job in notebooks.jobs("small"):
        assert time_budget.download(job.plan) == 358 + 93
    assert time_budget.download(notebooks.jobs("tiny")[0].plan) == 0


def test_a_base_model_that_teaches_is_forecast_too(raw):
    plan = chosen(raw)
    assert 0 < time_budget.seconds(plan, plan.runs) < 3600


@pytest.fixture(autouse=True)
def untimed(monkeypatch):
    """Nothing was timed before."""
    monkeypatch.setattr(time_budget, "TIMED", {})


def test_the_forecast_grows_with_every_run(tmp_path):
    plan = notebooks.jobs("tiny")[0].plan
    missing, last = [], 0.0
    for kind in ("teacher", "layers", "states", "cut", "student", "answers", "loyalty", "cost"):
        missing += [run for run in plan.runs if run.kind == kind][:3]
        seconds = sum(
            time_budget.Pace(0.0, 1e9).seconds(run, kinds.took(WORK, run)) for run in missing
        )
        assert seconds > last
        last = seconds
    assert time_budget.seconds(plan, missing, Store(tmp_path)) > 0
    assert set(missing) <= set(plan.runs) and {run.kind for run in missing} == {
        run.kind for run in plan.runs
    }


def test_the_forecast_goes_by_the_runs_that_are_done(raw, tmp_path, monkeypatch):
    """A run of a known kind takes as long a FLOP as the median of that kind; no step is timed
    then."""
    plan, store = planned(raw), Store(tmp_path)
    teacher = plan.runs[0]
    answered = [run for run in plan.runs if run.kind == "answers"][:1]
    took = {teacher: 50.0, answered[0]: 7.0}
    monkeypatch.setattr(Store, "snapshot", lambda _: store)
    monkeypatch.setattr(
        store, "result", lambda run: {"seconds": took[run]} if run in took else None
    )
    monkeypatch.setattr(time_budget, "calibrated", lambda *_: pytest.fail("a step was timed"))
    assert time_budget.seconds(plan, [teacher], store) == pytest.approx(50)
    same = next(
        run
        for run in plan.runs
        if run.kind == "answers" and run is not answered[0] and run.needs["model"] is teacher
    )
    times = kinds.took(WORK, same).flops / kinds.took(WORK, answered[0]).flops
    assert time_budget.seconds(plan, [same], store) == pytest.approx(7 * times)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "2 seconds"), (40, "40 seconds"), (300, "5 minutes"), (9000, "2.5 hours")],
)
def test_times_as_people_say_them(seconds, words):
    assert progress.spoken(seconds) == words


def test_runs_that_took_no_time_say_nothing_of_the_pace(raw, tmp_path, monkeypatch):
    """As of a store whose clock was set back, or of runs shorter than a tenth of a second."""
    plan, store = planned(raw), Store(tmp_path)
    monkeypatch.setattr(store, "result", lambda run: {"seconds": 0.0})
    monkeypatch.setattr(time_budget, "calibrated", lambda *_: time_budget.Pace(1.0, 1e9))
    assert time_budget.seconds(plan, plan.runs[:1], store) > 1


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """A notebook that was executed, as papermill would, and draws one figure; of one run."""
    place = tmp_path / "figures" / "test-current" / "mine"
    place.mkdir(parents=True)
    (tmp_path / "code").mkdir()
    for file in ("mine.ipynb", "code/__init__.py", "code/loss.py"):
        (tmp_path / file).write_text(file)

    def execute(notebook, target, **_):
        for file in (Path(target), place / "table.md", place / "figure.png"):
            file.write_text("made")

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    monkeypatch.setattr(project, "figures_folder", lambda profile, notebook: place)
    monkeypatch.setattr(studylib, "__file__", str(tmp_path / "code" / "__init__.py"))
    run = Run("answers", {"value": 3})
    Store().complete(run, lambda run, folder: write_json(folder / "answers.json", {}) or {})
    job = notebooks.Job(tmp_path / "mine.ipynb", "test", {}, SimpleNamespace(runs=[run]))
    assert not job.is_current()
    execution.execute(job)
    return job


def test_a_notebook_is_current_once_it_was_executed(executed):
    assert executed.is_current()
    assert not replace(executed, values={"seeds": [1]}).is_current()


@pytest.mark.parametrize(
    "place",
    [
        "notebook",
        "executed",
        "folder/table.md",
        "folder/figure.png",
        "folder/new.png",
        "folder/parts/0123/rows.parquet",
        "code/loss.py",
        "code/new.py",
        "run/answers.json",
        "run/result.json",
    ],
)
def test_whatever_changes_a_notebook_is_executed_again(executed, place, tmp_path):
    start, _, rest = place.partition("/")
    run = Store().folder(executed.plan.runs[0])
    starts = {"code": tmp_path / "code", "run": run, "folder": executed.folder}
    file = starts[start] / rest if rest else getattr(executed, start)
    before = file.read_text() if file.exists() else None
    file.parent.mkdir(exist_ok=True, parents=True)
    file.write_text("changed")
    assert not executed.is_current()
    file.unlink()
    assert executed.is_current() == (before is None)
    if before is not None:
        file.write_text(before)
        assert executed.is_current()


def test_other_versions_of_libraries_execute_it_again(executed, monkeypatch):
    monkeypatch.setattr(notebooks, "version", lambda name: "0.0")
    assert not executed.is_current()


def test_what_only_shows_is_no_execution_to_rely_on(executed):
    execution.execute(executed, compute=False)
    (executed.folder / "table.md").write_text("shown")
    assert not executed.is_current()
