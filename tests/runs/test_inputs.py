"""What runs read: the text that a training learns."""

from types import SimpleNamespace

import pytest
from miniatures import questions

from studylib.core.errors import StudyError
from studylib.runs import inputs, plan_parts


def learnt(targets, answers, monkeypatch):
    """What a run learns of four questions, the first two of which are labelled."""
    asked = list(questions()[:4])
    source = SimpleNamespace(labelled=asked[:2], questions=asked)
    monkeypatch.setattr(inputs, "loaded", lambda _: source)
    texts = {q.id: {"text": text} for q, text in zip(asked, answers, strict=True)}
    run = SimpleNamespace(
        label="a student",
        needs={"train": "", "teacher_answers": ""},
        parameters={"targets": targets},
    )
    return asked, inputs.learnt(run, SimpleNamespace(read=lambda *_: texts))


def test_sequence_distillation_learns_the_teachers_words_of_all_questions(monkeypatch):
    asked, result = learnt("sequence_kd", ["a", "b", "c", "d"], monkeypatch)
    assert [(q.id, q.answers[0][0]) for q in result] == [
        (q.id, text) for q, text in zip(asked, "abcd", strict=True)
    ]


def test_gold_stays_where_it_is_known_and_the_teachers_words_stand_for_the_rest(monkeypatch):
    asked, result = learnt(plan_parts.WITHHELD, ["a", "b", "c", "d"], monkeypatch)
    assert result[:2] == asked[:2] and [q.answers[0][0] for q in result[2:]] == ["c", "d"]


def test_filtered_targets_are_labelled_questions_that_the_teacher_answers_rightly(monkeypatch):
    right = questions()[1].answers[0][0]
    asked, result = learnt("filtered", ["no such words", right, right, right], monkeypatch)
    assert result == [asked[1]]
    with pytest.raises(StudyError, match="answers no training question rightly"):
        learnt("filtered", ["no such words"] * 4, monkeypatch)
