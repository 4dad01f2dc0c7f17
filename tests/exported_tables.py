"""Small tables of a line a run, and a folder that they are written to."""

from pathlib import Path

import pandas as pd

from studylib.store import exports, output_folder


def table(**planned: int) -> pd.DataFrame:
    """A line per run: what was planned, what it is called, and a number."""
    return pd.DataFrame(
        [{"planned": name, "label": name[0], "value": value} for name, value in planned.items()]
    )


def exported(place: Path, **tables_: pd.DataFrame) -> None:
    """Write tables of these names into the folder."""
    place.mkdir(parents=True, exist_ok=True)
    with output_folder.draft(place) as scratch:
        for name, lines in tables_.items():
            exports.save(lines, scratch / f"{name}.csv")
