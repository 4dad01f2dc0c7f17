"""Scores against the official script's behaviour, an implementation of others, and closed forms."""

import unicodedata
from itertools import combinations
from random import Random

import evaluate
import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torchmetrics.functional.classification import binary_calibration_error
from torchmetrics.functional.text import squad

from studylib.analysis import statistics
from studylib.core import labels, segmentation
from studylib.core.errors import StudyError
from studylib.evaluation import hf_metric, metrics


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
    assert segmentation.words(text) == form.split()


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
    assert metrics.exact_match(prediction, golds) == exact_match
    assert metrics.f1(prediction, golds) == pytest.approx(f1)


def generated(count: int) -> list[tuple[str, list[str]]]:
    """Predictions and gold answers of the same few words, so that they often overlap."""
    words = [
        "the",
        "The",
        "a",
        "an",
        "Cat",
        "cat",
        "cat,",
        "dog's",
        "(NFL)",
        "nfl",
        "24–10",
        "U.S.",
        "us",
        "-",
        "anthem",
        "",
        "\n",
    ]
    rng = Random(0)

    def text() -> str:
        return " ".join(rng.choices(words, k=rng.randint(0, 5)))

    return [(text(), [text() for _ in range(rng.randint(1, 3))]) for _ in range(count)]


def test_exact_match_and_f1_as_torchmetrics_has_them():
    """Where nothing is left of both sides, torchmetrics gives an F1 of 1, as the later script of
    SQuAD 2.0 does; the script of v1.1 gives 0 without overlap, and so do we."""
    both_empty = set()
    for prediction, golds in generated(400):
        answers = {"answer_start": [0] * len(golds), "text": golds}
        reference = squad(
            {"prediction_text": prediction, "id": "q"}, {"answers": answers, "id": "q"}
        )
        assert 100 * metrics.exact_match(prediction, golds) == pytest.approx(
            reference["exact_match"].item()
        )
        if segmentation.words(prediction) or all(map(segmentation.words, golds)):
            assert 100 * metrics.f1(prediction, golds) == pytest.approx(
                reference["f1"].item(), abs=1e-3
            )
        else:
            both_empty.add((metrics.f1(prediction, golds), reference["f1"].item()))
    assert both_empty == {(0.0, 100.0)}


@pytest.mark.parametrize(
    ("prediction", "golds", "value"),
    [
        ("the cat on mat", ["the cat sat on the mat"], 2 * 4 / (4 + 6)),
        (
            "police kill the gunman",
            ["police killed the gunman"],
            3 / 4,
        ),  # the examples of Lin (2004, §3.2)
        ("the gunman kill police", ["police killed the gunman"], 2 / 4),
        ("Tiru!", ["tiru"], 1),
        ("Belu", ["Tiru"], 0),
        ("Belu", ["Tiru", "Belu wrote"], 2 / 3),
        ("", ["Tiru"], 0),
        ("", [""], 0),
    ],
)
def test_rouge_l_closed_form(prediction: str, golds: list[str], value: float):
    assert metrics.rouge_l(prediction, golds) == pytest.approx(value)


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
        assert metrics.rouge_l(" ".join(a), [" ".join(b)]) == pytest.approx(
            2 * longest_common(a, b) / (len(a) + len(b))
        )


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("The “Tiru”, a RIVER!", "en", "the tiru a river"),
        ("Das Ufer – des Flusses", "de", "das ufer des flusses"),
        ("北京《大学》 in China", "zh", "北 京 大 学 in china"),
        ("北京大学", "en", "北京大学"),
        ("البيت؟", "ar", "البيت"),
    ],
)
def test_tokens_are_words_with_their_articles(text: str, language: str, expected: str):
    assert segmentation.tokens(text, language) == expected.split()


def test_score_holds_all_metrics():
    expected = {
        "exact_match": 0,
        "f1": 1 / 2,
        "rouge_l": 1 / 2,
        "exact_match_mended": 0,
        "f1_mended": 1 / 2,
    }
    assert metrics.score("blue Tiru", ["Tiru river"]) == pytest.approx(expected)
    assert tuple(metrics.score("", [""])) == labels.METRICS + labels.MENDED


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("en", "The “Tiru”, a river—of an island.", "tiru riverof island"),
        ("es", "Los ríos de la isla: ¿un mar?", "ríos de isla mar"),
        ("de", "Das Ufer des Flusses, einem „Tal“", "ufer flusses tal"),
        ("vi", "Những con sông của đảo là cái gì", "con sông đảo gì"),
        ("hi", "नदी का नाम। क्या है?", "नदी का नाम क्या है"),  # the danda is punctuation
        ("zh", "1990年,北京《大学》 in China", "1990 年 北 京 大 学 in china"),
        ("zh", "a the 〇", "a the 〇"),  # no articles; U+3007 is outside the range
        ("ar", "طالب", "ط ب"),  # the official rule damages words
        ("ar", "الكتاب الكبير", "كتاب كبير"),
        ("ar", "في، البيت؟", "في بيت"),
    ],
)
def test_words_of_mlqa(language: str, text: str, words: str):
    assert segmentation.words(text, language=language, rules="mlqa") == words.split()


def test_the_mended_rule_leaves_words_whole():
    """And differs in Arabic alone."""
    assert segmentation.words("طالب الكتاب، والبيت", language="ar", rules="mlqa_mended") == [
        "طالب",
        "كتاب",
        "والبيت",
    ]
    for language in segmentation.ARTICLES:
        text = "The Los Das Những नदी 北京"
        assert segmentation.words(text, language=language, rules="mlqa") == segmentation.words(
            text, language=language, rules="mlqa_mended"
        )


@pytest.mark.parametrize(
    ("language", "prediction", "gold", "exact_match", "f1"),
    [
        ("es", "la isla", "isla", 1, 1),
        ("de", "der große Fluss", "Fluss", 0, 2 / 3),
        ("vi", "của sông", "sông", 1, 1),
        ("hi", "नदी।", "नदी", 1, 1),
        ("zh", "北京大学", "北京", 0, 2 / 3),
        ("zh", "北京。", "北京", 1, 1),
        ("ar", "الكتاب", "كتاب", 1, 1),
    ],
)
def test_mlqa_scores_by_hand(
    language: str, prediction: str, gold: str, exact_match: float, f1: float
):
    given = {"language": language, "rules": "mlqa"}
    assert metrics.exact_match(prediction, [gold], **given) == exact_match
    assert metrics.f1(prediction, [gold], **given) == pytest.approx(f1)


def test_rules_differ_in_english_by_unicode_punctuation_alone():
    for prediction, golds in generated(200):
        plain = [text.replace("–", "") for text in (prediction, *golds)]
        assert metrics.f1(plain[0], plain[1:]) == metrics.f1(prediction, golds, rules="mlqa")


@pytest.mark.parametrize(("language", "rules"), [("fr", "mlqa"), ("de", "squad"), ("en", "squad2")])
def test_what_no_rule_covers_is_refused(language: str, rules: str):
    with pytest.raises(StudyError, match=rules):
        metrics.f1("a", ["a"], language=language, rules=rules)


def test_a_refusal_says_what_there_is():
    with pytest.raises(StudyError, match="'squad2' are unknown: use squad, mlqa, mlqa_mended"):
        segmentation.words("a", rules="squad2")
    with pytest.raises(StudyError, match="language 'fr': they know en, es, hi, vi, de, ar, zh"):
        segmentation.words("a", language="fr", rules="mlqa")


@pytest.mark.parametrize(
    ("language", "prediction", "gold", "value"),
    [
        ("ar", "في البيت الكبير", "في البيت", 4 / 5),
        ("hi", "नदी का नाम", "नदी नाम।", 4 / 5),
        ("zh", "北京大学", "北大", 4 / 6),
    ],
)
def test_rouge_l_in_other_scripts(language: str, prediction: str, gold: str, value: float):
    assert metrics.rouge_l(prediction, [gold], language=language) == pytest.approx(value)


def test_score_says_of_each_metric_what_its_function_says():
    for language, rules in (
        ("en", "squad"),
        ("en", "mlqa"),
        ("de", "mlqa"),
        ("ar", "mlqa"),
        ("zh", "mlqa"),
        ("ar", "mlqa_mended"),
    ):
        for prediction, golds in (
            ("das Haus – am طالب", ["Haus am طالب"]),
            ("den 北京大学", ["大学", "الكتاب"]),
            ("الكتاب", ["كتاب"]),
        ):
            given, scores = (
                {"language": language, "rules": rules},
                metrics.score(prediction, golds, language=language, rules=rules),
            )
            mended = given if rules != "mlqa" else {"language": language, "rules": "mlqa_mended"}
            assert scores == {
                "exact_match": metrics.exact_match(prediction, golds, **given),
                "f1": metrics.f1(prediction, golds, **given),
                "rouge_l": metrics.rouge_l(prediction, golds, language=language),
                "exact_match_mended": metrics.exact_match(prediction, golds, **mended),
                "f1_mended": metrics.f1(prediction, golds, **mended),
            }


def test_english_is_scored_by_squads_rules_and_other_languages_by_mlqas():
    assert (segmentation.usual_rules("en"), segmentation.usual_rules("zh")) == ("squad", "mlqa")
    with pytest.raises(StudyError, match="'fr'"):
        segmentation.usual_rules("fr")


def test_agreement_is_exact_match_with_the_teacher_right_or_not():
    assert metrics.agreement("the Tiru", "Tiru!") == 1 and metrics.agreement("Tiru", "Kamo") == 0
    assert metrics.agreement("", "") == 1 and metrics.agreement("", "Kamo") == 0
    assert metrics.agreement("ein Haus", "Haus", language="de", rules="mlqa") == 1


def test_probability_loyalty_is_one_less_scipys_distance_in_bits():
    rng = torch.Generator().manual_seed(0)
    for scale in (0.1, 1.0, 30.0):
        student, teacher = (scale * torch.randn(20, 50, generator=rng) for _ in range(2))
        p, q = (logits.double().softmax(-1).numpy() for logits in (student, teacher))
        expected = [1 - jensenshannon(a, b, base=2) for a, b in zip(p, q, strict=True)]
        assert metrics.probability_loyalty(student, teacher).tolist() == pytest.approx(
            expected, abs=1e-3
        )


def test_probability_loyalty_goes_from_zero_to_one_and_takes_both_sides_alike():
    logits = torch.randn(5, 9, generator=torch.Generator().manual_seed(1))
    assert metrics.probability_loyalty(logits, logits + 3).tolist() == pytest.approx(
        [1] * 5, abs=1e-3
    )
    left, right = torch.full((1, 4), -1e4), torch.full((1, 4), -1e4)
    left[0, 0] = right[0, 3] = 0
    assert metrics.probability_loyalty(left, right).item() == pytest.approx(
        0, abs=1e-6
    )  # in nats it would be 0.167
    assert torch.equal(
        metrics.probability_loyalty(logits, 2 * logits),
        metrics.probability_loyalty(2 * logits, logits),
    )


def test_probability_loyalty_stays_within_its_ends_where_rounding_would_leave_them():
    """Of the same distributions and of such as share nothing."""
    logits = 40 * torch.randn(2_000, 16, generator=torch.Generator().manual_seed(2))
    for teacher, end in ((logits + 3, 1), (-logits, 0), (logits.roll(1, 0), 0)):
        loyalty = metrics.probability_loyalty(logits, teacher)
        assert loyalty.isfinite().all() and (loyalty >= 0).all() and (loyalty <= 1).all()
        assert loyalty.median().item() == pytest.approx(end, abs=1e-3)


@pytest.mark.parametrize(
    ("probabilities", "right", "error"),
    [
        ([0.95, 0.95, 0.95, 0.95], [1, 1, 1, 1], 0.05),
        ([0.95, 0.85], [0, 1], (0.95 + 0.15) / 2),
        ([0.55, 0.55, 0.55, 0.55], [1, 0, 1, 0], 0.05),
        ([0.52, 0.58], [1, 0], 0.05),  # one bin: mean 0.55 against a half
        ([0.49, 0.51], [1, 0], 0.51),  # two bins
        ([1.0, 0.0], [1, 0], 0.0),
        ([1.0], [0], 1.0),
        ([1.0, 0.95], [0, 1], 0.95 / 2),  # one is in the last bin
        ([0.1, 0.2], [1, 0], (0.9 + 0.2) / 2),  # a bin begins at its lower end
        ([0.11, 0.19], [1, 0], 0.35),
    ],
)
def test_calibration_error_in_closed_form(probabilities: list, right: list, error: float):
    assert statistics.calibration_error(probabilities, right) == pytest.approx(error)


def test_calibration_error_by_two_bins():
    assert statistics.calibration_error(
        [0.1, 0.4, 0.6, 1.0], [0, 1, 0, 1], bins=2
    ) == pytest.approx((0.5 + 0.6) / 4)


def test_calibration_error_is_that_of_torchmetrics():
    rng = np.random.default_rng(0)
    probabilities = rng.random(500)
    right = (rng.random(500) < probabilities**2).astype(int)
    expected = binary_calibration_error(
        torch.tensor(probabilities), torch.tensor(right), n_bins=10, norm="l1"
    )
    assert statistics.calibration_error(probabilities, right) == pytest.approx(
        float(expected), abs=1e-6
    )


def test_mended_scores_differ_in_arabic_only():
    prediction, gold = "طالب ذكي", ["طالب"]
    arabic = metrics.score(prediction, gold, language="ar", rules="mlqa")
    assert arabic["f1"] != arabic["f1_mended"] == pytest.approx(2 / 3)
    for language in ("de", "en", "zh"):
        scores = metrics.score(prediction, gold, language=language, rules="mlqa")
        assert (scores["f1"], scores["exact_match"]) == (
            scores["f1_mended"],
            scores["exact_match_mended"],
        )


def test_the_metric_for_evaluate_is_the_mean_of_the_scores():
    """Loaded by path, without a network, as a notebook does."""
    metric = evaluate.load(hf_metric.__file__)
    predictions, golds = (
        ["ein Haus", "Hütte", ""],
        [["Haus", "Hütte"], ["die Hütte im Wald"], ["Wald"]],
    )
    means = metric.compute(predictions=predictions, references=golds, language="de", rules="mlqa")
    scores = [
        metrics.score(prediction, gold, language="de", rules="mlqa")
        for prediction, gold in zip(predictions, golds, strict=True)
    ]
    assert means == {
        name: pytest.approx(100 * sum(score[name] for score in scores) / 3)
        for name in labels.METRICS
    }
    with pytest.raises(StudyError, match="do not score language 'de'"):
        metric.compute(predictions=predictions, references=golds, language="de")


def test_mlqa_is_scored_by_its_own_rules_in_english_too():
    assert [segmentation.usual_rules(language) for language in ("en", "de", "zh")] == [
        "squad",
        "mlqa",
        "mlqa",
    ]
    assert segmentation.usual_rules("en", mlqa=True) == "mlqa"
    assert (
        metrics.exact_match("24–10", ["2410"], rules="mlqa") == 1
        and metrics.exact_match("24–10", ["2410"]) == 0
    )


@pytest.mark.parametrize("golds", ["Tiru", [], ()])
def test_gold_answers_that_are_no_list_are_refused(golds: object):
    for measure in (metrics.exact_match, metrics.f1):
        with pytest.raises(StudyError, match="gold answers must be a list of at least one text"):
            measure("Tiru", golds)


def test_the_metric_for_evaluate_needs_a_prediction():
    with pytest.raises((StudyError, ValueError)):
        evaluate.load(hf_metric.__file__).compute(predictions=[], references=[])


def test_two_spellings_of_one_answer_agree_but_official_scores_stay_official():
    """é as a letter and an accent, and as one: NFC tokenizers write the second, whatever the gold
    answer is."""
    apart, whole = (unicodedata.normalize(form, "Orléans") for form in ("NFD", "NFC"))
    assert metrics.rouge_l(whole, [apart]) == metrics.rouge_l(apart, [whole]) == 1.0
    assert metrics.agreement(whole, apart) == metrics.agreement(apart, whole) == 1.0
    assert metrics.exact_match(whole, [apart]) == metrics.f1(whole, [apart]) == 0.0
    assert segmentation.tokens(apart, "en") == segmentation.tokens(whole, "en")
