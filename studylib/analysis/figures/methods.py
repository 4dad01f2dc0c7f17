"""Every method against what its training costs."""

import pandas as pd
from matplotlib.figure import Figure

from studylib.analysis import formats, methods_table
from studylib.analysis.figures import look
from studylib.analysis.methods_table import SETTING
from studylib.core.labels import CONTROL

BAND = "control ± minimum detectable effect"


def frontier_figure(table: pd.DataFrame) -> Figure:
    """F1 against the FLOPs of training, a panel per test set (`methods_table.compare`), of students
    as they answer usually; the control at its budgets is a line. A band around the control holds
    the differences to it that the median method would need to be told apart (MDE)."""
    table = table[~methods_table.other_way(table)]
    panels = list(table.groupby(SETTING, sort=False))
    objectives = list(table.objective[table.role != CONTROL].unique())
    entries = ["control", BAND, *objectives]
    figure = look.figure(
        2.6 * len(panels) + 0.17 * (len(entries) / look.legend_columns(entries) + 1),
        "F1 of every method against the FLOPs of its training",
    )
    axes = figure.subplots(len(panels), squeeze=False, sharex=True)[:, 0]
    for axis, (setting, part) in zip(axes, panels, strict=True):
        control = part[part.role == CONTROL].sort_values("training_flops")
        axis.plot(control.training_flops, control.f1, "s--", color="0.4", label="control")
        compared = part.dropna(subset=["control_f1_difference", "control_f1_detectable"])
        if len(compared):
            middle = (compared.f1 - compared.control_f1_difference).iloc[0]
            reach = compared.control_f1_detectable.median()
            band = {"color": "0.85", "linewidth": 0, "zorder": 0}
            axis.axhspan(middle - reach, middle + reach, label=BAND, **band)
        for _, row in part[part.role != CONTROL].iterrows():
            style = look.mark(objectives.index(row.objective))
            axis.plot(row.training_flops, row.f1, label=row.objective, **style)
        axis.set(ylabel="F1", xscale="log")
        axis.set_title(formats.titled(table, *setting), loc="left", fontsize="medium")
    axes[-1].set_xlabel("training, FLOPs")
    look.legend(figure)
    return figure
