"""The one error a user can mend: a sentence that names the file, key or question and says what to do."""

LONGEST = 1000  # characters of a sentence: what is at fault stands first, what to do last


class StudyError(Exception):
    """Ends a command with exit code 2 and its sentence, without a traceback.

    On one line and no longer than can be read, whatever it quotes: of a file from outside anything may be quoted.
    """

    def __init__(self, sentence: str):
        if len(sentence) > LONGEST:
            sentence = f"{sentence[: LONGEST // 2]} … {sentence[-LONGEST // 2 :]}"
        super().__init__("".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in sentence))
