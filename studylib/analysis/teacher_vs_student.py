"""Do better teachers make better students? Scores of both, and how they correlate."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from studylib.analysis import pairing, retention, run_ids, statistics, teacher_sizes
from studylib.core.labels import BASE, CONTROL, FINE_TUNED, SELF, STUDENT, TEACHER

R = ("r", "r_low", "r_high")
GROUP = [*retention.SETTING, "init", "student"]


def compare(rows: pd.DataFrame) -> pd.DataFrame:
    """F1 of teachers and of the students that they taught, in percent, a line per setting and
    teacher. Students are equal but for their teacher and the learning rate that each searched.

    Over the teachers of a setting it has the correlation of both (Pearson's `r`, with `r_low` to
    `r_high`). That is missing where articles or teachers are too few. Where others are among them,
    it has it once more over those that were fine-tuned.

    A teacher's score is that in the prompting in which it taught; teachers that are asked together
    have none. The interval draws articles: it is for these teachers, and says nothing of others.
    """
    rows, lines = pairing.distinct(rows), []
    for setting, students in rows[rows.role == STUDENT].groupby(GROUP, sort=False):
        identity = dict(zip(GROUP, setting, strict=True))
        answers = rows[
            (rows.family == identity["family"]) & (rows.test_set == identity["test_set"])
        ]
        pairs = {
            name: (teacher, student)
            for name, student in students.groupby("teacher", sort=False)
            if len(teacher := _teacher(name, answers, student))
        }
        fine_tuned = {name: pair for name, pair in pairs.items() if is_fine_tuned(name)}
        among = _correlated(fine_tuned)[0] if 0 < len(fine_tuned) < len(pairs) else {}
        fine_tuned_r = {f"fine_tuned_{name}": among.get(name, np.nan) for name in R}
        lines += [identity | line | fine_tuned_r for line in _correlated(pairs)]
    columns = [*GROUP, "teacher", "teacher_f1", "student_f1", *R]
    return pd.DataFrame(lines, columns=[*columns, *(f"fine_tuned_{name}" for name in R), "runs"])


def is_fine_tuned(teacher: str) -> bool:
    """Whether the teacher of this name was fine-tuned: all are but the base model, however it is
    asked."""
    return not teacher.startswith(BASE)


def _teacher(name: str, rows: pd.DataFrame, student: pd.DataFrame) -> pd.DataFrame:
    """The rows of a student's teacher, asked as it taught. The fine-tuned teacher and the student's
    own control were asked in the prompting that both were trained in."""
    models = rows[rows.teacher == name]
    if name == SELF:
        models = rows[
            (rows.role == CONTROL)
            & (rows.student == student.student.iloc[0])
            & (rows.init == student.init.iloc[0])
        ]
    others = (models.role == TEACHER) & (models.teacher != FINE_TUNED)
    trained_so = models.eval_prompt == student.train_prompt.iloc[0]
    return models[others | (models.role.isin((TEACHER, CONTROL)) & trained_so)]


def _correlated(pairs: Mapping[str, Sequence[pd.DataFrame]]) -> list[dict]:
    """A line per teacher with both scores, and the correlation over all."""
    if not pairs:
        return []
    teachers, students = zip(*pairs.values(), strict=True)
    models = pairing.shared(*teachers, *students)
    values, clusters = pairing.scores(models, ["f1"])
    means = 100 * values[0].mean((-2, -1)).reshape(2, -1)  # (2, teacher)
    shared: dict[str, Any] = {"runs": run_ids.of(*models)}
    if len(pairs) >= teacher_sizes.FEW_TEACHERS and np.ptp(means, -1).all():
        shared["r"] = np.corrcoef(means)[0, 1]
        if statistics.enough_clusters(clusters):
            drawn = statistics.bootstrap(values[0], clusters).reshape(-1, 2, len(pairs))
            r = statistics.correlation(drawn[:, 0], drawn[:, 1])
            shared["r_low"], shared["r_high"] = statistics.interval(r)
    return [
        {"teacher": name, "teacher_f1": teacher_f1, "student_f1": student_f1} | shared
        for name, teacher_f1, student_f1 in zip(pairs, *means, strict=True)
    ]
