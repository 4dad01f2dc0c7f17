"""Models that were trained twice, on two machines: how far a second training moves their scores.

repeats.compare(rows, others)
"""

import pandas as pd

from studylib.analysis import contrasts, formats, pairing, tables
from studylib.core import sizes

MODEL = ["role", "student", "init", "targets", "objective", "train_prompt", "seed", "steps"]
PLACE = ["family", "teacher", *MODEL, "eval_prompt", "test_set"]


def compare(rows: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """F1 of models that answered in both tables, in each, and the second minus the first, paired
    question by question with a 95 % interval over articles; a line per model, way of asking and
    test set. Raises StudyError for models that answered other questions."""
    lines, again = [], dict(tuple(pairing.distinct(others).groupby(PLACE, sort=False)))
    for place, model in pairing.distinct(rows).groupby(PLACE, sort=False):
        if place in again:
            change = contrasts.difference(again[place], model)
            f1 = {
                name: 100 * each.f1.mean()
                for name, each in (("first", model), ("second", again[place]))
            }
            lines.append(dict(zip(PLACE, place, strict=True)) | f1 | change)
    return pd.DataFrame(lines, columns=[*PLACE, "first", "second", *contrasts.DIFFERENCE])


def markdown(table: pd.DataFrame) -> str:
    """That table, to read."""
    shown = pd.DataFrame(
        {
            "size": table.student.map(sizes.written).where(table.role != "teacher", "uncut"),
            "role": table.role,
            "objective": table.objective,
            "test set": table.test_set,
            "F1": table["first"].map(formats.number),
            "F1, trained again": table.second.map(formats.number),
            "difference": [
                formats.signed(row.difference) + formats.span(row.low, row.high)
                for row in table.itertuples()
            ],
        }
    )
    return tables.markdown(shown) + "\n"
