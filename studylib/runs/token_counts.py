"""Tokens of a data set as a model reads it: counted where the set is at hand, else estimated from
what is known of it.

text = token_counts.text(run, "train", learning=True); print(text.rows, text.tokens)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from studylib.data import packing, sources
from studylib.data.prompts import Branch
from studylib.data.squad import Question
from studylib.models import loading
from studylib.runs import inputs, plan_parts
from studylib.store.run import Input, Run

# Contexts and questions of published sets, for those that are not at hand; of MLQA's contexts 1.1
# questions each are assumed.
SETS = {
    ("rajpurkar/squad", "train"): (18891, 87599),
    ("rajpurkar/squad", "validation"): (2067, 10570),
    ("squaddev_v1.1.json", ""): (2066, 10565),
    ("new_wiki_v1.0.json", ""): (1583, 7936),
    ("nyt_v1.0.json", ""): (2003, 10056),
    ("reddit_v1.0.json", ""): (2033, 9767),
    ("amazon_reviews_v1.0.json", ""): (2050, 9877),
}
A_CONTEXT = 1.1
# tokens around SQuAD: of a context, a demonstration, a question with its answer, and that answer
PREFIX, SHOWN, BRANCH, TARGET = 180, 165, 25, 6
SPREAD = 2.6  # the longest row over the mean one


@dataclass(frozen=True)
class Text:
    """Rows of a data set as a model reads them: their number, and of a row the mean tokens, pairs
    of places that see each other, answer tokens and questions; `lengths` of all rows in tokens."""

    rows: int
    tokens: float
    pairs: float
    answers: float
    questions: float
    lengths: Sequence[int]


def at_hand(run: Run, need: str) -> bool:
    """Whether a run's data set can be read as its model does, nothing fetched."""
    sets = [run.needs[name].value for name in (need, "pool", "train") if name in run.needs]
    served = [part for described in sets for part in sources.parts(described)]
    return (
        not any(str(part["source"]).startswith("hub:") for part in served)
        and not any(map(sources.to_fetch, sets))
        and not loading.to_fetch(plan_parts.base_of(run).value)
    )


def key(run: Run, need: str, learning: bool) -> tuple:
    """What the text that a run reads depends on: not on its seed, as demonstrations are of a
    length, though on the set that they are of. Until it is at hand it is estimated."""
    mode = plan_parts.mode_of(run)
    shown = run.needs.get("pool", run.needs.get("train")) if mode != "zero-shot" else None
    return (
        at_hand(run, need),
        plan_parts.base_of(run).digest,
        run.needs[need].digest,
        mode,
        shown.digest if isinstance(shown, Input) else None,
        run.parameters.get("targets", "gold") if learning else None,
    )


def text(run: Run, need: str, learning: bool) -> Text:
    """What a run reads of one of its data sets, in the way in which it is prompted; where it is
    `learning`, with the answers that it learns."""
    if not at_hand(run, need):
        return _estimated(run.needs[need], plan_parts.mode_of(run))
    reading = loading.reading(plan_parts.base_of(run).value)
    learnt = inputs.learnable(run) if learning else None
    # one at a time: a row takes many times the memory of its prompt
    rows = map(packing.pack, inputs.prompted(run, need, *reading, learnt=learnt))
    counts = (
        (len(row.ids), pairs(Counter(row.branches)), len(row.answers.at), len(row.asked))
        for row in rows
    )
    lengths, *others = zip(*counts, strict=True)
    tokens, seen, answers, questions = (sum(values) / len(lengths) for values in (lengths, *others))
    return Text(len(lengths), tokens, seen, answers, questions, lengths)


def pairs(branches: Mapping[int, int]) -> float:
    """Pairs of places that see each other in a row, of the number of tokens by branch."""
    prefix = branches[0]
    return prefix * (prefix + 1) / 2 + sum(
        length * prefix + length * (length + 1) / 2 for branch, length in branches.items() if branch
    )


def _estimated(source: Input, mode: str) -> Text:
    """A published set's rows, in tokens like SQuAD's. Of another one as many are assumed as SQuAD's
    dev set has."""
    parts = map(_published, sources.parts(source.value))
    count, questions = map(sum, zip(*parts, strict=True))
    per_row = questions / count
    prefix, branch = PREFIX + (0 if mode.endswith("zero-shot") else SHOWN), BRANCH
    tokens = prefix + per_row * branch
    seen = pairs({0: prefix} | dict.fromkeys(range(1, round(per_row) + 1), branch))
    lengths = [round(SPREAD * tokens)] + [round(tokens)] * (count - 1)
    return Text(count, tokens, seen, per_row * TARGET, per_row, lengths)


def _published(described: Mapping) -> tuple[int, float]:
    """How many contexts and questions a described set has by what is published of it."""
    kind, _, name = described["source"].partition("@")[0].partition(":")
    published = (Path(name).name if kind == "archive" else name, described.get("split", ""))
    count, questions = SETS.get(published, SETS["rajpurkar/squad", "validation"])
    if official := sources.official(described):
        count, questions = round(official / A_CONTEXT), official
    left = max(1, count - described.get("skip_paragraphs", 0))
    drawn = min(left, described.get("paragraphs", left))
    return drawn, drawn * questions / count


def example(length: int, questions: int) -> packing.Pack:
    """A row of so many tokens with so many questions, of which nothing but the size counts."""
    branch = min(BRANCH, length // (questions + 1))
    branches = [0] * (length - questions * branch) + [
        number for number in range(1, questions + 1) for _ in range(branch)
    ]
    places = packing.Places([0] * (questions * TARGET), [0] * (questions * TARGET))
    asked = (Branch(Question("", "", "", "", ()), [], [0] * TARGET),) * questions
    return packing.Pack([0] * length, list(range(length)), branches, places, places, asked)
