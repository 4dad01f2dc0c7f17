"""One student under ever larger teachers, and under how large a one it does best."""

from collections.abc import Iterator
from itertools import chain

import numpy as np
import pandas as pd

from studylib.analysis import pairing, retention, roles, run_ids, statistics
from studylib.core import sizes
from studylib.core.labels import (
    CONTROL,
    FINE_TUNED,
    PRETRAINED,
    SMALLER_TEACHER,
    STUDENT,
    TEACHER,
    control_of,
)

FEW_TEACHERS = 4  # of fewer no correlation is given
# Parameters of the best teacher over its student's (Zhang et al., 2025, arXiv:2311.07052, in
# others' words).
LAW = 2.5
SCORE = ["f1", *retention.BOUNDS["f1"]]
SWEEP = [*retention.SETTING, "student", "teacher", "ratio", "teacher_f1", *SCORE, "runs"]


def sweep(rows: pd.DataFrame) -> pd.DataFrame:
    """A student under ever larger teachers, a line per setting and teacher. It has the `ratio` of
    their parameters, both scores and the interval of the student's.

    Students are cut ones under the controls of larger sizes, on the seeds that they have, and
    siblings that learn from several families. A sibling's name stands for its family, and the
    families' names for its teachers'.
    """
    return pd.concat([_under_controls(rows), _under_families(rows)], ignore_index=True)


def law(rows: pd.DataFrame) -> pd.DataFrame:
    """Under how large a teacher a student does best, a line per student, way of asking and test
    set: of siblings in several families, and of a cut student under the controls of larger sizes
    and the whole teacher. Students of fewer than `FEW_TEACHERS` teachers are left out.

    A parabola in the logarithm of the `ratio` of parameters is fitted to the students' F1. The line
    has the ratio where it is highest, from `low` to `high`. That is missing where the parabola has
    no summit between the smallest and the largest teacher, `least` to `most`. `within` is the share
    of draws of the bootstrap in which it has one. The interval is over those. After Zhang et al.
    (2025, arXiv:2311.07052), who find 2.5 by such curves; their fit is not known here.
    """
    rows, names, lines = pairing.distinct(rows), ["student", *retention.SETTING[1:]], []
    for setting, models in chain(_siblings(rows), _cut(rows)):
        if len(models) >= FEW_TEACHERS:
            sizes_taught = [model.parameters_total.iloc[0] for _, model in models]
            ratios = np.array([size for size, _ in models]) / np.array(sizes_taught)
            reach = {"teachers": len(ratios), "least": ratios.min(), "most": ratios.max()}
            best = _best(ratios, pairing.same_seeds(*(model for _, model in models)))
            lines.append(dict(zip(names, setting, strict=True)) | reach | best)
    columns = [*names, "teachers", "least", "most", "ratio", "low", "high", "within"]
    return pd.DataFrame(lines, columns=columns)


Taught = list[tuple[float, pd.DataFrame]]  # parameters of a teacher, its student's rows


def _siblings(rows: pd.DataFrame) -> Iterator[tuple[tuple, Taught]]:
    """Siblings by name and setting, under their families' teachers."""
    students = rows[(roles.arms(rows) == STUDENT) & (rows.init == PRETRAINED)]
    teachers = rows[rows.role == TEACHER].groupby("family").parameters_total.first()
    by_name = [students.student.map(sizes.written), *retention.SETTING[1:]]
    for setting, group in students.groupby(by_name, sort=False):
        yield setting, [(teachers[name], model) for name, model in group.groupby("family")]


def _cut(rows: pd.DataFrame) -> Iterator[tuple[tuple, Taught]]:
    """Cut students by name and setting, under the teachers that have a name: fine-tuned, or the
    control of a larger size."""
    arms = roles.arms(rows)
    swept = rows[arms == SMALLER_TEACHER]
    whole = rows[rows.role == TEACHER].assign(teacher=FINE_TUNED)
    larger = rows[(arms == CONTROL) & (rows.init == FINE_TUNED)]
    larger = larger.assign(teacher=larger.student.map(sizes.written).map(control_of))
    known = pd.concat([whole, larger]).groupby(["family", "teacher"]).parameters_total.first()
    students = rows[
        arms.isin((STUDENT, SMALLER_TEACHER))
        & (rows.init == FINE_TUNED)
        & rows.student.isin(swept.student)
    ]
    for setting, group in students.groupby(["student", *retention.SETTING[1:]], sort=False):
        family = group.family.iloc[0]
        models = group.groupby("teacher", sort=False)
        yield (
            setting,
            [
                (known[family, name], model)
                for name, model in models
                if (family, name) in known  # else that teacher is not answered yet
            ],
        )


def _best(ratios: np.ndarray, models: list[pd.DataFrame]) -> dict[str, float]:
    """The ratio under which a student does best, with its interval, by its rows under each
    teacher."""
    values, clusters = pairing.scores(models, ["f1"])
    line = {"ratio": _summits(ratios, values[0].mean((-2, -1))[None])[0]}
    if statistics.enough_clusters(clusters):
        drawn = _summits(ratios, statistics.bootstrap(values[0], clusters))
        inside = np.isfinite(drawn)
        line["within"] = inside.mean()
        if inside.any():
            line["low"], line["high"] = statistics.interval(drawn[inside])
    return line


def _summits(ratios: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Where parabolas in log ratio through scores (repeats, teacher) are highest, (repeats,); no
    number where that is not between the teachers."""
    places = np.log(ratios)
    curved, steep, _ = np.polyfit(places, scores.T, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        summit = -steep / (2 * curved)
    inside = (curved < 0) & (summit >= places.min()) & (summit <= places.max())
    return np.exp(np.where(inside, summit, np.nan))


def _under_families(rows: pd.DataFrame) -> pd.DataFrame:
    """Siblings that are students in several families, under these families' teachers."""
    if not (rows.init == PRETRAINED).any():
        return pd.DataFrame(columns=SWEEP)
    kept = retention.compare(rows[roles.arms(rows).isin((TEACHER, STUDENT))])
    teachers = kept[kept.role == TEACHER].set_index(retention.SETTING).f1.rename("teacher_f1")
    students = kept[(kept.role == STUDENT) & (kept.init == PRETRAINED)]
    names = students.student.map(sizes.written)
    several = (
        students.groupby([names, *retention.SETTING[1:]], sort=False).family.transform("size") > 1
    )
    lines = students.join(teachers, on=retention.SETTING).assign(
        family=names,
        ratio=1 / (1 - students.reduction_total / 100),
        teacher=students.family,
    )[several][SWEEP]
    return lines.sort_values(["family", *retention.SETTING[1:], "ratio"], kind="stable")


def _under_controls(rows: pd.DataFrame) -> pd.DataFrame:
    """Cut students under the controls of larger sizes and under the uncut teacher, on the seeds
    that the smaller teachers' students have."""
    smaller = roles.arms(rows) == SMALLER_TEACHER
    shared, lines = rows[rows.seed.isin(rows.seed[smaller])], []
    if shared.empty:
        return pd.DataFrame(columns=SWEEP)
    for _, group in retention.compare(shared).groupby(retention.SETTING, sort=False):
        controls = group[(group.arm == CONTROL) & (group.init == FINE_TUNED)]
        swept = group[group.arm == SMALLER_TEACHER]
        teachers = pd.concat([controls, group[group.arm == TEACHER]]).assign(
            teacher=[*controls.student.map(sizes.written).map(control_of), FINE_TUNED]
        )
        students = group[
            (group.arm == STUDENT) & (group.init == FINE_TUNED) & group.student.isin(swept.student)
        ]
        pairs = pd.concat([swept, students]).merge(
            teachers, on=[*retention.SETTING, "teacher"], suffixes=("", "_teacher")
        )  # none where a teacher is not answered yet
        pairs = pairs.assign(
            ratio=(1 - pairs.reduction_total_teacher / 100) / (1 - pairs.reduction_total / 100),
            teacher_f1=pairs.f1_teacher,
            runs=list(map(run_ids.joined, zip(pairs.runs, pairs.runs_teacher, strict=True))),
        )
        lines.append(pairs.sort_values("ratio", kind="stable"))
    return pd.concat(lines)[SWEEP]
