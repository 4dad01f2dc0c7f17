"""What of a text is the answer, and which of a question's answers counts."""

import pytest

from studylib.evaluation.answers import Answer, best, clean


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Paris", "Paris"),
        ("\nParis\n\nQuestion: Who", "Paris"),
        ("\n\n Paris ", "Paris"),
        ("", ""),
        ("\n\n", ""),
        ("Paris\nLyon", "Paris"),
    ],
)
def test_a_leading_newline_is_no_empty_answer(text, expected):
    assert clean(text) == expected


def test_of_several_windows_the_surest_answer_a_token_counts():
    answers = [
        Answer("q", "long", 1.0, -2.0, 4),
        Answer("q", "short", 1.0, -1.5, 1),
        Answer("p", "only", 1.0, -9.0, 1),
    ]
    assert {name: answer.text for name, answer in best(answers).items()} == {
        "q": "long",
        "p": "only",
    }
