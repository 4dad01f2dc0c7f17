"""What a second training of the same models changes, on made-up scores."""

import numpy as np
import pandas as pd
import pytest
from invented import rows

from studylib.analysis import repeats
from studylib.core.labels import CONTROL, STUDENT


def test_models_that_answered_twice_are_compared_question_by_question():
    first = pd.concat([rows(role, 0.5, articles=40) for role in (STUDENT, CONTROL)])
    first = first.assign(f1=np.tile(np.linspace(0, 1, len(first) // 2), 2))
    again = first[first.role == STUDENT]
    second = again.assign(f1=again.f1 + 0.03).sample(frac=1, random_state=0)
    other = rows(STUDENT, 0.9, articles=40, objective="hinton")
    (line,) = repeats.compare(first, pd.concat([second, other])).to_dict("records")
    assert line["role"] == STUDENT and line["first"] == pytest.approx(50)
    assert line["second"] == pytest.approx(53) and line["difference"] == pytest.approx(3)
    shown = repeats.markdown(pd.DataFrame([line]))
    assert "| 50.0 | 53.0 | +3.0 (3.0 to 3.0) |" in shown


def test_of_models_that_answered_once_there_is_no_line():
    once, other = rows(STUDENT, 0.5), rows(STUDENT, 0.5, objective="hinton")
    assert repeats.compare(once, other).empty
