"""Where options are searched: ranges of plain data, from the types of options or from a YAML.

>>> of(Hinton)["temperature"].range
Float(low=0.2, high=20.0, log=True)

A number with two bounds is searched between them. A positive one is searched around its default, on
a logarithmic scale. Of a few named values each is tried. Anything else has no range: it is fixed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

from pydantic import TypeAdapter

from studylib.core.errors import StudyError
from studylib.methods import options
from studylib.methods.objective import LOSSES

MARGIN = 0.01  # of a range: so far from a bound that is not reached
AROUND, COUNTS_AROUND = 10, 4  # times a default, up and down
WEIGHT = "weight"  # of a loss, beside its options
HOW = "give {low, high}, with `log: true` for a logarithmic scale, a list of values, or a value"


@dataclass(frozen=True)
class Float:
    """A number from `low` to `high`."""

    low: float
    high: float
    log: bool = False

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}" + (" (log)" if self.log else "")

    def tidy(self, value: float) -> float:
        """A value of it, in four digits."""
        return min(max(float(f"{value:.4g}"), self.low), self.high)


@dataclass(frozen=True)
class Int:
    """A whole number from `low` to `high`."""

    low: int
    high: int
    log: bool = False

    def __contains__(self, value: object) -> bool:
        return type(value) is int and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low} to {self.high}" + (" (log)" if self.log else "")

    def tidy(self, value: int) -> int:
        """The value itself."""
        return value


@dataclass(frozen=True)
class Categorical:
    """One of a few values."""

    choices: tuple[Any, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.choices

    def __str__(self) -> str:
        return " or ".join(str(choice) for choice in self.choices)

    def tidy(self, value: Any) -> Any:
        """The value itself."""
        return value


Range = Float | Int | Categorical


def is_open(where: Range) -> bool:
    """Whether it has more than one value."""
    return len(where.choices) > 1 if isinstance(where, Categorical) else where.low < where.high


@dataclass(frozen=True)
class Option:
    """What something may be, by its type, and what it is unless chosen."""

    kind: Any
    default: Any

    @property
    def range(self) -> Range | None:
        """Where it is searched, if its type says so."""
        if self.default in (None, Parameter.empty) or isinstance(self.kind, str):
            return None
        schema = TypeAdapter(self.kind).json_schema()
        if schema.get("type") == "boolean":
            return Categorical((False, True))
        if "enum" in schema or "const" in schema:
            return Categorical(tuple(schema.get("enum", [schema.get("const")])))
        return _numbers(schema, self.default) if schema.get("type") in NUMBERS else None


NUMBERS = ("integer", "number")


def _numbers(schema: Mapping[str, Any], default: Any) -> Range | None:
    """The range of a number: between its bounds, or around its default."""
    low, high = (schema.get(bound, schema.get(f"exclusive{bound.title()}")) for bound in BOUNDS)
    if low is None or not isinstance(default, int | float):
        return None
    whole = schema["type"] == "integer"
    if high is not None:
        step = 1 if whole else MARGIN * (high - low)
        low += step * ("exclusiveMinimum" in schema)
        high -= step * ("exclusiveMaximum" in schema)
        low, high = min(low, default), max(high, default)
        return Int(low, high) if whole else Float(float(low), float(high))
    if default <= 0 or low < 0:
        return None
    if isinstance(default, int) and whole:
        return Int(max(1, low, default // COUNTS_AROUND), COUNTS_AROUND * default, log=True)
    return Float(max(low, default / AROUND), default * AROUND, log=True)


BOUNDS = ("minimum", "maximum")


def of(owner: Callable) -> dict[str, Option]:
    """The options of a method or loss, by name."""
    return {
        name: Option(parameter.annotation, parameter.default)
        for name, parameter in options.of(owner).items()
    }


def of_losses(losses: Mapping[str, Any]) -> dict[str, Option]:
    """The weight and the options of each loss of a stage, as `forward_kl.temperature`, with the
    values that they have there."""
    searchable: dict[str, Option] = {}
    for loss, written in losses.items():
        given = _mapping(written)
        known = {WEIGHT: Option(options.Positive, 1.0)} | of(LOSSES[loss])
        searchable |= {
            f"{loss}.{name}": Option(option.kind, given.get(name, option.default))
            for name, option in known.items()
        }
    return searchable


def with_options(
    stages: Sequence[Mapping[str, Any]], method: str, chosen: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The stages of a method with these options, where it is named: as a method, or as a loss."""
    changed = []
    for stage in map(dict, stages):
        if chosen and stage.get("method") == method:
            stage["options"] = stage.get("options", {}) | dict(chosen)
        elif chosen and method in stage.get("losses", {}):
            called = {f"{method}.{name}": value for name, value in chosen.items()}
            stage["losses"] = with_losses(stage["losses"], called)
        changed.append(stage)
    return changed


def with_losses(losses: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The losses of a stage with these values, called as `of_losses` calls them, in their place."""
    changed: dict[str, Any] = dict(losses)
    for name, value in chosen.items():
        loss, _, option = name.partition(".")
        given = {**_mapping(changed[loss]), option: value}
        changed[loss] = given[WEIGHT] if set(given) == {WEIGHT} else given
    return changed


def _mapping(written: Any) -> dict[str, Any]:
    return dict(written) if isinstance(written, Mapping) else {WEIGHT: written}


def read(owner: str, name: str, kind: Any, given: Any) -> Range:
    """A range as a YAML gives it: `{low: 1, high: 8, log: true}`, a list of values, or a value that
    is kept. Raises StudyError for what is none, and for values that the option refuses."""
    check = lambda value: options.check_value(owner, name, kind, value)  # noqa: E731
    if isinstance(given, Mapping):
        return _between(name, given, check)
    values = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    if not values:
        raise StudyError(f"{name} has no values to choose from: {HOW}.")
    return Categorical(tuple(dict.fromkeys(map(check, values))))


def _between(name: str, given: Mapping[str, Any], check: Callable[[Any], Any]) -> Range:
    """The range from `low` to `high`."""
    log = given.get("log", False)
    if set(given) - {"log"} != {"low", "high"} or not isinstance(log, bool):
        raise StudyError(f"{name}: {dict(given)!r} is no range: {HOW}.")
    low, high = check(given["low"]), check(given["high"])
    if not all(type(end) in (int, float) and math.isfinite(end) for end in (low, high)):
        raise StudyError(f"{name} is no number: list the values to choose from.")
    if low > high or (log and low <= 0):
        raise StudyError(
            f"{name}: {low:g} to {high:g} is no range: let low be at most high, and above 0 where"
            " `log` is true."
        )
    if isinstance(low, int) and isinstance(high, int):
        return Int(low, high, log)
    return Float(low, high, log)
