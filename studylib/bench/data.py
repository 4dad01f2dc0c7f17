"""How long it takes to load, pack and batch as many questions as SQuAD train has: `study bench
data`."""

import json
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from studylib.core.errors import StudyError
from studylib.data import packing, prompts, squad, synthetic
from studylib.models import loading

ARTICLES, CONTEXTS, QUESTIONS = (
    442,
    18_896,
    87_599,
)  # SQuAD v1.1 train, from memory but for the questions
SECONDS, MEGABYTES = 90, 1500
WORDS, ASKED, ANSWERED = 120, 10, 3  # words a context, a question and an answer, about SQuAD's


def data_speed(say: Callable[[str], None]) -> None:
    """Load, pack and batch a synthetic set of SQuAD train's size, and say how long each takes and
    how much memory all of it."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "train.json"
        file.write_text(
            json.dumps({"data": list(map(_article, range(ARTICLES)))}), encoding="utf-8"
        )
        meter = _Meter(say)
        questions = squad.load({"source": f"path:{file}", "official": "squad-train"}).questions
        meter.note(f"loading {len(questions):,} questions")
    tokenizer, config = loading.reading("tiny:qwen2")
    longest = config.max_position_embeddings
    built = prompts.build(questions, tokenizer, mode="zero-shot", longest=longest, training=True)
    packs = [packing.pack(prompt) for prompt in built]
    meter.note(f"packing them into {len(packs):,} rows")
    lengths = [len(pack.ids) for pack in packs]
    batches = packing.schedule(lengths, size=16, steps=-(-len(packs) // 16), seed=0)
    tokens = sum(int(packing.collate([packs[i] for i in batch]).real.sum()) for batch in batches)
    meter.note(f"batching {tokens:,} tokens")
    alone = sum(len(p.prefix) + len(b.given) + len(b.target) - 1 for p in built for b in p.branches)
    say(
        f"Together {meter.seconds:.1f} s and {meter.memory:.0f} MB, {meter.before:.0f} MB of them"
        " before it began."
    )
    say(f"One question a row would be {alone:,} tokens, {alone / sum(lengths):.2f} times as many.")
    meter.check()


class _Meter:
    """Seconds of one part of the work after the other, and the most memory so far."""

    def __init__(self, say: Callable[[str], None]):
        self.say, self.seconds = say, 0.0
        self.before = self.memory = megabytes()
        self.started = time.monotonic()

    def note(self, part: str) -> None:
        """Say what the part that is done took; the next one begins."""
        passed, self.memory = time.monotonic() - self.started, megabytes()
        self.say(f"{part}: {passed:.1f} s, {self.memory:.0f} MB at most so far")
        self.seconds += passed
        self.started = time.monotonic()

    def check(self) -> None:
        """Raise StudyError where all of it took more than it may."""
        # what the process held before is not of the data
        if self.seconds > SECONDS or self.memory - self.before > MEGABYTES:
            raise StudyError(
                f"That is over the limit of {SECONDS} s and {MEGABYTES} MB: look at what the"
                " machine does besides."
            )


def _article(number: int) -> dict:
    rng = Random(number)
    contexts = range(number * CONTEXTS // ARTICLES, (number + 1) * CONTEXTS // ARTICLES)
    return {
        "title": f"article {number}",
        "paragraphs": [_paragraph(rng, context) for context in contexts],
    }


def _paragraph(rng: Random, number: int) -> dict:
    words = _text(rng, WORDS).split(" ")
    questions = []
    for index in range(number * QUESTIONS // CONTEXTS, (number + 1) * QUESTIONS // CONTEXTS):
        first = rng.randrange(len(words) - ANSWERED)
        start = len(" ".join(words[:first])) + (first > 0)
        answer = {"text": " ".join(words[first : first + ANSWERED]), "answer_start": start}
        questions.append(
            {"id": f"q{index}", "question": _text(rng, ASKED) + "?", "answers": [answer]}
        )
    return {"context": " ".join(words), "qas": questions}


def _text(rng: Random, words: int) -> str:
    return " ".join(
        "".join(rng.choices(synthetic.LATIN, k=rng.choice((1, 2)))).capitalize()
        for _ in range(words)
    )


def megabytes() -> float:
    """The most memory that this process has held. `getrusage` would count that of the process which
    started it, too."""
    status = Path("/proc/self/status")
    if status.exists() and (most := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(most[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS counts in bytes
