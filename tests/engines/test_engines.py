"""Engines: the plan as a graph, and the same bits by whichever of them."""

import json
import math
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from miniatures import SETTINGS, planned
from patience import PATIENCE

from studylib.app import cli, notebooks, study, time_budget
from studylib.core.errors import StudyError
from studylib.core.machine import Machine
from studylib.engines import clusters, engines
from studylib.runs import kinds
from studylib.store.run import Run
from studylib.store.store import Store

MACHINE = Machine(threads=SETTINGS["threads"])


def number(name: str, **needs: Run) -> Run:
    """A run that is nothing but its place in the graph."""
    return Run("number", {"name": name}, needs, label=name)


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch):
    """a, two that need it, one that needs these, one that needs nothing; and what makes them, which
    notes the order and fails at `b`."""
    a, alone = number("a"), number("alone")
    b, c = number("b", a=a), number("c", a=a)
    d = number("d", b=b, c=c)
    labels: list[str] = []

    def make(run: Run, folder: Path) -> dict:
        if run.label == "b" and "b" in failing:
            raise failing["b"]
        labels.append(run.label)
        (folder / "value.txt").write_text(run.label)
        return {}

    failing: dict[str, Exception] = {}
    monkeypatch.setattr(kinds, "make", lambda store, progress: make)
    return [a, b, c, d, alone, number("d", b=b, c=c)], labels, failing


@pytest.mark.parametrize("pool", [engines.Here(), ThreadPoolExecutor(4)], ids=["here", "threads"])
def test_every_run_is_made_once_after_all_that_it_needs(graph, pool, tmp_path):
    runs, labels, _ = graph
    reports: list[str] = []
    store = Store(tmp_path)
    engines.complete(runs, store, MACHINE, pool, lambda run: reports.append(run.label))
    assert sorted(labels) == sorted(reports) == ["a", "alone", "b", "c", "d"]
    assert reports.index("a") < min(reports.index("b"), reports.index("c"))
    assert labels.index("d") > max(labels.index("b"), labels.index("c"))
    engines.complete(runs, store, MACHINE, pool, lambda run: pytest.fail("made twice"))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (StudyError("The cat\n sat on it."), r"b \(The cat\\n sat on it\)"),
        (ValueError("odd"), r"b \(ValueError: odd\)"),
    ],
)
def test_a_failed_run_stops_those_that_need_it_alone_and_is_named(graph, error, message, tmp_path):
    runs, labels, failing = graph
    failing["b"] = error
    store = Store(tmp_path)
    with pytest.raises(StudyError, match=message + "; 1 runs that need it were not tried"):
        engines.complete(runs, store, MACHINE, engines.Here(), lambda run: None)
    assert set(labels) == {"a", "c", "alone"}
    assert "in make" in json.loads((store.folder(runs[1]) / "error.json").read_text())["traceback"]
    failing.clear()
    engines.complete(runs, store, MACHINE, engines.Here(), lambda run: None)
    assert {store.state(run)[0] for run in runs} == {"done"}


def test_what_is_ready_goes_out_at_once(graph, tmp_path):
    """Before anything has come back, all that need nothing are on their way, and nothing else."""
    runs, _, _ = graph
    sent: list[str] = []

    class Slow(ThreadPoolExecutor):
        def submit(self, task, /, *args, **kwargs) -> Future:
            sent.append(task.run.label)
            if len(sent) == 2:
                arrived.set()

            def begin() -> object:
                assert arrived.wait(PATIENCE)
                return task()

            return super().submit(begin)

    arrived = threading.Event()
    engines.complete(runs, Store(tmp_path), MACHINE, Slow(4), lambda run: None)
    assert set(sent[:2]) == {"a", "alone"} and set(sent[2:4]) == {"b", "c"} and sent[4:] == ["d"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine": "sge"}, "machine.engine must be 'local', 'ray' or 'slurm', not 'sge'"),
        ({"engine_options": {"speed": 2}}, "local has no option 'speed': it knows workers"),
        ({"engine_options": {"workers": 0}}, "workers must be a whole number of at least 1, not 0"),
        ({"device": "tpu"}, "machine.device must be 'auto', 'cpu' or 'cuda', not 'tpu'"),
        (
            {"engine": "ray", "engine_options": {"address": "ray://elsewhere:10001"}},
            "address must be auto: set RAY_ADDRESS",
        ),
        (
            {"engine": "slurm", "engine_options": {"slurm_setup": ["touch x"]}},
            "slurm_setup must be a number or one line of text, and no command",
        ),
        (
            {"engine": "slurm", "engine_options": {"cluster": "local", "local_setup": "w"}},
            "local_setup must be a number or one line of text",
        ),
        (
            {"engine": "slurm", "engine_options": {"slurm_teardown": "w"}},
            "slurm_teardown must be a number or one line of text",
        ),
        (
            {"engine": "slurm", "engine_options": {"slurm_partition": "gpu\ntouch x #"}},
            "slurm_partition must be a number or one line",
        ),
        (
            {"engine": "slurm", "engine_options": {"comment\ntouch x #": 1}},
            "must be a number or one line",
        ),
        (
            {"engine": "slurm", "engine_options": {"additional_parameters": {"a": "b"}}},
            "additional_parameters must be a number",
        ),
        (
            {"engine": "ray", "engine_options": {"adress": "auto"}},
            "ray has no option 'adress': it knows address, retries",
        ),
    ],
)
def test_engines_that_cannot_be_are_refused_before_anything_starts(
    changes, message, tmp_path, capsys
):
    (tmp_path / "capacity_gap.yaml").write_text(
        json.dumps({"profile": "refused", "machine": changes})
    )
    assert cli.main(["run", str(tmp_path / "capacity_gap.yaml")]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.glob("home/runs/*"))


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(StudyError, match=r"engine ray needs ray: pip install -e '\.\[ray\]'"):
        engines.check(Machine(**vars(MACHINE) | {"engine": "ray"}))


def test_every_group_of_gpus_is_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(engines.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(engines.torch.cuda, "device_count", lambda: 5)
    monkeypatch.setattr(engines, "Processes", lambda *given: given)
    assert engines._local(Machine(**vars(MACHINE) | {"processes": 2})) == (2, ["0,1", "2,3"])
    assert engines._local(MACHINE) == (5, ["0", "1", "2", "3", "4"])
    assert isinstance(engines._local(Machine(**vars(MACHINE) | {"device": "cpu"})), engines.Here)
    with pytest.raises(StudyError, match="6 workers need as many groups of 1 GPUs: there are 5"):
        engines._local(MACHINE, workers=6)


def test_notebooks_of_one_machine_share_its_processes(monkeypatch):
    left: list[str] = []

    class Left(engines.Here):
        def shutdown(self, *_, **__):
            left.append("left")

    monkeypatch.setattr(engines, "_local", lambda machine, **_: Left())
    with engines.Pools() as pools:
        first = pools.of(MACHINE)
        assert pools.of(Machine(**vars(MACHINE))) is first and not left
        second = pools.of(Machine(**vars(MACHINE) | {"threads": 7}))
        assert second is not first and left == ["left"]
        pools.leave()
        assert pools.of(Machine(**vars(MACHINE) | {"threads": 7})) is not second
        assert left == ["left"] * 2
    assert left == ["left"] * 3


@pytest.mark.parametrize(
    ("changes", "workers"),
    [
        ({}, 1),
        ({"engine_options": {"workers": 3}}, 3),
        ({"engine": "ray", "engine_options": {"workers": 3}}, 1),
    ],
)
def test_time_is_expected_by_the_processes_that_were_asked_for(changes, workers, raw, monkeypatch):
    plan = planned(raw, sizes=[3], from_base=[])
    monkeypatch.setattr(time_budget, "calibrated", lambda *_: time_budget.Pace(6.0, math.inf))
    plan.machine = Machine(**vars(MACHINE) | changes)
    expected = 6.0 * len(plan.runs) / workers
    assert time_budget.seconds(plan, plan.runs) == pytest.approx(expected)


def digests(plan, store: Store) -> dict[str, str]:
    """What every run made, but for those that measure time."""
    return {run.planned: store.result(run)["digest"] for run in plan.runs if run.kind != "cost"}


def by(plan, root: Path, engine: str, options: dict) -> tuple[dict, object, set]:
    """A plan completed by an engine: what every run made, the rows, and the numbers of threads that
    the manifests name."""
    plan.machine = Machine(**vars(plan.machine) | {"engine": engine, "engine_options": options})
    store = Store(root)
    study.complete(plan, store)
    threads = {
        json.loads((store.folder(run) / "manifest.json").read_text())["threads"]
        for run in plan.runs
    }
    return digests(plan, store), study.rows(plan, store), threads


@pytest.fixture(scope="module")
def here(raw, tmp_path_factory):
    """The miniature study by this process."""
    return by(
        planned(raw, sizes=[3], from_base=[]),
        tmp_path_factory.mktemp("here"),
        "local",
        {},
    )


@pytest.mark.slow
def test_two_processes_make_the_same_bits(here, raw, tmp_path):
    results, rows, threads = by(
        planned(raw, sizes=[3], from_base=[]), tmp_path, "local", {"workers": 2}
    )
    assert results == here[0] and threads == {1}
    assert rows.equals(here[1])


def test_a_run_whose_process_dies_every_time_fails_by_name(graph, tmp_path):
    runs, labels, _ = graph

    class Deadly(engines.Here):
        def submit(self, task, /, *args, **kwargs) -> Future:
            if task.run.label != "b":
                return super().submit(task)
            died.append(task)
            future: Future = Future()
            future.set_exception(engines.BrokenProcessPool("gone"))
            return future

    died: list = []
    with pytest.raises(
        StudyError,
        match=r"b \(its process died: the system ends one that takes more memory than there is",
    ):
        engines.complete(runs, Store(tmp_path), MACHINE, Deadly(), lambda run: None)
    assert set(labels) == {"a", "c", "alone"} and len(died) == engines.TRIES


def smoke():
    """The plan of the smoke profile's first notebook, in a thread a run: more workers than
    processors would wait for each other."""
    plan = notebooks.jobs("smoke")[0].plan
    plan.machine = Machine(**vars(plan.machine) | {"threads": 1})
    return plan


@pytest.fixture(scope="module")
def smoked(tmp_path_factory):
    """That plan by this process."""
    return by(smoke(), tmp_path_factory.mktemp("smoke"), "local", {})


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_three_nodes_make_the_same_bits_while_one_is_killed(smoked, tmp_path):
    ray = pytest.importorskip("ray", reason="needs Ray: pip install -e '.[ray]'")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
    killed: list[float] = []

    def kill() -> None:
        while not list(tmp_path.glob("runs/teacher/*/manifest.json")):  # something is going on
            time.sleep(0.05)
        cluster.remove_node(nodes[1], allow_graceful=False)
        killed.append(time.monotonic())

    watcher = threading.Thread(target=kill)
    watcher.start()
    try:
        results, rows, threads = by(smoke(), tmp_path, "ray", {"address": "auto"})
        watcher.join()
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert killed and results == smoked[0] and rows.equals(smoked[1]) and threads == {1}


def test_a_job_that_slurm_takes_back_is_submitted_again_as_it_was(graph, tmp_path):
    submitit = pytest.importorskip("submitit", reason="needs submitit: pip install -e '.[slurm]'")
    several = clusters.Several([engines.Task(run, tmp_path, MACHINE) for run in graph[0][:1]])
    again = several.checkpoint()
    assert isinstance(again, submitit.helpers.DelayedSubmission) and again.function is several


def test_a_task_that_fails_does_not_stop_the_others_of_its_job():
    def fail() -> None:
        raise StudyError("no")

    first, second = clusters.Several([fail, lambda: None])()
    assert isinstance(first, StudyError) and second is None


@pytest.mark.slurm
def test_submitit_makes_the_same_bits(smoked, tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason="needs submitit: pip install -e '.[slurm]'")
    monkeypatch.setenv("STUDY_HOME", str(tmp_path))
    results, rows, threads = by(
        smoke(), tmp_path, "slurm", {"cluster": "local", "jobs": 2, "timeout_min": 30}
    )
    assert results == smoked[0] and rows.equals(smoked[1]) and threads == {1}
    assert list(tmp_path.glob("slurm/*_submitted.pkl"))
