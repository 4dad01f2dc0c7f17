"""In what student and control differ besides the teacher: the learning rates that were chosen, and
what loss weights add up to.

rates.markdown(origin.rates(plan, study.origins(plan, folder=folder)))
"""

import pandas as pd

from studylib.analysis import prose, roles, tables
from studylib.core import sizes
from studylib.core.labels import CONTROL, STUDENT

PAIR = ["family", "student", "init", "train_prompt", "seed"]
TITLES = {
    "family": "family",
    "size": "size",
    "role": "role",
    "init": "init",
    "teacher": "teacher",
    "targets": "targets",
    "train_prompt": "train prompt",
    "seed": "seed",
    "weights": "sum of loss weights",
    "tried": "learning rates tried",
    "lr": "learning rate",
}
COLUMNS = [*PAIR, "role", "teacher", "targets", "objective", "weights", "tried", "lr"]


def markdown(rates: pd.DataFrame) -> str:
    """That table, and what it says of students and controls."""
    if rates.empty:
        return "Nothing was trained yet.\n"
    notes = [
        differences(rates),
        "–: the learning rate that the search chose was not recorded."
        if rates.lr.isna().any()
        else "",
    ]
    table = tables.markdown(cells(rates))
    return "\n\n".join(filter(None, (table, " ".join(filter(None, notes))))) + "\n"


def cells(rates: pd.DataFrame) -> pd.DataFrame:
    """A line per trained model: what it learns, and at which rate."""
    shown = rates.assign(
        size=rates.student.map(sizes.written).where(rates.role != "teacher", "uncut"),
        lr=rates.lr.map("{:g}".format).where(rates.lr.notna(), "–"),
        tried=rates.tried.replace("", "–"),
    )
    return tables.varying(shown, TITLES, ("size", "role", "lr")).rename(columns=TITLES)


def differences(rates: pd.DataFrame) -> str:
    """What students and their controls differ in besides the teacher, in sentences; where there are
    no such pairs, whether learning rates were searched."""
    arms = roles.arms(rates)
    students, controls = (rates[arms == arm] for arm in (STUDENT, CONTROL))
    pairs = students.merge(controls, on=PAIR, suffixes=("", "_control"))
    weights = pairs.loc[pairs.weights != pairs.weights_control, ["weights", "weights_control"]]
    recorded = pairs.dropna(subset=["lr", "lr_control"])
    return prose.render(
        "rates",
        pairs=len(pairs),
        weights=weights.drop_duplicates().to_dict("records"),
        searched=((rates if pairs.empty else pairs).tried != "").any(),
        recorded=len(recorded),
        same=(recorded.lr == recorded.lr_control).sum(),
    )
