"""What no formatter checks: a function fits on one screen, and every line on it."""

import ast
from pathlib import Path

import pytest

import studylib

COLUMNS = 100
LINES = 40  # of a function at most, its docstring included
FOLDERS = [Path(studylib.__file__).parent, Path(__file__).parents[1]]
MODULES = {
    f"{folder.name}/{file.relative_to(folder)}": file
    for folder in FOLDERS
    for file in sorted(folder.rglob("*.py"))
}


def lengths(source: str) -> dict[str, int]:
    """The lines of each function of a module, by its name and place."""
    return {
        f"{node.name}, line {node.lineno}": node.end_lineno - node.lineno + 1
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize("module", MODULES)
def test_functions_are_short(module):
    functions = lengths(MODULES[module].read_text(encoding="utf-8"))
    assert {name: lines for name, lines in functions.items() if lines > LINES} == {}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_lines_are_short(folder):
    """Also those that ruff lets pass, for a mark or an address at their end."""
    long = [
        f"{file.relative_to(folder)}, line {number}"
        for file in folder.rglob("*.py")
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > COLUMNS
    ]
    assert long == []


def test_all_lines_count_and_methods_and_inner_functions_are_functions():
    lines = ["class A:", "    def f(self):", "        async def g():", "            return (", ")"]
    assert lengths("\n".join(lines)) == {"f, line 2": 4, "g, line 3": 3}
    assert lengths('def f():\n    """a\n\n    b"""') == {"f, line 1": 4}
