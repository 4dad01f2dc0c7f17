"""Which lines are of main models, and which of what else was tried on students.

kept[roles.main(kept)]     teachers, main students and controls
"""

from collections.abc import Mapping

import pandas as pd

from studylib.core.labels import BASE, CONTROL, FINE_TUNED, STUDENT, TEACHER


def arms(table: pd.DataFrame) -> pd.Series:
    """The arm of every line, as the plan states it (column `arm`). Without that column all models
    are main ones: their arm is their role."""
    return table.get("arm", table.role)


def named(table: pd.DataFrame, arms: Mapping[tuple[str, str, str], str]) -> pd.DataFrame:
    """The lines with the arms that a plan states by role, teacher and objective; that of all others
    is their role."""
    models = table[["role", "teacher", "objective"]].itertuples(index=False, name=None)
    return table.assign(arm=[arms.get(model, model[0]) for model in models])


def main(table: pd.DataFrame) -> pd.Series:
    """Which lines are of teachers, main students and controls."""
    return arms(table).isin((TEACHER, STUDENT, CONTROL))


def compared(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of fine-tuned teachers and of what is compared with them, with their arms. Other
    teachers and models as they come from outside are left out."""
    others = (rows.role == TEACHER) & (rows.teacher != FINE_TUNED)
    rows = rows.assign(arm=arms(rows))
    return rows[~others & (rows.role != BASE)]
