"""What every refusal of the command line has in common, and parameters that would not be
refused."""

from pathlib import Path

from studylib.core import project
from studylib.core.errors import LONGEST

SMALL = {
    "profile": "refused",
    "families": {"gpt_neox": "tiny:gpt_neox"},
    "train": {"source": "facts:train", "paragraphs": 4, "facts": 2},
    "dev": {"source": "facts:dev", "paragraphs": 2, "facts": 2},
    "tests": {"near": {"source": "facts:test", "paragraphs": 2, "facts": 2}},
    "eval_prompts": ["zero-shot"],
    "sizes": [4],
    "from_base": [],
    "batch_size": 2,
    "threads": 1,
}


def exported() -> set[Path]:
    """What lies in figures/, but for what notebooks write there that are run as tests at the same
    time."""
    places = (project.root() / "figures").glob("*/*")
    return {
        place
        for place in places
        if place.parent.name != "smoke" and not place.parent.name.startswith("test-")
    }


def check_refusal(code: int, out: str, err: str, home: Path) -> None:
    """Exit code 2 and one sentence that can be read at a glance; no traceback, nothing computed or
    shown."""
    assert code == 2
    assert err.startswith("study: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert len(err) < LONGEST + 200
    assert "Traceback" not in out
    assert not (home / "runs").exists()
    assert not (project.root() / "figures" / SMALL["profile"]).exists()
