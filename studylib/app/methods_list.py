"""The methods as a table: what each is, where it is from, and what it decides itself.

print(table())
"""

import inspect
import re
import sys
from collections.abc import Mapping

import pandas as pd

from studylib.analysis import tables
from studylib.methods import stages
from studylib.methods.base import Method

DECISIONS = {
    "data": "examples",
    "student": "student",
    "batch": "rows of a step",
    "loss": "loss",
    "update": "state",
    "answer": "answering",
}
GAIN = "F1 minus control in `small`"
PAPER = re.compile(r"^(?P<name>.+?)\.\s\s(?P<paper>.+?)(?:;|\n\n)", re.DOTALL)


def table(gains: Mapping[str, str] | None = None, test_set: str = "") -> str:
    """Markdown, a line per method with a link to its file: paper, what it is, what it decides, and
    its `gains` in `small` on a test set, by name, if there are any."""
    lines = []
    for name, method in stages.known().items():
        header = PAPER.match(inspect.getdoc(sys.modules[method.__module__]) or "")
        assert header, f"{name}: its header names a paper"
        what, paper = (" ".join(part.split()) for part in header.groups())
        lines.append(
            {
                "method": f"[`{name}`]({name}.py)",
                "paper": paper,
                "what": what,
                "decides": decided(method),
                **({f"{GAIN}, {test_set}": gains.get(name, "–")} if gains else {}),
            }
        )
    return tables.markdown(pd.DataFrame(lines)) + "\n"


def overview() -> str:
    """Markdown, the names of all methods by what they decide, the simplest first."""
    groups: dict[str, list[str]] = {}
    for name, method in stages.known().items():
        groups.setdefault(decided(method), []).append(f"`{name}`")
    lines = [
        {"what differs": what, "methods": ", ".join(groups[what])}
        for what in sorted(groups, key=lambda words: (words.count(","), words))
    ]
    return tables.markdown(pd.DataFrame(lines)) + "\n"


def decided(method: type[Method]) -> str:
    """What it decides otherwise than the default does."""
    return ", ".join(words for hook, words in DECISIONS.items() if method.overrides(hook))
