"""What a demonstration in the prompt does, and to which questions."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studylib.analysis import formats
from studylib.analysis.figures import look
from studylib.analysis.retention import MODEL, SETTING
from studylib.core.labels import FINE_TUNED


def modes_figure(kept: pd.DataFrame, seeds: pd.DataFrame) -> Figure:
    """F1 by how a model is asked, a colour per way of training, with intervals. There is a panel
    per family, test set and role, and a dot per seed where there are several."""
    kept = kept.assign(
        way="trained "
        + kept.train_prompt
        + np.where(kept.teacher == FINE_TUNED, "", ", context distillation")
    )
    drawn, panels = look.panels(
        kept,
        ["family", "test_set", "role"],
        2.3,
        legend=0.5,
        label="F1 of teacher and student by how they are asked, a colour for each way they were"
        " trained, with intervals of each alone (not paired)",
        sharex=True,
        sharey=True,
    )
    modes = list(kept.eval_prompt.unique())
    labels = [mode.replace(" ", "\n") for mode in modes]
    for axis, names, group in panels:
        _ways(axis, group, seeds, list(kept.way.unique()), modes)
        axis.set_title(formats.titled(kept, *names), fontsize="medium")
        axis.set(xlim=(-0.5, len(modes) - 0.5), ylabel="F1")
        axis.set_xticks(range(len(modes)), labels, fontsize="small")
    look.legend(drawn)
    return drawn


def _ways(
    axis: Axes, models: pd.DataFrame, seeds: pd.DataFrame, ways: list[str], modes: list[str]
) -> None:
    """The models of one panel by how they are asked, ways of training side by side."""
    for way, points in models.groupby("way", sort=False):
        number = ways.index(way)
        beside = 0.16 * (number - (len(ways) - 1) / 2)
        places = {mode: place + beside for place, mode in enumerate(modes)}
        axis.errorbar(
            points.eval_prompt.map(places),
            points.f1,
            yerr=look.reach(points),
            label=way,
            markersize=4,
            **look.mark(number),
            **look.BARS,
        )
        each = seeds.merge(points[[*SETTING, *MODEL]])
        look.seed_dots(axis, each, each.eval_prompt.map(places), each.f1)


def traits_figure(table: pd.DataFrame) -> Figure:
    """Differences in F1 by a demonstration with intervals around a line at 0
    (`prompting.by_trait`). There is a panel per family and test set, and a line per trait of the
    questions."""
    names = table[["trait", "value"]].astype(str).agg(": ".join, axis=1)
    lines = [
        name for _, values in names.groupby(table.trait, sort=False) for name in values.unique()
    ]
    drawn, panels = look.panels(
        table,
        ["family", "test_set"],
        0.9 + 0.19 * len(lines),
        label="F1 of the student trained and asked with a demonstration minus that of the one"
        " without, by traits of the questions, with intervals",
        sharex=True,
        sharey=True,
    )
    for axis, title, group in panels:
        group = group.set_index(names[group.index]).reindex(lines)
        axis.axvline(0, color="0.25", linewidth=1)
        axis.errorbar(
            group.difference,
            lines,
            xerr=look.reach(group, "difference", ("low", "high")),
            fmt="o",
            color=look.PALETTE[0],
            markersize=4,
            **look.BARS,
        )
        axis.set_title(formats.titled(table, *title), fontsize="medium")
        axis.set_xlabel("F1, with a demonstration − without", fontsize="small")
        axis.margins(y=0.05)
    drawn.axes[0].invert_yaxis()
    return drawn
