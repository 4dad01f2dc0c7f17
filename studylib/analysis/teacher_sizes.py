"""One student under ever larger teachers, and under how large a one it does best."""

from collections.abc import Sequence

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
    swept = rows.seed[roles.arms(rows) == SMALLER_TEACHER]
    siblings = rows.init == PRETRAINED
    parts = rows[~siblings & rows.seed.isin(swept)], rows[siblings | (rows.role == TEACHER)]
    pairs = pd.concat(
        [_taught(retention.compare(part), ["f1", "runs"]) for part in parts], ignore_index=True
    )
    settings = pairs.groupby(retention.SETTING, sort=False)
    several = (pairs.init != PRETRAINED) | (settings.teacher.transform("size") > 1)
    runs = zip(pairs.runs, pairs.runs_teacher, strict=True)
    lines = pairs.assign(
        teacher_f1=pairs.f1_teacher, runs=list(map(run_ids.joined, runs)), order=settings.ngroup()
    )
    return lines[several].sort_values(["order", "ratio"], ignore_index=True)[SWEEP]


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
    taught, lines = _taught(pairing.distinct(rows)), []
    names = ["student", *retention.SETTING[1:]]
    taught["student"] = taught.student.mask(taught.init == PRETRAINED, taught.family)
    for setting, group in taught.groupby(names, sort=False):
        models = [model for _, model in group.groupby("teacher", sort=False)]
        if len(models) >= FEW_TEACHERS:
            ratios = np.array([model.ratio.iloc[0] for model in models])
            reach = {"teachers": len(ratios), "least": ratios.min(), "most": ratios.max()}
            best = _best(ratios, pairing.shared(*models))
            lines.append(dict(zip(names, setting, strict=True)) | reach | best)
    columns = [*names, "teachers", "least", "most", "ratio", "low", "high", "within"]
    return pd.DataFrame(lines, columns=columns)


def _taught(table: pd.DataFrame, measured: Sequence[str] = ()) -> pd.DataFrame:
    """The rows, or the lines of a comparison, of siblings and of cut students that smaller teachers
    taught, too, whose teachers have answered: with the `ratio` of parameters, and with what is
    `measured` of their teachers (`…_teacher`). The name of a sibling stands for its family, that of
    the family for its teacher."""
    arms, written = roles.arms(table), table.student.map(sizes.written)
    teachers = table.assign(teacher=written.map(control_of).where(arms == CONTROL, FINE_TUNED))[
        (arms == TEACHER) | ((arms == CONTROL) & (table.init == FINE_TUNED))
    ]
    names = [*retention.SETTING, "teacher"]
    teachers = teachers.drop_duplicates(names)[[*names, "parameters_total", *measured]]
    cut = (table.init == FINE_TUNED) & table.student.isin(table.student[arms == SMALLER_TEACHER])
    sibling = (table.init == PRETRAINED) & (arms == STUDENT)
    pairs = table.assign(size=written)[sibling | (cut & arms.isin((STUDENT, SMALLER_TEACHER)))]
    pairs = pairs.merge(teachers, on=names, suffixes=("", "_teacher"))
    return pairs.assign(
        ratio=pairs.parameters_total_teacher / pairs.parameters_total,
        family=pairs.family.mask(pairs.init == PRETRAINED, pairs["size"]),
        teacher=pairs.teacher.mask(pairs.init == PRETRAINED, pairs.family),
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
