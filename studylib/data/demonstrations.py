"""Which demonstration a prompt shows: none, the seed's, or one for each context, at random or the
nearest.

A way of prompting is named `zero-shot`, `one-shot` (one demonstration a seed), `one-shot random` or
`one-shot retrieved` (one a context), each in plain form or, with `chat ` before it, in the
tokenizer's own chat template.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from random import Random

import numpy as np

from studylib.core.errors import StudyError
from studylib.core.segmentation import tokens
from studylib.data.squad import Question, by_context


def none(questions: Sequence[Question], pool: Sequence[Question], seed: int) -> list[None]:
    """No demonstration."""
    return [None] * len(questions)


def fixed(questions: Sequence[Question], pool: Sequence[Question], seed: int) -> list[Question]:
    """The seed's demonstration: the same for every context but those of its own article.

    Drawn among the shorter half of the pool's questions by context; the shortest other one if all
    of that half are of its article.
    """
    by_length = sorted(pool, key=lambda question: (len(question.context), question.id))
    shorter, longer = by_length[: len(pool) // 2], by_length[len(pool) // 2 :]
    Random(seed).shuffle(shorter)
    order = [*shorter, *longer]
    return [_apart(order, question) for question in questions]


def drawn(questions: Sequence[Question], pool: Sequence[Question], seed: int) -> list[Question]:
    """One at random for each context, whichever other contexts are asked."""
    return [
        _apart(
            map(Random(f"{seed} {question.context}").choice, repeat(pool, 100 * len(pool))),
            question,
        )
        for question in questions
    ]


def retrieved(questions: Sequence[Question], pool: Sequence[Question], seed: int) -> list[Question]:
    """The first question of the context that is nearest by BM25 (`bm25s`; Robertson and Zaragoza,
    2009, §3.2, from memory)."""
    import bm25s  # slow to import

    first = [group[0] for group in by_context(pool)]
    index, texts = bm25s.BM25(), [tokens(question.context, question.language) for question in first]
    if any(texts):
        index.index(texts, show_progress=False)
    asked = (tokens(question.context, question.language) for question in questions)
    scores = (
        index.get_scores(words) if words and any(texts) else np.zeros(len(first)) for words in asked
    )
    return [
        _apart((first[i] for i in np.argsort(-values, kind="stable")), question)
        for values, question in zip(scores, questions, strict=True)
    ]


DEMONSTRATIONS: dict[str, Callable[[Sequence[Question], Sequence[Question], int], list]] = {
    "zero-shot": none,
    "one-shot": fixed,
    "one-shot random": drawn,
    "one-shot retrieved": retrieved,
}
MODES = tuple(form + shots for form in ("", "chat ") for shots in DEMONSTRATIONS)


def _apart(candidates: Iterable[Question], question: Question) -> Question:
    """The first candidate that is not of the asked question's article. Raises StudyError if there
    is none."""
    for candidate in candidates:
        if candidate.article != question.article and candidate.context != question.context:
            return candidate
    raise StudyError(
        f"No demonstration for article {question.article!r}: the training set needs a second"
        " article."
    )


def check(mode: str) -> None:
    """Raise StudyError for an unknown way of prompting."""
    if mode not in MODES:
        raise StudyError(f"prompting {mode!r} is unknown: use {', '.join(MODES)}.")


def with_demonstration(mode: str, demonstration: str) -> str:
    """The way of prompting with this demonstration, in the form (plain or chat) of `mode`; that
    itself where none is named."""
    if not demonstration:
        return mode
    return ("chat " if mode.startswith("chat ") else "") + demonstration


def choose(
    questions: Sequence[Question], mode: str, pool: Sequence[Question], seed: int
) -> list[Question | None]:
    """For each question's context the demonstration that is shown with it, chosen from `pool`.
    Raises StudyError for an unknown mode."""
    check(mode)
    return DEMONSTRATIONS[mode.removeprefix("chat ")](questions, pool, seed)
