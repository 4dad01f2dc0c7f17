"""How versions of code are written, and what is said where they differ from today's."""

import pytest

from studylib import versions
from studylib.runs import Run


@pytest.mark.parametrize(
    ("made", "today", "how"),
    [
        ("kinds 1, training 3", "kinds 1, training 3", ""),
        ("kinds 1, training 3", "kinds 1, training 4", "made with training 3, today 4"),
        ("facts 1, kinds 1, training 3", "facts 2, kinds 1, training 4", "made with facts 1, training 3, today 2, 4"),
        ("kinds 1", "kinds 1, scoring 2", "made with no scoring, today 2"),
        ("kinds 1, scoring 2", "kinds 1", "made with scoring 2, today none"),
        ("", "kinds 1", "made with unknown versions"),
    ],
)
def test_what_differs_is_named(made: str, today: str, how: str):
    assert versions.outdated(made, today) == how


def test_versions_are_those_of_all_that_a_run_builds_on():
    upstream = Run("teacher", {}, recipe={"training": 3, "kinds": 1})
    assert (
        versions.written(Run("answers", {}, {"model": upstream}, {"answering": 5, "kinds": 1}).versions)
        == "answering 5, kinds 1, training 3"
    )
