"""What a demonstration in the prompt does, and to which questions."""

from collections import defaultdict

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studylib.analysis import formats
from studylib.analysis.figures import look
from studylib.analysis.prompting import APART
from studylib.analysis.retention import SETTING
from studylib.core import sizes
from studylib.core.labels import BASE, FINE_TUNED


def modes_figure(kept: pd.DataFrame, seeds: pd.DataFrame, bases: pd.DataFrame) -> Figure:
    """F1 by how a model is asked, a colour per way of training, with intervals. There is a panel
    per family, test set and role, and a dot per seed where there are several. Models as they come
    from outside (`retention.bases`) have panels of their own, on scales of their own."""
    models = pd.concat([_trained(kept), *([_untrained(bases)] if len(bases) else [])])
    drawn, panels = look.panels(
        models,
        ["family", "test_set", "role"],
        2.3,
        legend=0.7,
        label="F1 of teacher, student and base model by how they are asked, a colour for each way"
        " they were trained, with 95 % intervals of each alone (not paired)",
        sharex=True,
    )
    modes, ways = list(models.eval_prompt.unique()), list(models.way.unique())
    labels = [mode.replace(" ", "\n") for mode in modes]
    scales = defaultdict[tuple, list[Axes]](list)
    for axis, names, group in panels:
        _ways(axis, group, seeds, ways, modes)
        scales[*names[:2], names[2] == BASE].append(axis)
        axis.set_title(formats.titled(models, *names), fontsize="medium")
        axis.set(xlim=(-0.5, len(modes) - 0.5), ylabel="F1")
        axis.set_xticks(range(len(modes)), labels, fontsize="small")
    for axes in scales.values():
        ends = [end for axis in axes for end in axis.get_ylim()]
        for axis in axes:
            axis.set_ylim(min(ends), max(ends))
    look.legend(drawn, "Bars: 95 % intervals of each alone, not paired.")
    return drawn


def _trained(kept: pd.DataFrame) -> pd.DataFrame:
    """The models that were trained, with the way in words."""
    distilled = np.where(kept.teacher == FINE_TUNED, "", ", context distillation")
    return kept.assign(way="trained " + kept.train_prompt + distilled)


def _untrained(bases: pd.DataFrame) -> pd.DataFrame:
    """The models as they come from outside, siblings by their names."""
    siblings = [sizes.written(student) for student in bases.student]
    ways = [f"{name}, not trained" if name else "not trained" for name in siblings]
    return bases.assign(role=BASE, way=ways)


def _ways(
    axis: Axes, models: pd.DataFrame, seeds: pd.DataFrame, ways: list[str], modes: list[str]
) -> None:
    """The models of one panel by how they are asked, ways of training side by side."""
    shown = [way for way in ways if way in set(models.way)]
    for way, points in models.groupby("way", sort=False):
        beside = 0.16 * (shown.index(way) - (len(shown) - 1) / 2)
        places = {mode: place + beside for place, mode in enumerate(modes)}
        axis.errorbar(
            points.eval_prompt.map(places),
            points.f1,
            yerr=look.reach(points),
            label=way,
            markersize=4,
            **look.mark(ways.index(way)),
            **look.BARS,
        )
        each = seeds.merge(points[[*SETTING, "role", "teacher", "student"]])
        look.seed_dots(axis, each, each.eval_prompt.map(places), each.f1)


def traits_figure(table: pd.DataFrame) -> Figure:
    """By kind of question, how far what a demonstration adds to F1 is above what it adds to all
    other questions (`apart` of `prompting.by_trait`), with intervals around a line at 0. There is a
    panel per family and test set, with the number of questions on its right, and a line per trait
    of the questions."""
    names = table[["trait", "value"]].astype(str).agg(": ".join, axis=1)
    names = names.str.replace("in the:", "in the", regex=False)
    lines = [
        name for _, values in names.groupby(table.trait, sort=False) for name in values.unique()
    ]
    drawn, panels = look.panels(
        table,
        ["family", "test_set"],
        1.1 + 0.19 * len(lines),
        label="What a demonstration in training and evaluation adds to the student's F1 on a kind"
        " of question minus what it adds on all other questions, with 95 % intervals",
        sharex=True,
        sharey=True,
    )
    for axis, title, group in panels:
        _kinds(axis, group.set_index(names[group.index]).reindex(lines))
        axis.set_title(formats.titled(table, *title), fontsize="medium")
    drawn.axes[0].invert_yaxis()
    return drawn


def _kinds(axis: Axes, kinds: pd.DataFrame) -> None:
    """The kinds of question of one panel, and how many there are of each."""
    middle, *bounds = APART
    places = range(len(kinds))
    axis.axvline(0, color="0.25", linewidth=1)
    axis.errorbar(
        kinds[middle],
        places,
        xerr=look.reach(kinds, middle, bounds),
        fmt="o",
        color=look.PALETTE[0],
        markersize=4,
        **look.BARS,
    )
    axis.set_yticks(places, kinds.index)
    counts = [f"n = {n:.0f}" if n > 0 else "" for n in kinds.n]
    axis.secondary_yaxis("right").set_yticks(places, counts, fontsize="small")
    words = "F1 gained by a demonstration:\nthis kind − all others (95 % intervals)"
    axis.set_xlabel(words, fontsize="small")
    axis.margins(y=0.05)
