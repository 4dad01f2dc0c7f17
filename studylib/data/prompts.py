"""One template: instructions, an optional demonstration, context, question, answer; and its tokens.

A way of prompting is named `zero-shot`, `one-shot` (one demonstration a seed), `one-shot random` or
`one-shot retrieved` (one a context), each in plain form or, with `chat ` before it, in the
tokenizer's own chat template.

Segments are tokenised one by one, so that a packed row and a row of its own hold the same tokens:
the prefix (up to and with the context), then per question a branch `question -> answer + EOS`.
A context that does not fit is read in overlapping windows, never cut.

What stands in data stays text: `<|endoftext|>` in a context is no end of text. It is shown in NFC,
which some tokenizers write anyway, and an answer to learn is one line, since an answer ends with
its line.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, repeat, takewhile
from random import Random

import numpy as np

from studylib.core.errors import StudyError, sentence_of
from studylib.core.libraries import transformers
from studylib.core.segmentation import composed, tokens
from studylib.data import chat_templates, vocabulary
from studylib.data.squad import Question, by_context

INSTRUCTIONS = "Answer the question with words from the text."
BREAK = "\n\n"
CONTEXT = "Text: {context}"
QUESTION = "Question: {question}"
CUE = "\nAnswer:"  # in plain form; a chat template has its own
ASKING = ("what", "who", "when", "where", "which", "how", "why", "whose", "whom")
# tokens an answer may have, or as many as the longest that is to be learnt in the same set
ROOM = 32
PLAIN = "take a prompting without `chat`"
HERE = "\ufdd1"  # where a chat turn's question goes; no character at all, so in no text
LINE_BREAK = re.compile(r"\s*\n\s*")


@dataclass(frozen=True)
class Branch:
    """A question's tokens after the shared prefix: what is given, and what is to be learnt (ends in
    EOS)."""

    question: Question
    given: list[int]
    target: list[int]


@dataclass(frozen=True)
class Prompt:
    """One context, or a window of it, as the model sees it: the shared prefix and a branch per
    question.

    The first `shared` tokens of the prefix are those of all prompts with the same fixed
    demonstration.
    """

    prefix: list[int]
    branches: list[Branch]
    shared: int = 0


@dataclass(frozen=True)
class Segments:
    """The text around context, question and answer: `before` the context, `cue` between question
    and answer, `blank` before an answer.

    `control` are the control tokens of a chat, which nothing from data may spell; the plain form
    has none.
    """

    before: str
    cue: str
    blank: str
    control: re.Pattern[str] | None = None

    def prefix(self, context: str) -> str:
        """All that the questions of a context share."""
        return self.before + CONTEXT.format(context=self._data(context))

    def given(self, question: Question) -> str:
        """What follows for one of them, up to its answer."""
        return BREAK + QUESTION.format(question=self._data(question.question.strip())) + self.cue

    def answer(self, question: Question) -> str:
        """The answer to learn, without the end of sequence."""
        target = target_of(question)
        return self.blank + self._data(target) if target else ""  # a teacher may say nothing

    def ids(
        self, tokenizer: transformers.PreTrainedTokenizerBase, texts: Sequence[str]
    ) -> list[list[int]]:
        """The tokens of such texts."""
        return (
            vocabulary.text_ids(tokenizer, texts)
            if self.control is None
            else vocabulary.chat_ids(tokenizer, texts, self.control)
        )

    def _data(self, text: str) -> str:
        return (
            composed(text)
            if self.control is None
            else vocabulary.guard(composed(text), self.control)
        )


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
    target, words = target_of(question), re.findall(r"\w+", question.question.lower())
    asks = (
        next((word for word in words if word in ASKING), "other")
        if question.language == "en"
        else "other"
    )
    start = next(start for text, start in question.answers if line(text) == target)
    return {
        "asks": asks,
        "answer_words": len(target.split()),
        "answer_place": start / max(1, len(question.context)),
    }


def plain(shown: Question | None) -> Segments:
    """The template as it stands above."""
    around = Segments(INSTRUCTIONS + BREAK, CUE, " ")
    if shown is None:
        return around
    example = around.prefix(shown.context) + around.given(shown) + around.answer(shown)
    return replace(around, before=example + BREAK)


def chat(
    tokenizer: transformers.PreTrainedTokenizerBase, shown: Sequence[Question | None]
) -> list[Segments]:
    """A user's turn with instructions, context and question; each demonstration is an exchange
    before it.

    Raises StudyError where the tokenizer has no chat template, or one that fails or does not show
    the question.
    """
    whose = tokenizer.name_or_path or "This model"
    if not tokenizer.chat_template:
        raise StudyError(f"{whose} has no chat template: {PLAIN}.")
    control = vocabulary.control_tokens(tokenizer)
    conversations = [_conversation(demonstration, control) for demonstration in shown]
    try:
        texts = chat_templates.render(
            tokenizer.get_chat_template(), conversations, tokenizer.special_tokens_map
        )
    except ValueError as error:  # several templates, none of which is the default
        raise StudyError(
            f"The chat template of {whose} cannot be used ({sentence_of(error)[:200]}): {PLAIN}."
        ) from error
    except chat_templates.TemplateFailure as error:
        raise StudyError(
            f"The chat template of {whose} cannot be used ({sentence_of(error)[:300]}): {PLAIN}."
        ) from None
    if any(text.count(HERE) != 1 for text in texts):
        raise StudyError(
            f"The chat template of {whose} does not show what it is given, once: {PLAIN}."
        )
    return [
        Segments(before, after, "", control)
        for before, _, after in (text.partition(HERE) for text in texts)
    ]


def _conversation(shown: Question | None, control: re.Pattern[str]) -> list[dict[str, str]]:
    """The turns of a chat, a demonstration's before that of the question."""
    turns = [INSTRUCTIONS + BREAK + HERE]
    if shown is not None:
        example = Segments(INSTRUCTIONS + BREAK, "", "", control)
        turns = [example.prefix(shown.context) + example.given(shown), example.answer(shown), HERE]
    return [
        {"role": ("user", "assistant")[number % 2], "content": turn}
        for number, turn in enumerate(turns)
    ]


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
    draws = (
        map(Random(f"{seed} {question.context}").choice, repeat(pool, 100 * len(pool)))
        for question in questions
    )
    return list(map(_apart, draws, questions))


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


def demonstrations(
    questions: Sequence[Question], mode: str, pool: Sequence[Question], seed: int
) -> list[Question | None]:
    """For each question's context the demonstration that is shown with it, chosen from `pool`.
    Raises StudyError for an unknown mode."""
    check(mode)
    return DEMONSTRATIONS[mode.removeprefix("chat ")](questions, pool, seed)


def segments(
    shown: Sequence[Question | None], tokenizer: transformers.PreTrainedTokenizerBase, mode: str
) -> list[Segments]:
    """The text around a context, for each demonstration."""
    distinct = list(dict.fromkeys(shown))
    texts = (
        chat(tokenizer, distinct)
        if mode.startswith("chat ")
        else [plain(demonstration) for demonstration in distinct]
    )
    around = dict(zip(distinct, texts, strict=True))
    return [around[demonstration] for demonstration in shown]


def build(
    questions: Sequence[Question],
    tokenizer: transformers.PreTrainedTokenizerBase,
    *,
    mode: str,
    pool: Sequence[Question] = (),
    seed: int = 0,
    longest: int | None = None,
    training: bool = False,
) -> list[Prompt]:
    """A prompt per context, or per window of it. `pool` serves demonstrations; `longest` is the
    model's number of positions.

    A question whose context is in windows is asked on all of them; in `training` only where its
    answer stands, farthest from the ends. Raises StudyError for an unknown mode, and for a question
    that fits in no window.
    """
    groups = by_context(questions)
    shown = demonstrations([group[0] for group in groups], mode, pool, seed)
    texts = segments(shown, tokenizer, mode)
    if not groups:
        return []
    whole = _tokenised(groups, texts, tokenizer)
    free = 0 if training else longest_answer(b.target for prompt in whole for b in prompt.branches)
    rooms = (max(len(b.given) + max(len(b.target), free) for b in p.branches) for p in whole)
    prompt_groups = [
        [prompt]
        if longest is None or len(prompt.prefix) + room <= longest
        else _windowed(text, prompt.branches, tokenizer, longest - room, training)
        for text, prompt, room in zip(texts, whole, rooms, strict=True)
    ]
    if mode.endswith("one-shot"):
        prompt_groups = _sharing(prompt_groups, shown)
    return [prompt for prompts in prompt_groups for prompt in prompts]


def _tokenised(
    groups: Sequence[Sequence[Question]],
    texts: Sequence[Segments],
    tokenizer: transformers.PreTrainedTokenizerBase,
) -> list[Prompt]:
    """The prompt of each whole context, however long: all texts are tokenised in three calls."""
    ids = partial(texts[0].ids, tokenizer)  # the same for all of a way of prompting
    pairs = [(text, q) for text, group in zip(texts, groups, strict=True) for q in group]
    prefixes = ids(
        [text.prefix(group[0].context) for text, group in zip(texts, groups, strict=True)]
    )
    branches = (
        Branch(q, given, [*target, tokenizer.eos_token_id])
        for (_, q), given, target in zip(
            pairs,
            ids([text.given(q) for text, q in pairs]),
            ids([text.answer(q) for text, q in pairs]),
            strict=True,
        )
    )
    return [
        Prompt(prefix, list(islice(branches, len(group))))
        for prefix, group in zip(prefixes, groups, strict=True)
    ]


def longest_answer(targets: Iterable[list[int]]) -> int:
    """How many tokens an answer may have: no right one of the set is cut, whatever its script; the
    same for every model."""
    return max([ROOM, *map(len, targets)])


def _sharing(
    prompt_groups: list[list[Prompt]], shown: Sequence[Question | None]
) -> list[list[Prompt]]:
    """The prompts of each context, told how many tokens they begin with that all of the same
    demonstration do."""
    by_example: dict[Question | None, list[list[int]]] = {}
    for prompts, example in zip(prompt_groups, shown, strict=True):
        by_example.setdefault(example, []).extend(prompt.prefix for prompt in prompts)
    shared = {example: _common(prefixes) for example, prefixes in by_example.items()}
    return [
        [replace(prompt, shared=shared[example]) for prompt in prompts]
        for prompts, example in zip(prompt_groups, shown, strict=True)
    ]


def _common(rows: list[list[int]]) -> int:
    """How many first tokens all rows share, leaving each at least one of its own; none where there
    is one row only."""
    if len(rows) == 1:
        return 0
    return sum(
        1
        for _ in takewhile(
            lambda tokens: len(set(tokens)) == 1, zip(*(row[:-1] for row in rows), strict=False)
        )
    )


def _windowed(
    text: Segments,
    branches: list[Branch],
    tokenizer: transformers.PreTrainedTokenizerBase,
    room: int,
    training: bool,
) -> list[Prompt]:
    """Prompts for windows of at most `room` prefix tokens: in training each question in one of
    them, else all in each."""
    context = branches[0].question.context
    spans = windows(
        context,
        tokenizer,
        lambda part: len(text.ids(tokenizer, [text.prefix(part)])[0]) <= room,
        2 * room,
    )
    if not spans:
        raise StudyError(
            f"question {max(branches, key=lambda b: len(b.given)).question.id!r}: not even a piece"
            " of its context fits beside it and its demonstration: leave it out, take another"
            " prompting or a model with more positions."
        )
    held: list[list[Branch]] = [[] if training else branches for _ in spans]
    for branch in branches if training else ():
        answer, start = next(
            (answer, start)
            for answer, start in branch.question.answers
            if line(answer) == target_of(branch.question)
        )
        start += len(answer) - len(answer.lstrip())
        margins = [min(start - begin, end - start - len(answer.strip())) for begin, end in spans]
        if max(margins) < 0:
            raise StudyError(
                f"question {branch.question.id!r}: its answer is longer than what fits of its"
                " context: leave it out or take a model with more positions."
            )
        held[margins.index(max(margins))].append(branch)
    prefixes = text.ids(tokenizer, [text.prefix(context[begin:end]) for begin, end in spans])
    return [Prompt(prefix, inside) for prefix, inside in zip(prefixes, held, strict=True) if inside]


def windows(
    text: str,
    tokenizer: transformers.PreTrainedTokenizerBase,
    fits: Callable[[str], bool],
    longest: float = math.inf,
) -> list[tuple[int, int]]:
    """Spans of characters, as many tokens each as fit, each overlapping the next by half; none if
    not even four tokens fit. Whether more than the `longest` number of tokens fit is not asked."""
    coded = tokenizer(text, add_special_tokens=False, split_special_tokens=True)
    size = count = len(coded["input_ids"])
    while size >= 4:
        starts = range(0, count - size + size // 2, size // 2) if size < count else [0]
        ends = (min(start + size, count) - 1 for start in starts)
        spans = [
            (coded.token_to_chars(start).start, coded.token_to_chars(end).end)
            for start, end in zip(starts, ends, strict=True)
        ]
        if size <= longest and all(fits(text[begin:end]) for begin, end in spans):
            return spans
        size -= max(1, size // 16)
    return []
