"""What a student learns: questions, each with the text to learn and the part that it plays."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from studylib.data.squad import Question

GOLD = "gold"


@dataclass(frozen=True)
class Example(Question):
    """A question whose first answer is the text to learn.

    `role` says which part it plays in a loss: gold, chosen, rejected, rationale, sampled. Examples
    of one `group` belong together, as a chosen and a rejected answer to one question do.
    """

    role: str = GOLD
    group: str = ""

    @property
    def target(self) -> str:
        """The text to learn."""
        return self.answers[0][0]

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def of(question: Question, target: str, **changes: Any) -> Example:
    """An example of a question, with the text to learn."""
    about = {each.name: getattr(question, each.name) for each in fields(Question)}
    start = max(0, question.context.find(target))
    about |= {"answers": ((target, start),), "group": question.id}
    return Example(**about | changes)


def from_json(kept: Iterable[Mapping[str, Any]]) -> list[Example]:
    """Examples that were written by `to_json`."""
    return [
        Example(**{**each, "answers": tuple((text, start) for text, start in each["answers"])})
        for each in kept
    ]
