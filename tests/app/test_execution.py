"""Notebooks executed by papermill: by which interpreter, where, side by side, and stopped."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import nbformat
import papermill
import psutil
import pytest
from filelock import FileLock, Timeout
from nbformat.v4 import new_code_cell, new_notebook

from studylib.app import execution, notebooks
from studylib.app.notebooks import Job
from studylib.core import project
from studylib.core.errors import StudyError
from studylib.store.store import Store

METADATA = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python"},
}


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Job]:
    """Makes a notebook of one cell that may write its table; it has a folder of its own."""
    monkeypatch.setattr(project, "figures_folder", lambda profile, notebook: tmp_path / notebook)

    def make(name: str, source: str) -> Job:
        place = tmp_path / name
        place.mkdir()
        cells = [
            new_code_cell("compute = True", metadata={"tags": ["parameters"]}),
            new_code_cell(f"table = {str(place / 'table.md')!r}\n{source}"),
        ]
        nbformat.write(new_notebook(cells=cells, metadata=METADATA), place / f"{name}.ipynb")
        return Job(place / f"{name}.ipynb", "test-execution", {}, SimpleNamespace(runs=[]))

    return make


def test_a_notebook_that_seems_complete_but_left_no_table_is_not_believed(tmp_path, monkeypatch):
    """As after a kernel that was killed: papermill returns, and nothing was written."""
    (tmp_path / "capacity_gap.yaml").write_text("profile: test-dead\n")
    (job,) = notebooks.jobs(str(tmp_path / "capacity_gap.yaml"))
    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: None)
    with pytest.raises(StudyError, match="ended without gpt_neox s0 teacher"):
        execution.execute(job)
    monkeypatch.setattr(Store, "result", lambda *_: {})
    with pytest.raises(StudyError, match=r"ended without .*table\.md"):
        execution.execute(job)


def test_a_notebook_is_executed_by_the_interpreter_that_runs(
    notebook: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
):
    """Another environment's kernel of the same name may come first on Jupyter's path."""
    other = tmp_path / "jupyter" / "kernels" / "python3"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text(
        json.dumps({"argv": ["/bin/false"], "display_name": "Other", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    job = notebook("mine", "import sys\nopen(table, 'w').write(sys.executable)")
    execution.execute(job)
    assert (job.folder / "table.md").read_text() == sys.executable
    assert "without encryption" not in capfd.readouterr().err


@pytest.mark.slow
def test_notebooks_side_by_side_are_each_in_their_folder(notebook: Callable):
    """Each waits for what the other writes: one after the other, neither would end."""
    source = (
        "import os, time\nopen('begun', 'w').close()\n"
        "while not os.path.exists('../{}/begun'): time.sleep(0.01)\n"
        "open(table, 'w').write(os.getcwd())"
    )
    jobs = [notebook("left", source.format("right")), notebook("right", source.format("left"))]
    before = Path.cwd()
    with execution.side_by_side() as begin:
        for begun in [begin(job, False) for job in jobs]:
            begun.result()
    for job in jobs:
        assert (job.folder / "table.md").read_text() == str(job.notebook.parent)
    assert Path.cwd() == before


def test_notebooks_that_go_on_are_stopped(notebook: Callable):
    """As by Ctrl-C: of three endless ones two are executed, and one waits."""
    source = (
        "import os, time\nopen('process', 'w').write(str(os.getpid()))\nopen(table, 'w').close()\n"
        "while True: time.sleep(0.01)"
    )
    jobs = [notebook(name, source) for name in ("first", "second", "third")]
    with pytest.raises(KeyboardInterrupt), execution.side_by_side() as begin:
        begun = [begin(job, False) for job in jobs]
        while not all((job.folder / "table.md").exists() for job in jobs[:2]):
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert all(isinstance(future.exception(), StudyError) for future in begun[:2])
    assert begun[2].cancelled() and not (jobs[2].folder / "table.md").exists()
    for job in jobs[:2]:
        process = int((job.folder / "process").read_text())
        assert not psutil.pid_exists(process) or psutil.Process(process).status() == "zombie"


def test_one_that_waits_for_another_process_is_stopped_too(notebook: Callable):
    job = notebook("locked", "open(table, 'w').close()")
    job.executed.parent.mkdir(parents=True)
    with (
        FileLock(job.executed.with_suffix(".lock")),
        pytest.raises(KeyboardInterrupt),
        execution.side_by_side() as begin,
    ):
        begun = begin(job, False)
        while not begun.running():
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert isinstance(begun.exception(), Timeout) and not (job.folder / "table.md").exists()


def test_numpy_has_one_thread_in_a_notebook(notebook: Callable, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    job = notebook("mine", "import os\nopen(table, 'w').write(os.environ['OPENBLAS_NUM_THREADS'])")
    execution.execute(job)
    assert (job.folder / "table.md").read_text() == "1"
