"""What a notebook shows: tables, sentences and figures, computed from the rows of its plan.

shown = results.of("capacity_gap", plan, folder); shown.figure("retention")
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from IPython.display import Image, Markdown

from studylib.analysis import (
    conclusions,
    contrasts,
    cost,
    fidelity,
    figures,
    methods_table,
    prompting,
    rates,
    retention,
    roles,
    summary,
    tables,
    teacher_sizes,
    teacher_vs_student,
)
from studylib.app import origins, study, training_cost
from studylib.core import labels
from studylib.experiments.plans import Plan

Tables = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Results:
    """What an experiment shows, all by name: `tables` of numbers, `texts` in Markdown, figures with
    what they draw, and `cells` of text to read. Figures lie in `folder`."""

    folder: Path
    tables: Tables
    texts: dict[str, str]
    figures: figures.Drawn
    cells: Tables

    def table(self, name: str) -> pd.DataFrame | Markdown:
        """A table to read and to filter, or a word where there is none."""
        cells = self.cells.get(name, pd.DataFrame())
        return cells if len(cells) else Markdown("There is nothing to show yet.")

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
    source = Source(plan, folder)
    shown = EXPERIMENTS[name](source)
    written = {"learning": source.curves, "runs": source.runs} | shown.tables
    study.export(folder, source.rows, written, shown.texts, shown.figures)
    return shown


@dataclass(frozen=True)
class Source:
    """What is there of a plan, every line with its arm, and what several experiments compute of
    it."""

    plan: Plan
    folder: Path

    @cached_property
    def rows(self) -> pd.DataFrame:
        return roles.named(study.rows(self.plan, folder=self.folder), self.plan.arms)

    @cached_property
    def curves(self) -> pd.DataFrame:
        return roles.named(study.curves(self.plan, folder=self.folder), self.plan.arms)

    @cached_property
    def runs(self) -> pd.DataFrame:
        return study.origins(self.plan, folder=self.folder)

    @cached_property
    def origin(self) -> summary.Origin:
        return origins.summary(self.plan, self.runs)

    @cached_property
    def kept(self) -> pd.DataFrame:
        return retention.compare(self.rows)

    @cached_property
    def seeds(self) -> pd.DataFrame:
        return retention.by_seed(self.rows)

    @cached_property
    def train_prompts(self) -> list[str]:
        """In the plan's order."""
        return list(dict.fromkeys(called["train_prompt"] for _, called in self.plan.trained))

    def compared(
        self, numbers: Tables, texts: dict[str, str], drawn: figures.Drawn, cells: Tables
    ) -> Results:
        """These results with the comparison with the teacher and the learning rates."""
        shared = {"table": tables.cells(self.kept), "rates": rates.cells(self.origin.rates)}
        return Results(self.folder, {"seeds": self.seeds} | numbers, texts, drawn, shared | cells)


def _capacity_gap(source: Source) -> Results:
    rows, kept, mode = source.rows, source.kept, source.train_prompts[0]
    gained, bases = contrasts.contrasts(rows), retention.bases(rows)
    declared, complete = source.plan.pooled_declared, not source.origin.missing
    pooled = contrasts.pooled(rows, declared=declared, complete=complete)
    timing = study.timing(source.plan, rows, folder=source.folder)
    untouched = retention.on_untouched(rows, kept)
    costs = cost.pareto(roles.named(timing, source.plan.arms))
    law, sweep = teacher_sizes.law(rows), teacher_sizes.sweep(rows)
    return source.compared(
        {"timing": timing, "contrasts": gained, "pooled": pooled, "untouched": untouched}
        | ({"bases": bases} if len(bases) else {}),
        summary.capacity_gap(
            kept, gained, costs, law, bases, mode, source.origin, untouched, pooled
        ),
        figures.capacity_gap(kept, source.seeds, costs, sweep, source.curves, mode),
        {
            "contrasts": tables.contrast_cells(gained),
            "pooled": tables.pooled_cells(pooled),
            "bases": tables.base_cells(bases),
        },
    )


def _teacher_choice(source: Source) -> Results:
    kept, mode = source.kept, source.train_prompts[0]
    gained = contrasts.contrasts(source.rows, labels.FINE_TUNED)
    scores = teacher_vs_student.compare(source.rows)
    return source.compared(
        {"contrasts": gained},
        summary.teacher_choice(kept, gained, scores, mode, source.origin),
        figures.teacher_choice(kept, source.seeds, scores, source.curves),
        {"contrasts": tables.contrast_cells(gained)},
    )


def _prompting_mode(source: Source) -> Results:
    kept, modes = source.kept, source.train_prompts
    eval_prompts = dict.fromkeys(asked.called["eval_prompt"] for asked in source.plan.asked)
    worth = prompting.prompting(source.rows, modes, list(eval_prompts))
    traits, bases = prompting.by_trait(source.rows, modes), retention.bases(source.rows)
    return source.compared(
        {"comparisons": worth} | ({"bases": bases} if len(bases) else {}),
        summary.prompting_mode(kept, worth, traits, modes, source.origin),
        figures.prompting_mode(kept, source.seeds, traits, bases),
        {"comparisons": tables.prompting_cells(worth)},
    )


def _methods(source: Source) -> Results:
    costs = training_cost.of(source.plan, source.rows, folder=source.folder)
    table, origin = methods_table.compare(source.rows, costs), source.origin
    near = fidelity.correlations(methods_table.of_methods(source.rows))
    swept = source.rows[roles.arms(source.rows) != labels.METHOD]
    sweep, law = teacher_sizes.sweep(swept), teacher_sizes.law(swept)
    return Results(
        source.folder,
        {"methods": table, "costs": costs, "fidelity": near, "law": law},
        origin.noted(
            {
                "table": tables.markdown(methods_table.shown(table)) + "\n",
                "answer": origin.with_missing(methods_table.answer(table)),
                "conclusion": origin.below(
                    methods_table.conclusion(table, near) + conclusions.summits(law)
                ),
            }
        ),
        figures.methods(table, sweep, retention.by_seed(swept)),
        {
            "table": methods_table.shown(table),
            "domains": methods_table.domains(table),
            "fidelity": near,
        },
    )


EXPERIMENTS: Mapping[str, Callable[[Source], Results]] = {
    "capacity_gap": _capacity_gap,
    "teacher_choice": _teacher_choice,
    "prompting_mode": _prompting_mode,
    "methods": _methods,
}
