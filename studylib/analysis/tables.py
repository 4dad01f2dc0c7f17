"""A comparison as tables in Markdown, and the notes on intervals and tests that belong to its
numbers."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from studylib.analysis import formats, prose, retention, statistics, terms
from studylib.core import labels, sizes

IDENTITY = {
    "family": "family",
    "size": "size",
    "role": "role",
    "start": "init",
    "teacher": "teacher",
    "objective": "objective",
    "asked": "asked",
    "test_set": "test set",
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
    "exact_match": "EM",
    "f1": "F1",
    "rouge_l": "ROUGE-L",
    "retention_f1": "F1 kept, %",
    "retention_exact_match": "EM kept, %",
    "agreement": "agrees with teacher, %",
    "loyalty": "probability loyalty, %",
    "calibration_error": "calibration error, %",
}
HEADLINE = (*list(MEASURES)[:2], *retention.RETAINED, *labels.METRICS)


def markdown(cells: pd.DataFrame) -> str:
    """A table in Markdown, every cell as it stands."""
    return cells.to_markdown(
        index=False, tablefmt="github", disable_numparse=True, stralign=None, numalign=None
    )


def headline(kept: pd.DataFrame) -> str:
    """What is most asked for of a comparison, in Markdown: its `main` lines."""
    return table(main(kept), ("family", "size", "role", "asked", "test_set", "seeds"), HEADLINE)


def main(kept: pd.DataFrame) -> pd.DataFrame:
    """The lines of teachers, students and controls, those of base init left out."""
    compared = kept.role.isin(("student", "twin")) & kept.start.isin(retention.HEAD_STARTS)
    return kept[(kept.role == "teacher") | compared]


def table(
    kept: pd.DataFrame,
    named: Sequence[str] = tuple(IDENTITY),
    measures: Sequence[str] = tuple(MEASURES),
) -> str:
    """The comparison in Markdown: of what identifies and measures models, what is `named` and in
    `measures`; what is the same in every line is said once, below it."""
    uncut, models = kept.role == "teacher", terms.standard(kept)
    models["size"] = kept.student.map(sizes.written).mask(uncut, "uncut")
    models["teacher"] = models.teacher.mask(uncut, "–")
    values = models[list(IDENTITY)].nunique()
    shared = [f"{IDENTITY[name]} {models[name].iloc[0]}" for name in values.index[values == 1]]
    columns = [name for name in IDENTITY if name in named and values[name] > 1]
    cells = models[columns].rename(columns=IDENTITY)
    for name in measures:
        cells[MEASURES[name]] = [_measured(row, name) for row in kept.to_dict("records")]
    notes = prose.render(
        "table",
        shared=shared,
        intervals=notes_on(kept),
        spread=kept.seeds.max() > 1,
        asked_several_ways=kept.asked.nunique() > 1,
    )
    return f"{markdown(cells)}\n\n{notes}\n"


def _measured(row: Mapping, name: str) -> str:
    """A score with its standard deviation over seeds and its interval."""
    spread = row[retention.SPREAD[name]] if name in retention.SPREAD else np.nan
    deviation = "" if np.isnan(spread) else f" ± {spread:.1f}"
    interval = formats.interval(row, name) if name in retention.BOUNDS else ""
    return f"{formats.number(row[name])}{deviation}{interval}"


def notes_on(table: pd.DataFrame, differences: pd.DataFrame | None = None) -> str:
    """Of which questions a comparison or contrasts are, what their intervals are, and why there are
    none where there are none; and what could have been detected of `differences`."""
    enough = [statistics.enough(row.n, row.articles) for row in table.itertuples()]
    few, sets = table[~np.array(enough, bool)], table[table.untouched < table.n]
    return prose.render(
        "intervals",
        looked_at=sets.drop_duplicates("test_set").to_dict("records"),
        few=few.drop_duplicates("test_set").to_dict("records"),
        seeds=table.seeds.min() if any(enough) else None,
        detectable=differences is not None and differences.detectable.notna().any(),
    )


def bases(table: pd.DataFrame) -> str:
    """Models as they come from outside (`retention.bases`), in Markdown."""
    names = table.student.map(sizes.written).where(table.student != "", table.family)
    cells = pd.DataFrame({"model": names, "parameters": table.parameters_total.map("{:,}".format)})
    cells[["asked", "test set"]] = table[["asked", "test_set"]]
    for name, title in (("exact_match", "EM"), ("f1", "F1")):
        cells[title] = [formats.measured(row, name) for row in table.to_dict("records")]
    return f"{markdown(cells)}\n\n{notes_on(table)}\n"


def contrasts(table: pd.DataFrame) -> str:
    """What models of one size differ by (`contrasts.contrasts`), in Markdown."""
    names = ("family", "contrast", "start", "asked", "test_set", "size", "teacher", "objective")
    always = ("start", "asked", "test_set", "size")
    columns = {
        name: IDENTITY.get(name, name)
        for name in names
        if name in always or table[name].nunique() > 1
    }
    title = "difference" if table.empty or "contrast" in columns else table.contrast.iloc[0]
    shown = table.assign(size=table.student.map(sizes.written))
    return _tested(shown, columns, f"{terms.term(title)}, F1")


def prompting(table: pd.DataFrame) -> str:
    """What ways of prompting are worth (`prompting.prompting`), in Markdown."""
    columns = {"family": "family"} if table.family.nunique() > 1 else {}
    columns |= {"role": "role", "test_set": "test set", "ways": "ways"}
    return _tested(table, columns, "difference, F1")


def _tested(table: pd.DataFrame, columns: Mapping[str, str], difference: str) -> str:
    """Differences with their tests, and what these are corrected for."""
    if table.empty:
        return "Nothing is compared: no two models here are such a pair.\n"
    cells = terms.standard(table)[list(columns)].rename(columns=columns)
    signed = table.difference.map(formats.signed)
    cells[difference] = signed + [
        formats.span(*pair) for pair in zip(table.low, table.high, strict=True)
    ]
    cells["p"] = table.p.map(formats.probability)
    cells["p, Holm"] = table.p_holm.map(formats.probability).mask(table.primary, "primary")
    cells["MDE"] = table.detectable.map(formats.number)
    notes = prose.render("tested", primary=table.primary.any(), notes=notes_on(table, table))
    return f"{markdown(cells)}\n\n{notes}\n"
