"""In what student and control differ besides the teacher: the learning rates that were chosen, and
what loss weights add up to.

rates.markdown(origin.rates(plan, study.origins(plan, folder=folder)))
"""

import pandas as pd

from studylib.analysis import prose, tables, terms
from studylib.core import sizes

PAIR = ["family", "student", "start", "trained", "seed"]
TITLES = {
    "family": "family",
    "size": "size",
    "role": "role",
    "start": "init",
    "teacher": "teacher",
    "trained": "trained",
    "seed": "seed",
    "weights": "sum of loss weights",
    "tried": "learning rates tried",
    "rate": "learning rate",
}
COLUMNS = [*PAIR, "role", "teacher", "objective", "weights", "tried", "rate"]


def markdown(rates: pd.DataFrame) -> str:
    """That table, and what it says of students and controls."""
    if rates.empty:
        return "Nothing was trained yet.\n"
    shown = terms.standard(rates).assign(
        size=rates.student.map(sizes.written).where(rates.role != "teacher", "uncut"),
        rate=rates.rate.map("{:g}".format).where(rates.rate.notna(), "–"),
        tried=rates.tried.replace("", "–"),
    )
    always = ("size", "role", "rate")
    columns = [name for name in TITLES if name in always or shown[name].nunique() > 1]
    missing = "–: the learning rate that the search chose was not recorded."
    notes = [differences(rates), missing if rates.rate.isna().any() else ""]
    table = tables.markdown(shown[columns].rename(columns=TITLES))
    return "\n\n".join(filter(None, (table, " ".join(filter(None, notes))))) + "\n"


def differences(rates: pd.DataFrame) -> str:
    """What students and their controls differ in besides the teacher, in sentences; where there are
    no such pairs, whether learning rates were searched."""
    students, controls = (rates[rates.role == role] for role in ("student", "twin"))
    pairs = students.merge(controls, on=PAIR, suffixes=("", "_twin"))
    weights = pairs.loc[pairs.weights != pairs.weights_twin, ["weights", "weights_twin"]]
    known = pairs.dropna(subset=["rate", "rate_twin"])
    return prose.render(
        "rates",
        pairs=len(pairs),
        weights=weights.drop_duplicates().to_dict("records"),
        searched=((rates if pairs.empty else pairs).tried != "").any(),
        known=len(known),
        same=(known.rate == known.rate_twin).sum(),
    )
