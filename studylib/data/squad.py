"""Questions in SQuAD terms: checked, selected by whole paragraphs, and kept apart from those of
training."""

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from operator import itemgetter
from typing import Any

from studylib.core.errors import StudyError
from studylib.core.segmentation import composed
from studylib.data import sources


@dataclass(frozen=True)
class Question:
    """One item: the article it comes from is its cluster in statistics; `answers` are (text, start)
    pairs."""

    id: str
    article: str
    context: str
    question: str
    answers: tuple[tuple[str, int], ...]
    language: str = "en"


@dataclass(frozen=True)
class Loaded:
    """Questions of one data set, how many answers were shifted by one character, how many
    paragraphs were skipped, and of how many of those drawn the gold answers are known in training;
    None: of all. The last questions, so many as are `unlabelled`, are of other data sets: their
    gold answers are not known."""

    questions: list[Question]
    shifted: int
    skipped: int = 0
    known: int | None = None
    unlabelled: int = 0

    @cached_property
    def repeats(self) -> frozenset[str]:
        """Ids of the questions that ask what an earlier question of their paragraph asks; case,
        blanks and the composition of letters apart."""
        first = {  # in the end the id of the first of each
            (q.article, q.context, _plain(q.question)): q.id for q in reversed(self.questions)
        }
        return frozenset(q.id for q in self.questions) - frozenset(first.values())

    @cached_property
    def labelled(self) -> list[Question]:
        """The questions whose gold answers are known in training."""
        drawn = self._drawn_from
        if self.known is None:
            return drawn
        return [q for q in drawn if self.paragraphs[q.id] < self.skipped + self.known]

    @property
    def _drawn_from(self) -> list[Question]:
        return self.questions[: len(self.questions) - self.unlabelled]

    @cached_property
    def paragraphs(self) -> dict[str, int]:
        """The place of each question's paragraph in the order of drawing, by question id:
        `paragraphs: 100` takes places 0 to 99."""
        return {
            q.id: place
            for place, group in enumerate(_drawn(self._drawn_from), start=self.skipped)
            for q in group
        }


def load(dataset: Mapping) -> Loaded:
    """Read, check and select questions. Raises StudyError naming the file and question that is at
    fault."""
    content, name = sources.content(dataset)
    spoken = sources.languages(dataset)
    loaded = parse(
        content,
        name,
        spoken[0] if len(spoken) == 1 else None,
        nearest=dataset.get("offsets") == "nearest",
    )
    expected = sources.official(dataset)
    if expected is not None and len(loaded.questions) != expected:
        raise StudyError(
            f"{name} holds {len(loaded.questions)} questions, the official set {expected}: fetch it"
            " again."
        )
    questions = loaded.questions
    if dataset.get("articles") == "contexts":
        questions = [replace(q, article=_shuffled(q.context)) for q in questions]
    selected = Loaded(
        _select(questions, dataset),
        loaded.shifted,
        dataset.get("skip_paragraphs", 0),
        dataset.get("labelled_paragraphs"),
    )
    if selected.known is not None and selected.known >= (
        paragraphs := len(by_context(selected.questions))
    ):
        raise StudyError(
            f"{name}: labelled_paragraphs must be fewer than the {paragraphs} paragraphs that there"
            f" are, not {selected.known}."
        )
    if dataset.get("repeats") == "drop":
        selected = replace(
            selected, questions=[q for q in selected.questions if q.id not in selected.repeats]
        )
    return _with_unlabelled(selected, name, sources.unlabelled(dataset))


def _with_unlabelled(labelled: Loaded, name: str, added: Sequence[Mapping]) -> Loaded:
    """Questions of other data sets after those of `labelled`. Raises StudyError for an id that two
    of them have."""
    loaded = [load(dataset) for dataset in added]
    others = [question for part in loaded for question in part.questions]
    questions = labelled.questions + others
    ids = Counter(question.id for question in questions)
    if twice := [question.id for question in others if ids[question.id] > 1]:
        raise StudyError(
            f"{name}: question {twice[0]!r} of an unlabelled data set is there twice: name each"
            " data set once, or narrow one by `part` or `paragraphs`."
        )
    shifted = labelled.shifted + sum(part.shifted for part in loaded)
    return replace(labelled, questions=questions, shifted=shifted, unlabelled=len(others))


def parse(content: Any, name: str, language: str | None, *, nearest: bool = False) -> Loaded:
    """SQuAD v1.1 schema -> questions, in `language`, or in that which each paragraph names. Every
    answer must stand at its offset.

    In the published SQuAD files a few answers stand one character later than they say (mostly those
    with a leading blank): they are shifted and counted. With `nearest` an answer is taken where it
    stands nearest to its offset. Raises StudyError for anything else.
    """
    try:
        items = list(_items(content, language, nearest))
    except (KeyError, TypeError, AttributeError) as error:
        raise StudyError(
            f"{name} is not in SQuAD format ({type(error).__name__}: {error}): it needs data,"
            " paragraphs, context, qas, id, question, answers."
        ) from error
    questions, seen = [question for question, _ in items], set()
    for question in questions:
        _check(question, name)
        if question.id in seen:
            raise StudyError(f"{name} has question {question.id!r} twice: ids must be unique.")
        seen.add(question.id)
    if not questions:
        raise StudyError(f"{name} holds no question: give a SQuAD-format file with at least one.")
    return Loaded(questions, sum(shifted for _, shifted in items))


def _items(content: Any, language: str | None, nearest: bool) -> Iterator[tuple[Question, int]]:
    """The questions of a file, each with the number of its answers that were shifted."""
    for article in content["data"]:
        for paragraph in article["paragraphs"]:
            context, spoken = paragraph["context"], language or paragraph["language"]
            for item in paragraph["qas"]:
                stated = [(answer["text"], answer["answer_start"]) for answer in item["answers"]]
                answers = tuple(
                    (text, _start(context, text, start, nearest)) for text, start in stated
                )
                yield (
                    Question(
                        item["id"], article["title"], context, item["question"], answers, spoken
                    ),
                    sum(a != b for a, b in zip(stated, answers, strict=True)),
                )


def _start(context: str, text: str, start: int, nearest: bool) -> int:
    """Where an answer stands: where it says, one character later, or the nearest place that holds
    it; else as it says."""
    if not isinstance(text, str) or type(start) is not int:
        return start  # and refused
    if context.startswith(text, start):
        return start
    if context.startswith(text, start + 1):
        return start + 1
    places = [match.start() for match in re.finditer(re.escape(text), context)] if nearest else []
    return min(places, key=lambda place: abs(place - start), default=start)


def by_context(questions: Sequence[Question]) -> list[list[Question]]:
    """Questions grouped by their context, in order of first appearance."""
    groups: dict[tuple[str, str], list[Question]] = defaultdict(list)
    for question in questions:
        groups[question.article, question.context].append(question)
    return list(groups.values())


LONGEST = 1_000_000  # characters of a context, which a tokenizer takes some 400 bytes each for
SHARED: dict[str, Callable[[Question], str]] = {  # what a test set should not share with training
    "articles": lambda question: composed(question.article),
    "contexts": lambda question: _plain(question.context),
    "questions": lambda question: _plain(question.question),
}


def shared(training: Sequence[Question], test: Sequence[Question]) -> dict[str, list[str]]:
    """What a test set has in common with the training questions, and should not: articles,
    contexts, questions, by their text in NFC, in which models see it."""
    return {
        what: sorted(set(map(text, test)) & set(map(text, training)))
        for what, text in SHARED.items()
    }


def _plain(text: str) -> str:
    """NFC, lower case and single blanks: what two copies of a text have in common."""
    return " ".join(composed(text).lower().split())


def _check(question: Question, name: str) -> None:
    at = f"{name}, question {question.id!r}"
    if not all(
        isinstance(value, str)
        for value in (question.id, question.article, question.context, question.question)
    ):
        raise StudyError(f"{at}: id, title, context and question must be text.")
    try:
        "".join((question.id, question.article, question.context, question.question)).encode()
    except UnicodeEncodeError as error:
        raise StudyError(
            f"{at}: its text has half of a surrogate pair ({error.reason}): write whole characters."
        ) from error
    if len(question.context) > LONGEST:
        raise StudyError(
            f"{at}: its context has {len(question.context):,} characters, of at most {LONGEST:,}:"
            " make it several paragraphs."
        )
    if not question.context.strip() or not question.question.strip():
        raise StudyError(f"{at}: context and question must not be empty.")
    if not question.answers:
        raise StudyError(f"{at} has no answer: give at least one.")
    for text, start in question.answers:
        if (
            not isinstance(text, str)
            or type(start) is not int
            or start < 0
            or not text.strip()
            or not question.context.startswith(text, start)
        ):
            raise StudyError(
                f"{at}: the answer {text!r} is not in the context at offset {start!r}: mend the"
                " file, or say `offsets: nearest`."
            )


def _select(questions: list[Question], dataset: Mapping) -> list[Question]:
    """The `part` (train or dev, split by whole articles), then whole paragraphs spread over all
    articles."""
    if part := dataset.get("part"):
        articles = sorted({q.article for q in questions}, key=_shuffled)
        held = set(articles[: dataset.get("dev_articles", 0)])
        if part not in ("train", "dev") or not held or len(held) == len(articles):
            raise StudyError(
                f"{dataset['source']}: part must be train or dev, and dev_articles between 1 and"
                f" {len(articles) - 1}."
            )
        questions = [q for q in questions if (q.article in held) == (part == "dev")]
    count, skipped = dataset.get("paragraphs"), dataset.get("skip_paragraphs", 0)
    if count is None and not skipped:
        return questions
    order = _drawn(questions)
    last = len(order) if count is None else skipped + count
    if last > len(order) or skipped == len(order):
        request = (
            f"{skipped} to be skipped and " * bool(skipped)
            + f"{'the rest' if count is None else count} were asked for"
        )
        raise StudyError(
            f"{dataset['source']} has {len(order)} paragraphs, {request}: lower"
            f" `paragraphs`{' or `skip_paragraphs`' * bool(skipped)}."
        )
    return [question for group in order[skipped:last] for question in group]


def _drawn(questions: Sequence[Question]) -> list[list[Question]]:
    """The paragraphs, each as its questions, in the order of drawing: by digest, one of every
    article before a second of any."""
    groups = sorted(by_context(questions), key=lambda group: _shuffled(group[0].context))
    rounds: dict[str, Iterator[int]] = defaultdict(itertools.count)
    places = [(next(rounds[group[0].article]), _shuffled(group[0].article)) for group in groups]
    return [group for _, group in sorted(zip(places, groups, strict=True), key=itemgetter(0))]


def _shuffled(text: str) -> str:
    return sha256(text.encode()).hexdigest()
