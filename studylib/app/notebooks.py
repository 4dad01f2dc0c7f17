"""A profile's notebooks, each with the parameters of one YAML and the plan that they make.

jobs("tiny")
"""

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import studylib
from studylib.app import parameters
from studylib.core import filesystem, naming, project, provenance
from studylib.core.errors import StudyError
from studylib.core.project import notebook, profiles, root
from studylib.experiments import experiments
from studylib.experiments.plans import Plan
from studylib.store import exports
from studylib.store.store import Store

LIBRARIES = (*provenance.LIBRARIES, "matplotlib", "seaborn")  # that compute, count and draw
READ = ("answers.json", "loyalty.json", "curve.json")  # of runs, by notebooks


@dataclass(frozen=True)
class Job:
    """A notebook, the values it is given, and the plan that they make."""

    notebook: Path
    profile: str
    values: dict
    plan: Plan

    def __str__(self) -> str:
        return f"{self.notebook.stem} ({self.profile})"

    @property
    def folder(self) -> Path:
        """Where it writes tables and figures."""
        return project.figures_folder(self.profile, self.notebook.stem)

    @property
    def executed(self) -> Path:
        """Where the executed notebook lies."""
        return filesystem.home() / "notebooks" / self.profile / self.notebook.name

    @property
    def noted(self) -> Path:
        """The file beside it that holds the digest of what it was made of."""
        return self.executed.with_suffix(".digest")

    def is_current(self) -> bool:
        """Whether it was executed with these values on these results by this code, and all that it
        read and wrote is as it was then."""
        return self.noted.is_file() and self.noted.read_text(encoding="utf-8") == self.digest()

    def digest(self) -> str:
        """That of all that the notebook's tables and figures come from, and of these."""
        store, code = Store().snapshot(), Path(studylib.__file__).parent
        results = {run.planned: store.result(run) for run in self.plan.runs}
        read = [
            store.folder(run) / name
            for run in self.plan.runs
            if results[run.planned]
            for name in READ
        ]
        files = [self.notebook, self.executed, *code.rglob("*.py"), *self.folder.rglob("*"), *read]
        return filesystem.digest(
            {
                "values": self.values,
                "results": results,
                "versions": [platform.python_version(), *map(version, LIBRARIES)],
                "files": {str(f): filesystem.file_digest(f) for f in files if f.is_file()},
            }
        )


def jobs(profile: str, engine: str | None = None, only: str | None = None) -> list[Job]:
    """The notebooks that a profile (a folder of params/) or a YAML file has parameters for, in the
    study's order; `smoke` is every experiment as its notebook has it. `engine` stands for that of
    the parameters, whose options are another's then. With `only` it is the notebook of methods,
    for this one.

    Raises StudyError if there is none.
    """
    names = ["methods"] if only else list(experiments.EXPERIMENTS)
    if profile == "smoke":
        values = _chosen({}, engine, only)
        return [_planned(notebook(Path(f"{name}.yaml")), values) for name in names]
    files = [file for file in profiles(profile) if not only or file.stem in names]
    if not files:
        raise StudyError(f"{profile} has no methods.yaml: --only is for that notebook.")
    return sorted(
        (_job(notebook(file), file, engine, only) for file in files),
        key=lambda job: names.index(job.notebook.stem),
    )


def given(profile: str, name: str) -> dict:
    """All parameters of one notebook of a profile or of a YAML file. Raises StudyError where there
    is none."""
    if profile == "smoke":
        return parameters.defaults(notebook(Path(f"{name}.yaml")))
    files = [file for file in profiles(profile) if file.stem == name]
    if not files:
        raise StudyError(f"{profile} has no {name}.yaml, whose parameters are needed here: add it.")
    path = notebook(files[0])
    return parameters.defaults(path) | _values(path, files[0])


def _values(path: Path, file: Path) -> dict:
    """What a YAML file gives."""
    if path.stem not in experiments.EXPERIMENTS:
        raise StudyError(
            f"{file}: {path.stem} is no experiment: name the file after one of"
            f" {', '.join(experiments.EXPERIMENTS)}."
        )
    values = parameters.read(path, file)
    if "compute" in values:
        raise StudyError(
            f"{file}: leave out `compute`, which is for whoever opens the notebook: here it is"
            " `study run --compute`."
        )
    return values


def _chosen(values: dict, engine: str | None, only: str | None) -> dict:
    """Parameters with what a command says instead: another engine, whose options are not theirs,
    and one method."""
    machine = values.get("machine", {})
    if engine and engine != machine.get("engine", "local"):
        values = values | {"machine": machine | {"engine": engine, "engine_options": {}}}
    return values | ({"methods": [only]} if only else {})


def _job(path: Path, file: Path, engine: str | None, only: str | None) -> Job:
    values = _chosen(_values(path, file), engine, only)
    try:
        job = _planned(path, values)
        _refuse_taken(job, file)
    except StudyError as error:  # says what is wrong with a parameter, not where that stands
        raise StudyError(f"{file}: {error}") from error
    return job


def _refuse_taken(job: Job, file: Path) -> None:
    """Raise StudyError where a YAML from elsewhere names a profile of params/ whose tables hold
    more than its own plan: they would be replaced by less."""
    shown, place = job.folder / "rows.parquet", root() / "params" / job.profile
    if (
        place.is_dir()
        and file.resolve().parent != place.resolve()
        and shown.exists()
        and not {asked.planned for asked in job.plan.asked}.issuperset(
            exports.read(shown, ["planned"]).planned
        )
    ):
        raise StudyError(
            f"profile {job.profile!r} is that of params/{job.profile}, whose tables are in"
            f" {shown.parent}: name another."
        )


def _planned(path: Path, values: dict) -> Job:
    given = parameters.defaults(path) | values
    naming.check_profile(given["profile"])
    return Job(path, given["profile"], values, experiments.plan(path.stem, given))
