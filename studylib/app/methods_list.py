"""The methods as a table: what each is, where it is from, and what it decides itself.

print(table())
"""

import inspect
import re
import sys

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
PAPER = re.compile(r"^(?P<name>.+?)\.\s\s(?P<paper>.+?)(?:;|\n\n)", re.DOTALL)


def table() -> str:
    """Markdown, a line per method."""
    lines = ["| method | what | paper | decides |", "| --- | --- | --- | --- |"]
    for name, method in stages.known().items():
        header = PAPER.match(inspect.getdoc(sys.modules[method.__module__]) or "")
        assert header, f"{name}: its header names a paper"
        what, paper = (" ".join(part.split()) for part in header.groups())
        lines.append(f"| [`{name}`]({name}.py) | {what} | {paper} | {decided(method)} |")
    return "\n".join(lines) + "\n"


def decided(method: type[Method]) -> str:
    """What it decides otherwise than the default does."""
    return ", ".join(words for hook, words in DECISIONS.items() if method.overrides(hook))
