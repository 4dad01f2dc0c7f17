"""The one error a user can mend: a sentence that names the file, key or question and says what to do."""


class StudyError(Exception):
    """Ends a command with exit code 2 and its sentence, without a traceback."""
