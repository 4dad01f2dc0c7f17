"""Links of the pages and paths of the settings lead to something."""

import re
import tomllib
from pathlib import Path

import pytest

from studylib.core.project import root

PAGES = sorted(
    file
    for file in root().rglob("*.md")
    if not {".git", ".venv", "build", "node_modules"} & set(file.parts)
)


def anchors(page: Path) -> set[str]:
    """The names by which a page's headings are linked to."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(root())))
def test_every_relative_link_and_anchor_leads_somewhere(page: Path):
    text = re.sub(r"`[^`]*`", "", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_settings_of_mutation_testing_name_files_that_are_there():
    settings = tomllib.loads((root() / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    named = settings["mutmut"]["only_mutate"]
    named += settings["mutmut"]["pytest_add_cli_args_test_selection"]
    assert len(named) > 10
    assert [name for name in named if not (root() / name).exists()] == []
