"""Which students are the main ones, and which learn by other losses or from a smaller teacher.

kept[roles.main(kept)]     teachers, students and controls, without what else was tried on students
"""

import pandas as pd

from studylib.core.labels import BASE, CONTROL, FINE_TUNED, STUDENT, TEACHER, control_of

OTHER_LOSSES, SMALLER_TEACHER = "student (other losses)", "student (smaller teacher)"


def kinds(table: pd.DataFrame) -> pd.Series:
    """The role of every line. A student by other losses than the main ones is `OTHER_LOSSES`; one
    whose teacher is the control of another size is `SMALLER_TEACHER`.

    The first student of the table names the main losses, since a plan has main students first: that
    is only so where one of them has answered."""
    students = table.role == STUDENT
    smaller = students & table.teacher.str.startswith(control_of(""))
    main = table.objective[students & ~smaller].head(1)
    other = students & ~smaller & ~table.objective.isin(main)
    return table.role.mask(smaller, SMALLER_TEACHER).mask(other, OTHER_LOSSES)


def main(table: pd.DataFrame) -> pd.Series:
    """Which lines are of teachers, main students and controls."""
    return kinds(table).isin((TEACHER, STUDENT, CONTROL))


def compared(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of fine-tuned teachers and of what is compared with them: without other teachers and
    models as they come from outside."""
    others = (rows.role == TEACHER) & (rows.teacher != FINE_TUNED)
    return rows[~others & (rows.role != BASE)]
