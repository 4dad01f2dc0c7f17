"""All that the package imports is installed with it, or by an extra that `study doctor` names."""

import ast
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import studylib
from studylib.app.doctor import EXTRAS

FOLDER = Path(studylib.__file__).parent
PROJECT = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def distributions(requirements):
    """The normalised names of distributions, without extras."""
    parsed = map(Requirement, requirements)
    return {
        canonicalize_name(each.name)
        for each in parsed
        if each.marker is None or each.marker.evaluate({"extra": ""})
    }


def installed():
    """What comes with the project without extras: its dependencies, theirs, and pip."""
    known, new = {"pip"}, distributions(PROJECT["dependencies"])
    while new:
        known |= new
        further = set()
        for name in new:
            try:
                further |= distributions(requires(name) or ())
            except PackageNotFoundError:  # for another platform, or torch's of a GPU
                continue
        new = further - known
    return known


def imported(source):
    """The top-level modules that a module imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]


def test_every_import_comes_with_the_project_or_with_an_extra_that_is_named():
    owners, known = packages_distributions(), installed()
    missing = {
        (str(file.relative_to(FOLDER)), module)
        for file in FOLDER.rglob("*.py")
        for module in imported(file.read_text(encoding="utf-8"))
        if module not in sys.stdlib_module_names | EXTRAS.keys() | {"studylib"}
        and not {canonicalize_name(name) for name in owners.get(module, [])} & known
    }
    assert missing == set()


def test_doctor_names_every_extra():
    extras = PROJECT["optional-dependencies"]
    for module, (extra, _) in EXTRAS.items():
        assert canonicalize_name(module) in distributions(extras[extra])
    assert {extra for extra, _ in EXTRAS.values()} == set(extras) - {"test", "mutants"}
