"""The one error a user can mend: a sentence that names the file, key or question and says what to
do; and what others' errors may tell."""

import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from studylib.core.escaping import printable

HIDDEN = "[hidden]"
SECRETS = re.compile(
    r"(?<=://)[^/@\s]+(?=@)|\bhf_\w{8,}|(?<=\bBearer )\S+|(?<=\bBasic )\S+"
)  # by their looks
SHORT = 6  # no token: replacing it everywhere would only garble
LONGEST = 2000  # characters of a sentence: what is at fault stands first, what to do last


class StudyError(Exception):
    """Ends a command with exit code 2 and its sentence, without a traceback.

    On one line and no longer than can be read, whatever it quotes: of a file from outside anything
    may be quoted.
    """

    def __init__(self, sentence: str):
        if len(sentence) > LONGEST:
            sentence = f"{sentence[: LONGEST // 2]} … {sentence[-LONGEST // 2 :]}"
        super().__init__(printable(sentence))


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """A sentence on a name that is none of the known ones: which of them is nearly it, or else what
    they are. Of a name with dots the last part counts."""
    names = list(known)
    near = get_close_matches(str(name).rpartition(".")[2], names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}."
    return f"{what} {name!r} is unknown: {hint}"


def sentence_of(error: BaseException | str) -> str:
    """What an error of others says, in one line without a full stop, and without secrets."""
    return redacted(" ".join(str(error).split())).rstrip(".")


def redacted(text: str) -> str:
    """A text of others without this machine's token of the hub and without passwords in
    addresses."""
    for token in _tokens():
        text = text.replace(token, HIDDEN)
    return SECRETS.sub(HIDDEN, text)


def _tokens() -> set[str]:
    """The hub's token, wherever its library finds it."""
    from huggingface_hub import constants  # which read the environment when they are imported

    file = Path(constants.HF_TOKEN_PATH)
    stored = file.read_text(encoding="utf-8") if file.is_file() else ""
    named = (os.environ.get(name, "") for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"))
    return {token.strip() for token in (*named, stored) if len(token.strip()) > SHORT}
