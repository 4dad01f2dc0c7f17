"""Fonts for the names in figures: the one that matplotlib brings, then whatever this machine has
for other scripts.

A drawing (SVG) keeps the names as text, which a viewer draws by its own fonts. A picture (PNG)
needs a font where it is made. What no font here has is drawn as an escape. Try it: python -c "from
studylib.analysis.fonts import advice; print(advice('学生'))"
"""

from collections.abc import Iterable, Sequence
from functools import cache

from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.text import Text

BASE = "DejaVu Sans"  # a font that matplotlib brings
REGULAR = 400  # weight of an upright font that is not bold
LAST_RESORT = "Last Resort"  # begins the names of fonts that have a box for every character


def fit(texts: Iterable[Text]) -> list[str]:
    """Have these texts of a figure drawn by the fonts that have their characters. Return those
    fonts beside the usual one, and what no font has as escapes."""
    strange = {text: missing for text in texts if (missing := lacking(text.get_text()))}
    families = _families(set().union(*strange.values()))
    unknown = lacking("".join(map(Text.get_text, strange)), families)
    for text in strange:
        text.set_fontfamily([BASE, *families])
        text.set_text(
            "".join(_escape(char) if char in unknown else char for char in text.get_text())
        )
    if unknown:
        _print_once(advice("".join(sorted(unknown))))
    return [*families, *sorted(map(_escape, unknown))]


def advice(text: str) -> str:
    """What to do for the characters of a text that no font here has, in a sentence; nothing where
    there are none."""
    unknown = sorted(lacking(text, _families(lacking(text))))
    if not unknown:
        return ""
    return (
        f"No font here has {' '.join(unknown)}: PNG figures show such characters as escapes"
        f" ({_escape(unknown[0])}); install a font that has them."
    )


def lacking(text: str, families: Sequence[str] = ()) -> set[str]:
    """The characters that neither the usual font nor these have."""
    fonts = (
        [_characters(findfont(name)) for name in (BASE, *families)] if not text.isascii() else []
    )
    return {
        char for char in text if not char.isascii() and not any(ord(char) in font for font in fonts)
    }


def _families(characters: set[str]) -> list[str]:
    """The fonts of this machine that have these characters, as few as need be, those first that
    have the most."""
    chosen, left = [], {ord(char) for char in characters}
    entries = (
        sorted(
            fontManager.ttflist,
            key=lambda entry: (entry.style == "normal", entry.weight == REGULAR),
        )
        if left
        else []
    )
    files = {entry.name: entry.fname for entry in entries if not entry.name.startswith(LAST_RESORT)}
    candidates = {name: _characters(file) & left for name, file in sorted(files.items())}
    while (
        left
        and candidates
        and candidates[best := max(candidates, key=lambda name: len(candidates[name] & left))]
        & left
    ):
        chosen.append(best)
        left -= candidates.pop(best)
    return chosen


@cache
def _characters(file: str) -> frozenset[int]:
    """The characters that a font file has; none if it cannot be read."""
    try:
        return frozenset(get_font(file).get_charmap())
    except (OSError, RuntimeError):  # FreeType's own is a RuntimeError
        return frozenset()


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode()


@cache
def _print_once(sentence: str) -> None:
    print(sentence, flush=True)
