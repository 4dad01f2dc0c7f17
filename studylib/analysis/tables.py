"""A comparison as tables in Markdown, and the notes on intervals and tests that belong to its
numbers."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from studylib.analysis import statistics
from studylib.analysis.comparison import BOUNDS, HEAD_STARTS, SPREAD
from studylib.core import labels, sizes

IDENTITY = {
    "family": "family",
    "size": "size",
    "role": "role",
    "start": "start",
    "teacher": "taught by",
    "objective": "objective",
    "asked": "asked",
    "test_set": "test set",
}
IDENTITY |= {
    "language": "language",
    "trained": "trained",
    "seeds": "seeds",
    "steps": "steps",
    "n": "questions",
    "articles": "articles",
}
MEASURES = {
    "reduction_total": "fewer parameters, %",
    "reduction_nonembedding": "fewer non-embedding, %",
}
MEASURES |= {
    "exact_match": "EM",
    "f1": "F1",
    "rouge_l": "ROUGE-L",
    "retention_f1": "F1 kept, %",
    "retention_exact_match": "EM kept, %",
}
MEASURES |= {
    "agreement": "agrees with teacher, %",
    "loyalty": "probability loyalty, %",
    "calibration_error": "calibration error, %",
}
HEADLINE = (
    "reduction_total",
    "reduction_nonembedding",
    "retention_f1",
    "retention_exact_match",
    *labels.METRICS,
)
SEEN = (
    "The smallest that could have been seen is found in four cases of five, at"
    f" {100 * statistics.LEVEL:.0f} % divided by the number of lines that are corrected."
)


def headline(kept: pd.DataFrame) -> str:
    """What is most asked for of a comparison, in Markdown: its `main` lines."""
    return table(main(kept), ("family", "size", "role", "asked", "test_set", "seeds"), HEADLINE)


def main(kept: pd.DataFrame) -> pd.DataFrame:
    """The lines of teachers, students and twins, those of raw start left out."""
    return kept[
        (kept.role == "teacher")
        | (kept.role.isin(("student", "twin")) & kept.start.isin(HEAD_STARTS))
    ]


def table(
    kept: pd.DataFrame,
    named: Sequence[str] = tuple(IDENTITY),
    measured: Sequence[str] = tuple(MEASURES),
) -> str:
    """The comparison in Markdown: of what identifies and measures models, what is `named` and
    `measured`; what is the same in every line is said once, below it."""
    uncut = kept.role == "teacher"
    shown = kept.assign(
        size=_sizes(kept.student).mask(uncut, "uncut"), teacher=kept.teacher.mask(uncut, "–")
    )
    same = [
        f"{title} {cell(shown[name].iloc[0])}"
        for name, title in IDENTITY.items()
        if shown[name].nunique() == 1
    ]
    columns = {
        name: title
        for name, title in IDENTITY.items()
        if name in named and shown[name].nunique() > 1
    }
    columns |= {name: MEASURES[name] for name in measured}
    lines = [list(columns.values()), ["---"] * len(columns)]
    lines += [[_bounded(row, name) for name in columns] for row in shown.to_dict("records")]
    drawn = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    against = (
        " What is kept is of the teacher's score when it is asked in the same way."
        if kept.asked.nunique() > 1
        else ""
    )
    spread = " After ±: standard deviation over seeds." if kept.seeds.max() > 1 else ""
    return f"{drawn}\n\nIn every line: {', '.join(same)}. {intervals(kept)}{spread}{against}\n"


def intervals(table: pd.DataFrame) -> str:
    """Of which questions a comparison or contrasts are, what their intervals are, and why there are
    none where there are none."""
    few = table[[not statistics.enough(row.n, row.articles) for row in table.itertuples()]]
    said = [coverage(table)] if coverage(table) else []
    said += [
        f"No intervals on {row.test_set}: {row.n} questions of {row.articles} articles are too few"
        f" (at least {statistics.QUESTIONS} of {statistics.ARTICLES})."
        for row in few.drop_duplicates("test_set").itertuples()
    ]
    if len(few) < len(table):
        seeds = table.seeds.min()
        drawn = "seeds and then articles" if seeds >= statistics.SEEDS else "articles"
        conditional = (
            ""
            if seeds >= statistics.SEEDS
            else (
                f"; with fewer than {statistics.SEEDS} seeds they and all tests hold for these"
                " seeds only"
            )
        )
        said.append(
            f"In brackets: 95 % intervals, {drawn} drawn with replacement {statistics.REPEATS:,}"
            f" times{conditional}."
        )
    return " ".join(said)


def bases(table: pd.DataFrame) -> str:
    """Models as they come from outside (`comparison.bases`), in Markdown."""
    lines = [["model", "parameters", "asked", "test set", "EM", "F1"], ["---"] * 6]
    for row in table.to_dict("records"):
        model = sizes.written(row["student"]) if row["student"] else row["family"]
        scores = [
            cell(row[name]) + span(*(row[bound] for bound in BOUNDS[name]))
            for name in ("exact_match", "f1")
        ]
        lines.append(
            [model, f"{row['parameters_total']:,}", row["asked"], row["test_set"], *scores]
        )
    drawn = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{drawn}\n\n{intervals(table)}\n"


def coverage(table: pd.DataFrame) -> str:
    """That numbers are of all questions, where some were looked at while choices were made; nothing
    where none was."""
    sets = table[table.untouched < table.n].drop_duplicates("test_set").itertuples()
    each = [f"on {row.test_set} {row.n - row.untouched:,} of {row.n:,}" for row in sets]
    looked_at = "those included that were looked at while choices were made"
    return (
        f"Unless said otherwise, all questions count, {looked_at}: {', '.join(each)}."
        if each
        else ""
    )


def notes(table: pd.DataFrame, differences: pd.DataFrame) -> str:
    """What the intervals of a table are, and what could have been seen of differences."""
    return intervals(table) + (f" {SEEN}" if differences.detectable.notna().any() else "")


def _bounded(row: dict, name: str) -> str:
    spread = (
        f" ± {row[SPREAD[name]]:.1f}" if name in SPREAD and not np.isnan(row[SPREAD[name]]) else ""
    )
    return (
        cell(row[name])
        + spread
        + (span(*(row[bound] for bound in BOUNDS[name])) if name in BOUNDS else "")
    )


def span(low: float, high: float) -> str:
    return "" if np.isnan(low) else f" ({_rounded(low):.1f} to {_rounded(high):.1f})"


def kept(student: pd.Series, retention: str) -> str:
    """What a student keeps, with its interval."""
    return f"{cell(student[retention])} %{span(*student[list(BOUNDS[retention])])}"


def signed(value: float) -> str:
    return f"{_rounded(value):+.1f}"


def _rounded(value: float) -> float:
    return round(value, 1) + 0.0  # no -0.0


def probability(p: float) -> str:
    return "–" if np.isnan(p) else "< 0.001" if p < 0.0005 else f"{p:.3f}"


def cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if np.isnan(value) else f"{value:.1f}"
    return str(value)


def contrasts(table: pd.DataFrame) -> str:
    """What models of one size differ by (`comparison.contrasts`), in Markdown."""
    same = [
        name for name in ("family", "contrast", "teacher", "objective") if table[name].nunique() < 2
    ]
    named = ("family", "contrast", "start", "asked", "test_set", "size", "teacher", "objective")
    columns = {name: IDENTITY.get(name, name) for name in named if name not in same}
    difference = table.contrast.iloc[0] if "contrast" in same and len(table) else "difference"
    return _tested(table.assign(size=_sizes(table.student)), columns, f"{difference}, F1")


def _sizes(students: pd.Series) -> pd.Series:
    """What students of a family are called: their sizes."""
    return students.map(sizes.written)


def prompting(table: pd.DataFrame) -> str:
    """What ways of prompting are worth (`comparison.prompting`), in Markdown."""
    columns = {"family": "family"} if table.family.nunique() > 1 else {}
    columns |= {"role": "role", "test_set": "test set", "ways": "ways"}
    return _tested(table, columns, "difference, F1")


def _tested(table: pd.DataFrame, columns: Mapping[str, str], difference: str) -> str:
    """Differences with their tests, and what these are corrected for."""
    if table.empty:
        return "Nothing is compared: no two models here are such a pair.\n"
    titles = [*columns.values(), difference, "p", "p, Holm", "detectable"]
    lines = [titles, ["---"] * len(titles)]
    for row in table.to_dict("records"):
        tests = [probability(row[name]) for name in ("p", "p_holm")]
        tests[1] = "primary" if row["primary"] else tests[1]
        found = f"{signed(row['difference'])}{span(row['low'], row['high'])}"
        lines.append(
            [*(str(row[name]) for name in columns), found, *tests, cell(row["detectable"])]
        )
    drawn = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    declared = (
        "Primary is what was declared beforehand, on untouched questions alone; the other lines"
        if table.primary.any()
        else "No line is primary: all"
    )
    return (
        f"{drawn}\n\n{declared} are corrected by Holm's method over all of them."
        f" {notes(table, table)}\n"
    )
