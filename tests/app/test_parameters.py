"""Parameters: what a YAML may say, and that every one in the project can be planned without a
network."""

from pathlib import Path

import pytest
import yaml

from studylib.app import notebooks, parameters
from studylib.core.errors import StudyError
from studylib.core.project import root
from studylib.data import archives
from studylib.experiments import experiments
from studylib.store.store import Store

NOTEBOOK = root() / "notebooks" / "capacity_gap.ipynb"
PROFILES = sorted((root() / "params").glob("*/*.yaml"))


@pytest.fixture
def read(tmp_path: Path):
    """Reads the text of a YAML as parameters of the notebook."""

    def read(text: str | bytes) -> dict:
        (tmp_path / "mine.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
        return parameters.read(NOTEBOOK, tmp_path / "mine.yaml")

    return read


@pytest.fixture
def planned(tmp_path: Path):
    """Reads the text of a YAML as parameters of a notebook, and plans its experiment."""

    def planned(text: str, name: str = "capacity_gap") -> notebooks.Job:
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
        (job,) = notebooks.jobs(str(tmp_path / f"{name}.yaml"))
        return job

    return planned


def test_the_notebook_has_the_parameters_of_its_experiment_and_a_profile():
    for name, kind in experiments.EXPERIMENTS.items():
        defaults = parameters.defaults(NOTEBOOK.with_name(f"{name}.ipynb"))
        assert set(defaults) == {"profile", "compute", *kind.model_fields}


def test_values_are_read_as_they_are_and_nothing_is_added(read):
    text = (
        "sizes: [3, 1]\ntrain_prompt: one-shot\nfamilies: {a: 'tiny:qwen2'}\n"
        "training: {teacher_steps: 5, lrs: [0.5]}\nfrom_base: []\n"
    )
    assert read(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e-3", 1e-3), ("'0.002'", 2e-3), ("0.5", 0.5), ("2.5e-4", 2.5e-4), ("1E-3", 1e-3)],
)
def test_a_learning_rate_is_a_number_however_it_is_written(written: str, value: float, planned):
    (teacher,) = (
        run
        for run in planned(f"training: {{teacher_lr: {written}}}").plan.runs
        if run.kind == "teacher"
    )
    assert teacher.parameters["lr"] == value
    assert type(teacher.parameters["lr"]) is float


def test_a_size_may_be_a_number_of_layers(planned):
    plans = [planned(f"size: {size}\n", "teacher_choice").plan for size in ("3", "'3'")]
    number, text = ([run.planned for run in plan.runs] for plan in plans)
    assert number == text


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("teacher_size", "teacher_sizes"),
        ("size", "sizes"),
        ("Seeds", "seeds"),
        ("the_machine", "machine"),
    ],
)
def test_an_unknown_name_gives_the_nearest(wrong: str, meant: str, read):
    with pytest.raises(
        StudyError, match=rf"mine\.yaml: parameter {wrong!r} is unknown: did you mean {meant!r}\?"
    ):
        read(f"profile: mine\n{wrong}: 3")


@pytest.mark.parametrize(
    ("group", "wrong", "meant"),
    [
        ("training", "teacher_step", "teacher_steps"),
        ("training", "lr_of_teacher", "teacher_lr"),
        ("machine", "Threads", "threads"),
        ("data", "test", "tests"),
    ],
)
def test_an_unknown_name_in_a_group_gives_the_nearest_there(
    group: str, wrong: str, meant: str, planned
):
    sentence = rf"parameter '{group}\.{wrong}' is unknown: did you mean '{meant}'\?"
    with pytest.raises(StudyError, match=rf"capacity_gap\.yaml: {sentence}"):
        planned(f"{group}: {{{wrong}: 3}}")


@pytest.mark.parametrize("name", ["5", "true", "''", "~", "[1, 2]"])
def test_a_name_that_is_no_text_is_refused(name: str, read):
    with pytest.raises(StudyError, match=r"mine\.yaml"):
        read(f"{name}: 3")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {teacher_steps: many}", "training.teacher_steps must be a valid integer"),
        ("training: {teacher_steps: 1.5}", "training.teacher_steps must be a valid integer"),
        ("training: {teacher_steps: true}", "training.teacher_steps must be a valid integer"),
        ("training: {teacher_steps: }", "training.teacher_steps must be a valid integer"),
        ("training: {teacher_lr: fast}", "training.teacher_lr must be a valid number, not 'fast'"),
        ("training: {teacher_lr: true}", "training.teacher_lr must be a valid number, not True"),
        ("training: {teacher_lr: [1e-3]}", "training.teacher_lr must be a valid number"),
        ("training: {teacher_lr: 1}", "training.teacher_lr must be less than 1, not 1"),
        ("training: {teacher_lr: inf}", "training.teacher_lr must be less than 1, not 'inf'"),
        ("training: {lrs: fast}", "training.lrs must be a valid list, not 'fast'"),
        ("training: 5", "training must be a mapping, not 5"),
        ("sizes: 4", "sizes must be a valid list, not 4"),
        ("eval_prompts: zero-shot", "eval_prompts must be a valid list, not 'zero-shot'"),
        ("data: {tests: [near]}", "data.tests must be a mapping"),
        (
            "training: {lr_search_steps: {a: 10}}",
            "training.lr_search_steps must be a valid integer",
        ),
        ("training: {lr_search_steps: true}", "training.lr_search_steps must be a valid integer"),
        ("training: {lr_search_steps: '6'}", "training.lr_search_steps must be a valid integer"),
        ("profile: 5", "profile 5 "),
    ],
)
def test_a_wrong_type_is_refused(text: str, message: str, planned):
    with pytest.raises(StudyError, match=rf"capacity_gap\.yaml: {message}"):
        planned(text)


@pytest.mark.parametrize(
    "text",
    [
        "training: {teacher_lr: .nan}",
        "training: {teacher_lr: .inf}",
        "training: {stages: [{steps: 1, losses: {forward_kl: .nan}}]}",
        "seeds: [2020-01-01]",
        "data: {tests: {a: !!set {b}}}",
        "data: {dev: {1: a, b: c}}",
    ],
)
def test_a_value_that_no_key_can_hold_is_refused(text: str, read):
    """A run's key is a digest of its parameters as JSON."""
    with pytest.raises(StudyError, match=rf"mine\.yaml: {text.partition(':')[0]}"):
        read(text)


@pytest.mark.parametrize(
    "text",
    [
        "sizes: [4",
        "a: b: c",
        "\tprofile: x",
        "profile: !!python/object:os.system {}",
        b"profile: \xff",
    ],
)
def test_what_is_no_yaml_is_refused_in_one_line(text: str | bytes, read):
    with pytest.raises(StudyError, match=r"mine\.yaml is no YAML") as refused:
        read(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "- profile", "profile", "5"])
def test_what_maps_nothing_is_refused(text: str, read):
    with pytest.raises(StudyError, match=r"mine\.yaml must map parameter names to values"):
        read(text)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    for path in (tmp_path / "mine.yaml", tmp_path):
        with pytest.raises(
            StudyError, match=f"There is no {path}: name a profile of params/ or a YAML file"
        ):
            parameters.read(NOTEBOOK, path)


@pytest.mark.parametrize("file", PROFILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_yaml_makes_a_plan_without_a_network(
    file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(archives, "_fetch", lambda *_: pytest.fail("fetched"))
    (job,) = notebooks.jobs(str(file))
    assert job.profile == file.parent.name  # names the folder of its figures
    searched = {"lr_search"} if len(job.values["training"]["lrs"]) > 1 else set()
    every = {"teacher", "states", "student", "answers", "loyalty"} | (
        {"layers", "cut"} if job.values.get("sizes") or not job.values.get("siblings") else set()
    )
    trimmed = [size for size in job.values.get("sizes", []) if "v" in str(size)]
    every |= {"vocabulary"} if trimmed else set()
    every |= {"examples"} if job.values.get("methods") == [] else set()  # of every method
    assert {run.kind for run in job.plan.runs} - {"cost"} == searched | every
    assert ("cost" in {run.kind for run in job.plan.runs}) == (file.stem == "capacity_gap")
    assert len(Store().key(job.plan.runs[0])) == 24
    assert not home.exists()


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_the_defaults_of_a_notebook_make_a_plan(name):
    values = parameters.defaults(NOTEBOOK.with_name(f"{name}.ipynb"))
    assert values.pop("profile") == "smoke" and values.pop("compute") is True
    assert experiments.plan(name, values).runs
