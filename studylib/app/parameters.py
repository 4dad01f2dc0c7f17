"""The parameters of a notebook: names and defaults come from its parameters cell, values from a
YAML. Their types are those of the experiment (`experiments.configured`).

>>> read("capacity_gap", root() / "params/tiny/capacity_gap.yaml")
"""

import ast
import json
from collections import Counter
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import yaml

from studylib.core.errors import StudyError, unknown
from studylib.core.filesystem import canonical

DIGITS = 18  # of a whole number that 64 bits hold
LARGEST = 200_000  # bytes of a YAML
VALUES = 10_000  # that it may hold


def defaults(notebook: Path) -> dict:
    """Names and default values of the notebook's parameters cell, as papermill finds it."""
    tagged = [source for source, tags in cells(notebook) if "parameters" in tags]
    return {
        line.targets[0].id: ast.literal_eval(line.value)
        for source in tagged[:1]
        for line in ast.parse(source).body
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name)
    }


def cells(notebook: Path) -> list[tuple[str, list[str]]]:
    """The source and the tags of each cell; `import nbformat` alone takes seconds."""
    written = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [("".join(cell["source"]), cell["metadata"].get("tags", [])) for cell in written]


def read(notebook: Path, file: Path) -> dict:
    """The values of a YAML file, checked against the notebook's parameters.

    Raises StudyError for a missing or unreadable file, an unknown name or a value that is no JSON.
    """
    given, known = loaded(file), defaults(notebook)
    return {name: _checked(name, value, known, file) for name, value in given.items()}


def loaded(file: Path) -> Mapping:
    """What a YAML file maps names to. Raises StudyError for a missing or unreadable file."""
    if not file.is_file():
        raise StudyError(f"There is no {file}: name a profile of params/ or a YAML file.")
    if file.stat().st_size > LARGEST:
        raise StudyError(
            f"{file} has {file.stat().st_size / 1e6:.1f} MB: a file of parameters is read up to"
            f" {LARGEST / 1e6:.1f} MB."
        )
    try:
        given = _loaded(file.read_text(encoding="utf-8"))
    # ValueError: bytes, dates and numbers that are none
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise StudyError(f"{file} is no YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(given, Mapping):
        raise StudyError(f"{file} must map parameter names to values.")
    return given


def _loaded(text: str) -> object:
    """What a YAML says, if its aliases do not make more of it than can be held. Raises
    YAMLError."""
    node = _Loader(text).get_single_node()
    if node is not None and _values(node, {}) > VALUES:
        raise yaml.YAMLError(
            f"it holds more than {VALUES} values, those of aliases counted each time"
        )
    return _Loader("").construct_document(node) if node is not None else None


def _values(node: yaml.Node, counted: dict[int, int]) -> int:
    """How many values a node stands for, those of aliases as often as they are named; of a node
    within itself none."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in counted:
        counted[id(node)] = 0
        inside = chain(*node.value) if isinstance(node, yaml.MappingNode) else node.value
        counted[id(node)] = 1 + sum(_values(child, counted) for child in inside)
    return counted[id(node)]


class _Loader(yaml.SafeLoader):
    """PyYAML takes the last of two values of one key."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """Refuse a key that stands twice: which of them was meant?"""
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [name for name, count in names.items() if count > 1]:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {twice[0]!r} stands twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def _checked(name: object, value: object, known: Mapping, file: Path) -> object:
    if name not in known:
        raise StudyError(f"{file}: {unknown('parameter', name, known)}")
    try:
        # as the notebook and the keys of runs have it, where 4 would be "4"
        if json.loads(canonical(value), parse_int=_whole) != value:
            raise TypeError("written as JSON it would be something else")
    except (TypeError, ValueError) as error:
        raise StudyError(
            f"{file}: {name} must hold finite numbers, texts, lists and mappings from text only"
            f" ({error})."
        ) from error
    return value


def _whole(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"a number of {len(digits)} digits is too large")
    return int(digits)
