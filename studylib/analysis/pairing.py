"""Which rows are compared: each question once, and models only on the same questions.

pairing.check(student, control)     raises StudyError, naming what is missing
"""

import pandas as pd

from studylib.core.errors import StudyError

UNIT = ["seed", "question", "article"]


def distinct(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows without those of questions that repeat another of their paragraph."""
    return rows[rows.repeat.ne(True)]  # of rows that are only carried along the mark may be missing


def check(*models: pd.DataFrame) -> None:
    """Raise StudyError unless all models, rows of one each, have answered the same questions, once
    in every seed."""
    reference, *others = (_units(model) for model in models)
    first = models[0]
    if (twice := reference.duplicated(["seed", "question"])).any():
        raise StudyError(
            f"{_title(first)} has two answers to {_place(reference[twice].iloc[0])}: export it"
            " anew."
        )
    grid = pd.MultiIndex.from_product(
        [reference.seed.unique(), reference.question.unique()], names=["seed", "question"]
    )
    if len(grid) > len(reference):
        lacking = grid.difference(
            pd.MultiIndex.from_frame(reference[["seed", "question"]])
        ).to_frame(index=False)
        raise StudyError(
            f"{_title(first)} has no answer to {_place(lacking.iloc[0])}, which it has in another"
            " seed: export it anew."
        )
    for model, units in zip(models[1:], others, strict=True):
        if not units.equals(reference):
            raise StudyError(_unpaired(first, reference, model, units))


def _units(model: pd.DataFrame) -> pd.DataFrame:
    return model[UNIT].sort_values(UNIT).reset_index(drop=True)


def _unpaired(
    first: pd.DataFrame, reference: pd.DataFrame, model: pd.DataFrame, units: pd.DataFrame
) -> str:
    """What keeps two models from being paired, in words."""
    both = reference.merge(units, how="outer", on=UNIT, indicator=True)
    alone = both[both["_merge"] != "both"]
    if alone.empty:
        twice = units[units.duplicated(["seed", "question"])]
        return f"{_title(model)} has two answers to {_place(twice.iloc[0])}: export it anew."
    sides = (first, model) if alone["_merge"].iloc[0] == "left_only" else (model, first)
    has, lacks = map(_title, sides)
    where = f"{_place(alone.iloc[0])} (article {alone.article.iloc[0]!r})"
    count = f"answers on one side only: {len(alone)}"
    return (
        f"{has} and {lacks} cannot be compared: {where} is answered by the first alone ({count}):"
        " export both anew."
    )


def _title(model: pd.DataFrame) -> str:
    """A model and where it was asked, in words."""
    row = model.iloc[0]
    return f"{row.student or row.family} ({row.role}, {row.test_set} {row.asked})"


def _place(row: pd.Series) -> str:
    return f"question {row.question!r} of seed {row.seed}"
