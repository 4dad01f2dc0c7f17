"""Sizes of students as they are written: 24 layers, 24x768 with so many neurons each, 24v16384 with
so many tokens in the vocabulary, 24>27 cut from a student; a sibling's name.

>>> size("24x768").layers, size("24x768").neurons
(24, 768)
"""

import math
import re
from dataclasses import dataclass

from studylib.core import naming
from studylib.core.errors import StudyError


@dataclass(frozen=True)
class Size:
    """A student's number of layers, of neurons in each one's feed-forward part and of tokens in its
    vocabulary unless these are all kept, and the size (as it is written) of the trained student
    that it is cut from, if it is not cut from the uncut model; or the name of the `sibling` that it
    is, a smaller model that was pretrained by itself."""

    layers: int = 0
    neurons: int | None = None
    tokens: int | None = None
    cut_from: str = ""
    sibling: str = ""

    @property
    def way(self) -> str:
        """What is cut: sizes of one way can be put in a row."""
        if self.sibling:
            return "siblings"
        parts = ["layers", *["neurons"] * bool(self.neurons), *["vocabulary"] * bool(self.tokens)]
        return " and ".join(parts) + (", in stages" if self.cut_from else "")

    @property
    def stages(self) -> int:
        """How many students are trained one after the other to get there."""
        return 1 + (size(self.cut_from).stages if self.cut_from else 0)

    @property
    def title(self) -> str:
        """The size in words."""
        if self.sibling:
            return self.sibling
        return (
            f"{self.layers} layers"
            + (f" of {self.neurons} neurons" if self.neurons else "")
            + (f", {self.tokens} tokens" if self.tokens else "")
            + (f", cut from {self.cut_from}" if self.cut_from else "")
        )

    def holds(self, smaller: "Size") -> bool:
        """Whether the other can be cut from this one."""
        return smaller.layers <= self.layers and all(
            whole is None or (part or math.inf) <= whole
            for part, whole in (
                (smaller.neurons, self.neurons),
                (smaller.tokens, self.tokens),
            )
        )


def size(written: int | str) -> Size:
    """A size as a YAML has it: 20 is 20 layers, 24x768 is 24 layers of 768 neurons, 24x768v16384
    the same with 16,384 tokens in its vocabulary, 20>15 is 15 layers cut from the student of 20; a
    name, which begins with a letter, is a sibling's.

    Raises StudyError for anything else.
    """
    if isinstance(written, str) and naming.is_sibling(written):
        return Size(sibling=written)
    before, _, last = str(written).rpartition(">")
    match = re.fullmatch(r"([1-9][0-9]*)(?:x([1-9][0-9]*))?(?:v([1-9][0-9]*))?", last)
    if isinstance(written, bool) or not match:
        raise StudyError(
            f"{written!r} is no size of a student: write 20 for 20 layers, 24x768 for 24 layers of"
            " 768 neurons each, 24v16384 for 24 layers and 16384 tokens, 20>15 for 15 layers cut"
            " from the student of 20, or the name of a sibling: letters, digits, dots and blanks."
        )
    layers, neurons, tokens = (int(number) if number else None for number in match.groups())
    smaller = Size(layers or 0, neurons, tokens, before)
    if before and size(before).tokens:
        raise StudyError(
            f"{written!r}: a vocabulary is trimmed last: leave the tokens of {before} out."
        )
    if before and not size(before).holds(smaller):
        raise StudyError(
            f"{written!r}: {last} cannot be cut from {before}, which has fewer layers or neurons."
        )
    return smaller


def name(family: str, written: int | str) -> str:
    """What a student of this size is called, as in `gpt_neox-4`."""
    return f"{family}-{written}"


def written(student: str) -> str:
    """The size that a student's name ends with, as it was written."""
    return student.rpartition("-")[2]


def named(student: str) -> Size:
    """The size that a student's name ends with."""
    return size(written(student))
