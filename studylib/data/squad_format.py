"""Content in SQuAD's form, out of a JSON file, JSON lines, or the rows of a table; nothing of it is
checked here but its form."""

import json
from collections import Counter
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from studylib.core.errors import StudyError


def read(path: Path) -> object:
    """SQuAD-format content of a JSON file, or of one of JSON lines."""
    name = str(path)
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".jsonl":
            return json.loads(text, object_pairs_hook=_mapping)
        articles = []
        # splitlines() would split at U+2028 inside a text
        for number, line in enumerate(text.split("\n"), start=1):
            name = f"{path}, line {number}"
            if line.strip():
                articles.append(article(json.loads(line, object_pairs_hook=_mapping), name))
        return {"data": articles}
    # of bytes, of JSON, of a number with thousands of digits; of brackets in brackets
    except (ValueError, RecursionError) as error:
        raise StudyError(
            f"{name} is not JSON in UTF-8 ({error}): give a SQuAD-format file."
        ) from error


def _mapping(pairs: list[tuple[str, object]]) -> dict:
    """A JSON object, none of whose keys may come twice: which of them was meant?"""
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        names = Counter(name for name, _ in pairs)
        raise ValueError(
            f"the key {next(name for name, count in names.items() if count > 1)!r} twice in one"
            " object"
        )
    return mapping


def article(item: Any, name: str) -> dict:
    """One row {id, context, question, answers} in SQuAD's form; without a title the context is its
    own article.

    `answers` is a list of {text, answer_start}, or the hub's {text: [...], answer_start: [...]}.
    """
    try:
        answers, context = item["answers"], item["context"]
        if isinstance(answers, Mapping):
            if not isinstance(answers["text"], list):
                raise TypeError("text is no list")  # nor are its letters the answers
            answers = [
                {"text": text, "answer_start": start}
                for text, start in zip(answers["text"], answers["answer_start"], strict=True)
            ]
        return {
            "title": item.get("title") or sha256(context.encode()).hexdigest(),
            "paragraphs": [
                {
                    "context": context,
                    "qas": [{"id": item["id"], "question": item["question"], "answers": answers}],
                }
            ],
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise StudyError(
            f"{name}: a row needs id, context, question and answers ({type(error).__name__}:"
            f" {error})."
        ) from error
