"""A comparison as tables in Markdown, and the notes on intervals and tests that belong to its
numbers."""

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from studylib.analysis import formats, prose, retention, roles, statistics
from studylib.analysis.contrasts import CHECKS
from studylib.core import labels, sizes

IDENTITY = {
    "family": "family",
    "size": "size",
    "role": "role",
    "init": "init",
    "teacher": "teacher",
    "targets": "targets",
    "objective": "objective",
    "eval_prompt": "eval prompt",
    "test_set": "test set",
    "language": "language",
    "train_prompt": "train prompt",
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
    text = cells.to_markdown(
        index=False, tablefmt="github", disable_numparse=True, stralign=None, numalign=None
    )
    head, rule, *lines = text.split("\n")
    return "\n".join([head, re.sub("-+", "---", rule), *lines])


def headline(kept: pd.DataFrame) -> str:
    """What is most asked for of a comparison, in Markdown: its `main` lines."""
    return table(
        main(kept), ("family", "size", "role", "eval_prompt", "test_set", "seeds"), HEADLINE
    )


def main(kept: pd.DataFrame) -> pd.DataFrame:
    """The lines of teachers, students and controls, those of base init left out."""
    head = kept.init.isin(retention.HEAD_INITS) | (kept.role == "teacher")
    return kept[head & roles.main(kept)]


def table(
    kept: pd.DataFrame,
    named: Sequence[str] = tuple(IDENTITY),
    measures: Sequence[str] = tuple(MEASURES),
) -> str:
    """The comparison in Markdown: of what identifies and measures models, what is `named` and in
    `measures`. What is the same in every line stands once, below it."""
    models = _models(kept)
    values = models.nunique()
    shared = [f"{IDENTITY[name]} {models[name].iloc[0]}" for name in values.index[values == 1]]
    notes = prose.render(
        "table",
        shared=shared,
        intervals=notes_on(kept),
        spread=kept.seeds.max() > 1,
        asked_several_ways=kept.eval_prompt.nunique() > 1,
    )
    return f"{markdown(cells(kept, named, measures))}\n\n{notes}\n"


def cells(
    kept: pd.DataFrame,
    named: Sequence[str] = tuple(IDENTITY),
    measures: Sequence[str] = tuple(MEASURES),
) -> pd.DataFrame:
    """The same without notes, every cell as text."""
    names = [name for name in IDENTITY if name in named]
    shown = varying(_models(kept), names).rename(columns=IDENTITY)
    for name in measures:
        shown[MEASURES[name]] = [_measured(row, name) for row in kept.to_dict("records")]
    return shown


def varying(table: pd.DataFrame, names: Iterable[str], always: Sequence[str] = ()) -> pd.DataFrame:
    """The columns of these names, without those that have the same value in every line, unless they
    are `always` shown."""
    return table[[name for name in names if name in always or table[name].nunique() > 1]]


def _models(kept: pd.DataFrame) -> pd.DataFrame:
    """What identifies models, in words."""
    uncut = kept.role == "teacher"
    models = kept.assign(
        size=kept.student.map(sizes.written).mask(uncut, "uncut"),
        teacher=kept.teacher.mask(uncut, "–"),
    )
    return models[list(IDENTITY)]


def _measured(row: Mapping, name: str) -> str:
    """A score with its standard deviation over seeds and its interval."""
    spread = row[retention.SPREAD[name]] if name in retention.SPREAD else np.nan
    deviation = "" if np.isnan(spread) else f" ± {spread:.1f}"
    interval = formats.interval(row, name) if name in retention.BOUNDS else ""
    return f"{formats.number(row[name])}{deviation}{interval}"


def notes_on(table: pd.DataFrame, differences: pd.DataFrame | None = None) -> str:
    """Of which questions a comparison or contrasts are, and what their intervals are, or why there
    are none. Of `differences` it adds what could have been detected."""
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
    return f"{markdown(base_cells(table))}\n\n{notes_on(table)}\n"


def base_cells(table: pd.DataFrame) -> pd.DataFrame:
    """The same without notes, every cell as text."""
    cells = pd.DataFrame(
        {
            "model": table.student.map(sizes.written).where(table.student != "", table.family),
            "parameters": table.parameters_total.map("{:,}".format),
            "eval prompt": table.eval_prompt,
            "test set": table.test_set,
        }
    )
    for name, title in (("exact_match", "EM"), ("f1", "F1")):
        cells[title] = [formats.measured(row, name) for row in table.to_dict("records")]
    return cells


def contrasts(table: pd.DataFrame) -> str:
    """What models of one size differ by (`contrasts.contrasts`), in Markdown."""
    return _tested(table, contrast_cells(table))


def contrast_cells(table: pd.DataFrame) -> pd.DataFrame:
    """The same without notes, every cell as text."""
    always = ("init", "eval_prompt", "test_set", "size")
    title = table.contrast.iloc[0] if table.contrast.nunique() == 1 else "difference"
    names = ("family", "contrast", *always, "teacher", "objective")
    named = table.assign(size=table.student.map(sizes.written))
    cells = _differences(table, varying(named, names, always), f"{title}, F1")
    return _checked(table, cells) if table.loyalty.notna().any() else cells


def pooled_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Students minus controls of all sizes together (`contrasts.pooled`), every cell as text."""
    cells = varying(table, ("family", "test_set", "pairs"), ("test_set", "pairs"))
    cells = cells.rename(columns=IDENTITY)
    cells["F1"] = _spanned(table, "difference", "")
    if table.p_holm.notna().any():
        cells["p, Holm"] = table.p_holm.map(formats.probability)
    cells["MDE"] = table.detectable.map(formats.number)
    return _checked(table, cells)


def _checked(table: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The cells with what students differ by from their controls besides."""
    titles = {name: name.replace("_", " ") for name in CHECKS}
    return cells.assign(
        **{title: _spanned(table, name, f"{name}_") for name, title in titles.items()}
    )


def _spanned(table: pd.DataFrame, name: str, bound: str) -> list[str]:
    """Differences with their intervals, a dash where there is none."""
    return [
        f"{formats.signed(value)}{formats.span(low, high)}" if value == value else "–"
        for value, low, high in zip(
            table[name], table[f"{bound}low"], table[f"{bound}high"], strict=True
        )
    ]


def prompting(table: pd.DataFrame) -> str:
    """What ways of prompting are worth (`prompting.prompting`), in Markdown."""
    return _tested(table, prompting_cells(table))


def prompting_cells(table: pd.DataFrame) -> pd.DataFrame:
    """The same without notes, every cell as text."""
    always = ("role", "test_set", "ways")
    return _differences(table, varying(table, ("family", *always), always), "difference, F1")


def _tested(table: pd.DataFrame, cells: pd.DataFrame) -> str:
    """Differences with their tests, and what these are corrected for."""
    if table.empty:
        return "Nothing is compared: no two models here are such a pair.\n"
    notes = prose.render("tested", primary=table.primary.any(), notes=notes_on(table, table))
    return f"{markdown(cells)}\n\n{notes}\n"


def _differences(table: pd.DataFrame, named: pd.DataFrame, difference: str) -> pd.DataFrame:
    """Differences with their intervals and tests beside what they are of, every cell as text."""
    cells = named.rename(columns=IDENTITY)
    cells[difference] = _spanned(table, "difference", "")
    cells["p"] = table.p.map(formats.probability)
    cells["p, Holm"] = table.p_holm.map(formats.probability).mask(table.primary, "primary")
    cells["MDE"] = table.detectable.map(formats.number)
    return cells
