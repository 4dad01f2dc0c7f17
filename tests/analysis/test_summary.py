"""What a notebook says, with what its numbers come from."""

import pandas as pd
import pytest
from invented import rows

from studylib.analysis import rates, retention, tables
from studylib.analysis.summary import Origin

NO_RATES = pd.DataFrame(columns=rates.COLUMNS)


@pytest.fixture(scope="module")
def kept():
    """A teacher and a student, compared."""
    return retention.compare(pd.concat([rows("teacher", 0.8), rows("student", 0.6, depth=5)]))


def test_missing_answers_follow_answer_and_conclusion_and_what_computing_took_the_latter(kept):
    origin = Origin(NO_RATES, computed="It took an hour.", missing="Two answers are missing.")
    texts = origin.texts(kept, "Yes.\n", "It passes.\n", headline="Short.\n")
    assert texts == {
        "headline": "Short.\n",
        "table": tables.table(kept),
        "rates": "Nothing was trained yet.\n",
        "answer": "Yes. Two answers are missing.\n",
        "conclusion": "It passes.\n\nIt took an hour. Two answers are missing.\n",
    }
    plain = Origin(NO_RATES).texts(kept, "Yes.\n", "It passes.\n")
    assert (plain["answer"], plain["conclusion"]) == ("Yes.\n", "It passes.\n")


def test_what_is_outdated_stands_below_every_text(kept):
    plain, noted = (
        Origin(NO_RATES, outdated=note).texts(kept, "Yes.", "It passes.", headline="Short.\n")
        for note in ("", "Two numbers are of older code.")
    )
    assert noted == {
        name: f"{text}\nTwo numbers are of older code.\n" for name, text in plain.items()
    }
