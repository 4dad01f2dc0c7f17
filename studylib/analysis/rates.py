"""In what student and twin differ besides the teacher: the learning rates that were chosen, and
what loss weights add up to.

rates.markdown(origin.rates(plan, study.origins(plan, folder=folder)))
"""

import numpy as np
import pandas as pd

from studylib.core import sizes

PAIR = ["family", "student", "start", "trained", "seed"]
TITLES = {
    "family": "family",
    "size": "size",
    "role": "role",
    "start": "start",
    "teacher": "taught by",
    "trained": "trained",
}
TITLES |= {"seed": "seed", "weights": "sum of loss weights", "tried": "rates tried", "rate": "rate"}
COLUMNS = [*PAIR, "role", "teacher", "objective", "weights", "tried", "rate"]


def markdown(rates: pd.DataFrame) -> str:
    """That table, and what it says of students and twins."""
    if rates.empty:
        return "Nothing was trained yet.\n"
    shown = rates.assign(
        size=rates.student.map(sizes.written).where(rates.role != "teacher", "uncut")
    )
    shown = shown.assign(
        rate=[_written(rate) for rate in rates.rate], tried=rates.tried.replace("", "–")
    )
    columns = [
        name for name in TITLES if name in ("size", "role", "rate") or shown[name].nunique() > 1
    ]
    lines = [
        [TITLES[name] for name in columns],
        ["---"] * len(columns),
        *shown[columns].astype(str).to_numpy().tolist(),
    ]
    drawn = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    missing = (
        "–: the rate that the search chose was not recorded." if rates.rate.isna().any() else ""
    )
    notes = " ".join(note for note in (differences(rates), missing) if note)
    return f"{drawn}\n\n{notes}\n" if notes else f"{drawn}\n"


def _written(rate: float) -> str:
    return "–" if np.isnan(rate) else f"{rate:g}"


def differences(rates: pd.DataFrame) -> str:
    """What students and their twins differ in besides the teacher, in a sentence; where there are
    no such pairs, whether rates were searched."""
    pairs = _pairs(rates)
    if pairs.empty:
        return (
            "Each model takes the learning rate that its own search finds best."
            if (rates.tried != "").any()
            else ""
        )
    said = []
    unlike = pairs[pairs.weights != pairs.weights_twin]
    for own, other in unlike[["weights", "weights_twin"]].drop_duplicates().itertuples(index=False):
        said.append(
            f"the student's loss weights add up to {own}, the twin's to {other} (gradients are"
            " clipped to a norm of 1)"
        )
    if (pairs.tried != "").any():
        said.append(
            f"each takes the learning rate that its own search finds best, {_same_rates(pairs)}"
        )
    if not said:
        return (
            "Student and twin differ in the teacher's losses alone: loss weights and learning rates"
            " are the same."
        )
    return f"Student and twin differ in more than the teacher: {'; '.join(said)}."


def _pairs(rates: pd.DataFrame) -> pd.DataFrame:
    """Students beside their twins."""
    students, twins = (rates[rates.role == role] for role in ("student", "twin"))
    return students.merge(twins, on=PAIR, suffixes=("", "_twin"))


def _same_rates(pairs: pd.DataFrame) -> str:
    known = pairs.dropna(subset=["rate", "rate_twin"])
    if known.empty:
        return "and which ones were chosen was not recorded"
    missing = (
        f", of {len(pairs) - len(known)} pairs it was not recorded"
        if len(known) < len(pairs)
        else ""
    )
    return f"the same one in {(known.rate == known.rate_twin).sum()} of {len(known)} pairs{missing}"
