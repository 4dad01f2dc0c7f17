"""Rows: a line per question and set of answers, from the store or as they were exported.

rows(plan, folder=folder)
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from studylib.app import conflicts
from studylib.core.errors import StudyError
from studylib.data import sources
from studylib.evaluation import question_scores
from studylib.evaluation.question_scores import MARKS, SCORES, TRAITS
from studylib.experiments.plans import Asked, Plan
from studylib.runs import inputs
from studylib.store import exports
from studylib.store.exports import IDENTITY
from studylib.store.run import Input, Run
from studylib.store.store import Store

COUNTS = ["parameters_total", "parameters_nonembedding"]
COLUMNS = [
    *IDENTITY,
    *COUNTS,
    "run",
    "planned",
    "article",
    "question",
    *MARKS,
    "untouched",
    *TRAITS,
    *SCORES,
    "answer",
]


def rows(plan: Plan, store: Store | None = None, folder: Path | None = None) -> pd.DataFrame:
    """Per-question rows of all answers that are there: identity, parameter counts, scores of 0 to
    1, digest of the answer.

    `paragraph` is the place of the question's paragraph in the order of drawing, `untouched`
    whether it is none of those that the data set declares as seen (`seen_paragraphs`), `repeat`
    whether an earlier question of the paragraph asks the same. `probability` is the model's of its
    answer; `agreement` and `loyalty` (to the teacher) are missing in a teacher's rows. Rows that
    the store does not have are those that were exported for just such runs (`planned`) to `folder`
    or to one that shares results with it, if they were. Raises StudyError where these are of other
    weights, or if there are no rows.
    """
    store, exported = (store or Store()).snapshot(), exports.exported(folder, "rows.parquet")
    conflicts.check_weights(plan, store, folder)
    frames = [_rows(asked, store, exported) for asked in plan.asked]
    if not any(map(len, frames)):
        raise StudyError("No answers are there yet: complete the plan first.")
    return pd.concat([part for part in frames if len(part)], ignore_index=True)[COLUMNS]


def _rows(asked: Asked, store: Store, exported: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The rows of one set of answers, from the store or as they were exported; none where it is
    neither there nor was."""
    test = asked.answers.needs["test"]
    if is_answered(asked, store):
        counts = inputs.parameter_counts(store, asked.counted)
        part = _scored(asked, store).assign(
            **asked.called,
            **{f"parameters_{name}": count for name, count in counts.items()},
            run=store.key(asked.answers),
            planned=asked.planned,
        )
    elif asked.planned in exported:
        part = _marked(exported[asked.planned].assign(**asked.called), test)
    else:
        return pd.DataFrame()
    return part.assign(untouched=part.paragraph >= test.value.get("seen_paragraphs", 0))


def is_answered(asked: Asked, store: Store) -> bool:
    """Whether the store has all that a set of answers' rows are made of."""
    teacher = asked.teacher.answers if asked.teacher else None
    return all(
        store.result(run) is not None
        for run in (asked.answers, asked.counted, asked.loyalty, teacher)
        if isinstance(run, Run)
    )


def _scored(asked: Asked, store: Store) -> pd.DataFrame:
    """The scores of one set of answers in the store, beside its teacher's where it has one."""
    test, beside = asked.answers.needs["test"], {}
    if asked.teacher is not None and asked.loyalty is not None:
        beside = {
            "teacher": store.read(asked.teacher.answers, "answers.json"),
            "loyalty": store.read(asked.loyalty, "loyalty.json"),
        }
    answers, mlqa = store.read(asked.answers, "answers.json"), sources.is_mlqa(test.value)
    return pd.DataFrame(question_scores.of(inputs.loaded(test), answers, mlqa=mlqa, **beside))


def _marked(exported: pd.DataFrame, test: Input) -> pd.DataFrame:
    """Exported rows with `MARKS`; where they were exported without, by the data set, which is
    fetched for that."""
    if set(MARKS) <= set(exported) and exported[MARKS].notna().all(axis=None):
        return exported.astype({"paragraph": int, "repeat": bool})
    loaded = inputs.loaded(test)
    try:
        places = [loaded.paragraphs[question] for question in exported.question]
    except KeyError as error:
        raise StudyError(
            f"The exported rows of {test.label} have question {error}, which the data set has not:"
            " export them anew."
        ) from error
    return exported.assign(paragraph=places, repeat=exported.question.isin(loaded.repeats))
