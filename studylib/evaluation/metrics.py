"""Exact match, F1 and ROUGE-L of an answer, 0 to 1, the best gold answer counting; and how like a
teacher a student is.

Exact match and F1 compare the words of `segmentation`, by the rules of SQuAD or MLQA.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

from studylib.core.errors import StudyError
from studylib.core.libraries import torch
from studylib.core.segmentation import composed, tokens, usual_rules, words
from studylib.data.squad import Question


def exact_match(
    prediction: str, golds: Sequence[str], *, language: str = "en", rules: str = "squad"
) -> float:
    """1 if the words of the prediction and of any gold answer are the same."""
    return float(
        words(prediction, language=language, rules=rules) in _words(golds, language, rules)
    )


def f1(
    prediction: str, golds: Sequence[str], *, language: str = "en", rules: str = "squad"
) -> float:
    """Harmonic mean of the precision and recall of words; 0 without overlap, even if both are
    empty."""
    predicted = words(prediction, language=language, rules=rules)
    return max(_f1(predicted, gold) for gold in _words(golds, language, rules))


def _words(golds: Sequence[str], language: str, rules: str) -> list[list[str]]:
    """Those of each gold answer. Raises StudyError unless there are answers."""
    if isinstance(golds, str) or not golds:
        raise StudyError(f"gold answers must be a list of at least one text, not {golds!r}.")
    return [words(gold, language=language, rules=rules) for gold in golds]


def _f1(prediction: list[str], gold: list[str]) -> float:
    same = sum((Counter(prediction) & Counter(gold)).values())
    return 2 * same / (len(prediction) + len(gold)) if same else 0.0


@cache
def _rouge(language: str) -> Any:
    """Scores words in lower case without punctuation, in MLQA's segmentation: `rouge-score`'s own
    drops all but a-z and 0-9."""
    from rouge_score.rouge_scorer import RougeScorer  # brings nltk, and plans score nothing

    tokenizer = SimpleNamespace(tokenize=partial(tokens, language=language))
    return RougeScorer(["rougeL"], tokenizer=tokenizer)


def rouge_l(prediction: str, golds: Sequence[str], *, language: str = "en") -> float:
    """F-measure of the longest common subsequence of words, by `rouge-score` (Lin, 2004, §3)."""
    return max(_rouge(language).score(gold, prediction)["rougeL"].fmeasure for gold in golds)


def score(
    prediction: str, golds: Sequence[str], *, language: str = "en", rules: str = "squad"
) -> dict[str, float]:
    """All metrics of one answer; exact match and F1 by the mended rules, too."""
    scores = {
        "exact_match": exact_match(prediction, golds, language=language, rules=rules),
        "f1": f1(prediction, golds, language=language, rules=rules),
        "rouge_l": rouge_l(prediction, golds, language=language),
    }
    if rules == "mlqa" and language == "ar":
        mended = {"language": language, "rules": "mlqa_mended"}
        return scores | {
            "exact_match_mended": exact_match(prediction, golds, **mended),
            "f1_mended": f1(prediction, golds, **mended),
        }
    return scores | {"exact_match_mended": scores["exact_match"], "f1_mended": scores["f1"]}


def judged(question: Question) -> dict[str, Any]:
    """What an answer is scored by: a question's gold answers, its language, the usual rules."""
    return {
        "golds": [text for text, _ in question.answers],
        "language": question.language,
        "rules": usual_rules(question.language),
    }


def agreement(
    prediction: str, teacher: str, *, language: str = "en", rules: str = "squad"
) -> float:
    """Exact match between a student's answer and its teacher's, both in NFC, whether right or not
    (label loyalty; Xu et al., 2021)."""
    return exact_match(composed(prediction), [composed(teacher)], language=language, rules=rules)


def probability_loyalty(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """1 − √JS of two next-token distributions given as logits (N, V), by logarithms of base 2: (N,)
    from 0 to 1.

    Xu et al. (2021), as in their repository JetRunner/beyond-preserved-accuracy.
    """
    p, q = student.log_softmax(-1), teacher.log_softmax(-1)
    middle = torch.logaddexp(p, q) - math.log(2)
    nats = ((p - middle) * p.exp() + (q - middle) * q.exp()).sum(-1) / 2
    return 1 - (nats / math.log(2)).clamp(0, 1).sqrt()
