"""Scores against the official script's behaviour, an implementation of others, and closed forms."""

from itertools import combinations
from random import Random

import pytest
from torchmetrics.functional.text import squad

from studylib import scoring


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("The Tiru", "tiru"),
        ("a Tiru, an Belu and the Sado", "tiru belu and sado"),
        ("Theatre in Anatolia", "theatre in anatolia"),
        ("the  \t Tiru\n River ", "tiru river"),
        ("the-Tiru", "thetiru"),  # punctuation goes first
        ("U.S.A.", "usa"),
        ("dog's", "dogs"),
        ("24–10", "24–10"),  # only ASCII punctuation goes
        ("“Tiru”", "“tiru”"),
        ("$1,234.50", "123450"),
        ("ÉTUDE", "étude"),
        ("The a an", ""),
        ("...", ""),
        ("", ""),
    ],
)
def test_normal_form(text: str, form: str):
    assert scoring.normalise(text) == form


@pytest.mark.parametrize(
    ("prediction", "golds", "exact_match", "f1"),
    [
        ("Tiru", ["Tiru"], 1, 1),
        ("the TIRU.", ["Tiru"], 1, 1),
        ("Belu", ["Tiru"], 0, 0),
        ("Belu", ["Tiru", "the Belu"], 1, 1),
        ("big blue Tiru", ["Tiru"], 0, 1 / 2),  # precision 1/3, recall 1
        ("blue Tiru", ["Tiru river"], 0, 1 / 2),
        ("blue Tiru", ["Tiru river", "blue Tiru river"], 0, 4 / 5),  # the best gold answer counts
        ("Tiru blue", ["blue Tiru"], 0, 1),  # order counts for exact match alone
        ("Tiru Tiru Tiru", ["Tiru"], 0, 1 / 2),  # a word counts as often as it is there
        ("Tiru Tiru", ["Tiru Belu Tiru"], 0, 4 / 5),
        ("", ["Tiru"], 0, 0),
        ("the", ["a"], 1, 0),  # nothing left on both sides: the same, but without overlap
        ("", [""], 1, 0),
    ],
)
def test_exact_match_and_f1(prediction: str, golds: list[str], exact_match: float, f1: float):
    assert scoring.exact_match(prediction, golds) == exact_match
    assert scoring.f1(prediction, golds) == pytest.approx(f1)


def generated(count: int) -> list[tuple[str, list[str]]]:
    """Predictions and gold answers of the same few words, so that they often overlap."""
    words = ["the", "The", "a", "an", "Cat", "cat", "cat,", "dog's", "(NFL)", "nfl", "24–10", "U.S.", "us", "-", "anthem", "", "\n"]
    rng = Random(0)

    def text() -> str:
        return " ".join(rng.choices(words, k=rng.randint(0, 5)))

    return [(text(), [text() for _ in range(rng.randint(1, 3))]) for _ in range(count)]


def test_exact_match_and_f1_as_torchmetrics_has_them():
    """Where nothing is left of both sides, torchmetrics gives an F1 of 1, as the later script of SQuAD 2.0 does;
    the script of v1.1 gives 0 without overlap, and so do we."""
    both_empty = set()
    for prediction, golds in generated(400):
        answers = {"answer_start": [0] * len(golds), "text": golds}
        theirs = squad({"prediction_text": prediction, "id": "q"}, {"answers": answers, "id": "q"})
        assert 100 * scoring.exact_match(prediction, golds) == pytest.approx(theirs["exact_match"].item())
        if scoring.normalise(prediction) or all(map(scoring.normalise, golds)):
            assert 100 * scoring.f1(prediction, golds) == pytest.approx(theirs["f1"].item(), abs=1e-3)
        else:
            both_empty.add((scoring.f1(prediction, golds), theirs["f1"].item()))
    assert both_empty == {(0.0, 100.0)}


@pytest.mark.parametrize(
    ("prediction", "golds", "value"),
    [
        ("the cat on mat", ["the cat sat on the mat"], 2 * 4 / (4 + 6)),
        ("police kill the gunman", ["police killed the gunman"], 3 / 4),  # the examples of Lin (2004, §3.2)
        ("the gunman kill police", ["police killed the gunman"], 2 / 4),
        ("Tiru!", ["tiru"], 1),
        ("Belu", ["Tiru"], 0),
        ("Belu", ["Tiru", "Belu wrote"], 2 / 3),
        ("", ["Tiru"], 0),
        ("", [""], 0),
    ],
)
def test_rouge_l_closed_form(prediction: str, golds: list[str], value: float):
    assert scoring.rouge_l(prediction, golds) == pytest.approx(value)


def longest_common(a: tuple, b: tuple) -> int:
    """Length of the longest common subsequence, by trying all subsequences of `a`."""

    def within(part: tuple) -> bool:
        rest = iter(b)
        return all(word in rest for word in part)

    return max(size for size in range(len(a) + 1) for part in combinations(a, size) if within(part))


def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence():
    rng = Random(1)
    for _ in range(200):
        a, b = (tuple(rng.choices(("kamo", "tiru", "belu"), k=rng.randint(1, 7))) for _ in range(2))
        assert scoring.rouge_l(" ".join(a), [" ".join(b)]) == pytest.approx(2 * longest_common(a, b) / (len(a) + len(b)))


def test_score_holds_all_metrics():
    assert scoring.score("blue Tiru", ["Tiru river"]) == pytest.approx({"exact_match": 0, "f1": 1 / 2, "rouge_l": 1 / 2})
    assert tuple(scoring.score("", [""])) == scoring.METRICS
