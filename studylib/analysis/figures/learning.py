"""How models learned: loss and F1 by training step."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from studylib.analysis import roles
from studylib.analysis.figures import look
from studylib.core import sizes

LINES = ("-", "--", "-.", ":")
COLOURS = [look.PALETTE[number] for number in (0, 1, 2, 3, 4, 9, 7, 5, 6, 8)]  # pale ones last
MANY = 4  # curves: a column of more is twice as wide
UNCUT = "uncut"  # what the teacher's curve is called
LABEL = "Loss by training step, on dev as markers, and F1 on dev, of teacher, students and controls"


def learning_figure(curves: pd.DataFrame) -> Figure:
    """Loss over steps (a line, smoothed; on dev as markers) and dev F1, a colour per size, teacher,
    students and controls in columns."""
    curves = curves[roles.main(curves)]
    curves = curves.assign(
        model=np.where(
            curves.role == "teacher", "teacher", curves.role + ",\n" + curves.init + " init"
        ),
        label=_labels(curves),
    )
    columns, families = list(curves.model.unique()), list(curves.family.unique())
    styles = _styles([label for label in curves.label.unique() if label != UNCUT])
    lines = -(-(len(styles) - 1) // look.legend_columns(list(styles)))
    drawn = look.figure(4.0 * len(families) + 0.2 * lines, LABEL)
    shown = curves.groupby("model", sort=False).label.nunique()
    axes = drawn.subplots(
        2 * len(families),
        len(columns),
        sharex="col",
        sharey="row",
        squeeze=False,
        width_ratios=1 + (shown > MANY),
        height_ratios=[2, 3] * len(families),
    )
    trainings = curves.groupby(["family", "model", "label", "seed"], sort=False)
    for (family, model, label, _), curve in trainings:
        top, column = 2 * families.index(family), columns.index(model)
        _curve(axes[top][column], axes[top + 1][column], curve, label, styles[label])
    for number, family in enumerate(families):
        upper, lower = axes[2 * number : 2 * number + 2]
        upper[0].set_ylabel("loss per token\n(markers: dev)")
        lower[0].set(ylabel="dev F1", ylim=(0, None))
        for axis, model in zip(upper, columns, strict=True):
            axis.set_title(f"{family}\n{model}" if len(families) > 1 else model, fontsize="medium")
            _logarithmic(axis)
    for axis in axes[-1]:
        axis.set_xlabel("step")
    look.legend(drawn)
    return drawn


def _curve(loss: Axes, f1: Axes, curve: pd.DataFrame, label: str, style: dict) -> None:
    """One training: its loss in one panel, its F1 on dev in the other."""
    smooth = curve.loss.rolling(max(1, len(curve) // 20), min_periods=1).mean()
    loss.plot(curve.step, smooth, **style | {"marker": "none"})
    dev = curve.dropna(subset="dev_f1")
    loss.plot(dev.step, dev.dev_loss, **style | {"linestyle": "none"})
    f1.plot(dev.step, dev.dev_f1, label=label, **style)


def _styles(labels: list[str]) -> dict[str, dict]:
    """Colour, marker and line of each curve; the uncut teacher's first."""
    return {
        label: {
            "color": COLOURS[(number - 1) % len(COLOURS)] if number else "0.2",
            "marker": look.MARKERS[number % len(look.MARKERS)],
            "linestyle": LINES[number % len(LINES)],
            "linewidth": 1,
            "fillstyle": "none",
            "markersize": 5,
        }
        for number, label in enumerate([UNCUT, *labels])
    }


def _logarithmic(axis: Axes) -> None:
    axis.set(yscale="log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def _labels(curves: pd.DataFrame) -> pd.Series:
    """What a curve is called beside its family and role: its size, prompting and teacher, each
    where there are several. The size also stands where nothing else differs."""
    uncut = curves.role == "teacher"
    names = curves.student.map(lambda name: sizes.named(name).title if name else UNCUT)
    label = names
    if curves.teacher[curves.role == "student"].nunique() > 1:
        teachers = "teacher: " + curves.teacher
        several_sizes = names[~uncut].nunique() > 1
        label = (names + ", " + teachers if several_sizes else teachers).mask(uncut, UNCUT)
    return label + ", " + curves.train_prompt if curves.train_prompt.nunique() > 1 else label
