"""What a notebook shows: tables, sentences and figures, computed from the rows of its plan.

found = results.of("capacity_gap", plan, folder); found.figure("retention")
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from IPython.display import Image, Markdown

from studylib.analysis import (
    contrasts,
    cost,
    figures,
    methods_table,
    prompting,
    rates,
    retention,
    summary,
    tables,
    teacher_sizes,
    teacher_vs_student,
)
from studylib.app import origin, study, training_cost
from studylib.core import labels
from studylib.experiments.plans import Plan


@dataclass
class Results:
    """Rows of answers; `tables` of numbers, `cells` of text to read, `texts` in Markdown, and
    figures with what they draw, all by name."""

    folder: Path
    rows: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    texts: dict[str, str]
    figures: figures.Drawn
    cells: dict[str, pd.DataFrame] = field(default_factory=dict)

    def export(self) -> "Results":
        """Write all of it into the folder."""
        study.export(self.folder, self.rows, self.tables, self.texts, self.figures)
        return self

    def table(self, name: str) -> pd.DataFrame | Markdown:
        """A table to read and to filter, or a word where there is none."""
        none = Markdown("There is nothing to show yet.")
        return self.cells.get(name, none) if len(self.cells.get(name, ())) else none

    def text(self, *names: str) -> Markdown:
        """Sentences."""
        return Markdown("\n".join(self.texts[name] for name in names))

    def notes(self, name: str) -> Markdown:
        """What belongs to the numbers of a table."""
        return Markdown(self.texts.get(name, "").partition("\n\n")[2])

    def figure(self, name: str) -> Image | Markdown:
        """A figure that was exported, or a word where there is nothing to draw."""
        return figures.show(self.figures, self.folder, name)


def of(name: str, plan: Plan, folder: Path) -> Results:
    """The results of an experiment, exported. Raises StudyError where no answers are there."""
    rows = study.rows(plan, folder=folder)
    kept = {
        "learning": study.curves(plan, folder=folder),
        "runs": study.origins(plan, folder=folder),
    }
    return EXPERIMENTS[name](plan, rows, kept, folder).export()


def _capacity_gap(
    plan: Plan, rows: pd.DataFrame, kept: dict[str, pd.DataFrame], folder: Path
) -> Results:
    compared, gained = retention.compare(rows), contrasts.contrasts(rows)
    timing, shipped = study.timing(plan, rows, folder=folder), retention.bases(rows)
    sweep, costs = teacher_sizes.sweep(rows), cost.pareto(timing)
    untouched, seeds = retention.on_untouched(rows, compared), retention.by_seed(rows)
    kept |= {"timing": timing, "seeds": seeds, "contrasts": gained, "untouched": untouched}
    kept |= {"bases": shipped} if len(shipped) else {}
    made, mode = origin.of(plan, kept["runs"]), _train_prompts(plan)[0]
    texts = summary.capacity_gap(
        compared, gained, costs, teacher_sizes.law(rows), shipped, mode, made, untouched
    )
    drawn = figures.capacity_gap(compared, seeds, costs, sweep, kept["learning"], mode)
    cells = {"table": tables.cells(compared), "contrasts": tables.contrast_cells(gained)}
    cells |= {"bases": tables.base_cells(shipped), "rates": rates.cells(made.rates)}
    return Results(folder, rows, kept, texts, drawn, cells)


def _teacher_choice(
    plan: Plan, rows: pd.DataFrame, kept: dict[str, pd.DataFrame], folder: Path
) -> Results:
    compared, gained = retention.compare(rows), contrasts.contrasts(rows, labels.FINE_TUNED)
    scores, seeds = teacher_vs_student.compare(rows), retention.by_seed(rows)
    kept |= {"seeds": seeds, "contrasts": gained}
    made, mode = origin.of(plan, kept["runs"]), _train_prompts(plan)[0]
    texts = summary.teacher_choice(compared, gained, scores, mode, made)
    drawn = figures.teacher_choice(compared, seeds, scores, kept["learning"])
    cells = {"table": tables.cells(compared), "contrasts": tables.contrast_cells(gained)}
    return Results(folder, rows, kept, texts, drawn, cells | {"rates": rates.cells(made.rates)})


def _prompting_mode(
    plan: Plan, rows: pd.DataFrame, kept: dict[str, pd.DataFrame], folder: Path
) -> Results:
    modes, made = _train_prompts(plan), origin.of(plan, kept["runs"])
    asked = list(dict.fromkeys(one.called["eval_prompt"] for one in plan.asked))
    compared, seeds = retention.compare(rows), retention.by_seed(rows)
    worth, traits = prompting.prompting(rows, modes, asked), prompting.by_trait(rows, modes)
    texts = summary.prompting_mode(compared, worth, traits, modes, made)
    drawn = figures.prompting_mode(compared, seeds, traits)
    cells = {"table": tables.cells(compared), "comparisons": tables.prompting_cells(worth)}
    cells |= {"rates": rates.cells(made.rates)}
    return Results(folder, rows, kept | {"seeds": seeds, "comparisons": worth}, texts, drawn, cells)


def _methods(
    plan: Plan, rows: pd.DataFrame, kept: dict[str, pd.DataFrame], folder: Path
) -> Results:
    table = methods_table.compare(rows, training_cost.of(plan))
    texts = {
        "table": methods_table.markdown(table),
        "answer": methods_table.answer(table),
        "conclusion": methods_table.conclusion(table),
    }
    drawn = {"frontier": methods_table.frontier(table)}
    cells = {"table": methods_table.shown(table)}
    return Results(folder, rows, kept | {"methods": table}, texts, drawn, cells)


def _train_prompts(plan: Plan) -> list[str]:
    """The ways of prompting in which models were trained, in the plan's order."""
    return list(dict.fromkeys(called["train_prompt"] for _, called in plan.trained))


EXPERIMENTS: Mapping[str, Callable[..., Results]] = {
    "capacity_gap": _capacity_gap,
    "teacher_choice": _teacher_choice,
    "prompting_mode": _prompting_mode,
    "methods": _methods,
}
