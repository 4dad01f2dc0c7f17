"""What the lm-evaluation-harness task calls: the study's prompt and its scores, from the one place
that knows them each."""

from collections.abc import Mapping, Sequence

from studylib.data import template
from studylib.data.squad import Question
from studylib.evaluation import metrics
from studylib.evaluation.answers import clean


def prompt(row: Mapping) -> str:
    """The question as the study asks it, zero-shot and plain."""
    segments = template.plain(None)
    question = Question(row["id"], "", row["context"], row["question"], ())
    return segments.prefix(question.context) + segments.given(question)


def target(row: Mapping) -> str:
    """A right answer."""
    return row["answers"]["text"][0]


def scores(row: Mapping, responses: Sequence[str]) -> dict[str, float]:
    """EM and F1 of 0 to 1 by SQuAD's rules, of the first line that says something."""
    values = metrics.score(clean(responses[0]), row["answers"]["text"])
    return {name: values[name] for name in ("exact_match", "f1")}
