"""The answer to learn: which gold answer it is, and where it stands."""

import unicodedata

import pytest

from studylib.data import targets
from studylib.data.squad import Question


@pytest.mark.parametrize(
    ("answers", "target"),
    [
        (("Tiru",), "Tiru"),
        (("Kamo", "Tiru", "Tiru"), "Tiru"),
        (("Tiru", "Kamo"), "Tiru"),
        (("Kamo", "Tiru", "Tiru", "Kamo"), "Kamo"),
        (("in", "lives", "Tiru", "Tiru", "lives"), "lives"),
        ((" Tiru", "Kamo", "Tiru "), "Tiru"),
    ],
)
def test_target_is_the_most_frequent_answer_and_the_first_among_equals(answers: tuple, target: str):
    assert (
        targets.target_of(Question("q", "A", "c", "?", tuple((answer, 0) for answer in answers)))
        == target
    )


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_an_answer_is_found_where_it_stands_in_whichever_spelling(form: str):
    context = unicodedata.normalize(form, "René and Zoé\nlive in Orléans, Zoé does.")
    for answer, rest in (("Orléans", "Orle"), ("Zoé live", "Zo")):
        place = targets.place_of(answer, context)
        assert unicodedata.normalize("NFD", context[place:]).startswith(rest) and place > 3
    assert targets.place_of("nowhere", context) == targets.place_of("", context) == 0
