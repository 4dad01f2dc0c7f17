"""What a student learns: questions with answers to learn, each with the part that it plays."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from studylib.data.squad import Question

GOLD, SAMPLED = "gold", "sampled"


@dataclass(frozen=True)
class Example(Question):
    """A question with the answer to learn.

    `role` says which part it plays in a loss: gold, chosen, rejected, rationale, sampled. Examples
    of one `group` belong together, as a chosen and a rejected answer to one question do.
    """

    role: str = GOLD
    group: str = ""


def of(question: Question) -> Example:
    """A question with its gold answers, as an example."""
    return Example(**(vars(question) | {"role": GOLD, "group": question.id}))


def with_target(source: Question, target: str, **changes: Any) -> Example:
    """An example of a question whose answer to learn is another text."""
    start = max(0, source.context.find(target))
    return replace(of(source), answers=((target, start),), **changes)


def from_json(items: Iterable[Mapping[str, Any]]) -> list[Example]:
    """Examples that were written as plain data, by `asdict`."""
    return [
        Example(**{**item, "answers": tuple((text, start) for text, start in item["answers"])})
        for item in items
    ]
