"""The runs behind a number: first digits of their keys, as they stand in the column `runs` of
tables, enough for `study show`."""

from collections.abc import Iterable

import pandas as pd

DIGITS = 12


def of(*rows: pd.DataFrame) -> str:
    """Those of rows that know their `run`, sorted, each once."""
    return joined(key for part in rows for key in part.run.unique())


def joined(cells: Iterable[str]) -> str:
    """Those of several keys, or of several such cells, sorted, each once."""
    return " ".join(sorted({key[:DIGITS] for cell in cells for key in cell.split()}))
