"""The text around context, question and answer: in plain form, or in the tokenizer's chat template.

What stands in data stays text: `<|endoftext|>` in a context is no end of text. It is shown in NFC,
which some tokenizers write anyway.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from studylib.core.errors import StudyError, sentence_of
from studylib.core.libraries import transformers
from studylib.core.segmentation import composed
from studylib.data import chat_templates, vocabulary
from studylib.data.squad import Question
from studylib.data.targets import target_of

INSTRUCTIONS = "Answer the question with words from the text."
BREAK = "\n\n"
CONTEXT = "Text: {context}"
QUESTION = "Question: {question}"
CUE = "\nAnswer:"  # in plain form; a chat template has its own
PLAIN = "take a prompting without `chat`"
HERE = "\ufdd1"  # where a chat turn's question goes; no character at all, so in no text


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
    # of several templates none is the default, or the one that is fails
    except (ValueError, chat_templates.TemplateFailure) as error:
        raise StudyError(
            f"The chat template of {whose} cannot be used ({sentence_of(error)[:300]}): {PLAIN}."
        ) from error
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
