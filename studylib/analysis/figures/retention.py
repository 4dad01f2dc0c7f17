"""How much of its teacher's F1 a student keeps, against how much smaller it is."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from studylib.analysis import formats, roles
from studylib.analysis.figures import look
from studylib.analysis.retention import BOUNDS, MARGIN, MODEL, PAPER, REPORTED, SETTING
from studylib.core import sizes
from studylib.core.labels import CONTROL

FILLS = {  # by what is cut; a vocabulary besides, whatever else
    "layers": "full",
    "layers and neurons": "none",
    "layers, in stages": "left",
    "layers and neurons, in stages": "right",
    "siblings": "top",
}
SIDES = {
    "reduction_total": "fewer parameters in all",
    "reduction_nonembedding": "fewer non-embedding parameters",
}
CURVE = ["family", "role", "init", "way"]
MOVED = 2  # points: how far controls are drawn from their place, so that no bar hides another
NOTE = (
    f"Bars: 95 % intervals. Controls have no curve and stand {MOVED} points right of their place."
)
LOWER, UPPER = BOUNDS["retention_f1"]
LABEL = (
    "F1 kept of the teacher against the reduction in parameters, in all and without embeddings, by"
    f" test set, on all questions, with 95 % intervals and the {MARGIN:.0f} % line, and in all with"
    f" the {REPORTED} % mark"
)


def retention_figure(kept: pd.DataFrame, seeds: pd.DataFrame, eval_prompt: str) -> Figure:
    """F1 kept against reduction, both kinds, a panel per test set.

    There is a curve per family, init and what was cut. Controls are points beside their students,
    which have the same reduction. All have intervals, and a dot per seed where there are several
    (`retention.by_seed`). The 90 % line and the teachers with their intervals are drawn. The paper
    counts all parameters: its 57.1 % mark is on that side alone. All are of this eval prompt, or of
    the first if it has no lines."""
    mode = eval_prompt if eval_prompt in set(kept.eval_prompt) else kept.eval_prompt.iloc[0]
    kept, seeds = (table[table.eval_prompt == mode] for table in (kept, seeds))
    kept = kept[roles.main(kept)]
    students = kept[kept.role != "teacher"]
    students = students.assign(way=[sizes.named(name).way for name in students.student])
    teachers = kept[kept.role == "teacher"].dropna(subset="retention_f1")
    tests, curves = list(kept.test_set.unique()), students.groupby(CURVE).ngroups
    drawn = look.figure(2.4 * len(tests) + 0.9 + 0.2 * max(0, curves - 4), LABEL)
    axes = drawn.subplots(len(tests), 2, sharex=True, sharey=True, squeeze=False)
    least = students[["retention_f1", LOWER]].min().min() if len(students) else 0
    most = kept[["retention_f1", UPPER]].max().max()
    uncut = (students[list(SIDES)] < 1).any(axis=None)  # its points need room beside the axis
    axes[0][0].set(
        xlim=(-3 if uncut else 0, 100),
        ylim=(max(0, 10 * (least // 10) - 10), max(106, 1.04 * most)),
    )
    for row, test in zip(axes, tests, strict=True):
        for axis, side in zip(row, SIDES, strict=True):
            _curves(axis, students[students.test_set == test], seeds, side)
            _teachers(axis, teachers[teachers.test_set == test])
            _marks(axis, side)
        row[0].set_ylabel(f"F1 kept, all questions\n{test}, {mode}")
    for axis, name in zip(axes[-1], SIDES.values(), strict=True):
        axis.set_xlabel(name)
    look.legend(drawn, NOTE)
    return drawn


def _curves(axis: Axes, students: pd.DataFrame, seeds: pd.DataFrame, side: str) -> None:
    """Curves of F1 kept and points of controls, with intervals and a dot per seed."""
    families, several_ways = list(students.family.unique()), students.way.nunique() > 1
    for (family, role, init, way), points in students.groupby(CURVE, sort=False):
        points = points.sort_values(side)
        marker, line = look.LOOKS[role, init]
        colour = look.PALETTE[families.index(family)]
        label = formats.titled(students, family, role, f"{init} init")
        places = points[side]
        if role == CONTROL:
            places = places + MOVED
        else:
            axis.plot(places, points.retention_f1, line, color=colour, linewidth=1)
        axis.errorbar(
            places,
            points.retention_f1,
            yerr=look.reach(points, "retention_f1", (LOWER, UPPER)),
            fmt=marker,
            markersize=5,
            color=colour,
            fillstyle=FILLS.get(way, "bottom")
            if several_ways
            else "none"
            if role == CONTROL
            else "full",
            label=f"{label}: {way}" if several_ways else label,
            **look.BARS,
        )
        several = points.assign(place=places)[points.seeds > 1]
        each = several.merge(seeds, on=[*SETTING, *MODEL], suffixes=("", "_seed"))
        look.seed_dots(axis, each, each.place, each.retention_f1_seed)


def _teachers(axis: Axes, teachers: pd.DataFrame) -> None:
    """The teachers, at 100 %, with bands for intervals of their own."""
    for teacher in teachers.itertuples():
        axis.axhline(100, color="0.25", linewidth=0.8)
        axis.axhspan(
            100 * teacher.f1_low / teacher.f1,
            100 * teacher.f1_high / teacher.f1,
            color="0.85",
            linewidth=0,
            zorder=0,
            label="teachers, with their own 95 % intervals",
        )


def _marks(axis: Axes, side: str) -> None:
    """The 90 % line and, among all parameters, the paper's reduction, named outside the panel; both
    axes in percent."""
    style: Any = {"fontsize": "small", "textcoords": "offset points"}
    margin = f"{MARGIN:.0f} %"
    axis.axhline(MARGIN, color="0", linewidth=1, linestyle=(0, (6, 3)), label=f"{margin} kept")
    axis.annotate(margin, (1, MARGIN), (3, 0), ("axes fraction", "data"), va="center", **style)
    if side == "reduction_total":
        mark, place = f"{REPORTED} %", ("data", "axes fraction")
        line: Any = {"color": "0.25", "linewidth": 1, "linestyle": (0, (1, 2))}
        axis.axvline(REPORTED, label=f"{mark}, reported by {PAPER}", **line)
        axis.annotate(mark, (REPORTED, 1), (0, 2), place, ha="center", va="bottom", **style)
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_formatter(PercentFormatter(decimals=0))
