"""Exact match, F1 and ROUGE-L of an answer, 0 to 1, the best gold answer counting.

rules="squad"        the official SQuAD v1.1 script (Rajpurkar et al., 2016, §6.1; evaluate-v1.1.py), in English
rules="mlqa"         the official MLQA script (Lewis et al., 2020, §4; facebookresearch/MLQA, mlqa_evaluation_v1.py),
                     by the language of the context
rules="mlqa_mended"  the same, but the Arabic article goes only where a word begins

Both lower-case, drop punctuation, drop articles and split into words, in this order. Exact match and F1 compare the words.
"""

import math
import re
import string
import sys
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer
from torch import Tensor

from studylib.errors import StudyError

METRICS = ("exact_match", "f1", "rouge_l")
MENDED = ("exact_match_mended", "f1_mended")  # by the mended rules, where they differ: Arabic
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


def usual_rules(language: str, *, mlqa: bool = False) -> str:
    """SQuAD's rules in English, but on MLQA; MLQA's elsewhere. Raises StudyError for a language that none know."""
    rules = "squad" if language == "en" and not mlqa else "mlqa"
    words("", language=language, rules=rules)
    return rules


def words(text: str, *, language: str = "en", rules: str = "squad") -> list[str]:
    """What an answer is compared by. Raises StudyError for rules that are unknown or do not know the language."""
    if rules not in RULES:
        raise StudyError(f"scoring rules {rules!r} are unknown: use {', '.join(RULES)}.")
    articles = RULES[rules]
    if language not in articles:
        raise StudyError(f"rules {rules!r} do not score language {language!r}: they know {', '.join(articles)}.")
    text, article = text.lower().translate(_punctuation(rules)), articles[language]
    return segment(re.sub(article, " ", text) if article else text, language)


def segment(text: str, language: str) -> list[str]:
    """Words between blanks; in Chinese every character from U+4E00 to U+9FA5 is one, too."""
    return (IDEOGRAPH.sub(r" \1 ", text) if language == "zh" else text).split()


def composed(text: str) -> str:
    """A text in NFC: some tokenizers write no other, so two spellings of one text are compared, and shown to models, so."""
    return unicodedata.normalize("NFC", text)


def tokens(text: str, language: str) -> list[str]:
    """A text's words in lower case without punctuation, in MLQA's segmentation and in NFC; articles stay."""
    return segment(composed(text).lower().translate(_punctuation("mlqa")), language)


def exact_match(prediction: str, golds: Sequence[str], *, language: str = "en", rules: str = "squad") -> float:
    """1 if the words of the prediction and of any gold answer are the same."""
    said = words(prediction, language=language, rules=rules)
    _check(golds)
    return float(any(said == words(gold, language=language, rules=rules) for gold in golds))


def f1(prediction: str, golds: Sequence[str], *, language: str = "en", rules: str = "squad") -> float:
    """Harmonic mean of the precision and recall of words; 0 without overlap, even if both are empty."""
    said = words(prediction, language=language, rules=rules)
    _check(golds)
    return max(_f1(said, words(gold, language=language, rules=rules)) for gold in golds)


def _check(golds: Sequence[str]) -> None:
    if isinstance(golds, str) or not golds:
        raise StudyError(f"gold answers must be a list of at least one text, not {golds!r}.")


def _f1(prediction: list[str], gold: list[str]) -> float:
    same = sum((Counter(prediction) & Counter(gold)).values())
    return 2 * same / (len(prediction) + len(gold)) if same else 0.0


class _Words(Tokenizer):
    """Lower case, no punctuation, MLQA's segmentation: `rouge-score`'s own drops all but a-z and 0-9."""

    def __init__(self, language: str):
        self.language = language

    def tokenize(self, text: str) -> list[str]:
        return tokens(text, self.language)


@cache
def _rouge(language: str) -> RougeScorer:
    return RougeScorer(["rougeL"], tokenizer=_Words(language))


def rouge_l(prediction: str, golds: Sequence[str], *, language: str = "en") -> float:
    """F-measure of the longest common subsequence of words, by `rouge-score` (Lin, 2004, §3)."""
    return max(_rouge(language).score(gold, prediction)["rougeL"].fmeasure for gold in golds)


def score(prediction: str, golds: Sequence[str], *, language: str = "en", rules: str = "squad") -> dict[str, float]:
    """All metrics of one answer; exact match and F1 by the mended rules, too."""
    found = {
        "exact_match": exact_match(prediction, golds, language=language, rules=rules),
        "f1": f1(prediction, golds, language=language, rules=rules),
        "rouge_l": rouge_l(prediction, golds, language=language),
    }
    if rules == "mlqa" and language == "ar":
        mended = {"language": language, "rules": "mlqa_mended"}
        return found | {"exact_match_mended": exact_match(prediction, golds, **mended), "f1_mended": f1(prediction, golds, **mended)}
    return found | {"exact_match_mended": found["exact_match"], "f1_mended": found["f1"]}


def agreement(prediction: str, teacher: str, *, language: str = "en", rules: str = "squad") -> float:
    """Exact match between a student's answer and its teacher's, both in NFC, whether right or not (label loyalty; Xu et al., 2021)."""
    return exact_match(composed(prediction), [composed(teacher)], language=language, rules=rules)


def probability_loyalty(student: Tensor, teacher: Tensor) -> Tensor:
    """1 − √JS of two next-token distributions given as logits (N, V), by logarithms of base 2: (N,) from 0 to 1.

    Xu et al. (2021), as in their repository JetRunner/beyond-preserved-accuracy.
    """
    p, q = student.log_softmax(-1), teacher.log_softmax(-1)
    middle = torch.logaddexp(p, q) - math.log(2)
    nats = ((p - middle) * p.exp() + (q - middle) * q.exp()).sum(-1) / 2
    return 1 - (nats / math.log(2)).clamp(0, 1).sqrt()


def calibration_error(probabilities: Sequence[float], right: Sequence[float], bins: int = 10) -> float:
    """Expected calibration error, 0 to 1: over `bins` equal bins of probability, |mean probability − share right|, weighted by size.

    Guo et al. (2017), §2, from memory.
    """
    said, was = np.asarray(probabilities), np.asarray(right)
    which = np.minimum((said * bins).astype(int), bins - 1)
    gaps = np.bincount(which, said - was, bins)  # a bin's size cancels out
    return float(np.abs(gaps).sum() / len(said))
