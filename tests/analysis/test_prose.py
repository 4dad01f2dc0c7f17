"""Templates are installed, fill in whole paragraphs and speak in the field's terms."""

import re
import tomllib
from pathlib import Path

import jinja2
import pytest
from test_words import REPLACED

from studylib.analysis import prose
from studylib.core.project import root

TEMPLATES = Path(prose.__file__).parent / "templates"
SMALL = root() / "figures" / "small"
LEFT = re.compile(
    rf"{REPLACED}|\b(guides?|averaged|(not )?shown|detectable(?! effect))\b", re.IGNORECASE
)


def test_every_file_that_is_no_program_is_installed():
    pyproject = tomllib.loads((root() / "pyproject.toml").read_text(encoding="utf-8"))
    package = root() / "studylib"
    patterns = pyproject["tool"]["setuptools"]["package-data"]["studylib"]
    installed = {file for pattern in patterns for file in package.glob(pattern)}
    others = {
        file
        for file in package.rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc", ".md")
    }
    assert set(TEMPLATES.iterdir()) <= others <= installed


def test_a_value_that_a_template_lacks_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="pairs"):
        prose.render("rates")


def test_paragraphs_and_items_are_lines_and_cards_stay_as_they_are():
    texts = {"lines.md.j2": "- one\ntwo\n\n- three\n\nfour\n five\n\n\n"}
    loader, prose.ENVIRONMENT.loader = prose.ENVIRONMENT.loader, jinja2.DictLoader(texts)
    try:
        assert prose.render("lines") == "- one two\n- three\n\nfour five"
        assert prose.filled("lines") == texts["lines.md.j2"]
    finally:
        prose.ENVIRONMENT.loader = loader


@pytest.mark.parametrize("file", sorted(TEMPLATES.iterdir()), ids=lambda file: file.name)
def test_templates_speak_in_standard_terms(file: Path):
    words = re.sub(r"{[{%#].*?[}%#]}", " ", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not LEFT.search(words)


@pytest.mark.parametrize("file", sorted(SMALL.glob("*/*.md")), ids=lambda file: file.stem)
def test_committed_texts_and_tables_speak_in_standard_terms(file: Path):
    assert not LEFT.search(file.read_text(encoding="utf-8"))
