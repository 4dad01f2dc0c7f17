"""Every figure, from a comparison, by the notebook that shows it.

drawn = figures.prompting_mode(kept, seeds, traits, bases); figures.show(drawn, folder, "traits")
"""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from IPython.display import Image, Markdown
from matplotlib.figure import Figure

from studylib.analysis import methods_table
from studylib.analysis.figures.cost import cost_figure
from studylib.analysis.figures.learning import learning_figure
from studylib.analysis.figures.look import save
from studylib.analysis.figures.methods import frontier_figure
from studylib.analysis.figures.prompting import modes_figure, traits_figure
from studylib.analysis.figures.retention import retention_figure
from studylib.analysis.figures.teachers import (
    choice_figure,
    of_several_teachers,
    teacher_sizes_figure,
    teacher_vs_student_figure,
)
from studylib.analysis.retention import BOUNDS, MODEL, SETTING

__all__ = ["capacity_gap", "methods", "prompting_mode", "save", "show", "teacher_choice"]
Drawn = dict[str, tuple[Figure, pd.DataFrame]]  # by name every figure, with what it draws


def capacity_gap(
    kept: pd.DataFrame,
    seeds: pd.DataFrame,
    costs: pd.DataFrame,
    sweep: pd.DataFrame,
    curves: pd.DataFrame,
    eval_prompt: str,
) -> Drawn:
    """The figures of that notebook for which there is something to draw."""
    return _drawn(
        retention=(kept, lambda table: retention_figure(table, seeds, eval_prompt)),
        teacher_sizes=(sweep, lambda table: teacher_sizes_figure(table, seeds)),
        cost=(_bounded(costs, kept[kept.eval_prompt == kept.train_prompt]), cost_figure),
        learning=(curves, learning_figure),
    )


def methods(table: pd.DataFrame, sweep: pd.DataFrame, seeds: pd.DataFrame) -> Drawn:
    """The figures of that notebook for which there is something to draw
    (`methods_table.compare`)."""
    difference = [f"control_f1_{name}" for name in ("difference", "low", "high")]
    compared = ["f1", *difference, "training_flops", "runs"]
    names = [*methods_table.SETTING, *methods_table.MODEL, *compared]
    return _drawn(
        frontier=(table[names], frontier_figure),
        teacher_sizes=(sweep, lambda table: teacher_sizes_figure(table, seeds)),
    )


def teacher_choice(
    kept: pd.DataFrame, seeds: pd.DataFrame, scores: pd.DataFrame, curves: pd.DataFrame
) -> Drawn:
    """The figures of that notebook for which there is something to draw."""
    students = kept[kept.role != "teacher"]
    return _drawn(
        students=(kept if len(students) else students, lambda table: choice_figure(table, seeds)),
        teacher_vs_student=(
            of_several_teachers(_bounded(scores, students[students.role == "student"])),
            teacher_vs_student_figure,
        ),
        learning=(curves, learning_figure),
    )


def prompting_mode(
    kept: pd.DataFrame,
    seeds: pd.DataFrame,
    traits: pd.DataFrame,
    bases: pd.DataFrame,
) -> Drawn:
    """The figures of that notebook for which there is something to draw, with models as they come
    from outside (`retention.bases`)."""
    return _drawn(
        prompting=(kept, lambda table: modes_figure(table, seeds, bases)),
        traits=(traits.dropna(subset="apart"), traits_figure),
    )


def show(drawn: Drawn, folder: Path, name: str) -> Image | Markdown:
    """A figure that was written to `folder`, for a notebook, or a word where there is nothing to
    draw."""
    if name not in drawn:
        return Markdown("There is nothing to draw yet.")
    return Image(folder / f"{name}.png", alt=drawn[name][0].get_label())


def _drawn(**figures: tuple[pd.DataFrame, Callable[[pd.DataFrame], Figure]]) -> Drawn:
    return {name: (draw(table), table) for name, (table, draw) in figures.items() if len(table)}


def _bounded(table: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """The lines of a table with the bounds of their F1."""
    shared = [name for name in (*SETTING, *MODEL) if name in table]
    return table.merge(kept[[*shared, *BOUNDS["f1"]]], on=shared) if len(table) else table
