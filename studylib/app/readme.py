"""What the README shows of results, from what is committed under figures/.

python -m studylib.app.readme     writes it anew
"""

import json
import re
from pathlib import Path

from studylib.app import study
from studylib.bench import speed
from studylib.core.errors import StudyError
from studylib.core.project import root
from studylib.experiments.experiments import EXPERIMENTS

FILE = root() / "README.md"


def filled(text: str) -> str:
    """The README with the results between `<!-- name -->` and `<!-- /name -->`: of an experiment in `small`, or of the bench.

    Raises StudyError where such a pair of marks is missing.
    """
    for name, result in _results().items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        shown = f"{begin}{result}{end}".replace("\\", r"\\")
        text, count = re.subn(f"{begin}.*?{end}", shown, text, flags=re.DOTALL)
        if count != 1:
            raise StudyError(f"{FILE} has {count} places between {begin.strip()} and {end}: it must have one.")
    return text


def _results() -> dict[str, str]:
    measured = json.loads((root() / "figures" / "bench.json").read_text(encoding="utf-8"))
    folders = {name: folder for name in EXPERIMENTS if (folder := study.folder("small", name)).exists()}
    answers = {f"answer of {name}": (folder / "answer.md").read_text(encoding="utf-8") for name, folder in folders.items()}
    return answers | {name: _found(folder) for name, folder in folders.items()} | {"bench": speed.table(measured)}


def _found(folder: Path) -> str:
    """An experiment's conclusion, and its headline table if it has one."""
    files = [file for name in ("conclusion", "headline") if (file := folder / f"{name}.md").exists()]
    return "\n\n".join(file.read_text(encoding="utf-8").strip() for file in files) + "\n"


if __name__ == "__main__":
    FILE.write_text(filled(FILE.read_text(encoding="utf-8")), encoding="utf-8")
