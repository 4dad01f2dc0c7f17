"""What families, test sets, siblings and profiles may be called.

A name is shown in tables (Markdown and CSV), figures, a page and the terminal, and must be the same
plain text in all of them. Try it: python -m pytest -q tests/core/test_naming.py
"""

import re
from unicodedata import category

from studylib.core.errors import StudyError

LONGEST = 100  # characters
FOLDER = 200  # bytes of a folder's name
MARKS = "|<>[]*`$\\~"  # which mean something in Markdown or in a figure
# What also does in Markdown: emphasis by _ around words, HTML entities, web addresses.
MARKUP = re.compile(r"(?<!\w)_|_(?!\w)|&#?\w+;|://|\bwww\.")
RULE = (
    f"write up to {LONGEST} visible characters, a letter or digit first and no blank last, without"
    f" {' '.join(MARKS)} and line breaks, _ around words, entities of HTML and web addresses"
)


def check(name: str, what: str) -> None:
    """Raise StudyError for a name that could not be told from other text, or would be more than
    text: what begins with = + - @ is a formula in a spreadsheet, and matplotlib leaves what begins
    with _ out of legends."""
    if not _is_plain(name) or set(name) & set(MARKS) or MARKUP.search(name):
        raise StudyError(f"{what}: {name!r} cannot be a name in tables: {RULE}.")


def check_profile(name: str) -> None:
    """Raise StudyError for a profile that is no name of a folder."""
    if (
        not isinstance(name, str)
        or not all(_is_letter(char) or char in "._-" for char in name)
        or not 0 < len(name) <= LONGEST
        or name[0] == "."
    ):
        raise StudyError(
            f"profile {name!r} names a folder under figures/: use up to {LONGEST} letters, digits,"
            " dots, - and _, no dot first."
        )
    if len(name.encode()) > FOLDER:
        raise StudyError(
            f"profile {name!r} names a folder under figures/: it has more than {FOLDER} bytes,"
            " shorten it."
        )


def is_sibling(name: str) -> bool:
    """Whether a size is the name of a sibling: a letter first, then letters, digits, dots, _ and
    blanks."""
    return (
        _is_plain(name)
        and category(name[0])[0] == "L"
        and all(_is_letter(char) or char in "_. " for char in name)
        and not MARKUP.search(name)
    )


def _is_plain(name: str) -> bool:
    return (
        0 < len(name) <= LONGEST
        and name.isprintable()
        and category(name[0])[0] in "LN"
        and not name.endswith(" ")
    )


def _is_letter(char: str) -> bool:
    """Whether a character is of a word or number in any script: a letter, a vowel sign or accent
    (M), a digit."""
    return category(char)[0] in "LMN"
