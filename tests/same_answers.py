"""When a question's answers count as the same, however they were computed."""

import pytest


def assert_same_answers(answers, others):
    """The same texts but where the two best tokens are close, with the same probability."""
    for first, second in zip(answers, others, strict=True):
        assert first.question_id == second.question_id
        assert first.text == second.text or min(first.margin, second.margin) < 1e-3
        assert first.text != second.text or first.log_probability == pytest.approx(
            second.log_probability, abs=1e-3
        )
