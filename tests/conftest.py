"""What the tests share: a home of their own, SQuAD-format content, a small web server on this
machine."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, settings
from refusals import SMALL, check_refusal, exported

HUB = TemporaryDirectory()
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": HUB.name}
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # NumPy's, in processes that are begun from here
import_module("huggingface_hub.constants")  # where HF_HOME is read, once
LONGEST = [  # in the order in which they begin
    "test_kills.py",
    "capacity_gap.ipynb",
    "test_every_method.py",
    "test_notebooks.py",
]

SLOW_NOTEBOOKS = ("teacher_choice.ipynb", "prompting_mode.ipynb", "methods.ipynb")


def pytest_configure(config: pytest.Config) -> None:
    """A home for the notebooks that are run as tests, which fixtures do not reach; and no hub, for
    anyone, but an empty cache of it. Where several processes share the tests, they share that home,
    and each computes in one thread. Properties are tried on the same examples each time, and none
    is timed."""
    settings.register_profile(
        "repeatable",
        derandomize=True,
        deadline=None,
        max_examples=50,
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("repeatable")
    if hasattr(config, "workerinput"):
        os.environ |= {
            "OMP_NUM_THREADS": "1",
            "OMP_THREAD_LIMIT": "1",  # whatever a notebook asks for: two would wait for each other
            "OMP_WAIT_POLICY": "PASSIVE",
        }
    elif config.option.markexpr != "small":
        place = TemporaryDirectory()
        config.add_cleanup(place.cleanup)
        os.environ["STUDY_HOME"] = place.name
    config.option.loadscopereorder = False  # xdist's own order is by the number of tests
    config.add_cleanup(HUB.cleanup)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest begin first, so that none is left to a process alone in the end.
    Other notebooks go on from what the first has computed; some of them are slow tests."""
    for item in items:
        if item.path.name in SLOW_NOTEBOOKS:
            item.add_marker("slow")
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(
        key=lambda item: order.get(item.path.name, len(order) + (item.path.suffix != ".ipynb"))
    )


@pytest.fixture(autouse=True)
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """STUDY_HOME of this test alone; tests marked `small` keep the user's, where the archives are.
    No proxy is asked."""
    if request.node.get_closest_marker("small") is None:
        monkeypatch.setenv("STUDY_HOME", str(tmp_path / "home"))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    return tmp_path / "home"


@pytest.fixture
def squad() -> dict:
    """A sound SQuAD file's content: one article, one paragraph, two questions."""
    qas = [
        {
            "id": "q1",
            "question": "Where does Kamo live?",
            "answers": [{"text": "Tiru", "answer_start": 14}],
        },
        {
            "id": "q2",
            "question": "What did Belu write?",
            "answers": [{"text": "Sado", "answer_start": 31}],
        },
    ]
    return {
        "data": [
            {
                "title": "Kamo",
                "paragraphs": [{"context": "Kamo lives in Tiru. Belu wrote Sado.", "qas": qas}],
            }
        ]
    }


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Writes a value as JSON into a file of its own and returns where."""

    def write(content: object, name: str = "mine.json") -> Path:
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
        return tmp_path / name

    return write


@pytest.fixture
def params_file(tmp_path: Path) -> Callable[..., str]:
    """Writes a YAML named after its notebook, like SMALL but for the changes, each in its group,
    and returns its path."""
    from miniatures import grouped

    def write(**changes: object) -> str:
        path = tmp_path / "capacity_gap.yaml"
        path.write_text(yaml.safe_dump(grouped(SMALL | changes)), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def refused(capsys: pytest.CaptureFixture, home: Path) -> Callable[..., str]:
    """Runs a command that must be refused, and returns the sentence."""
    from studylib.app.cli import main

    def run(*arguments: str) -> str:
        before = exported()
        code = main(arguments)
        output = capsys.readouterr()
        check_refusal(code, output.out, output.err, home)
        assert exported() == before
        return output.err

    return run


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address under which this machine serves it."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder)) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A reference to a random model of four layers."""
    from miniatures import model, tokenizer

    from studylib.models import loading

    folder = tmp_path_factory.mktemp("base")
    loading.save(model("llama"), tokenizer(), folder)
    return f"path:{folder}"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium, where it is installed."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs Playwright: pip install -e '.[browser]'"
    )
    program = shutil.which("chromium") or pytest.skip("needs Chromium: apt install chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()
