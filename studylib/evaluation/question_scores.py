"""The scores of a set of answers, question by question.

of(loaded, answers, mlqa=False)
"""

from collections.abc import Iterator, Mapping

import numpy as np

from studylib.core import labels, segmentation
from studylib.core.filesystem import digest
from studylib.data import targets
from studylib.data.squad import Loaded
from studylib.evaluation import metrics

MARKS = ["paragraph", "repeat"]  # of a question, by its data set
TRAITS = ["asks", "answer_words", "answer_place"]
BESIDE = ["probability", "agreement", "loyalty"]
SCORES = [*labels.METRICS, *labels.MENDED, *BESIDE]


def of(
    loaded: Loaded,
    answers: Mapping[str, Mapping],
    *,
    mlqa: bool,
    teacher: Mapping[str, Mapping] | None = None,
    loyalty: Mapping[str, float | None] | None = None,
) -> Iterator[dict]:
    """A row per question of a data set with the scores, 0 to 1, of a model's `answers` (text and
    probability by question), by MLQA's rules or by SQuAD's; agreement with its `teacher`'s answers
    and `loyalty` to it are missing where it has none."""
    for question in loaded.questions:
        text, language = answers[question.id]["text"], question.language
        how = dict(language=language, rules=segmentation.usual_rules(language, mlqa=mlqa))
        yield {
            "language": language,
            "article": question.article,
            "question": question.id,
            "paragraph": loaded.paragraphs[question.id],
            "repeat": question.id in loaded.repeats,
            **targets.traits(question),
            **metrics.score(text, [gold for gold, _ in question.answers], **how),
            "probability": answers[question.id]["probability"],
            "agreement": (
                metrics.agreement(text, teacher[question.id]["text"], **how) if teacher else np.nan
            ),
            "loyalty": loyalty[question.id] if loyalty else np.nan,
            "answer": digest(text)[:16],
        }
