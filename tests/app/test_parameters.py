"""Parameters: what a YAML may say, and that every one in the project can be planned without a
network."""

import inspect
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from studylib.app import notebooks, parameters
from studylib.core.errors import StudyError
from studylib.core.project import root
from studylib.data import archives
from studylib.experiments import config, experiments
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


def test_the_notebook_has_the_parameters_of_its_plan_and_a_profile():
    for name, plan in experiments.EXPERIMENTS.items():
        found = parameters.defaults(NOTEBOOK.with_name(f"{name}.ipynb"))
        own = set(inspect.signature(plan).parameters) - {"given"}
        assert set(found) == {
            "profile",
            "compute",
            *own,
            *(field.name for field in fields(config.Common)),
        }


def test_values_are_read_as_they_are_and_nothing_is_added(read):
    text = (
        "sizes: [3, 1]\ntrained: one-shot\nfamilies: {a: 'tiny:qwen2'}\nteacher_steps: 5\nrates:"
        " [0.5]\nraw_starts: []\n"
    )
    assert read(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e-3", 1e-3), ("'0.002'", 2e-3), ("1", 1.0), ("2.5e-4", 2.5e-4), ("1E-3", 1e-3)],
)
def test_numbers_are_numbers_where_the_default_is_one(written: str, value: float, read):
    found = read(f"teacher_rate: {written}")["teacher_rate"]
    assert found == value
    assert type(found) is float


def test_a_size_may_be_a_number_of_layers(tmp_path):
    (file := tmp_path / "teacher_choice.yaml").write_text("size: 3\n", encoding="utf-8")
    assert parameters.read(NOTEBOOK.with_name("teacher_choice.ipynb"), file) == {"size": "3"}


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("teacher_step", "teacher_steps"),
        ("size", "sizes"),
        ("Seeds", "seeds"),
        ("learning_rate_of_teacher", "teacher_rate"),
    ],
)
def test_an_unknown_name_gives_the_nearest(wrong: str, meant: str, read):
    with pytest.raises(
        StudyError, match=rf"mine\.yaml: parameter {wrong!r} is unknown, did you mean {meant!r}\?"
    ):
        read(f"profile: mine\n{wrong}: 3")


@pytest.mark.parametrize("name", ["5", "true", "''", "~", "[1, 2]"])
def test_a_name_that_is_no_text_is_refused(name: str, read):
    with pytest.raises(StudyError, match=r"mine\.yaml"):
        read(f"{name}: 3")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("teacher_steps: many", "teacher_steps must be of type int, not str"),
        ("teacher_steps: 1.5", "teacher_steps must be of type int, not float"),
        ("teacher_steps: true", "teacher_steps must be of type int, not bool"),
        ("teacher_steps:", "teacher_steps must be of type int, not NoneType"),
        ("teacher_rate: fast", "teacher_rate must be of type float, not str"),
        ("teacher_rate: true", "teacher_rate must be of type float, not bool"),
        ("teacher_rate: [1e-3]", "teacher_rate must be of type float, not list"),
        ("sizes: 4", "sizes must be of type list, not int"),
        ("asked: zero-shot", "asked must be of type list, not str"),
        ("tests: [near]", "tests must be of type dict, not list"),
        ("search_steps: {a: 10}", "search_steps must be of type int, not dict"),
        ("search_steps: true", "search_steps must be of type int, not bool"),
        ("search_steps: '6'", "search_steps must be of type int, not str"),
        ("profile: 5", "profile must be of type str, not int"),
    ],
)
def test_a_wrong_type_is_refused(text: str, said: str, read):
    with pytest.raises(StudyError, match=rf"mine\.yaml: {said}"):
        read(text)


@pytest.mark.parametrize(
    "text",
    [
        "teacher_rate: .nan",
        "teacher_rate: inf",
        "stages: [{steps: 1, losses: {forward_kl: .nan}}]",
        "seeds: [2020-01-01]",
        "tests: {a: !!set {b}}",
        "dev: {1: a, b: c}",
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
    searched = {"rate"} if len(job.values["rates"]) > 1 else set()
    every = {"teacher", "states", "student", "answers", "loyalty"} | (
        {"layers", "cut"} if job.values.get("sizes") or not job.values.get("siblings") else set()
    )
    every |= {"examples"} if job.notebook.stem == "methods" else set()
    assert {run.kind for run in job.plan.runs} - {"cost"} == searched | every
    assert ("cost" in {run.kind for run in job.plan.runs}) == (file.stem == "capacity_gap")
    assert len(Store().key(job.plan.runs[0])) == 24
    assert not home.exists()


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_the_defaults_of_a_notebook_make_a_plan(name):
    values = parameters.defaults(NOTEBOOK.with_name(f"{name}.ipynb"))
    assert values.pop("profile") == "smoke" and values.pop("compute") is True
    assert experiments.EXPERIMENTS[name](**values).runs
