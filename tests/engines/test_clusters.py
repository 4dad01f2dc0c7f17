"""Clusters that refuse, lose or lack what is asked of them: every wait has an end and a
sentence."""

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from test_engines import graph  # noqa: F401  (a fixture)

from studylib.core.errors import StudyError
from studylib.core.machine import Machine
from studylib.engines import clusters, engines
from studylib.store.store import Store


def machine(engine: str, threads: int = 1, **options: object) -> Machine:
    return Machine(engine=engine, engine_options=options, threads=threads)


def complete(runs: list, root: Path, chosen: Machine) -> None:
    with engines.opened(chosen) as pool:
        engines.complete(runs, Store(root), chosen, pool, lambda run: None)


class Job:
    """One that ends in an error of the scheduler's when it is looked at, or is done without one."""

    def __init__(self, error: Exception | None = None):
        self.error, self.job_id, self.state = error, "7", "UNKNOWN"

    def done(self) -> bool:
        if self.error is not None:
            raise self.error
        return False

    def cancel(self, check: bool = True) -> None:
        pass


@pytest.fixture
def submitit(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A stand-in for submitit, whose `submit` can be replaced."""
    given = SimpleNamespace(submit=lambda task: Job())

    class AutoExecutor:
        def __init__(self, folder: Path, cluster: str):
            self.folder = folder

        def update_parameters(self, **parameters: object) -> None:
            pass

        def batch(self) -> nullcontext:
            return nullcontext()

        def submit(self, task: Callable) -> Job:
            return given.submit(task)

    module = ModuleType("submitit")
    module.AutoExecutor, module.Job = AutoExecutor, Job
    monkeypatch.setitem(sys.modules, "submitit", module)
    monkeypatch.setattr(engines, "find_spec", lambda name: True)
    monkeypatch.setattr(clusters, "SECONDS", 0.01)
    return given


def test_a_scheduler_that_refuses_jobs_ends_the_study(graph, submitit, tmp_path):  # noqa: F811
    def refuse(task: Callable) -> Job:
        raise RuntimeError(
            "sbatch: error: invalid partition specified: gpu\nCommand line: sbatch x.sh"
        )

    submitit.submit = refuse
    with pytest.raises(
        StudyError, match=r"^engine slurm: sbatch: error: invalid partition specified: gpu: see "
    ):
        complete(graph[0], tmp_path, machine("slurm"))


def test_a_scheduler_that_fails_between_jobs_ends_it_all(graph, submitit, tmp_path):  # noqa: F811
    submitit.submit = lambda task: Job(OSError("no more processes"))
    with pytest.raises(StudyError, match=r"^engine slurm: no more processes: see "):
        complete(graph[0], tmp_path, machine("slurm"))


def test_what_is_submitted_after_a_failure_fails_at_once(submitit):
    submitit.submit = lambda task: Job(OSError("gone"))
    pool = clusters.Slurm(machine("slurm"))
    assert "gone" in str(pool.submit(print).exception(60))
    assert pool.submit(print).done()


@pytest.mark.parametrize("listed", [True, False])
def test_a_job_that_slurm_does_not_know_is_given_up(listed, submitit, monkeypatch):
    """Unless `squeue` lists it: a cluster may keep no accounts."""
    queries: list[str] = []
    monkeypatch.setattr(clusters, "LOST", 0.0)
    monkeypatch.setattr(
        clusters, "_queued", lambda job: listed and len(queries) < 3 and not queries.append(job)
    )
    pool = clusters.Slurm(machine("slurm"))
    sentence = str(pool.submit(print).exception(60))
    assert sentence.startswith(
        "engine slurm: job 7 left no result, and Slurm has not known it for 0 minutes: see "
    )
    assert queries == ["7"] * (3 if listed else 0)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts Slurm's commands, given as shell scripts, first on the path."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")

    def write(**scripts: str) -> None:
        for name, script in scripts.items():
            (place / name).write_text(f"#!/bin/sh\n{script}\n")
            (place / name).chmod(0o755)

    return write


def test_an_sbatch_that_refuses_is_quoted(graph, commands, tmp_path):  # noqa: F811
    pytest.importorskip("submitit", reason="needs submitit: pip install -e '.[slurm]'")
    commands(
        srun="exit 0", sbatch="echo 'sbatch: error: invalid account' >&2; exit 1", scancel="exit 0"
    )
    with pytest.raises(StudyError, match="engine slurm: sbatch: error: invalid account"):
        complete(graph[0], tmp_path, machine("slurm"))


def test_a_job_that_never_was_is_given_up(graph, commands, tmp_path, monkeypatch):  # noqa: F811
    pytest.importorskip("submitit", reason="needs submitit: pip install -e '.[slurm]'")
    monkeypatch.setattr(clusters, "LOST", 0.0)
    commands(
        srun="exit 0",
        sbatch="echo Submitted batch job 11",
        sacct="exit 1",
        squeue="exit 1",
        scancel="exit 0",
    )
    with pytest.raises(StudyError, match=r"engine slurm: job 11(_0)? left no result"):
        complete(graph[0], tmp_path, machine("slurm"))


@pytest.mark.parametrize(
    ("address", "whose"), [("127.0.0.1:1", "RAY_ADDRESS 127.0.0.1:1"), (None, "`address: auto`")]
)
def test_a_ray_cluster_that_is_not_there_is_named(address, whose, monkeypatch):
    """Whether Ray is installed or not: joining is tried by a process of its own, which is given
    up."""
    monkeypatch.setattr(clusters, "CLUSTER_SECONDS", 10.0)
    (
        monkeypatch.setenv("RAY_ADDRESS", address)
        if address
        else monkeypatch.delenv("RAY_ADDRESS", raising=False)
    )
    with pytest.raises(
        StudyError,
        match=f"engine ray: there is no cluster at {whose}: begin one by `ray start --head`",
    ):
        clusters._check_cluster("auto" if address is None else None)


def test_a_cluster_without_a_node_for_a_run_is_waited_for_with_an_end(monkeypatch, capsys):
    nodes = [
        {"Alive": True, "Resources": {"CPU": 2.0}},
        {"Alive": False, "Resources": {"CPU": 8.0}},
    ]
    ray = SimpleNamespace(nodes=lambda: nodes)
    monkeypatch.setattr(clusters, "SECONDS", 0.0)
    clusters._wait_for_node(ray, {"CPU": 2, "GPU": 0}, 0)
    with pytest.raises(
        StudyError, match="the cluster has no node with 4 processors and 0 GPUs: lower `threads`"
    ):
        clusters._wait_for_node(ray, {"CPU": 4, "GPU": 0}, 0)
    monkeypatch.setattr(clusters.time, "sleep", lambda seconds: nodes[1].update(Alive=True))
    clusters._wait_for_node(ray, {"CPU": 4, "GPU": 0}, 600)
    assert (
        "no node with 4 processors and 0 GPUs yet: waiting up to 10 minutes"
        in capsys.readouterr().out
    )
