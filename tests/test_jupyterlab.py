"""A real JupyterLab in a real browser: the notebook runs from top to bottom and shows its figures."""

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

import pytest

from studylib.project import root

MINUTES = 60_000  # in milliseconds


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[str]:
    """The address of a JupyterLab on a copy of the notebooks, with a store of its own."""
    for name in ("notebooks", "params"):
        shutil.copytree(root() / name, tmp_path / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [f"--port={port}", "--no-browser", "--allow-root", "--IdentityProvider.token=", f"--ServerApp.root_dir={tmp_path}"]
    environment = os.environ | {"STUDY_HOME": str(tmp_path / "home"), "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], stdout=log, stderr=log, env=environment)
        try:
            _until_answered(f"http://127.0.0.1:{port}/api", server)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(timeout=60)


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
def test_a_notebook_runs_in_jupyterlab(lab: str, browser: Any, tmp_path: Path):
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.goto(f"{lab}/lab/tree/notebooks/capacity_gap.ipynb", timeout=2 * MINUTES)
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=2 * MINUTES)
    page.get_by_text("| Idle").first.wait_for(timeout=2 * MINUTES)  # before that a command to run is lost
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.locator(".jp-OutputArea-output img").nth(1).wait_for(state="attached", timeout=4 * MINUTES)
    drawn = page.evaluate("[...document.querySelectorAll('.jp-OutputArea-output img')].map((image) => image.naturalWidth)")
    assert len(drawn) == 2 and min(drawn) > 100
    page.locator(".jp-RenderedMarkdown >> text=/nothing is said|no claim without/").last.wait_for(state="attached", timeout=2 * MINUTES)
    assert "Traceback" not in page.content()
    assert page.locator(".widget-hprogress, .jupyter-widgets .progress").count() > 0, "bars are widgets here"
    assert (tmp_path / "figures" / "smoke" / "capacity_gap" / "retention.svg").is_file()
    page.close()
