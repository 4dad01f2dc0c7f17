"""Every figure, from a comparison: one look, readable in grey, colour-blind safe.

A figure is written as SVG (without date, so that the same rows give the same bytes) and PNG.
"""

import warnings
from collections.abc import Callable, Collection, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import Image, Markdown
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter, PercentFormatter

from studylib.analysis import comparison, fonts
from studylib.analysis.comparison import BOUNDS
from studylib.core import sizes as core_sizes

PALETTE = sns.color_palette("colorblind")
LOOKS = {
    ("student", "tuned"): ("o", "-"),
    ("twin", "tuned"): ("s", "--"),
    ("student", "raw"): ("^", "-."),
    ("twin", "raw"): ("v", ":"),
    ("rival", "tuned"): ("D", "-"),
    ("pupil", "tuned"): ("P", "-"),
    ("student", "pretrained"): ("h", "-"),
    ("twin", "pretrained"): ("X", "--"),
    ("rival", "pretrained"): ("d", "-"),
}
FILLS = {
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
COSTS = {"milliseconds": "time", "memory": "memory", "disk": "disk"}
OTHERS = ("rival", "pupil")  # students that something else was tried on
LINES = ("-", "--", "-.", ":")
WIDTH = 7.2  # inches: both columns of a paper
SLIDE = (1920, 1080)  # pixels that a figure fills, in one of both directions
LOWER, UPPER = BOUNDS["retention_f1"]


def look() -> None:
    """The one look of all figures."""
    sns.set_theme(context="paper", style="ticks", palette=PALETTE, font=fonts.BASE, font_scale=1.05)
    mpl.rcParams.update(
        {
            "svg.hashsalt": "studylib",
            "svg.fonttype": "none",
            "figure.constrained_layout.use": True,
            "axes.grid": True,
            "grid.alpha": 0.3,
        }
    )


def retention_figure(kept: pd.DataFrame, seeds: pd.DataFrame, asked: str) -> Figure:
    """F1 kept against reduction, both kinds, a panel per test set, a curve per family, role, start
    and what was cut, with intervals, and a dot per seed where there are several
    (`comparison.by_seed`); the 90 % line and the 57.1 % mark, the teachers with their intervals.
    Models are `asked` in this way, or if none was in the first. What has the same reduction is
    drawn side by side."""
    look()
    mode = asked if asked in set(kept.asked) else kept.asked.iloc[0]
    kept, seeds = (table[table.asked == mode] for table in (kept, seeds))
    students = kept[kept.role.isin(("student", "twin"))]
    students = students.assign(way=students.student.map(lambda name: core_sizes.named(name).way))
    tests, curves = (
        list(kept.test_set.unique()),
        students.groupby(["family", "role", "start", "way"]).ngroups,
    )
    figure = Figure(
        figsize=(WIDTH, 2.4 * len(tests) + 0.9 + 0.2 * max(0, curves - 4)),
        label=(
            "F1 kept of the teacher against the reduction in parameters, in all and without"
            " embeddings, by test set, on all questions, with intervals, the 90 % line and the 57.1"
            " % mark"
        ),
    )
    axes = figure.subplots(len(tests), 2, sharex=True, sharey=True, squeeze=False)
    bottom = (
        max(0, 10 * (students[["retention_f1", LOWER]].min().min() // 10) - 10)
        if len(students)
        else 0
    )
    top = max(112, 1.04 * kept[["retention_f1", UPPER]].max().max())
    axes[0][0].set(xlim=(0, 100), ylim=(bottom, top))
    for row, test in zip(axes, tests, strict=True):
        means, dots = (table[table.test_set == test] for table in (students, seeds))
        for axis, side in zip(row, SIDES, strict=True):
            _retained(axis, means, dots, side)
            for teacher in (
                kept[(kept.role == "teacher") & (kept.test_set == test)]
                .dropna(subset="retention_f1")
                .itertuples()
            ):
                low, high = (
                    100 * bound / teacher.f1 for bound in (teacher.f1_low, teacher.f1_high)
                )
                axis.axhline(100, color="0.25", linewidth=0.8)
                axis.axhspan(
                    low,
                    high,
                    color="0.85",
                    linewidth=0,
                    zorder=0,
                    label="teachers, with intervals of their own (not paired)",
                )
            _marked(axis)
        row[0].set_ylabel(f"F1 kept, {test}, {mode}")
    for axis, name in zip(axes[-1], SIDES.values(), strict=True):
        axis.set_xlabel(name)
    _legend(figure, *axes.flat)
    return figure


def _retained(axis: mpl.axes.Axes, students: pd.DataFrame, seeds: pd.DataFrame, side: str) -> None:
    """Curves of F1 kept, with intervals and a dot per seed."""
    families, several_ways = list(students.family.unique()), students.way.nunique() > 1
    for (family, role, start, way), points in students.groupby(
        ["family", "role", "start", "way"], sort=False
    ):
        points = points.sort_values(side)
        marker, style = LOOKS[role, start]
        colour, beside = PALETTE[families.index(family)], 0.6 if role == "twin" else -0.6
        look_of = dict(fmt=marker, markersize=5, color=colour, elinewidth=0.8, capsize=2)
        look_of |= {
            "fillstyle": FILLS[way] if several_ways else "none" if role == "twin" else "full"
        }
        look_of |= {
            "label": (
                comparison.titled(students, family, role, f"{start} start")
                + (f": {way}" if several_ways else "")
            )
        }
        axis.plot(points[side], points.retention_f1, style, color=colour, linewidth=1)
        axis.errorbar(
            points[side] + beside,
            points.retention_f1,
            yerr=_spread(points, "retention_f1", (LOWER, UPPER)),
            **look_of,
        )
        each = points.merge(
            seeds, on=[*comparison.SETTING, *comparison.MODEL], suffixes=("", "_seed")
        )
        each = each[each.seeds > 1]
        axis.plot(each[side] + beside, each.retention_f1_seed, ".", color="0.25", markersize=3)


def cost_figure(costs: pd.DataFrame) -> Figure:
    """F1 against what an answer costs in time (from the fastest round to the slowest), memory and
    disk, all in percent of the teacher's, a row per family and test set; those that no other beats
    in both time and F1 on a line, the teacher as a line with a band (`comparison.pareto`, with the
    bounds of F1)."""
    look()
    panels = list(costs.groupby(["family", "test_set"], sort=False))
    label = (
        "F1 of every model against time, memory and disk in percent of the teacher's, with the"
        " front of those that none beats in both"
    )
    figure = Figure(figsize=(WIDTH, 2.4 * len(panels) + 0.6), label=label)
    rows = figure.subplots(len(panels), len(COSTS), sharey="row", sharex=True, squeeze=False)
    for axes, ((family, test), group) in zip(rows, panels, strict=True):
        (teacher,) = group[group.role == "teacher"].itertuples()
        for axis, (what, name) in zip(axes, COSTS.items(), strict=True):
            timed = what == "milliseconds"
            group = group.assign(
                share=group.time if timed else 100 * group[what] / group[f"teacher_{what}"]
            )
            _teacher_line(axis.axhline, axis.axhspan, teacher)
            for (role, start), points in group[group.role != "teacher"].groupby(
                ["role", "start"], sort=False
            ):
                marker, _ = LOOKS[role, start]
                colour, filled = (
                    PALETTE[list(LOOKS).index((role, start))],
                    "full" if role == "student" else "none",
                )
                about = dict(
                    color=colour,
                    fillstyle=filled,
                    label=f"{role}, {start} start",
                    markersize=4 if role == "student" else 7,
                )
                around = _spread(points, "time", ("time_low", "time_high")) if timed else None
                axis.errorbar(
                    points.share,
                    points.f1,
                    xerr=around,
                    yerr=_spread(points),
                    fmt=marker,
                    elinewidth=0.8,
                    **about,
                )
            if timed:
                front = group[group.front].sort_values("share")
                axis.plot(
                    front.share,
                    front.f1,
                    color="0.25",
                    linewidth=1,
                    linestyle=":",
                    label="front",
                    zorder=1,
                )
            axis.set_xlabel(f"{name}, % of teacher's", fontsize="small")
        axes[0].set_title(comparison.titled(costs, family, test), loc="left", fontsize="medium")
        axes[0].set_ylabel("F1")
        axes[0].set_ylim(0, 1.1 * max(1.0, group.f1.max(), teacher.f1))
    _legend(figure, *rows.flat)
    return figure


def _teacher_line(line: Callable, span: Callable, teacher: Any) -> None:
    """The teacher's F1 as a line, its interval as a band."""
    line(teacher.f1, color="0.25", linewidth=1, label="teacher, with its interval")
    if not np.isnan(teacher.f1_low):
        span(teacher.f1_low, teacher.f1_high, color="0.85", linewidth=0, zorder=0)


def ladder_figure(ladder: pd.DataFrame, seeds: pd.DataFrame) -> Figure:
    """F1 of one student under ever larger teachers, with intervals and a dot per seed where there
    are several (`comparison.by_seed`), against the ratio of their parameters, and the teachers'
    own; a panel per family, test set and prompting."""
    look()
    panels = list(ladder.groupby(["family", "test_set", "asked"], sort=False))
    label = (
        "F1 of one student against the size of its teacher, with intervals, and the teachers'"
        " own F1"
    )
    figure, axes = _grid(len(panels), 2.4, legend=0.4, label=label, sharex=True)
    for axis, ((family, test, asked), group) in zip(axes, panels, strict=True):
        axis.errorbar(
            group.ratio,
            group.f1,
            yerr=_spread(group),
            fmt="o-",
            markersize=5,
            elinewidth=0.8,
            capsize=2,
            label="the student",
        )
        axis.plot(
            group.ratio, group.teacher_f1, "s:", color="0.4", markersize=4, label="its teacher"
        )
        each = seeds.merge(group[[*comparison.SETTING, "student", "teacher", "ratio"]])
        each = each[(each.start == "tuned") & each.role.isin(("student", "pupil"))]
        if each.seed.nunique() > 1:
            axis.plot(each.ratio, each.f1, ".", color="0.25", markersize=3)
        axis.set(
            title=comparison.titled(ladder, family, test, asked),
            xlabel="parameters of teacher / student",
            ylabel="F1",
        )
        axis.set_ylim(0, 1.1 * max(1.0, group[["f1", "f1_high", "teacher_f1"]].max().max()))
    _legend(figure, axes[0])
    return figure


def _marked(axis: mpl.axes.Axes) -> None:
    """The 90 % line and the 57.1 % mark; both axes in percent."""
    kept, fewer = comparison.MARGIN, comparison.REPORTED
    axis.axhline(kept, color="0.25", linewidth=1)
    axis.annotate(
        f"{kept:.0f} %",
        (0.995, kept),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        fontsize="small",
    )
    axis.axvline(
        fewer,
        color="0.25",
        linewidth=1,
        linestyle=(0, (1, 2)),
        label=f"{fewer} %, the reduction that {comparison.PAPER} report",
    )
    axis.annotate(
        f"{fewer} %",
        (fewer, 0.98),
        xycoords=("data", "axes fraction"),
        rotation=90,
        ha="right",
        va="top",
        fontsize="small",
    )
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(PercentFormatter(decimals=0))


def learning_figure(curves: pd.DataFrame) -> Figure:
    """Loss over steps (a line, smoothed; on dev as dots) and dev F1, a colour per size, teacher,
    students and twins in columns."""
    look()
    curves = curves[~curves.role.isin(OTHERS)]
    curves = curves.assign(
        who=np.where(
            curves.role == "teacher", "teacher", curves.role + ",\n" + curves.start + " start"
        )
    )
    curves = curves.assign(label=_labels(curves))
    kinds, families = list(curves.who.unique()), list(curves.family.unique())
    labels = [label for label in curves.label.unique() if label != "uncut"]
    figure = Figure(
        figsize=(WIDTH, 3.0 * len(families) + 0.2 * -(-len(labels) // _columns(labels))),
        label=(
            "Loss by training step, on dev as dots, and F1 on dev, of teacher, students and twins"
        ),
    )
    axes = figure.subplots(2 * len(families), len(kinds), sharex="col", sharey="row", squeeze=False)
    shades = dict(zip(labels, sns.color_palette("colorblind", len(labels)), strict=True)) | {
        "uncut": "0.2"
    }
    shapes = {
        label: ("osD^vPX"[number % 7], LINES[number % len(LINES)])
        for number, label in enumerate(["uncut", *labels])
    }
    for (family, who, label, _), curve in curves.groupby(
        ["family", "who", "label", "seed"], sort=False
    ):
        top, column, colour, (marker, line) = (
            2 * families.index(family),
            kinds.index(who),
            shades[label],
            shapes[label],
        )
        window = max(1, len(curve) // 20)
        axes[top][column].plot(
            curve.step,
            curve.loss.rolling(window, min_periods=1).mean(),
            color=colour,
            linewidth=1.2,
            linestyle=line,
        )
        measured = curve.dropna(subset="dev_f1")
        axes[top][column].plot(
            measured.step,
            measured.dev_loss,
            marker=marker,
            markersize=4,
            linestyle="none",
            color=colour,
        )
        axes[top + 1][column].plot(
            measured.step,
            measured.dev_f1,
            marker=marker,
            markersize=4,
            linestyle=line,
            color=colour,
            label=label,
        )
    for number, family in enumerate(families):
        axes[2 * number][0].set_ylabel("loss per token\n(dots: dev)")
        axes[2 * number + 1][0].set(ylabel="dev F1", ylim=(0, 105), yticks=range(0, 101, 25))
        for axis, who in zip(axes[2 * number], kinds, strict=True):
            axis.set_title("\n".join([family] * (len(families) > 1) + [who]), fontsize="medium")
            axis.set(yscale="log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
            axis.yaxis.set_major_formatter(FormatStrFormatter("%g"))
            axis.yaxis.set_minor_formatter(NullFormatter())
    for axis in axes[-1]:
        axis.set_xlabel("step")
    _legend(figure, *axes.flat)
    return figure


def _labels(curves: pd.DataFrame) -> pd.Series:
    """What a curve is called beside its family and role: by size, prompting and teacher, each where
    there are several, and by size where nothing else differs."""
    uncut = curves.role == "teacher"
    sizes = curves.student.map(
        {
            name: core_sizes.named(name).title if name else "uncut"
            for name in curves.student.unique()
        }
    )
    parts = []
    if curves.teacher[curves.role == "student"].nunique() > 1:
        parts.append(("taught by " + curves.teacher).mask(uncut, "uncut"))
    if sizes[~uncut].nunique() > 1 or not parts:
        parts.insert(0, sizes)
    label = reduce(lambda one, other: one.mask(~uncut, one + ", " + other), parts)
    return label + ", " + curves.trained if curves.trained.nunique() > 1 else label


def _legend(figure: Figure, *axes: mpl.axes.Axes) -> None:
    entries = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=_columns(entries),
        frameon=False,
        fontsize="small",
    )


def _columns(labels: Collection[str]) -> int:
    """How many entries of a legend stand side by side without its being wider than the figure."""
    return max(1, min(6, 105 // (max(map(len, labels), default=0) + 7)))


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `name`.svg, of the size of a paper's two columns, and `name`.png, of that of a slide,
    into `folder`, both with what they show in words (the figure's label)."""
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", r"Glyph .* missing from font", UserWarning
        )  # whoever looks at a drawing has fonts
        figure.savefig(
            folder / f"{name}.svg", metadata={"Date": None, "Description": figure.get_label()}
        )
    dots = min(
        pixels / inches for pixels, inches in zip(SLIDE, figure.get_size_inches(), strict=True)
    )
    families = fonts.fit(figure.findobj(Text))
    about = {"Description": figure.get_label()} | (
        {"Fonts": ", ".join(families)} if families else {}
    )
    figure.savefig(folder / f"{name}.png", dpi=dots, metadata=about)


def _grid(
    panels: int, height: float, *, legend: float = 0.0, label: str, **shared: Any
) -> tuple[Figure, list[mpl.axes.Axes]]:
    """A figure of one or two columns of panels, `height` inches each, with room for a legend."""
    columns = min(2, panels)
    lines = -(-panels // columns)
    figure = Figure(figsize=(WIDTH, height * lines + legend), label=label)
    axes = list(figure.subplots(lines, columns, squeeze=False, **shared).flat)
    for axis in axes[panels:]:
        axis.set_visible(False)
    return figure, axes[:panels]


def _spread(
    table: pd.DataFrame, middle: str = "f1", bounds: Sequence[str] = ("f1_low", "f1_high")
) -> np.ndarray:
    """How far intervals reach to both sides, (2, lines)."""
    return np.abs(table[list(bounds)].T.to_numpy() - table[middle].to_numpy())


def choice_figure(kept: pd.DataFrame, seeds: pd.DataFrame) -> Figure:
    """F1 of a student by who taught it, the best on top, with intervals, and a dot per seed where
    there are several (`comparison.by_seed`), a panel per test set and prompting; the tuned teacher
    as a line with a band."""
    look()
    panels = [
        one
        for one in kept.groupby(["family", "test_set", "asked"], sort=False)
        if (one[1].role != "teacher").any()
    ]
    best_last = list(
        kept[kept.role != "teacher"].drop_duplicates("teacher").sort_values("f1").teacher
    )  # where each was asked first
    label = (
        "F1 of the student by who taught it, with intervals of its own (not paired), and that of"
        " the tuned teacher"
    )
    figure, axes = _grid(len(panels), 0.9 + 0.2 * len(best_last), label=label, sharey=True)
    for axis, ((family, test, asked), group) in zip(axes, panels, strict=True):
        students = group[group.role != "teacher"].set_index("teacher").reindex(best_last)
        (teacher,) = group[group.role == "teacher"].itertuples()
        _teacher_line(axis.axvline, axis.axvspan, teacher)
        axis.errorbar(
            students.f1,
            best_last,
            xerr=_spread(students),
            fmt="o",
            color=PALETTE[0],
            markersize=5,
            elinewidth=0.8,
            capsize=2,
        )
        each = seeds[
            (seeds.family == family)
            & (seeds.test_set == test)
            & (seeds.asked == asked)
            & (seeds.role != "teacher")
        ]
        if each.seed.nunique() > 1:
            axis.plot(each.f1, each.teacher, ".", color="0.25", markersize=3)
        axis.set_title(comparison.titled(kept, family, test, asked), fontsize="medium")
        axis.set_xlabel("F1 (line and band: the tuned teacher's)", fontsize="small")
        axis.margins(y=0.1)
    return figure


def schooling_figure(scores: pd.DataFrame) -> Figure:
    """F1 of teachers and of their students (`comparison.schooling`, with the bounds of F1), these
    with intervals, a panel per test set and prompting."""
    look()
    panels = list(scores.groupby(["family", "test_set", "asked"], sort=False))
    label = "F1 of students, with intervals, against F1 of their teachers"
    figure, axes = _grid(len(panels), 2.4, legend=0.6, label=label, sharex=True, sharey=True)
    names = list(scores.teacher.unique())
    for axis, ((family, test, asked), group) in zip(axes, panels, strict=True):
        for teacher, row in group.groupby("teacher", sort=False):
            number = names.index(teacher)
            look_of = dict(
                fmt="osD^vPX"[number % 7],
                color=PALETTE[number],
                label=teacher,
                markersize=6,
                elinewidth=0.8,
            )
            axis.errorbar(
                row.teacher_f1, row.student_f1, yerr=_spread(row, "student_f1"), **look_of
            )
        axis.set_title(comparison.titled(scores, family, test, asked), fontsize="medium")
        axis.set(xlabel="F1 of the teacher, asked as it taught", ylabel="F1 of its student")
    _legend(figure, *axes)
    return figure


def modes_figure(kept: pd.DataFrame, seeds: pd.DataFrame) -> Figure:
    """F1 by how a model is asked, a colour per way of training, with intervals and a dot per seed
    where there are several; a panel per family, test set and role."""
    look()
    panels = list(kept.groupby(["family", "test_set", "role"], sort=False))
    label = (
        "F1 of teacher and student by how they are asked, a colour for each way they were trained,"
        " with intervals of each alone (not paired)"
    )
    figure, axes = _grid(len(panels), 2.3, legend=0.5, label=label, sharex=True, sharey=True)
    ways = (
        "trained "
        + kept.trained
        + np.where(kept.teacher == comparison.TUNED, "", ", a demonstration folded in")
    )
    names, modes = list(ways.unique()), list(kept.asked.unique())
    for axis, ((family, test, role), group) in zip(axes, panels, strict=True):
        for way, points in group.groupby(ways, sort=False):
            number = names.index(way)
            places = {
                mode: modes.index(mode) + 0.16 * (number - (len(names) - 1) / 2) for mode in modes
            }
            drawn = dict(
                fmt="osD"[number % 3],
                color=PALETTE[number],
                label=way,
                markersize=4,
                elinewidth=0.8,
                capsize=2,
            )
            axis.errorbar(points.asked.map(places), points.f1, yerr=_spread(points), **drawn)
            each = seeds.merge(points[[*comparison.SETTING, *comparison.MODEL]])
            if each.seed.nunique() > 1:
                axis.plot(each.asked.map(places), each.f1, ".", color="0.25", markersize=3)
        axis.set_title(comparison.titled(kept, family, test, role), fontsize="medium")
        axis.set_xlim(-0.5, len(modes) - 0.5)
        axis.set_xticks(
            range(len(modes)), [mode.replace(" ", "\n") for mode in modes], fontsize="small"
        )
        axis.set_ylabel("F1")
    _legend(figure, *axes)
    return figure


def traits_figure(table: pd.DataFrame) -> Figure:
    """Differences in F1 by a demonstration with intervals around a line at 0
    (`comparison.by_trait`), a panel per family and test set, a line per trait of the questions."""
    look()
    panels = list(table.groupby(["family", "test_set"], sort=False))
    names = table[["trait", "value"]].astype(str).agg(": ".join, axis=1)
    lines = [
        name for trait in table.trait.unique() for name in names[table.trait == trait].unique()
    ]
    label = (
        "F1 of the student trained and asked with a demonstration minus that of the one without, by"
        " traits of the questions, with intervals"
    )
    figure, axes = _grid(
        len(panels), 0.9 + 0.19 * len(lines), label=label, sharex=True, sharey=True
    )
    for axis, ((family, test), group) in zip(axes, panels, strict=True):
        group = group.set_index(names[group.index]).reindex(lines)
        axis.axvline(0, color="0.25", linewidth=1)
        spread = _spread(group, "difference", ("low", "high"))
        axis.errorbar(
            group.difference,
            lines,
            xerr=spread,
            fmt="o",
            color=PALETTE[0],
            markersize=4,
            elinewidth=0.8,
            capsize=2,
        )
        axis.set_title(comparison.titled(table, family, test), fontsize="medium")
        axis.set_xlabel("F1, with a demonstration − without", fontsize="small")
        axis.margins(y=0.05)
    axes[0].invert_yaxis()
    return figure


def _bounded(table: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """The lines of a table with the bounds of their F1."""
    shared = [name for name in (*comparison.SETTING, *comparison.MODEL) if name in table]
    return table.merge(kept[[*shared, *BOUNDS["f1"]]], on=shared) if len(table) else table


Drawn = dict[
    str, tuple[Figure, pd.DataFrame]
]  # by its name every figure of a notebook, with what it draws


def capacity_gap(
    kept: pd.DataFrame,
    seeds: pd.DataFrame,
    costs: pd.DataFrame,
    ladder: pd.DataFrame,
    curves: pd.DataFrame,
    asked: str,
) -> Drawn:
    """The figures of that notebook for which there is something to draw."""
    drawn = {"retention": (retention_figure(kept, seeds, asked), kept)} if len(kept) else {}
    drawn |= {"ladder": (ladder_figure(ladder, seeds), ladder)} if len(ladder) else {}
    costs = _bounded(costs, kept[kept.asked == kept.trained])
    drawn |= {"cost": (cost_figure(costs), costs)} if len(costs) else {}
    return drawn | ({"learning": (learning_figure(curves), curves)} if len(curves) else {})


def teacher_choice(
    kept: pd.DataFrame, seeds: pd.DataFrame, scores: pd.DataFrame, curves: pd.DataFrame
) -> Drawn:
    """The figures of that notebook for which there is something to draw."""
    drawn = (
        {"students": (choice_figure(kept, seeds), kept)} if (kept.role != "teacher").any() else {}
    )
    scores = _bounded(scores, kept[kept.role == "student"])
    drawn |= {"schooling": (schooling_figure(scores), scores)} if len(scores) else {}
    return drawn | {"learning": (learning_figure(curves), curves)}


def prompting_mode(kept: pd.DataFrame, seeds: pd.DataFrame, traits: pd.DataFrame) -> Drawn:
    """The figures of that notebook for which there is something to draw."""
    drawn = {"prompting": (modes_figure(kept, seeds), kept)}
    return drawn | ({"traits": (traits_figure(traits), traits)} if len(traits) else {})


def show(drawn: Drawn, folder: Path, name: str) -> Image | Markdown:
    """A figure that was written to `folder`, for a notebook, or a word where there is nothing to
    draw."""
    if name not in drawn:
        return Markdown("There is nothing to draw yet.")
    return Image(folder / f"{name}.png", alt=drawn[name][0].get_label())
