"""One look for all figures, readable in grey and colour-blind safe, and the parts that they share.

A figure is written as SVG (without date, so that the same rows give the same bytes) and PNG.
"""

import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from studylib.analysis import fonts
from studylib.analysis.retention import BOUNDS
from studylib.core.labels import OTHER_LOSSES, SMALLER_TEACHER

PALETTE = sns.color_palette("colorblind")
MARKERS = "oD^vPX*"  # a square is a control's
BARS: dict[str, Any] = {"elinewidth": 0.8, "capsize": 2}  # of intervals
# Markers and lines of students and controls, by arm (`roles.arms`) and initialisation.
LOOKS = {
    ("student", "fine-tuned"): ("o", "-"),
    ("control", "fine-tuned"): ("s", "--"),
    ("student", "base"): ("^", "-."),
    ("control", "base"): ("v", ":"),
    (OTHER_LOSSES, "fine-tuned"): ("D", "-"),
    (SMALLER_TEACHER, "fine-tuned"): ("P", "-"),
    ("student", "pretrained"): ("h", "-"),
    ("control", "pretrained"): (">", "--"),
    (OTHER_LOSSES, "pretrained"): ("d", "-"),
}
SETTINGS = {
    "axes.grid": True,
    "figure.constrained_layout.use": True,
    "grid.alpha": 0.3,
    "svg.fonttype": "none",
    "svg.hashsalt": "studylib",
}
WIDTH = 7.2  # inches: both columns of a paper
SLIDE = (1920, 1080)  # pixels that a figure fills, in one of both directions


def figure(height: float, label: str) -> Figure:
    """An empty figure of so many inches, with what it shows in words."""
    sns.set_theme(
        context="paper",
        style="ticks",
        palette=PALETTE,
        font=fonts.BASE,
        font_scale=1.05,
        rc=SETTINGS,
    )
    return Figure(figsize=(WIDTH, height), label=label)


def panels(
    table: pd.DataFrame,
    by: list[str],
    height: float,
    *,
    legend: float = 0.0,
    label: str,
    **shared: Any,
) -> tuple[Figure, list[tuple[Axes, tuple[str, ...], pd.DataFrame]]]:
    """A figure of one or two columns of panels, `height` inches each, with room for a legend; and
    its panels, one for each group of the table, with the group's names and lines."""
    groups = list(table.groupby(by, sort=False))
    columns = min(2, len(groups))
    lines = -(-len(groups) // columns)
    drawn = figure(height * lines + legend, label)
    axes = drawn.subplots(lines, columns, squeeze=False, **shared).flat
    for axis in axes[len(groups) :]:
        axis.set_visible(False)
    return drawn, [(axis, *group) for axis, group in zip(axes, groups, strict=False)]


def mark(number: int) -> dict[str, Any]:
    """The marker and colour of one of several things that no line joins."""
    return {
        "linestyle": "none",
        "marker": MARKERS[number % len(MARKERS)],
        "color": PALETTE[number % len(PALETTE)],
    }


def reach(
    table: pd.DataFrame, middle: str = "f1", bounds: Sequence[str] = BOUNDS["f1"]
) -> np.ndarray:
    """How far intervals reach to both sides, (2, lines)."""
    return np.abs(table[list(bounds)].T.to_numpy() - table[middle].to_numpy())


def seed_dots(axis: Axes, seeds: pd.DataFrame, x: Any, y: Any) -> None:
    """A dot per seed, where there are several."""
    if seeds.seed.nunique() > 1:
        axis.plot(x, y, ".", color="0.25", markersize=3)


def teacher_line(line: Callable, span: Callable, teacher: Any) -> None:
    """The teacher's F1 as a line, its interval as a band."""
    line(teacher.f1, color="0.25", linewidth=1, label="teacher, with its interval")
    if not np.isnan(teacher.f1_low):
        span(teacher.f1_low, teacher.f1_high, color="0.85", linewidth=0, zorder=0)


def legend(drawn: Figure, note: str | None = None) -> None:
    """One legend below the figure for what its panels show, with a note above."""
    entries = {
        label: handle
        for axis in drawn.axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    drawn.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=legend_columns(entries),
        frameon=False,
        fontsize="small",
        title=note,
        title_fontsize="small",
    )


def legend_columns(labels: Collection[str]) -> int:
    """How many entries of a legend stand side by side without its being wider than the figure."""
    return max(1, min(6, 105 // (max(map(len, labels), default=0) + 7)))


def save(drawn: Figure, folder: Path, name: str) -> None:
    """Write a figure into `folder`: `name`.svg of the size of a paper's two columns, `name`.png of
    that of a slide. Both have what they show in words (the figure's label)."""
    folder.mkdir(parents=True, exist_ok=True)
    words = {"Description": drawn.get_label()}
    with warnings.catch_warnings():  # whoever looks at a drawing has fonts
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        drawn.savefig(folder / f"{name}.svg", metadata={"Date": None, **words})
    dots = (np.array(SLIDE) / drawn.get_size_inches()).min()
    if families := fonts.fit(drawn.findobj(Text)):
        words["Fonts"] = ", ".join(families)
    drawn.savefig(folder / f"{name}.png", dpi=dots, metadata=words)
