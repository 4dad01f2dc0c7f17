"""Exact match, F1 and ROUGE-L of an answer, 0 to 1, the best gold answer counting.

Exact match and F1 follow the official SQuAD v1.1 script (Rajpurkar et al., 2016, §6.1 and evaluate-v1.1.py):
lower-case, drop ASCII punctuation, drop the articles a, an, the, collapse blanks.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from functools import cache

from rouge_score.rouge_scorer import RougeScorer

METRICS = ("exact_match", "f1", "rouge_l")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """The official script's normal form."""
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(PUNCTUATION)).split())


def exact_match(prediction: str, golds: Sequence[str]) -> float:
    """1 if the normal forms of the prediction and any gold answer are the same."""
    return float(any(normalise(prediction) == normalise(gold) for gold in golds))


def f1(prediction: str, golds: Sequence[str]) -> float:
    """Harmonic mean of the precision and recall of normalised words; 0 without overlap, even if both are empty."""
    return max(_f1(normalise(prediction).split(), normalise(gold).split()) for gold in golds)


def _f1(prediction: list[str], gold: list[str]) -> float:
    same = sum((Counter(prediction) & Counter(gold)).values())
    return 2 * same / (len(prediction) + len(gold)) if same else 0.0


@cache
def _rouge() -> RougeScorer:
    return RougeScorer(["rougeL"])


def rouge_l(prediction: str, golds: Sequence[str]) -> float:
    """F-measure of the longest common subsequence of words, by `rouge-score` (Lin, 2004, §3)."""
    return max(_rouge().score(gold, prediction)["rougeL"].fmeasure for gold in golds)


def score(prediction: str, golds: Sequence[str]) -> dict[str, float]:
    """All metrics of one answer."""
    return {
        "exact_match": exact_match(prediction, golds),
        "f1": f1(prediction, golds),
        "rouge_l": rouge_l(prediction, golds),
    }
