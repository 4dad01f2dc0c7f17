"""What an answer costs against how good it is."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studylib.analysis import formats, roles
from studylib.analysis.figures import look
from studylib.core.labels import STUDENT, TEACHER

COSTS = {"milliseconds": "time", "memory": "memory", "disk": "disk"}
TIMES = ["time_low", "time_high"]
FRONT = "front: no other is as fast and better"
NOTE = (
    "Bars: students' 95 % intervals of F1; of time, measured once a size, the range of its rounds."
)
LABEL = (
    "F1 of every model against time, memory and disk in percent of the teacher's, with the front of"
    " those that none beats in both"
)


def cost_figure(costs: pd.DataFrame) -> Figure:
    """F1 against what an answer costs in time, memory and disk, in percent of the teacher's. There
    is a row per family and test set (`cost.pareto`, with the bounds of F1).

    Students have intervals, and the first of a size the range of its measured times. Other models
    are hollow points. Models that no other beats in both time and F1 are joined by a line. The
    teacher is a point on a line with a band.
    """
    panels = list(costs.groupby(["family", "test_set"], sort=False))
    drawn = look.figure(2.4 * len(panels) + 0.9, LABEL)
    rows = drawn.subplots(len(panels), len(COSTS), sharey="row", sharex=True, squeeze=False)
    for axes, ((family, test), group) in zip(rows, panels, strict=True):
        (teacher,) = group[group.role == TEACHER].itertuples()
        for axis, (measure, name) in zip(axes, COSTS.items(), strict=True):
            look.teacher_line(axis.axhline, axis.axhspan, teacher)
            axis.plot(100, teacher.f1, "*", color="0.25", markersize=8, label="teacher")
            _models(axis, group, measure)
            axis.set_xlabel(f"{name}, % of teacher's", fontsize="small")
        axes[0].set_title(formats.titled(costs, family, test), loc="left", fontsize="medium")
        axes[0].set_ylabel("F1")
    look.legend(drawn, NOTE)
    return drawn


def _models(axis: Axes, group: pd.DataFrame, measure: str) -> None:
    """A point per model, students with their intervals, and of time the front."""
    timed = measure == "milliseconds"
    group = group.assign(
        share=group.time if timed else 100 * group[measure] / group[f"teacher_{measure}"]
    )
    main = group[roles.arms(group) == STUDENT]
    group.loc[main.index[main.duplicated("student")], TIMES] = None  # a size is timed once
    students = group[group.role != TEACHER]
    for (arm, init), points in students.groupby([roles.arms(students), "init"], sort=False):
        main = arm == STUDENT
        axis.errorbar(
            points.share,
            points.f1,
            xerr=look.reach(points, "time", TIMES) if timed and main else None,
            yerr=look.reach(points) if main else None,
            fmt=look.LOOKS[arm, init][0],
            elinewidth=look.BARS["elinewidth"],
            color=look.PALETTE[list(look.LOOKS).index((arm, init))],
            fillstyle="full" if main else "none",
            markersize=4 if main else 5,
            label=f"{arm}, {init} init",
        )
    if timed:
        front = group[group.front].sort_values("share")
        axis.plot(front.share, front.f1, ":", color="0.25", linewidth=1, label=FRONT, zorder=1)
