"""What a demonstration in the prompt is worth in points of F1: in training, in asking, by context
distillation; and to which questions."""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import pandas as pd

from studylib.analysis import contrasts, pairing, retention, statistics
from studylib.core import sizes
from studylib.core.labels import BASE, FINE_TUNED, FINE_TUNED_SHOWN

# where a demonstration is shown
WHOLE, TRAINING, ASKING = "in training and evaluation", "in training", "in evaluation"
CHOOSING = "in evaluation, another choice of demonstration"
UNTRAINED = "in evaluation, before any training"
DISTILLED = "context distillation"
DISTILLED_SHOWN = "context distillation, with a demonstration in evaluation"
APART = ("apart", "apart_low", "apart_high")


def prompting(
    rows: pd.DataFrame, train_prompts: Sequence[str], eval_prompts: Sequence[str]
) -> pd.DataFrame:
    """What ways of prompting are worth in points of F1, a line per family, test set, role and two
    ways of training and asking. `contrast` says what the two are compared for.

    Of the ways of training the first is plain and the last shows a demonstration. Columns are as in
    `contrasts.contrasts`. The comparison of whole ways, of students on the first test set, was
    declared beforehand and is not corrected. The others are, by Holm over all of them.
    """
    rows = pairing.distinct(rows)
    table = _prompting(rows, train_prompts, eval_prompts)
    return contrasts.tested(
        table,
        (table.role == "student")
        & (table.contrast == WHOLE)
        & (table.test_set == rows.test_set.iloc[0]),
        rows,
        lambda some: _prompting(some, train_prompts, eval_prompts),
    )


def by_trait(rows: pd.DataFrame, train_prompts: Sequence[str]) -> pd.DataFrame:
    """Which questions gain by a demonstration: F1 of the student that is shown one in training and
    asking minus that of the one that never is. There is a line per family, test set, trait of the
    question and its value, with 95 % intervals.

    `apart` is how far a difference is above the other questions' on the same test set. Nothing is
    tested here. Where some values on a test set have questions enough for an interval, those that
    have not are left out.
    """
    rows, lines = pairing.distinct(rows), []
    students = rows[(rows.role == "student") & (rows.teacher == FINE_TUNED)]
    for (family, test), group in students.groupby(["family", "test_set"], sort=False):
        plain, shown = (
            group[(group.train_prompt == mode) & (group.eval_prompt == mode)]
            for mode in (train_prompts[0], train_prompts[-1])
        )
        if set(plain.seed) & set(shown.seed):
            lines += [
                {"family": family, "test_set": test} | line for line in _by_trait(plain, shown)
            ]
    names = ["family", "test_set", "trait", "value", *retention.COUNTS, "difference", "low", "high"]
    table = pd.DataFrame(lines, columns=[*names, *APART, "runs"])
    bounded = table.low.notna()
    return table[bounded | ~bounded.groupby([table.family, table.test_set]).transform("any")]


def _prompting(
    rows: pd.DataFrame, train_prompts: Sequence[str], eval_prompts: Sequence[str]
) -> pd.DataFrame:
    """Those lines, not yet corrected for their number."""
    lines, columns = [], ["family", "test_set", "role", "contrast", "ways"]
    for (family, test), group in rows.groupby(["family", "test_set"], sort=False):
        for role, title, models in _roles(group):
            each = models.groupby(["teacher", "train_prompt", "eval_prompt"])
            ways = {way: model for way, model in each}
            for contrast, name, way, other in _ways(train_prompts, eval_prompts):
                if {way, other} <= ways.keys() and set(ways[way].seed) & set(ways[other].seed):
                    lines.append(
                        dict(
                            zip(columns, (family, test, role, contrast, title + name), strict=True)
                        )
                        | contrasts.difference(ways[way], ways[other])
                    )
    return pd.DataFrame(lines, columns=[*columns, *contrasts.DIFFERENCE])


def _roles(rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """The rows by role; of models as they come from outside one by one, a sibling with its name."""
    for role in ("student", "teacher"):
        yield role, "", rows[rows.role == role]
    for student, model in rows[rows.role == BASE].groupby("student", sort=False):
        name = sizes.written(student)
        yield BASE, f"{name}: " if name else "", model


def _ways(
    train_prompts: Sequence[str], eval_prompts: Sequence[str]
) -> Iterator[tuple[str, str, tuple, tuple]]:
    """What is compared of ways of prompting: contrast, both ways in words, and as (teacher,
    train prompt, eval prompt) the one and the other."""
    plain, last = train_prompts[0], train_prompts[-1]
    whole = f"{last} in training and evaluation, not {plain}"
    yield WHOLE, whole, (FINE_TUNED, last, last), (FINE_TUNED, plain, plain)
    for number, contrast in enumerate((ASKING, CHOOSING)):
        first = eval_prompts[number]
        for mode, other in product(train_prompts, eval_prompts[number + 1 :]):
            name = f"trained {mode}: asked {other}, not {first}"
            yield contrast, name, (FINE_TUNED, mode, other), (FINE_TUNED, mode, first)
    untrained = f"asked {last}, not {plain}"
    yield UNTRAINED, untrained, ("", "", last), ("", "", plain)
    for mode in eval_prompts:
        name = f"asked {mode}: trained {last}, not {plain}"
        yield TRAINING, name, (FINE_TUNED, last, mode), (FINE_TUNED, plain, mode)
    for mode in eval_prompts:
        name = f"asked {mode}: with context distillation, not without"
        contrast = DISTILLED if mode == plain else DISTILLED_SHOWN
        yield contrast, name, (FINE_TUNED_SHOWN, plain, mode), (FINE_TUNED, plain, mode)


def _by_trait(plain: pd.DataFrame, shown: pd.DataFrame) -> Iterator[dict]:
    """The lines of two students on one test set."""
    for trait, values in _traits(plain).items():
        for value in values.cat.categories:
            if questions := set(plain.question[values == value]):
                both = (model[model.question.isin(questions)] for model in (shown, plain))
                yield {
                    "trait": trait,
                    "value": value,
                    **contrasts.difference(*both),
                    **_apart(shown, plain, questions),
                }


def _apart(shown: pd.DataFrame, plain: pd.DataFrame, questions: set) -> dict[str, float]:
    """How far the difference of both on these questions is above that on the other ones, where
    there are enough of both."""
    both = pairing.shared(shown, plain)
    values, clusters = pairing.scores(both, ["f1"])
    inside = np.isin(np.unique(both[0].question), list(questions))
    if not all(statistics.enough_clusters(clusters[side]) for side in (inside, ~inside)):
        return {}
    difference = 100 * (values[0, 0] - values[0, 1])  # (S, n)
    sides = [side * np.ones_like(difference) for side in (inside, ~inside)]
    parts = np.stack([part for side in sides for part in (side * difference, side)])
    measured, drawn = parts.mean((-2, -1)), statistics.bootstrap(parts, clusters).T
    apart, draws = (gain / share - others / rest for gain, share, others, rest in (measured, drawn))
    return dict(zip(APART, (apart, *statistics.interval(draws)), strict=True))


def _traits(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Traits of questions (`targets.traits`), numbers in classes. Of many questions, words that few
    ask with become other words. Those of languages but English are none."""
    asks = rows.asks.where(rows.language == "en")
    if rows.question.nunique() >= statistics.QUESTIONS:
        common = rows.groupby(asks).question.nunique() >= statistics.QUESTIONS
        asks = asks.where(asks.isna() | asks.isin(common[common].index), "other")
    return {
        "asks": asks.astype("category"),
        "answer": pd.cut(
            rows.answer_words,
            [0, 1, 2, 4, np.inf],
            labels=["1 word", "2 words", "3 or 4 words", "5 or more words"],
        ),
        "answer in the": pd.cut(
            rows.answer_place,
            [-1, 1 / 3, 2 / 3, 1],
            labels=["first third", "second third", "last third"],
        ),
    }
