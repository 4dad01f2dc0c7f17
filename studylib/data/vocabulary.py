"""A tokenizer as the study uses it: its size, the tokens that end an answer, and text that stays
text.

`complete` is called on every tokenizer that is loaded: what ends an answer is special whichever
file says so, and nothing in it is left to chance. Text from data is never read as a control token:
`text_ids` splits such spellings like any other text. A chat template's own control tokens count
(`chat_ids`): the text given to it is guarded before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from studylib.core.errors import StudyError
from studylib.core.libraries import transformers

# no character at all, so in no text: it breaks the spelling of a control token in a chat
GUARD = "\ufdd0"
TOGETHER = 64  # texts that are split into tokens at once
SETTINGS = ("generation_config.json", "config.json")


def size(tokenizer: transformers.PreTrainedTokenizerBase) -> int:
    """Rows that a model needs for its tokens: the highest id + 1, which is more than their number
    where ids have holes."""
    return max(tokenizer.get_vocab().values()) + 1


def complete(
    tokenizer: transformers.PreTrainedTokenizerBase, folder: Path | None = None
) -> transformers.PreTrainedTokenizerBase:
    """Make special, and so an answer's end, what tokenizer.json marks so and what `folder` names as
    the end of a sequence.

    A number that is an ordinary token is no end: configurations hold defaults without a meaning.
    Merges are not left out by chance (BPE dropout), as some tokenizers are still set to. Raises
    StudyError for settings that cannot be read.
    """

    named = _ends(folder) if folder is not None else set()
    known = set(tokenizer.all_special_ids)
    ends = [
        token
        for number, token in sorted(tokenizer.added_tokens_decoder.items())
        if number not in known and (token.special or number in named)
    ]
    if ends:
        tokenizer.add_special_tokens(
            {
                "extra_special_tokens": [
                    transformers.AddedToken(
                        token.content,
                        special=True,
                        single_word=token.single_word,
                        lstrip=token.lstrip,
                        rstrip=token.rstrip,
                        normalized=token.normalized,
                    )
                    for token in ends
                ]
            },
            replace_extra_special_tokens=False,
        )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and getattr(backend.model, "dropout", None):
        backend.model.dropout = None
    return tokenizer


def _ends(folder: Path) -> set[int]:
    """The ids that a folder's settings name as the end of a sequence."""
    ends: set[int] = set()
    for file in filter(Path.is_file, (folder / name for name in SETTINGS)):
        try:
            value = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
        except (ValueError, AttributeError, RecursionError) as error:
            raise StudyError(
                f"{file} cannot be loaded ({type(error).__name__}: {error}): mend or replace it."
            ) from error
        ends |= {
            number
            for number in (value if isinstance(value, list) else [value])
            if type(number) is int
        }
    return ends


def text(tokenizer: transformers.PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """What tokens say, to the letter: no blank before a full stop goes, whatever the tokenizer is
    set to."""
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def text_ids(
    tokenizer: transformers.PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    split_special_tokens: bool = True,
) -> list[list[int]]:
    """The tokens of texts in which nothing is a control token, unless these are not split.

    A few texts at a time: beside them a tokenizer makes what takes many times their memory.
    """
    parts = (list(texts[first : first + TOGETHER]) for first in range(0, len(texts), TOGETHER))
    return [
        ids
        for part in parts
        for ids in tokenizer(
            part, add_special_tokens=False, split_special_tokens=split_special_tokens
        )["input_ids"]
    ]


def chat_ids(
    tokenizer: transformers.PreTrainedTokenizerBase, texts: Sequence[str], control: re.Pattern[str]
) -> list[list[int]]:
    """The tokens of texts out of a chat template, whose control tokens are read; spellings that
    `guard` broke are text."""
    bare = [text.replace(GUARD, "") for text in texts]
    return [
        _guarded_ids(tokenizer, text, control) if GUARD in text else ids
        for text, ids in zip(
            texts, text_ids(tokenizer, bare, split_special_tokens=False), strict=True
        )
    ]


def _guarded_ids(
    tokenizer: transformers.PreTrainedTokenizerBase, text: str, control: re.Pattern[str]
) -> list[int]:
    """Control tokens, and the pieces between them as text without guards."""
    written = (
        tokenizer(
            piece.replace(GUARD, ""), add_special_tokens=False, split_special_tokens=number % 2 == 0
        )
        for number, piece in enumerate(control.split(text))
    )
    return [token for piece in written for token in piece["input_ids"]]


def guard(text: str, control: re.Pattern[str]) -> str:
    """A text in which no control token is spelt, for a chat template; the same text where none
    was."""
    return control.sub(lambda match: GUARD.join(match[0]), text)


def control_tokens(tokenizer: transformers.PreTrainedTokenizerBase) -> re.Pattern[str]:
    """Any control token, with the white space that it takes in."""
    spelt = [
        r"\s*" * token.lstrip + re.escape(token.content) + r"\s*" * token.rstrip
        for token in sorted(
            tokenizer.added_tokens_decoder.values(), key=lambda token: -len(token.content)
        )
        if token.special
    ]
    return re.compile(f"({'|'.join(spelt)})" if spelt else "(?!)")
