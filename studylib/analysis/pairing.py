"""Which rows are compared: each question once, and models only on the same questions.

pairing.check(student, control)     raises StudyError, naming what is missing
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from studylib.core.errors import StudyError

PLACE = ["seed", "question"]
UNIT = [*PLACE, "article"]


def distinct(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows without those of questions that repeat another of their paragraph. Questions and
    articles are categories, which are faster to sort and to compare."""
    kept = rows[rows.repeat.ne(True)]  # of rows that are only carried along the mark may be missing
    return kept.astype({"question": "category", "article": "category"})


def check(*models: pd.DataFrame) -> None:
    """Raise StudyError unless all models, rows of one each, from one table, have answered the same
    questions, once in every seed."""
    first, units = models[0], [model[UNIT].sort_values(UNIT, ignore_index=True) for model in models]
    for model, answered in zip(models, units, strict=True):
        if (twice := answered.duplicated(PLACE)).any():
            raise StudyError(
                f"{_title(model)} has two answers to {_place(answered[twice].iloc[0])}: export it"
                " anew."
            )
    places = pd.MultiIndex.from_frame(units[0][PLACE])
    grid = pd.MultiIndex.from_product([places.unique(level) for level in PLACE], names=PLACE)
    if len(lacking := grid.difference(places)):
        raise StudyError(
            f"{_title(first)} has no answer to {_place(lacking.to_frame().iloc[0])}, which it has"
            " in another seed: export it anew."
        )
    for model, answered in zip(models, units, strict=True):
        if not answered.equals(units[0]):
            raise StudyError(_unpaired(first, units[0], model, answered))


def shared(*models: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of each model of the seeds that all of them have, whatever their questions."""
    seeds = set.intersection(*(set(model.seed) for model in models))
    return [
        model if set(model.seed) == seeds else model[model.seed.isin(seeds)] for model in models
    ]


def known(models: Sequence[pd.DataFrame], metric: str) -> list[pd.DataFrame]:
    """The rows of each model of the questions for which all of them have a metric: of students with
    a trimmed vocabulary some have no loyalty."""
    missing = {q for model in models for q in model.question[model[metric].isna()]}
    return [model[~model.question.isin(missing)] for model in models] if missing else list(models)


def scores(models: Sequence[pd.DataFrame], metrics: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Scores (metric, model, S, n) on the same seeds and questions, and the questions' articles
    (n,). Raises StudyError for other ones."""
    check(*models)
    ordered = [model[[*UNIT, *metrics]].sort_values(PLACE) for model in models]
    shape = ordered[0].seed.nunique(), -1, len(metrics)
    values = np.stack([model[list(metrics)].to_numpy(float).reshape(shape) for model in ordered])
    return np.moveaxis(values, -1, 0), ordered[0].article.to_numpy()[: values.shape[2]]


def counts(model: pd.DataFrame) -> dict[str, int]:
    """Seeds, questions, those of them that are untouched, and articles."""
    return {
        "seeds": model.seed.nunique(),
        "n": model.question.nunique(),
        "untouched": model.question[model.untouched].nunique(),
        "articles": model.article.nunique(),
    }


def _unpaired(
    first: pd.DataFrame, reference: pd.DataFrame, model: pd.DataFrame, units: pd.DataFrame
) -> str:
    """What keeps two models from being paired, in words."""
    both = reference.merge(units, how="outer", on=UNIT, indicator=True)
    alone = both[both["_merge"] != "both"]
    sides = (first, model) if alone["_merge"].iloc[0] == "left_only" else (model, first)
    has, lacks = map(_title, sides)
    return (
        f"{has} and {lacks} cannot be compared: {_place(alone.iloc[0])} (article"
        f" {alone.article.iloc[0]!r}) is answered by the first alone (answers on one side only:"
        f" {len(alone)}): export both anew."
    )


def _title(model: pd.DataFrame) -> str:
    """A model and where it was asked, in words."""
    row = model.iloc[0]
    return f"{row.student or row.family} ({row.role}, {row.test_set} {row.eval_prompt})"


def _place(row: pd.Series) -> str:
    return f"question {row.question!r} of seed {row.seed}"
