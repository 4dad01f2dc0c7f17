"""Text from outside, shown so that it does nothing but be read: in a terminal and in Markdown.

HTML is escaped by the report's template; CSV files hold names alone, which `names` checks.
Try it: python -c "from studylib.core.escaping import printable; print(printable('a\\x1b[31mb'))"
"""

from typing import Any, TextIO, cast
from unicodedata import category

JOINERS = "\u200c\u200d"  # invisible, and part of the spelling of Hindi and Persian words


def printable(text: str, keep: str = "") -> str:
    r"""The text with every character that steers (a terminal, the direction of writing, lines) as
    an escape, `\x1b`.

    Blanks of every width stay, and the characters in `keep`, for example line breaks.
    """
    return "".join(
        char
        if char in keep or char.isprintable() or char in JOINERS or category(char) == "Zs"
        else char.encode("unicode_escape").decode()
        for char in text
    )


class _Escaped:
    """A stream that is given `printable` text and is else as it was."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        """Write the text, its line breaks and tabs as they are."""
        return self.stream.write(printable(text, keep="\n\t"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def escaped(stream: TextIO) -> TextIO:
    """A terminal or pipe to which nothing is written that steers it, whatever is printed."""
    return cast(TextIO, _Escaped(stream))


def markdown(text: str) -> str:
    """The text on one line of Markdown, within a table, too: nothing in it begins or ends
    anything."""
    line = " ".join(printable(text, keep="\t\n\r").split())
    return line.replace("|", "\\|").replace("`", "'").replace("<", "&lt;")
