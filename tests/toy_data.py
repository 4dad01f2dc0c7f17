"""Questions, rows and archives, small and made up, that tests of data share."""

import hashlib
import zipfile
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from studylib.data import prompts
from studylib.data.squad import Question

LINE = {
    "id": "1",
    "context": "Belu wrote Sado.",
    "question": "Who wrote Sado?",
    "answers": [{"text": "Belu", "answer_start": 0}],
}

CONTENT = b"what is wanted\n"
TOY = "toy==1.0"


def question(
    name: str,
    article: str = "A",
    context: str = "Kamo lives in Tiru.",
    asked: str = "Where?",
    answers: tuple = ("Tiru",),
) -> Question:
    return Question(
        name, article, context, asked, tuple((text, context.find(text)) for text in answers)
    )


def library(articles: int, contexts: int = 3) -> list[Question]:
    """Two questions a context; every context names its article, and the longest of each is long."""
    return [
        question(
            f"{a}-{c}-{q}",
            f"article{a}",
            f"Text {c} of article{a}." + " It goes on." * c,
            f"What is {q}?",
            (f"article{a}",),
        )
        for a in range(articles)
        for c in range(contexts)
        for q in range(2)
    ]


def text(tokenizer: PreTrainedTokenizerFast, prompt: prompts.Prompt, number: int = 0) -> str:
    """What a prompt says with one of its questions, without the end of text."""
    branch = prompt.branches[number]
    return tokenizer.decode(prompt.prefix + branch.given + branch.target[:-1])


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wheel(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path
