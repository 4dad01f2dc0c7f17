"""What the pages of the project show of results, from what is committed under figures/.

python -m studylib.app.readme     writes them anew
"""

import json
import re
from pathlib import Path

from studylib.app import methods_list, study
from studylib.bench import speed
from studylib.core.errors import StudyError
from studylib.core.project import root
from studylib.experiments.experiments import EXPERIMENTS


def pages() -> dict[Path, dict[str, str]]:
    """The results that each page shows, by name: answers, conclusions of the experiments in
    `small` (each with its headline table if it has one), the bench's table."""
    measured = json.loads((root() / "figures" / "bench.json").read_text(encoding="utf-8"))
    folders = {name: study.folder("small", name) for name in EXPERIMENTS}
    folders = {name: folder for name, folder in folders.items() if folder.exists()}
    answers = {f"answer of {name}": _text(folder, "answer") for name, folder in folders.items()}
    results = {name: _text(folder, "conclusion", "headline") for name, folder in folders.items()}
    return {
        root() / "README.md": answers,
        root() / "figures" / "small" / "README.md": results,
        root() / "studylib" / "bench" / "README.md": {"bench": speed.table(measured)},
        root() / "studylib" / "methods" / "README.md": {"methods": methods_list.table()},
    }


def filled(page: Path, text: str, results: dict[str, str]) -> str:
    """A page's text with these results between `<!-- name -->` and `<!-- /name -->`. Raises
    StudyError where such marks are missing."""
    for name, result in results.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        shown = f"{begin}{result}{end}".replace("\\", r"\\")
        text, count = re.subn(f"{begin}.*?{end}", shown, text, flags=re.DOTALL)
        if count != 1:
            raise StudyError(
                f"{page} has {count} places between {begin.strip()} and {end}: it must have one."
            )
    return text


def _text(folder: Path, *names: str) -> str:
    """These texts of an experiment, as far as it has them."""
    files = [file for name in names if (file := folder / f"{name}.md").exists()]
    return "\n\n".join(file.read_text(encoding="utf-8").strip() for file in files) + "\n"


if __name__ == "__main__":
    for page, results in pages().items():
        page.write_text(filled(page, page.read_text(encoding="utf-8"), results), encoding="utf-8")
