"""What an answer costs against how good it is."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studylib.analysis import formats, roles
from studylib.analysis.figures import look

COSTS = {"milliseconds": "time", "memory": "memory", "disk": "disk"}
LABEL = (
    "F1 of every model against time, memory and disk in percent of the teacher's, with the front of"
    " those that none beats in both"
)


def cost_figure(costs: pd.DataFrame) -> Figure:
    """F1 against what an answer costs in time, memory and disk, in percent of the teacher's. There
    is a row per family and test set (`cost.pareto`, with the bounds of F1).

    Time reaches from the fastest round to the slowest. Models that no other beats in both time and
    F1 are joined by a line. The teacher is a line with a band.
    """
    panels = list(costs.groupby(["family", "test_set"], sort=False))
    drawn = look.figure(2.4 * len(panels) + 0.6, LABEL)
    rows = drawn.subplots(len(panels), len(COSTS), sharey="row", sharex=True, squeeze=False)
    for axes, ((family, test), group) in zip(rows, panels, strict=True):
        (teacher,) = group[group.role == "teacher"].itertuples()
        for axis, (measure, name) in zip(axes, COSTS.items(), strict=True):
            look.teacher_line(axis.axhline, axis.axhspan, teacher)
            _models(axis, group, measure)
            axis.set_xlabel(f"{name}, % of teacher's", fontsize="small")
        axes[0].set_title(formats.titled(costs, family, test), loc="left", fontsize="medium")
        axes[0].set(ylabel="F1", ylim=(0, 1.1 * max(1.0, group.f1.max(), teacher.f1)))
    look.legend(drawn)
    return drawn


def _models(axis: Axes, group: pd.DataFrame, measure: str) -> None:
    """A point per model with its intervals, and of time the front."""
    timed = measure == "milliseconds"
    group = group.assign(
        share=group.time if timed else 100 * group[measure] / group[f"teacher_{measure}"]
    )
    students = group[group.role != "teacher"]
    for (arm, init), points in students.groupby([roles.arms(students), "init"], sort=False):
        axis.errorbar(
            points.share,
            points.f1,
            xerr=look.reach(points, "time", ("time_low", "time_high")) if timed else None,
            yerr=look.reach(points),
            fmt=look.LOOKS[arm, init][0],
            elinewidth=look.BARS["elinewidth"],
            color=look.PALETTE[list(look.LOOKS).index((arm, init))],
            fillstyle="full" if arm == "student" else "none",
            markersize=4 if arm == "student" else 7,
            label=f"{arm}, {init} init",
        )
    if timed:
        front = group[group.front].sort_values("share")
        axis.plot(front.share, front.f1, ":", color="0.25", linewidth=1, label="front", zorder=1)
