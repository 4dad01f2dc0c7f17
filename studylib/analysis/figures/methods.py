"""Every method against what its training costs."""

import pandas as pd
from matplotlib.figure import Figure

from studylib.analysis.figures import look
from studylib.analysis.methods_table import SETTING
from studylib.core.labels import CONTROL


def frontier_figure(table: pd.DataFrame) -> Figure:
    """F1 against the FLOPs of training, a panel per test set (`methods_table.compare`); the control
    at its budgets is a line."""
    panels = list(table.groupby(SETTING, sort=False))
    figure = look.figure(2.9 * len(panels), "F1 of every method against the FLOPs of its training")
    axes = figure.subplots(len(panels), squeeze=False)[:, 0]
    for axis, (setting, part) in zip(axes, panels, strict=True):
        control = part[part.role == CONTROL].sort_values("training_flops")
        axis.plot(control.training_flops, control.f1, "s--", color="0.4", label="control")
        for count, (_, row) in enumerate(part[part.role != CONTROL].iterrows()):
            axis.plot(
                row.training_flops,
                row.f1,
                look.MARKERS[count % len(look.MARKERS)],
                ls="",
                label=row.objective,
            )
        axis.set(xlabel="training, FLOPs", ylabel="F1", title=", ".join(setting))
    axes[0].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure
