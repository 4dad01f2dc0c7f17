"""Values from outside, checked by their types.

>>> checked(Machine, {"threads": 4}).threads
4
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from studylib.core.errors import StudyError, unknown

Checked = TypeVar("Checked", bound=BaseModel)
MOST = 2**31 - 1  # of anything that is counted


def _number(value: Any) -> Any:
    """YAML reads 1e-3 as text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Count = Annotated[int, Field(ge=1, le=MOST)]
Number = Annotated[int, Field(ge=0, le=MOST)]
Rate = Annotated[float, BeforeValidator(_number), Field(gt=0, lt=1)]


def checked(kind: type[Checked], given: Mapping[str, Any]) -> Checked:
    """The values as this kind holds them. Raises StudyError, in one sentence, for the first that is
    unknown, of a wrong type or impossible."""
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise StudyError(_sentence(kind, error.errors()[0])) from None


def check_lists(**lists: Sequence) -> None:
    """Raise StudyError for a list that is empty or names something twice."""
    for name, chosen in lists.items():
        if not chosen:
            raise StudyError(f"{name} is empty: name at least one.")
        if repeated := [value for value in chosen if list(chosen).count(value) > 1]:
            raise StudyError(f"{name} names {repeated[0]!r} twice.")


def _sentence(kind: type[BaseModel], problem: Any) -> str:
    place = [str(part) for part in problem["loc"] if part != "[key]"]
    name = ".".join(place)
    if problem["type"] == "extra_forbidden":
        return unknown("parameter", name, _fields(kind, place[:-1]))
    if problem["type"] == "missing":
        return f"{name} is missing: name it."
    if problem["type"] == "too_long":
        most, count = (problem["ctx"][limit] for limit in ("max_length", "actual_length"))
        return f"{name} should have at most {most} items, not {count}."
    reason = (
        "a mapping"
        if problem["type"] in ("model_type", "dict_type")
        else problem["msg"].removeprefix("Input should be ")
    )
    return f"{name} must be {reason}, not {problem['input']!r}."


def _fields(kind: type[BaseModel], place: list[str]) -> list[str]:
    """The names that a part of a kind knows; a part may be optional."""
    for name in place:
        written = kind.model_fields[name].annotation
        kind = next(
            candidate
            for candidate in (written, *get_args(written))
            if isinstance(candidate, type) and issubclass(candidate, BaseModel)
        )
    return list(kind.model_fields)
