"""The answer to learn: which of a question's gold answers it is, and what may make it hard to find.

It is one line, since an answer ends with its line, and in NFC, which some tokenizers write anyway.
"""

import re
from bisect import bisect_left
from collections import Counter
from dataclasses import replace

from studylib.core.segmentation import composed
from studylib.data.squad import Question

ASKING = ("what", "who", "when", "where", "which", "how", "why", "whose", "whom")
LINE_BREAK = re.compile(r"\s*\n\s*")


def line(text: str) -> str:
    """A gold answer as it can be said: in NFC, in one line."""
    return LINE_BREAK.sub(" ", composed(text).strip())


def target_of(question: Question) -> str:
    """The answer to learn: the most frequent gold answer, the first among equals."""
    return Counter(line(text) for text, _ in question.answers).most_common(1)[0][0]


def place_of(answer: str, context: str) -> int:
    """Where an answer that was said begins in a context as its file spells it; 0 where it does not
    stand there."""
    if (start := context.find(answer)) >= 0:
        return start
    spelt = re.search(r"\s+".join(map(re.escape, composed(answer).split())), composed(context))
    start = spelt.start() if spelt else 0
    return bisect_left(range(len(context)), start, key=lambda end: len(composed(context[:end])))


def answered(question: Question, answer: str) -> Question:
    """The question with this answer as the one to learn."""
    return replace(question, answers=((answer, place_of(answer, question.context)),))


def traits(question: Question) -> dict[str, str | int | float]:
    """What may make a question hard: the word that it asks with (in English), the number of words
    of the answer to learn, and where that stands in the context, from 0 to 1."""
    words = re.findall(r"\w+", question.question.lower()) if question.language == "en" else []
    target = target_of(question)
    start = next(start for text, start in question.answers if line(text) == target)
    return {
        "asks": next((word for word in words if word in ASKING), "other"),
        "answer_words": len(target.split()),
        "answer_place": start / max(1, len(question.context)),
    }
