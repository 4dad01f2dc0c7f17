"""One vocabulary, the field's: words that it has replaced stand nowhere."""

import ast
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from studylib.app import parameters
from studylib.core.project import root

REPLACED = (
    r"\b(twins?|rivals?|pupils?|ladder|rungs?|nobody|heal|healed|healing|lessons?|schools?"
    r"|schooling|raw|raw_\w+|layer_packs|heal_packs|teacher_rate|base_asked|wording|contestants"
    r"|catalogue|folded|(?<!fine.)tuned|\w+(?<!FINE)_TUNED(_\w+)?|could have seen"
    r"|stored (teacher )?states|stored_states)\b"
)
NAMES = {"asked", "trained", "start", "learn", "packs", "micro", "rate", "rates", "search_steps"}
NAMES |= {"evaluations", "variant", "xquad", "near", "far"}  # of parameters and columns
FILLERS = {"one", "own", "found", "said", "told", "made", "wanted", "about", "alike", "theirs"}
KEPT = {"key_names.py"}  # which tells what keys call things
CHECKED = ("*.md", "studylib/**/*", "params/**/*", "notebooks/*.ipynb", "figures/*/**/*.md")
TEXT = {".py", ".md", ".yaml", ".j2", ".html", ".ipynb"}
FILES = sorted(
    file
    for pattern in CHECKED
    for file in root().glob(pattern)
    if file.suffix in TEXT and file.name not in KEPT
)
MODULES = sorted(
    file for folder in ("studylib", "tests") for file in (root() / folder).rglob("*.py")
)


def test_no_file_has_a_word_that_was_replaced():
    matches = [
        f"{file.relative_to(root())}: {match[0]}"
        for file in FILES
        for match in re.finditer(REPLACED, file.read_text(encoding="utf-8"), re.IGNORECASE)
    ]
    assert len(FILES) > 150 and matches == []


@pytest.mark.parametrize("file", MODULES, ids=str)
def test_no_variable_has_a_name_that_says_nothing(file: Path):
    """Of variables, constants, attributes, arguments and loops."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    names = {node.arg for node in nodes if isinstance(node, ast.arg)}
    stored = [node for node in nodes if isinstance(getattr(node, "ctx", None), ast.Store)]
    names |= {node.id for node in stored if isinstance(node, ast.Name)}
    names |= {node.attr for node in stored if isinstance(node, ast.Attribute)}
    assert not {name.lower().strip("_") for name in names} & FILLERS


def named(values: object) -> set[str]:
    """The names in mappings, however deep."""
    if isinstance(values, dict):
        return set(values).union(*map(named, values.values()))
    return set().union(*map(named, values)) if isinstance(values, list) else set()


@pytest.mark.parametrize("file", sorted(root().glob("params/*/*.yaml")), ids=str)
def test_no_parameter_has_a_replaced_name(file: Path):
    notebook = root() / "notebooks" / f"{file.stem}.ipynb"
    values = parameters.defaults(notebook) | parameters.read(notebook, file)
    assert not named(values) & NAMES


@pytest.mark.parametrize("table", sorted(root().glob("figures/*/*/*.csv")), ids=str)
def test_no_column_has_a_replaced_name(table: Path):
    assert not set(pd.read_csv(table, nrows=1)) & NAMES


def test_no_cell_of_the_committed_rows_has_a_word_that_was_replaced():
    for table in root().glob("figures/*/*/rows.parquet"):
        rows = pd.read_parquet(table, columns=["role", "init", "teacher", "targets", "objective"])
        assert not set(rows) & NAMES
        words = json.dumps([sorted(rows[name].unique()) for name in rows])
        assert not re.search(REPLACED, words), table
