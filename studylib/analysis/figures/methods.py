"""Every method against what its training costs."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator, ScalarFormatter

from studylib.analysis import formats, methods_table
from studylib.analysis.figures import look
from studylib.analysis.methods_table import SETTING
from studylib.core.labels import CONTROL

DIFFERENCE, BOUNDS = "control_f1_difference", ("control_f1_low", "control_f1_high")
LEVEL = "control of as many steps"
NOTE = (
    "Bars: 95 % intervals of the differences to the control (line), not corrected.\n"
    "Methods of the same cost stand side by side."
)
BESIDE = 0.015  # of the range of costs: from one method to the next of the same cost


def frontier_figure(table: pd.DataFrame) -> Figure:
    """F1 against the FLOPs of training, a panel per test set (`methods_table.compare`), of students
    as they answer usually. Bars are intervals of the difference to the control of as many steps,
    whose F1 is a line. Several budgets of the control are joined."""
    table = table[~methods_table.other_way(table)]
    panels = list(table.groupby(SETTING, sort=False))
    objectives = list(table.objective[table.role != CONTROL].unique())
    entries = ["control", LEVEL, *objectives]
    figure = look.figure(
        2.6 * len(panels) + 0.17 * (len(entries) / look.legend_columns(entries) + 3),
        "F1 of every method against the FLOPs of its training, with 95 % intervals of the"
        " differences to the control",
    )
    axes = figure.subplots(len(panels), squeeze=False, sharex=True)[:, 0]
    for axis, (setting, part) in zip(axes, panels, strict=True):
        _controls(axis, part)
        _methods(axis, part[part.role != CONTROL], objectives)
        axis.set(ylabel="F1", xscale="log")
        axis.set_title(formats.titled(table, *setting), loc="left", fontsize="medium")
    axes[-1].set_xlabel("training, FLOPs")
    _ticks(axes[-1])
    look.legend(figure, NOTE)
    return figure


def _controls(axis: Axes, part: pd.DataFrame) -> None:
    """The control at its budgets, and its F1 where methods are compared with it."""
    controls = part[part.role == CONTROL].sort_values("training_flops")
    style = "s--" if len(controls) > 1 else "s"
    axis.plot(controls.training_flops, controls.f1, style, color="0.4", label="control")
    for level in controls.f1[controls.steps == part.steps[part.role != CONTROL].max()]:
        axis.axhline(level, color="0.4", linewidth=0.8, label=LEVEL, zorder=1)


def _methods(axis: Axes, students: pd.DataFrame, objectives: list[str]) -> None:
    """A point per method with its interval, those of the same cost (to two digits) in a row."""
    flops = students.training_flops
    costs = flops.groupby(flops.map("{:.1e}".format))
    number = costs.cumcount() - (costs.transform("size") - 1) / 2
    places = flops * max(2, flops.max() / flops.min()) ** (BESIDE * number)
    for objective, points in students.groupby("objective", sort=False):
        axis.errorbar(
            places[points.index],
            points.f1,
            yerr=look.reach(points, DIFFERENCE, BOUNDS),
            label=objective,
            **look.mark(objectives.index(objective)),
            **look.BARS,
        )


def _ticks(axis: Axes) -> None:
    """At least two labels on a logarithmic axis, however few decades it has."""
    low, high = axis.get_xlim()
    axis.set_xlim(low, high)
    if high < 100 * low:
        axis.xaxis.set_major_locator(AutoLocator())
        axis.xaxis.set_major_formatter(ScalarFormatter(useOffset=False))
        axis.xaxis.minorticks_off()
