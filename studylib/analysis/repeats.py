"""Models that were trained twice, on two machines: how far a second training moves their scores.

repeats.compare(rows, others)
"""

import pandas as pd

from studylib.analysis import contrasts, formats, pairing, tables
from studylib.core import sizes
from studylib.core.labels import TEACHER

MODEL = ["role", "student", "init", "targets", "objective", "train_prompt", "seed", "steps"]
TITLES = {
    name: tables.IDENTITY[name] for name in ("role", "objective", "eval_prompt", "test_set")
} | {"seed": "seed"}
PLACE = ["family", "teacher", *MODEL, "eval_prompt", "test_set"]


def compare(rows: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """F1 of models that answered in both tables, in each, and the second minus the first, paired
    question by question with a 95 % interval over articles; a line per model, way of asking and
    test set. Raises StudyError for models that answered other questions."""
    lines, again = [], dict(tuple(pairing.distinct(others).groupby(PLACE, sort=False)))
    for place, model in pairing.distinct(rows).groupby(PLACE, sort=False):
        if place in again:
            scores = {"first": 100 * model.f1.mean(), "second": 100 * again[place].f1.mean()}
            change = contrasts.difference(again[place], model)
            lines.append(dict(zip(PLACE, place, strict=True)) | scores | change)
    return pd.DataFrame(lines, columns=[*PLACE, "first", "second", *contrasts.DIFFERENCE])


def markdown(table: pd.DataFrame) -> str:
    """That table, to read."""
    shown = pd.DataFrame(
        {
            "size": table.student.map(sizes.written).where(table.role != TEACHER, "uncut"),
            **{TITLES[name]: table[name] for name in TITLES},
            "F1": table["first"].map(formats.number),
            "F1, trained again": table.second.map(formats.number),
            "difference": [
                formats.signed(row.difference) + formats.span(row.low, row.high)
                for row in table.itertuples()
            ],
        }
    )
    return tables.markdown(shown) + "\n"
