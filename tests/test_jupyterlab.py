"""A real JupyterLab in a real browser: every notebook runs from top to bottom; bars are widgets,
figures are seen."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from patience import PATIENCE

from studylib.core.project import root

MINUTES = 60_000  # in milliseconds


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a JupyterLab on a copy of the notebooks, with a store of its own, and where
    the copy lies."""
    place = tmp_path_factory.mktemp("lab")
    for name in ("notebooks", "params", "figures/small"):
        shutil.copytree(
            root() / name, place / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints")
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        f"--port={port}",
        "--no-browser",
        "--allow-root",
        "--IdentityProvider.token=",
        f"--ServerApp.root_dir={place}",
    ]
    environment = os.environ | {
        "STUDY_HOME": str(place / "home"),
        "JUPYTER_CONFIG_DIR": str(place / "config"),
    }
    with (place / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], stdout=log, stderr=log, env=environment
        )
        try:
            _until_answered(f"http://127.0.0.1:{port}/api", server)
            yield f"http://127.0.0.1:{port}", place
        finally:
            server.terminate()
            server.wait(timeout=PATIENCE)


def _until_answered(address: str, server: subprocess.Popen) -> None:
    last = time.monotonic() + 120
    while server.poll() is None and time.monotonic() < last:
        try:
            urllib.request.urlopen(address, timeout=5)
        except OSError:
            time.sleep(0.5)
        else:
            return
    pytest.fail("JupyterLab did not answer")


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted(file.stem for file in (root() / "notebooks").glob("*.ipynb"))
)
def test_a_notebook_runs_in_jupyterlab(name: str, lab: tuple[str, Path], browser: Any):
    address, place = lab
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.goto(f"{address}/lab/tree/notebooks/{name}.ipynb?reset", timeout=2 * MINUTES)
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=2 * MINUTES)
    page.get_by_text("| Idle").first.wait_for(
        timeout=2 * MINUTES
    )  # before that a command to run is lost
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    outputs = _outputs(page, place / "notebooks" / f"{name}.ipynb")
    assert not [output for output in outputs if output.output_type == "error"]
    shown = [output.get("data", {}) for output in outputs]
    assert any("text/markdown" in data for data in shown)
    if name != "explore":
        assert any("image/png" in data for data in shown)
        page.locator(".jp-OutputArea-output img").first.scroll_into_view_if_needed(timeout=MINUTES)
        assert (
            page.evaluate("document.querySelector('.jp-OutputArea-output img').naturalWidth") > 100
        )
    if name != "report":
        assert any("application/vnd.jupyter.widget-view+json" in data for data in shown), (
            "bars and forms are widgets here"
        )
        assert page.locator(".jupyter-widgets").count() > 0
    page.close()


def _outputs(page: Any, file: Path) -> list[nbformat.NotebookNode]:
    """What all code cells show, as it is saved once the last of them has run."""
    last = time.monotonic() + 240
    while time.monotonic() < last:
        page.keyboard.press("Control+s")
        time.sleep(2)
        cells = [
            cell for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code"
        ]
        if all(cell.execution_count for cell in cells):
            return [output for cell in cells for output in cell.outputs]
    pytest.fail(f"{file.name} did not come to its end")
