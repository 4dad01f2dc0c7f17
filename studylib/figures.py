"""Every table and figure, from rows: one look, readable in grey, colour-blind safe.

A figure is written as SVG (without date, so that the same rows give the same bytes) and PNG.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter, PercentFormatter

from studylib import comparison, cutting, statistics
from studylib.comparison import BOUNDS

PALETTE = sns.color_palette("colorblind")
LOOKS = {
    ("student", "tuned"): ("o", "-"),
    ("twin", "tuned"): ("s", "--"),
    ("student", "raw"): ("^", "-."),
    ("twin", "raw"): ("v", ":"),
}
FILLS = {"layers": "full", "layers and neurons": "none", "layers, in stages": "left", "layers and neurons, in stages": "right"}
SIDES = {"reduction_total": "fewer parameters in all", "reduction_nonembedding": "fewer non-embedding parameters"}
IDENTITY = {
    "model": "model",
    "role": "role",
    "start": "start",
    "teacher": "taught by",
    "objective": "objective",
    "asked": "asked",
    "test_set": "test set",
}
IDENTITY |= {"language": "language", "trained": "trained", "seeds": "seeds", "steps": "steps", "n": "questions", "articles": "articles"}
MEASURES = {"reduction_total": "fewer parameters, %", "reduction_nonembedding": "fewer non-embedding, %"}
MEASURES |= {"exact_match": "EM", "f1": "F1", "rouge_l": "ROUGE-L", "retention_f1": "F1 kept, %", "retention_exact_match": "EM kept, %"}
MEASURES |= {"agreement": "agrees with teacher, %", "loyalty": "probability loyalty, %", "calibration_error": "calibration error, %"}
LOWER, UPPER = BOUNDS["retention_f1"]
LEVEL = 0.05  # of the tests
MARGIN = 90.0  # percent of its teacher's score that a student must keep


def look() -> None:
    """The one look of all figures."""
    sns.set_theme(context="paper", style="ticks", palette=PALETTE, font_scale=1.05)
    mpl.rcParams.update(
        {
            "svg.hashsalt": "studylib",
            "svg.fonttype": "none",
            "savefig.dpi": 160,
            "figure.constrained_layout.use": True,
            "axes.grid": True,
            "grid.alpha": 0.3,
        }
    )


def table(kept: pd.DataFrame) -> str:
    """The comparison in Markdown; what is the same in every line is said once, below it."""
    uncut = kept.role == "teacher"
    shown = kept.assign(model=np.where(uncut, kept.family + " teacher", kept.student), teacher=kept.teacher.mask(uncut, "–"))
    same = [f"{title} {_cell(shown[name].iloc[0])}" for name, title in IDENTITY.items() if shown[name].nunique() == 1]
    columns = {name: title for name, title in IDENTITY.items() if shown[name].nunique() > 1} | MEASURES
    lines = [list(columns.values()), ["---"] * len(columns)]
    lines += [[_bounded(row, name) for name in columns] for row in shown.to_dict("records")]
    drawn = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{drawn}\n\nIn every line: {', '.join(same)}. {intervals(kept)}\n"


def intervals(table: pd.DataFrame) -> str:
    """What the intervals of a comparison or of contrasts are, and why there are none where there are none, in a few sentences."""
    few = table[(table.n < statistics.QUESTIONS) | (table.articles < statistics.ARTICLES)]
    lacking = few.drop_duplicates("test_set")
    said = [
        f"No intervals on {row.test_set}: {row.n} questions of {row.articles} articles are too few (at least {statistics.QUESTIONS} of {statistics.ARTICLES})."
        for row in lacking.itertuples()
    ]
    if len(few) < len(table):
        seeds = table.seeds.min()
        drawn = "seeds and then articles" if seeds >= statistics.SEEDS else "articles"
        conditional = "" if seeds >= statistics.SEEDS else f"; with fewer than {statistics.SEEDS} seeds they hold for these seeds only"
        said.append(f"In brackets: 95 % intervals, {drawn} drawn with replacement {statistics.REPEATS:,} times{conditional}.")
    return " ".join(said)


def _size(student: str) -> cutting.Size:
    """The size in a student's name."""
    return cutting.size(student.rpartition("-")[2])


def _ways(students: pd.DataFrame) -> pd.Series:
    """What was cut in each student."""
    return students.student.map(lambda name: _size(name).way)


def _bounded(row: dict, name: str) -> str:
    return _cell(row[name]) + (_span(*(row[bound] for bound in BOUNDS[name])) if name in BOUNDS else "")


def _span(low: float, high: float) -> str:
    return "" if np.isnan(low) else f" ({low:.1f} to {high:.1f})"


def _signed(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f}"  # no -0.0


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if np.isnan(value) else f"{value:.1f}"
    return str(value)


def retention_figure(kept: pd.DataFrame) -> Figure:
    """F1 kept against reduction, both kinds, a panel per test set, a curve per family, role, start and what was cut, with intervals;
    the 90 % line and the 57.1 % mark."""
    look()
    mode = kept.asked.iloc[0]
    kept = kept[kept.asked == mode]
    students = kept[kept.role != "teacher"]
    students = students.assign(way=_ways(students))
    tests = list(kept.test_set.unique())
    figure = Figure(figsize=(7.2, 3.3 * len(tests) + 0.6))
    axes = figure.subplots(len(tests), 2, sharey=True, squeeze=False)
    colours = dict(zip(kept.family.unique(), sns.color_palette("colorblind", kept.family.nunique()), strict=True))
    top = max(105, 1.04 * kept[["retention_f1", UPPER]].max().max())
    for row, test in enumerate(tests):
        for axis, (side, name) in zip(axes[row], SIDES.items(), strict=True):
            for (family, role, start, way), points in students[students.test_set == test].groupby(
                ["family", "role", "start", "way"], sort=False
            ):
                label = f"{family}, {role}, {start} start" + (f": {way}" if students.way.nunique() > 1 else "")
                marker, style = LOOKS[role, start]
                look_of = dict(fmt=style, marker=marker, color=colours[family], label=label, fillstyle=FILLS[way])
                _retained(axis, points.sort_values(side), side, **look_of)
            _marked(axis)
            axis.set(xlabel=name, xlim=(0, 100), ylim=(0, top))
        axes[row][0].set_ylabel(f"F1 kept, {test}, {mode}")
    _legend(figure, axes[0][0])
    return figure


def _retained(axis: mpl.axes.Axes, points: pd.DataFrame, side: str, **look_of: object) -> None:
    """A curve of F1 kept, with intervals."""
    spread = abs(points[[LOWER, UPPER]].T.to_numpy() - points.retention_f1.to_numpy())
    axis.errorbar(points[side], points.retention_f1, yerr=spread, markersize=5, elinewidth=0.8, capsize=2, **look_of)


def _marked(axis: mpl.axes.Axes) -> None:
    """The 90 % line and the 57.1 % mark; both axes in percent."""
    axis.axhline(90, color="0.25", linewidth=1)
    axis.annotate("90 %", (0.995, 90), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize="small")
    axis.axvline(57.1, color="0.25", linewidth=1, linestyle=(0, (1, 2)))
    axis.annotate("57.1 %", (57.1, 0.02), xycoords=("data", "axes fraction"), rotation=90, ha="right", va="bottom", fontsize="small")
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(PercentFormatter(decimals=0))


def learning_figure(curves: pd.DataFrame) -> Figure:
    """Loss over steps (a line, smoothed; on dev as dots) and dev F1, a colour per size, teacher, students and twins in columns."""
    look()
    curves = curves.assign(who=np.where(curves.role == "teacher", "teacher", curves.role + ", " + curves.start + " start"))
    kinds, families = list(curves.who.unique()), list(curves.family.unique())
    figure = Figure(figsize=(max(7.2, 2.3 * len(kinds)), 3.6 * len(families)))
    axes = figure.subplots(2 * len(families), len(kinds), sharex="col", sharey="row", squeeze=False)
    curves = curves.assign(label=_labels(curves))
    labels = [label for label in curves.label.unique() if label != "uncut"]
    shades = dict(zip(labels, sns.color_palette("colorblind", len(labels)), strict=True)) | {"uncut": "0.2"}
    for (family, who, label, _), curve in curves.groupby(["family", "who", "label", "seed"], sort=False):
        top, column, colour = 2 * families.index(family), kinds.index(who), shades[label]
        window = max(1, len(curve) // 20)
        axes[top][column].plot(curve.step, curve.loss.rolling(window, min_periods=1).mean(), color=colour, label=label, linewidth=1.2)
        measured = curve.dropna(subset="dev_f1")
        axes[top][column].plot(measured.step, measured.dev_loss, marker="o", markersize=4, linestyle="none", color=colour)
        axes[top + 1][column].plot(measured.step, measured.dev_f1, marker="o", markersize=4, color=colour, label=label)
    for number, family in enumerate(families):
        axes[2 * number][0].set_ylabel("loss per token\n(dots: dev)")
        axes[2 * number + 1][0].set(ylabel="dev F1", ylim=(0, 105))
        for axis, who in zip(axes[2 * number], kinds, strict=True):
            axis.set_title(f"{family}\n{who}", fontsize="medium")
            axis.set(yscale="log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
            axis.yaxis.set_major_formatter(FormatStrFormatter("%g"))
            axis.yaxis.set_minor_formatter(NullFormatter())
    for axis in axes[-1]:
        axis.set_xlabel("step")
    _legend(figure, *axes.flat)
    return figure


def _labels(curves: pd.DataFrame) -> pd.Series:
    """What a curve is called beside its family and role: by size, and by prompting and teacher where there are several."""
    label = curves.student.map({name: _size(name).title if name else "uncut" for name in curves.student.unique()})
    if curves.trained.nunique() > 1:
        label = label + ", " + curves.trained
    taught = curves.role == "student"
    return label.mask(taught, label + ", taught by " + curves.teacher) if curves.teacher[taught].nunique() > 1 else label


def _legend(figure: Figure, *axes: mpl.axes.Axes) -> None:
    entries = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    longest = max(map(len, entries))
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=1 if longest > 45 else 2 if longest > 20 else 6,  # or it is wider than the figure
        frameon=False,
        fontsize="small",
    )


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `name`.svg and `name`.png into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    figure.savefig(folder / f"{name}.png")


def contrasts(table: pd.DataFrame, primary: str = "") -> str:
    """What the teacher adds (`comparison.contrasts`), in Markdown."""
    same = [name for name in ("teacher", "objective") if table[name].nunique() < 2]
    columns = {
        name: IDENTITY.get(name, name) for name in ("start", "asked", "test_set", "student", "teacher", "objective") if name not in same
    }
    return _tested(table, columns, "student − twin, F1", f"taught by {primary}" if primary else "")


def prompting(table: pd.DataFrame) -> str:
    """What ways of prompting are worth (`comparison.prompting`), in Markdown."""
    columns = {"family": "family", "role": "role", "test_set": "test set", "ways": "ways"}
    return _tested(table, columns, "difference, F1", f"of students, {table.ways.iloc[0]}")


def _tested(table: pd.DataFrame, columns: Mapping[str, str], difference: str, primary: str) -> str:
    """Differences with their tests, and what these are corrected for."""
    titles = [*columns.values(), difference, "p", "p, Holm", "detectable"]
    lines = [titles, ["---"] * len(titles)]
    for row in table.to_dict("records"):
        tests = ["–" if np.isnan(row[name]) else f"{row[name]:.3f}" for name in ("p", "p_holm")]
        found = f"{_signed(row['difference'])}{_span(row['low'], row['high'])}"
        lines.append([*(str(row[name]) for name in columns), found, *tests, _cell(row["detectable"])])
    drawn = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    declared = (
        f"Lines {primary}: primary, declared beforehand. The others are secondary;"
        if primary
        else "All lines are secondary to the claim of non-inferiority;"
    )
    return f"{drawn}\n\n{declared} Holm's correction is over all of them. {intervals(table)}\n"


def choice_figure(kept: pd.DataFrame) -> Figure:
    """F1 of a student by who taught it, with intervals, a panel per test set and prompting; the tuned teacher as a line with a band."""
    look()
    panels = list(kept.groupby(["family", "test_set", "asked"], sort=False))
    taught = [name for name in kept.teacher[kept.role != "teacher"].unique()]
    figure = Figure(figsize=(7.2, len(panels) * (0.8 + 0.32 * len(taught))))
    for axis, ((family, test, asked), group) in zip(figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0], panels, strict=True):
        (teacher,), students = group[group.role == "teacher"].itertuples(), group[group.role != "teacher"].sort_values("f1")
        axis.axvline(teacher.f1, color="0.25", linewidth=1)
        if not np.isnan(teacher.f1_low):
            axis.axvspan(teacher.f1_low, teacher.f1_high, color="0.85", linewidth=0)
        spread = np.abs(students[["f1_low", "f1_high"]].T.to_numpy() - students.f1.to_numpy())
        axis.errorbar(students.f1, students.teacher, xerr=spread, fmt="o", color=PALETTE[0], markersize=5, elinewidth=0.8, capsize=2)
        axis.set(title=f"{family}, {test}, {asked}", ylabel="taught by")
        axis.margins(y=0.1)
    axis.set_xlabel("F1 of the student (line and band: the tuned teacher's own)")
    return figure


def schooling_figure(scores: pd.DataFrame) -> Figure:
    """F1 of teachers and of their students (`comparison.schooling`), a panel per test set and prompting."""
    look()
    panels = list(scores.groupby(["family", "test_set", "asked"], sort=False))
    figure = Figure(figsize=(7.2, 3.4 * len(panels)))
    for axis, ((family, test, asked), group) in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
        for number, row in enumerate(group.itertuples()):
            axis.plot(row.teacher_f1, row.student_f1, "osD^vP"[number % 6], color=PALETTE[number], label=row.teacher, markersize=6)
        axis.set(title=f"{family}, {test}, {asked}", xlabel="F1 of the teacher, asked as it taught", ylabel="F1 of its student")
        axis.legend(fontsize="small", frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def differences_figure(table: pd.DataFrame, panels: Sequence[str], lines: Sequence[str], title: str) -> Figure:
    """Differences in F1 with intervals around a line at 0: a panel per value of the columns `panels`, a line per value of `lines`."""
    look()
    groups = list(table.groupby(list(panels), sort=False))
    figure = Figure(figsize=(7.2, sum(0.9 + 0.26 * len(group) for _, group in groups)))
    heights = [len(group) + 2 for _, group in groups]
    axes = figure.subplots(len(groups), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axis, (named, group) in zip(axes, groups, strict=True):
        names = group[list(lines)].astype(str).agg(": ".join, axis=1)
        spread = np.abs(group[["low", "high"]].T.to_numpy() - group.difference.to_numpy())
        axis.axvline(0, color="0.25", linewidth=1)
        axis.errorbar(group.difference, names, xerr=spread, fmt="o", color=PALETTE[0], markersize=4, elinewidth=0.8, capsize=2)
        axis.set_title(", ".join(named), fontsize="medium")
        axis.invert_yaxis()
        axis.margins(y=0.1)
    axis.set_xlabel(title)
    return figure


def choice_conclusion(gained: pd.DataFrame, scores: pd.DataFrame, primary: str, asked: str) -> str:
    """The primary contrast and the correlation in a few sentences a family and test set."""
    said, asked = [], asked if asked in set(gained.asked) else gained.asked.iloc[0]
    for (family, test), group in gained[gained.asked == asked].groupby(["family", "test_set"], sort=False):
        declared = group[group.teacher == primary].iloc[0]
        others = [row for row in group[group.teacher != primary].itertuples() if row.p_holm <= LEVEL and not row.low <= 0 <= row.high]
        sentence = f"- **{family}, {test}**: taught by the {primary} teacher against nobody: {_judged(declared, '')}"
        sentence += f" Of the other {len(group) - 1} teachers, {len(others) or 'none'} made a difference that is shown" + (
            ": " + ", ".join(f"{row.teacher} ({_signed(row.difference)})" for row in others) + "." if others else "."
        )
        found = scores[(scores.family == family) & (scores.test_set == test) & (scores.asked == asked)]
        if len(found) and not np.isnan(found.r.iloc[0]):
            one = found.iloc[0]
            spread = "" if np.isnan(one.r_low) else f" ({one.r_low:.2f} to {one.r_high:.2f})"
            sentence += (
                f" Better teachers, better students? Over these {len(found)} teachers the two scores correlate by {one.r:.2f}{spread}."
            )
        said.append(sentence)
    return "\n".join(said) + "\n\n" + intervals(gained)


def conclusion(kept: pd.DataFrame, gained: pd.DataFrame, asked: str) -> str:
    """What the tables say about the 90 % margin, and about student and twin, in a few sentences a family, test set and way of cutting.

    The claim is one of non-inferiority: a student counts as keeping 90 % if the lower bounds of both F1 and EM kept do.
    Without intervals nothing is claimed, and the estimates are named as such.
    """
    said, asked = [], asked if asked in set(kept.asked) else kept.asked.iloc[0]
    for (family, test), group in kept[(kept.asked == asked) & (kept.start == "tuned")].groupby(["family", "test_set"], sort=False):
        students = group[group.role == "student"].dropna(subset="retention_f1").sort_values("reduction_total")
        if students.empty:
            said.append(f"- **{family}, {test}**: the teacher is below {comparison.FLOOR:.0f} F1, so nothing is said about what is kept.")
            continue
        both = gained[(gained.family == family) & (gained.test_set == test) & (gained.asked == asked) & (gained.start == "tuned")]
        ways = _ways(students)
        for way, own in students.groupby(ways, sort=False):
            named = f"{family}, {test}" + (f", {way}" if ways.nunique() > 1 else "")
            sentence = f"- **{named}**: {_claim(own)}; the smallest of all {_about(own.iloc[-1])}."
            said.append(" ".join([sentence, *(_gain(row) for row in both[both.student.isin(own.student)].itertuples())]))
    return "\n".join(said) + "\n\n" + intervals(kept)


def _claim(students: pd.DataFrame) -> str:
    """Whether, and down to what size, students are shown to keep the margin: from the largest on, up to the first that is not."""
    sure = students[LOWER].notna().all()
    names = [BOUNDS[name][0] if sure else name for name in ("retention_f1", "retention_exact_match")]
    passed = students[(students[names] >= MARGIN).all(axis=1).cummin()]
    aim = f"at least {MARGIN:.0f} % of F1 and EM kept"
    if not sure:
        found = f"has it down to the one that {_about(passed.iloc[-1])}" if len(passed) else "has it not even for the largest student"
        return f"no claim without intervals; the estimate alone ({aim}) {found}"
    if passed.empty:
        return f"non-inferiority ({aim}) is not shown, not even for the largest student"
    return f"non-inferiority ({aim}) is shown down to the student that {_about(passed.iloc[-1])}"


def _about(student: pd.Series) -> str:
    kept = [
        f"{_cell(student[name])} %{_span(*student[list(BOUNDS[name])])} of {title}"
        for name, title in (("retention_f1", "F1"), ("retention_exact_match", "EM"))
    ]
    return f"has {student.reduction_total:.1f} % fewer parameters and keeps {' and '.join(kept)}"


def _gain(row: tuple) -> str:
    """Student minus twin in words: a difference is claimed where test, corrected for the number of them, and interval both do."""
    return f"Student minus twin, {row.student}: {_judged(row)}"


def _judged(row: tuple, corrected: str = " after Holm") -> str:
    """A difference in words: claimed where test and interval both do."""
    said = f"{_signed(row.difference)} points of F1{_span(row.low, row.high)}"
    if np.isnan(row.p_holm):
        return f"{said}."
    said += f", p = {row.p_holm:.3f}{corrected}"
    if row.p_holm > LEVEL or row.low <= 0 <= row.high:
        return f"{said}: no difference shown, the smallest we could have seen is {row.detectable:.1f}."
    return f"{said}."


def prompting_conclusion(table: pd.DataFrame) -> str:
    """The declared comparison, and which of the others are shown, in a few sentences a family and test set."""
    said, primary = [], table.ways.iloc[0]
    for (family, test), group in table.groupby(["family", "test_set"], sort=False):
        declared = (group.role == "student") & (group.ways == primary)
        shown = [row for row in group[~declared].itertuples() if row.p_holm <= LEVEL and not row.low <= 0 <= row.high]
        sentence = f"- **{family}, {test}**: student, {primary}: {_judged(group[declared].iloc[0], '')}"
        others = "; ".join(f"{row.role}, {row.ways} ({_signed(row.difference)})" for row in shown)
        said.append(
            f"{sentence} Of the {len(group) - 1} other comparisons {len(shown) or 'none'} show a difference{f': {others}' if shown else ''}."
        )
    return "\n".join(said) + "\n\n" + intervals(table)
