"""A study that is killed, terminated or hung up leaves no process behind, whoever computes for
it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from launcher import TORCHRUN
from patience import PATIENCE
from small import VICTIM, prepare

pytestmark = pytest.mark.faults

ENDLESS = {"teacher_steps": 10**5, "seeds": [0, 1]}  # steps of which the first few are seen
# where tests run under nohup, children would not hear it
HEARING = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); "
STUDY = [
    "-c",
    f"{HEARING}import sys; from studylib.app.cli import main; sys.exit(main(sys.argv[1:]))",
    "run",
]
WORKERS = {"engine_options": {"workers": 2}}


def wait_for(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    """Wait until it holds, as long as the process lives."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, "the study ended by itself"
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.1)


def check_nothing_is_left(folder: Path, command: list[str], number: int, runs: int) -> None:
    """Begin the study, send it the signal when so many runs are being made, and wait until all its
    processes are gone."""
    around = os.environ | {
        "STUDY_HOME": str(folder / "home"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(VICTIM.parents[2]),
    }
    with (folder / "said").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env=around,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    children: list[psutil.Process] = []
    try:
        wait_for(
            lambda: len(list(folder.glob("home/runs/teacher/*/manifest.json"))) >= runs, process
        )
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2, (folder / "said").read_text()
        process.send_signal(number)
        _, alive = psutil.wait_procs(children, timeout=PATIENCE)
        assert alive == []
        assert process.wait(PATIENCE) != 0
    finally:
        for left in (process, *children):
            if psutil.pid_exists(left.pid):
                left.kill()
        process.wait()


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name
)
def test_workers_end_with_the_study(number: int, tmp_path: Path):
    folder = prepare(tmp_path / "study", **ENDLESS | WORKERS)
    check_nothing_is_left(folder, [*STUDY, "capacity_gap.yaml"], number, runs=2)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_processes_that_share_a_run_end_with_the_study(number: int, tmp_path: Path):
    folder = prepare(tmp_path / "study", **ENDLESS | {"processes": 2})
    check_nothing_is_left(folder, [*STUDY, "capacity_gap.yaml"], number, runs=1)


def test_processes_of_torchrun_end_with_it(tmp_path: Path):
    folder = prepare(tmp_path / "study", **ENDLESS)
    check_nothing_is_left(
        folder,
        [*TORCHRUN, "-m", "studylib.app.worker", "capacity_gap.yaml", "gpt_neox s0 teacher"],
        signal.SIGKILL,
        runs=1,
    )
