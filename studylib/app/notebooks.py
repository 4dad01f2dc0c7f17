"""A profile's notebooks, each with the parameters of one YAML: planned, and executed by
papermill."""

from dataclasses import dataclass
from pathlib import Path

import papermill
from filelock import FileLock
from ipykernel.kernelspec import make_ipkernel_cmd
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError

from studylib.app import parameters, study
from studylib.core.errors import StudyError, told
from studylib.core.filesystem import home, room
from studylib.core.project import known_profiles, notebook, profiles, root
from studylib.experiments import experiments
from studylib.experiments.plans import Plan
from studylib.store import exports
from studylib.store.store import Store

EXECUTED = 1_000_000  # bytes that an executed notebook takes, about


class InterpreterKernel(AsyncKernelManager):
    """A kernel by the interpreter that runs, whatever another environment has put on Jupyter's path
    under the same name."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """How it is begun."""
        return KernelSpec(argv=make_ipkernel_cmd(), display_name="Python 3", language="python")


@dataclass(frozen=True)
class Job:
    """A notebook, the values it is given, and the plan that they make."""

    notebook: Path
    profile: str
    values: dict
    plan: Plan


def jobs(profile: str, engine: str | None = None) -> list[Job]:
    """The notebooks that a profile (a folder of params/) or a YAML file has parameters for, in the
    study's order; `smoke` is every experiment as its notebook has it. `engine` stands for that of
    the parameters, whose options are another's then.

    Raises StudyError if there is none.
    """
    order, given = list(experiments.EXPERIMENTS), {"engine": engine} if engine else {}
    if profile == "smoke":
        return [_planned(notebook(Path(f"{name}.yaml")), given) for name in order]
    return sorted(
        (_job(notebook(file), file, given) for file in profiles(profile)),
        key=lambda job: order.index(job.notebook.stem),
    )


def _job(path: Path, file: Path, instead: dict) -> Job:
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
    if instead and instead["engine"] != values.get("engine", "local"):
        values |= instead | {"engine_options": {}}
    try:
        job = _planned(path, values)
        _refuse_taken(job, file)
        return job
    except (
        StudyError
    ) as error:  # which says what is wrong with a parameter, and not where that stands
        raise StudyError(f"{file}: {error}") from error


def _refuse_taken(job: Job, file: Path) -> None:
    """Raise StudyError where a YAML from elsewhere names a profile of params/ whose tables hold
    more than its own plan: they would be replaced by less."""
    shown = study.folder(job.profile, job.notebook.stem) / "rows.parquet"
    if (
        job.profile not in known_profiles()
        or file.resolve().parent == (root() / "params" / job.profile).resolve()
        or not shown.exists()
    ):
        return
    if not set(exports.read(shown, ["planned"]).planned) <= {one.planned for one in job.plan.asked}:
        raise StudyError(
            f"profile {job.profile!r} is that of params/{job.profile}, whose tables are in"
            f" {shown.parent}: name another."
        )


def _planned(path: Path, values: dict) -> Job:
    given = parameters.defaults(path) | values
    profile, _ = given.pop("profile"), given.pop("compute")
    return Job(path, profile, values, experiments.EXPERIMENTS[path.stem](**given))


def _literally(path: Path) -> str:
    """A path that papermill takes as it is: it would format what is in braces by the parameters."""
    return str(path).replace("{", "{{").replace("}", "}}")


def execute(job: Job, compute: bool = True) -> Path:
    """Execute the notebook by papermill and return where the executed one lies.

    A notebook can look completed after its kernel died: what counts is that every run has a result,
    if it was to `compute`, and the table is newer than the start. Raises StudyError otherwise.
    """
    table = study.folder(job.profile, job.notebook.stem) / "table.md"
    target = home() / "notebooks" / job.profile / job.notebook.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")), room(target.parent, target.name, lambda: EXECUTED):
        return _execute(job, compute, target, table)


def _execute(job: Job, compute: bool, target: Path, table: Path) -> Path:
    """The same, while nobody else does it."""
    before = table.stat().st_mtime_ns if table.exists() else 0
    try:
        papermill.execute_notebook(
            _literally(job.notebook),
            _literally(target),
            parameters=job.values | {"compute": compute},
            cwd=str(job.notebook.parent),
            progress_bar=False,
            request_save_on_cell_execute=False,
            kernel_manager_class=InterpreterKernel,
        )
    except papermill.PapermillExecutionError as error:
        reason = told(" ".join(error.evalue.split())).rstrip(".")
        raise StudyError(
            f"{job.notebook.name} stopped with {error.ename}: {reason}. Look into {target}."
        ) from error
    except DeadKernelError as error:
        raise StudyError(
            f"{job.notebook.name} stopped, its kernel died: look into {target} and run again."
        ) from error
    undone = [run.label for run in job.plan.runs if compute and Store().result(run) is None]
    if undone or not table.exists() or table.stat().st_mtime_ns == before:
        raise StudyError(
            f"{job.notebook.name} ended without {undone[0] if undone else table}: look into"
            f" {target} and run again."
        )
    return target
