"""An answer, and the answers so far, kept in a folder so that a run that is stopped goes on from
there."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import safe_open

from studylib.core import filesystem
from studylib.core.libraries import save_file, torch

PLAIN = ("question_id", "text", "margin", "log_probability", "tokens", "steps")  # of an answer


@dataclass(frozen=True)
class Answer:
    """A question's answer, and the log-probability (nats) of its tokens, what ended it included,
    over their number `tokens`.

    `margin` is the smallest lead, in logits, of a chosen token over the next best; `gold` (N, d)
    the hidden states, post final norm, that the tokens of the gold answer are predicted from, the
    first of which begins the answer, too. `steps` says how often the model was run for it. `ids`
    are its tokens without what ended it; they are not kept.
    """

    question_id: str
    text: str
    margin: float
    log_probability: float
    tokens: int
    gold: torch.Tensor | None = field(default=None, compare=False, repr=False)
    steps: int = 0
    ids: tuple[int, ...] = field(default=(), compare=False, repr=False)

    @property
    def probability(self) -> float:
        """The model's probability of just this answer."""
        return math.exp(self.log_probability)


def clean(text: str) -> str:
    """The first line that says something: some models open with a newline (Pythia), or go on after
    the answer."""
    return text.strip().split("\n")[0].strip()


def best(answers: Iterable[Answer]) -> dict[str, Answer]:
    """Per question the answer of the highest mean log-probability a token: one, where a context was
    asked in windows."""
    best_answers: dict[str, Answer] = {}
    for answer in answers:
        held = best_answers.setdefault(answer.question_id, answer)
        if answer.log_probability / answer.tokens > held.log_probability / held.tokens:
            best_answers[answer.question_id] = answer
    return best_answers


class Kept:
    """The answers so far, by the number of their prompt, kept in a folder from time to time."""

    def __init__(self, work: Path | None):
        self.work, self.answers, self.saved = work, _read(work), time.monotonic()
        self.new: dict[int, list[Answer]] = {}

    def add(self, answers: Mapping[int, list[Answer]]) -> None:
        """Take more answers."""
        self.answers |= answers
        self.new |= answers
        if self.work and time.monotonic() - self.saved > filesystem.CHECKPOINT_SECONDS:
            _write(self.new, self.work)
            self.new, self.saved = {}, time.monotonic()


def _write(answers: Mapping[int, Sequence[Answer]], work: Path) -> None:
    """Keep answers, by the number of their prompt, in a file that is named by its digest."""
    tensors = {
        f"{i} {n}": answer.gold.cpu()
        for i, prompt_answers in answers.items()
        for n, answer in enumerate(prompt_answers)
        if answer.gold is not None
    }
    records = {
        i: [[getattr(answer, name) for name in PLAIN] for answer in prompt_answers]
        for i, prompt_answers in answers.items()
    }
    work.mkdir(parents=True, exist_ok=True)
    draft = work / f"{min(answers)}.draft"
    save_file(tensors, draft, {"answers": json.dumps(records)})
    filesystem.settle(draft)
    draft.replace(work / f"{filesystem.file_digest(draft)}.safetensors")


def _read(work: Path | None) -> dict[int, list[Answer]]:
    """The answers that were kept; those of a file that was changed are not."""
    answers: dict[int, list[Answer]] = {}
    for file in sorted(work.glob("*.safetensors")) if work is not None else ():
        if filesystem.file_digest(file) == file.stem:
            with safe_open(file, "pt") as kept:
                golds = {name: kept.get_tensor(name) for name in kept.offset_keys()}
                for i, records in json.loads(kept.metadata()["answers"]).items():
                    answers[int(i)] = [
                        Answer(**dict(zip(PLAIN, record, strict=False)), gold=golds.get(f"{i} {n}"))
                        for n, record in enumerate(records)
                    ]
    return answers
