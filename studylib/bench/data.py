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
        begun = memory = megabytes()
        started = time.monotonic()

        def done(what: str) -> None:
            nonlocal started, memory
            now, memory = time.monotonic(), megabytes()
            say(f"{what}: {now - started:.1f} s, {memory:.0f} MB at most so far")
            times.append(now - started)
            started = time.monotonic()

        times: list[float] = []
        questions = squad.load({"source": f"path:{file}", "official": "squad-train"}).questions
        done(f"loading {len(questions):,} questions")
        tokenizer, config = loading.reading("tiny:qwen2")
        built = prompts.build(
            questions,
            tokenizer,
            mode="zero-shot",
            longest=config.max_position_embeddings,
            training=True,
        )
        packs = [packing.pack(prompt) for prompt in built]
        done(f"packing them into {len(packs):,} rows")
        tokens = 0
        for batch in packing.schedule(
            [len(pack.ids) for pack in packs], size=16, steps=-(-len(packs) // 16), seed=0
        ):
            tokens += int(packing.collate([packs[i] for i in batch]).real.sum())
        done(f"batching {tokens:,} tokens")
        alone = sum(
            len(p.prefix) + len(b.given) + len(b.target) - 1 for p in built for b in p.branches
        )
        say(
            f"Together {sum(times):.1f} s and {memory:.0f} MB, {begun:.0f} MB of them before it"
            " began."
        )
        say(
            f"One question a row would be {alone:,} tokens,"
            f" {alone / sum(len(pack.ids) for pack in packs):.2f} times as many."
        )
    if (
        sum(times) > SECONDS or memory - begun > MEGABYTES
    ):  # what the process held before is not of the data
        raise StudyError(
            f"That is over the limit of {SECONDS} s and {MEGABYTES} MB: look at what the machine"
            " does besides."
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
    asked = []
    for question in range(number * QUESTIONS // CONTEXTS, (number + 1) * QUESTIONS // CONTEXTS):
        first = rng.randrange(len(words) - ANSWERED)
        start = len(" ".join(words[:first])) + (first > 0)
        answer = {"text": " ".join(words[first : first + ANSWERED]), "answer_start": start}
        asked.append(
            {"id": f"q{question}", "question": _text(rng, ASKED) + "?", "answers": [answer]}
        )
    return {"context": " ".join(words), "qas": asked}


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
