"""One template: instructions, an optional demonstration, context, question, answer; and its tokens.

Segments are tokenised one by one, so that a packed row and a row of its own hold the same tokens:
the prefix (up to and with the context), then per question a branch `question -> answer + EOS`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from transformers import PreTrainedTokenizerBase

from studylib.data import Question, by_context
from studylib.errors import StudyError

RECIPE = 1
MODES = ("zero-shot", "one-shot")
INSTRUCTIONS = "Answer the question with words from the text."
CONTEXT = "\n\nText: {context}"
QUESTION = "\n\nQuestion: {question}\nAnswer:"
ANSWER = " {answer}"


@dataclass(frozen=True)
class Branch:
    """A question's tokens after the shared prefix: what is given, and what is to be learnt (ends in EOS)."""

    question: Question
    given: list[int]
    target: list[int]


@dataclass(frozen=True)
class Prompt:
    """One context as the model sees it: the shared prefix and a branch per question."""

    prefix: list[int]
    branches: list[Branch]


def target_of(question: Question) -> str:
    """The answer to learn: the most frequent gold answer, the first among equals."""
    return Counter(text.strip() for text, _ in question.answers).most_common(1)[0][0]


def render_prefix(context: str, demonstration: Question | None) -> str:
    """Instructions, the demonstration if there is one, and the context."""
    shown = ""
    if demonstration is not None:
        shown = CONTEXT.format(context=demonstration.context) + QUESTION.format(question=demonstration.question)
        shown += ANSWER.format(answer=target_of(demonstration))
    return INSTRUCTIONS + shown + CONTEXT.format(context=context)


def demonstration(pool: Sequence[Question], *, seed: int, avoid: Question) -> Question:
    """The fixed demonstration of a seed: the same for every context but those of its own article.

    Drawn among the shorter half of the pool's contexts; the shortest other one if all of that half are of its article.
    Raises StudyError if the pool is one article only.
    """
    by_length = sorted(pool, key=lambda question: (len(question.context), question.id))
    shorter, longer = by_length[: len(pool) // 2], by_length[len(pool) // 2 :]
    Random(seed).shuffle(shorter)
    for candidate in (*shorter, *longer):
        if candidate.article != avoid.article and candidate.context != avoid.context:
            return candidate
    raise StudyError(f"No demonstration for article {avoid.article!r}: the training set needs a second article.")


def build(
    questions: Sequence[Question],
    tokenizer: PreTrainedTokenizerBase,
    *,
    mode: str,
    pool: Sequence[Question] = (),
    seed: int = 0,
    longest: int | None = None,
) -> list[Prompt]:
    """A prompt per context. `pool` serves demonstrations; `longest` is the model's number of positions.

    Raises StudyError for an unknown mode and for a context that does not fit.
    """
    if mode not in MODES:
        raise StudyError(f"prompting {mode!r} is unknown: use {' or '.join(MODES)}.")
    prompts = []
    for group in by_context(questions):
        shown = demonstration(pool, seed=seed, avoid=group[0]) if mode == "one-shot" else None
        prefix = _ids(tokenizer, render_prefix(group[0].context, shown))
        branches = [_branch(question, tokenizer) for question in group]
        furthest = max(branches, key=lambda branch: len(branch.given) + len(branch.target))
        reach = len(prefix) + len(furthest.given) + len(furthest.target)
        if longest is not None and reach > longest:
            raise StudyError(
                f"question {furthest.question.id!r}: with its context it needs {reach} tokens, the model has {longest} positions: leave it out or take a model with more."
            )
        prompts.append(Prompt(prefix, branches))
    return prompts


def _branch(question: Question, tokenizer: PreTrainedTokenizerBase) -> Branch:
    given = _ids(tokenizer, QUESTION.format(question=question.question.strip()))
    return Branch(question, given, [*_ids(tokenizer, ANSWER.format(answer=target_of(question))), tokenizer.eos_token_id])


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]
