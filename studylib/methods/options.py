"""Options of methods and losses: the keyword arguments of a function or class, checked by their
types.

>>> check("jsd", forward_kl, {"temperature": 2})
{'temperature': 2.0}
"""

import builtins
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, StrictBool, TypeAdapter, ValidationError

from studylib.core.errors import StudyError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
AboveZero = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Switch = StrictBool


def of(owner: Callable) -> dict[str, inspect.Parameter]:
    """The options of a function or class: its keyword-only arguments, each with its type.

    Where annotations are postponed, that is a name in the owner's module. The other annotations
    name torch's types, and planning does without torch.
    """
    names = vars(builtins) | vars(sys.modules[owner.__module__])
    return {
        option.name: option.replace(annotation=names.get(option.annotation, option.annotation))
        for option in inspect.signature(owner).parameters.values()
        if option.kind is option.KEYWORD_ONLY
    }


def check(
    name: str, owner: Callable, given: Mapping[str, Any], beside: Sequence[str] = ()
) -> dict[str, Any]:
    """The options that are given, each of its type. Raises StudyError for a value that its type
    refuses, and for an unknown name; what `beside` options can be given is named then."""
    known = of(owner)
    for option in given:
        if option not in known:
            raise StudyError(
                f"{name} has no option {option!r}: it knows {', '.join([*beside, *known])}."
            )
    return {
        option: check_value(name, option, known[option].annotation, value)
        for option, value in given.items()
    }


def check_value(name: str, option: str, kind: Any, value: Any) -> Any:
    """A value of this type; numbers may be written as text (YAML reads 1e-1 so). Raises StudyError
    for any other."""
    if isinstance(value, bool) and kind is not Switch:
        raise StudyError(f"{option} of {name} must be a number, not {value!r}.")
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Input should be ")
        raise StudyError(f"{option} of {name} must be {problem}, not {value!r}.") from None
