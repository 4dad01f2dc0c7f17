"""Exact match, F1 and ROUGE-L of an answer, 0 to 1, the best gold answer counting.

rules="squad"        the official SQuAD v1.1 script (Rajpurkar et al., 2016, §6.1; evaluate-v1.1.py), in English
rules="mlqa"         the official MLQA script (Lewis et al., 2020, §4; facebookresearch/MLQA, mlqa_evaluation_v1.py),
                     by the language of the context
rules="mlqa_mended"  the same, but the Arabic article goes only where a word begins

Both lower-case, drop punctuation, drop articles and split into words, in this order. Exact match and F1 compare the words.
"""

import re
import string
import sys
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer

from studylib.errors import StudyError

METRICS = ("exact_match", "f1", "rouge_l")
ARTICLES = {
    "en": r"\b(a|an|the)\b",
    "es": r"\b(un|una|unos|unas|el|la|los|las)\b",
    "hi": None,
    "vi": r"\b(của|là|cái|chiếc|những)\b",
    "de": r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    "ar": r"\sال^|ال",  # as published: it takes the two letters out of the middle of words, too
    "zh": None,
}
RULES = {"squad": {"en": ARTICLES["en"]}, "mlqa": ARTICLES, "mlqa_mended": ARTICLES | {"ar": r"(?:^|\s)ال"}}
IDEOGRAPH = re.compile("([\u4e00-\u9fa5])")


@cache
def _punctuation(rules: str) -> dict[int, None]:
    """What is dropped: ASCII punctuation for SQuAD; for MLQA also every character of a Unicode category P."""
    ascii_only = dict.fromkeys(map(ord, string.punctuation))
    if rules == "squad":
        return ascii_only
    return ascii_only | {code: None for code in range(sys.maxunicode) if unicodedata.category(chr(code)).startswith("P")}


def usual_rules(language: str) -> str:
    """SQuAD's rules in English, MLQA's elsewhere. Raises StudyError for a language that none know."""
    rules = "squad" if language == "en" else "mlqa"
    words("", language=language, rules=rules)
    return rules


def words(text: str, *, language: str = "en", rules: str = "squad") -> list[str]:
    """What an answer is compared by. Raises StudyError for rules that are unknown or do not know the language."""
    if rules not in RULES:
        raise StudyError(f"scoring rules {rules!r} are unknown: use {', '.join(RULES)}.")
    articles = RULES[rules]
    if language not in articles:
        raise StudyError(f"rules {rules!r} do not score language {language!r}: they know {', '.join(articles)}.")
    text = text.lower().translate(_punctuation(rules))
    return segment(re.sub(articles[language], " ", text) if articles[language] else text, language)


def segment(text: str, language: str) -> list[str]:
    """Words between blanks; in Chinese every character from U+4E00 to U+9FA5 is one, too."""
    return (IDEOGRAPH.sub(r" \1 ", text) if language == "zh" else text).split()


def exact_match(prediction: str, golds: Sequence[str], *, language: str = "en", rules: str = "squad") -> float:
    """1 if the words of the prediction and of any gold answer are the same."""
    said = words(prediction, language=language, rules=rules)
    return float(any(said == words(gold, language=language, rules=rules) for gold in golds))


def f1(prediction: str, golds: Sequence[str], *, language: str = "en", rules: str = "squad") -> float:
    """Harmonic mean of the precision and recall of words; 0 without overlap, even if both are empty."""
    said = words(prediction, language=language, rules=rules)
    return max(_f1(said, words(gold, language=language, rules=rules)) for gold in golds)


def _f1(prediction: list[str], gold: list[str]) -> float:
    same = sum((Counter(prediction) & Counter(gold)).values())
    return 2 * same / (len(prediction) + len(gold)) if same else 0.0


class _Words(Tokenizer):
    """Lower case, no punctuation, MLQA's segmentation: `rouge-score`'s own drops all but a-z and 0-9."""

    def __init__(self, language: str):
        self.language = language

    def tokenize(self, text: str) -> list[str]:
        return segment(text.lower().translate(_punctuation("mlqa")), self.language)


@cache
def _rouge(language: str) -> RougeScorer:
    return RougeScorer(["rougeL"], tokenizer=_Words(language))


def rouge_l(prediction: str, golds: Sequence[str], *, language: str = "en") -> float:
    """F-measure of the longest common subsequence of words, by `rouge-score` (Lin, 2004, §3)."""
    return max(_rouge(language).score(gold, prediction)["rougeL"].fmeasure for gold in golds)


def score(prediction: str, golds: Sequence[str], *, language: str = "en", rules: str = "squad") -> dict[str, float]:
    """All metrics of one answer."""
    return {
        "exact_match": exact_match(prediction, golds, language=language, rules=rules),
        "f1": f1(prediction, golds, language=language, rules=rules),
        "rouge_l": rouge_l(prediction, golds, language=language),
    }
