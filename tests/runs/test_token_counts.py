"""Tokens of data sets: as they are packed, and where nothing is at hand."""

import pytest
from miniatures import planned

from studylib.data import packing
from studylib.models import loading
from studylib.runs import inputs, plan_parts, token_counts


def test_a_text_is_counted_as_it_is_read(raw):
    plan = planned(raw)
    run = plan.runs[0]
    words, config = loading.reading(raw)
    rows = [
        packing.pack(prompt)
        for prompt in inputs.prompted(
            run, "train", words, config, learnt=inputs.questions(run.needs["train"])
        )
    ]
    text = token_counts.text(run, "train", learning=True)
    assert text.rows == len(rows) and list(text.lengths) == [len(row.ids) for row in rows]
    assert text.tokens * text.rows == pytest.approx(sum(len(row.ids) for row in rows))
    visible = sum(int(packing.collate([row]).mask.sum()) for row in rows)
    assert text.pairs * text.rows == pytest.approx(visible)
    assert text.answers * text.rows == pytest.approx(sum(len(row.answers.at) for row in rows))


def test_published_sets_that_are_not_at_hand_are_estimated():
    train = plan_parts.dataset("train", {"source": "hub:rajpurkar/squad", "split": "train"})
    text = token_counts._estimated(train, "zero-shot")
    assert text.rows == 18891 and text.rows * text.questions == pytest.approx(87599)
    assert token_counts._estimated(train, "one-shot").tokens > text.tokens
    few = plan_parts.dataset(
        "dev", {"source": "hub:rajpurkar/squad", "split": "train", "paragraphs": 100}
    )
    assert token_counts._estimated(few, "zero-shot").rows == 100
    mlqa = {
        "source": "archive:MLQA_V1/test-context-de-question-de.json",
        "official": "mlqa-test-de",
        "language": "de",
    }
    assert token_counts._estimated(
        plan_parts.dataset("de", mlqa), "zero-shot"
    ).rows == pytest.approx(4517 / token_counts.A_CONTEXT, abs=1)
    rest = plan_parts.dataset(
        "dev", {"source": "hub:rajpurkar/squad", "split": "validation", "skip_paragraphs": 300}
    )
    assert token_counts._estimated(rest, "zero-shot").rows == 1767
    more = few.value | {"unlabelled": [{"source": "hub:rajpurkar/squad", "split": "validation"}]}
    whole = token_counts._estimated(plan_parts.dataset("train", more), "zero-shot")
    assert whole.rows == 100 + 2067
    assert whole.rows * whole.questions == pytest.approx(100 * 87599 / 18891 + 10570)
