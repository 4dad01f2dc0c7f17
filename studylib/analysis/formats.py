"""Numbers as text: one decimal, a sign where it counts, intervals in brackets, a dash for none."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd

from studylib.analysis.retention import BOUNDS


def number(value: object) -> str:
    """A number with one decimal; anything but a float as it is."""
    if isinstance(value, float):
        return "–" if np.isnan(value) else f"{_rounded(value):.1f}"
    return str(value)


def signed(value: float) -> str:
    """A difference."""
    return f"{_rounded(value):+.1f}"


def span(low: float, high: float, digits: int = 1) -> str:
    """An interval in brackets after a blank, or nothing where there is none."""
    edges = (f"{_rounded(edge, digits):.{digits}f}" for edge in (low, high))
    return "" if np.isnan(low) else f" ({' to '.join(edges)})"


def interval(row: Mapping | pd.Series, name: str) -> str:
    """The interval of what a line has under this name (`retention.BOUNDS`)."""
    return span(*(row[bound] for bound in BOUNDS[name]))


def measured(row: Mapping | pd.Series, name: str) -> str:
    """What a line has under this name, with its interval."""
    return f"{number(row[name])}{interval(row, name)}"


def extent(values: Iterable[float], form: Callable[[float], str] = number) -> str:
    """From the least to the largest of these values, or the one that all are."""
    numbers = pd.Series(list(values), dtype=float)
    low, high = form(numbers.min()), form(numbers.max())
    return low if low == high else f"{low} to {high}"


def probability(p: float) -> str:
    """A p-value with three decimals."""
    return "–" if np.isnan(p) else "< 0.001" if p < 0.0005 else f"{p:.3f}"


def _rounded(value: float, digits: int = 1) -> float:
    return round(value, digits) + 0.0  # no -0.0


def titled(table: pd.DataFrame, family: str, *others: str) -> str:
    """What a part of a table is of, in words: its family only where there are several."""
    return ", ".join([family, *others] if table.family.nunique() > 1 else others)
