"""A question as tokens: instructions, an optional demonstration, context, question, answer.

Segments are tokenised one by one, so that a packed row and a row of its own hold the same tokens:
the prefix (up to and with the context), then per question a branch `question -> answer + EOS`.
A context that does not fit is read in overlapping windows, never cut.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, takewhile

from studylib.core.errors import StudyError
from studylib.core.libraries import transformers
from studylib.data import demonstrations, template
from studylib.data.squad import Question, by_context
from studylib.data.targets import line, target_of
from studylib.data.template import Segments

# tokens an answer may have, or as many as the longest that is to be learnt in the same set
ROOM = 32


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
    shown = demonstrations.choose([group[0] for group in groups], mode, pool, seed)
    texts = template.segments(shown, tokenizer, mode)
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
    beginnings: dict[Question | None, list[list[int]]] = defaultdict(list)
    for prompts, example in zip(prompt_groups, shown, strict=True):
        # each keeps at least the last token of its prefix to itself
        beginnings[example] += [prompt.prefix[:-1] for prompt in prompts]
    shared = {example: _common(rows) for example, rows in beginnings.items()}
    return [
        [replace(prompt, shared=shared[example]) for prompt in prompts]
        for prompts, example in zip(prompt_groups, shown, strict=True)
    ]


def _common(rows: list[list[int]]) -> int:
    """How many first tokens all rows share; none where there is one row only."""
    same = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*rows, strict=False))
    return len(list(same)) if len(rows) > 1 else 0


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
