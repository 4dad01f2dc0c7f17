"""Questions in SQuAD terms, from a local file, MLQA's official folder, an archive member or the built-in generator.

A data set is named by a mapping, as in a YAML:

    {source: "archive:bigbench==1.0.0/new_wiki_v1.0.json", part: train, dev_articles: 5}
    {source: "archive:bigbench==1.0.0/squaddev_v1.1.json", paragraphs: 100}
    {source: "path:my.json"}                      # relative to the project's root; or JSON lines, my.jsonl
    {source: "mlqa:data/MLQA_V1", split: dev, context: de, question: en}   # the official folder
    {source: "facts:train", paragraphs: 400, facts: 5, seed: 0}
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from studylib import archives, facts
from studylib.errors import StudyError
from studylib.runs import digest, file_digest

RECIPE = 1
COUNTS = {"paragraphs": 1, "dev_articles": 1, "facts": 1, "seed": 0}  # the least of each
FILE_KEYS = {"source", "part", "dev_articles", "paragraphs", "language"}
KEYS = {"path": FILE_KEYS, "archive": FILE_KEYS, "facts": {"source", "paragraphs", "facts", "seed"}}
KEYS["mlqa"] = {"source", "split", "context", "question", "paragraphs"}
SOURCES = "path:FILE, mlqa:FOLDER, archive:NAME==VERSION/MEMBER or facts:SPLIT"
# Questions in dev and test where context and question are in one language (facebookresearch/MLQA, README.md).
MLQA = {
    "en": (1148, 11590),
    "de": (512, 4517),
    "es": (500, 5254),
    "ar": (517, 5335),
    "zh": (504, 5137),
    "vi": (511, 5495),
    "hi": (507, 4918),
}


@dataclass(frozen=True)
class Question:
    """One item: the article it comes from is its cluster in statistics; `answers` are (text, start) pairs."""

    id: str
    article: str
    context: str
    question: str
    answers: tuple[tuple[str, int], ...]
    language: str = "en"


@dataclass(frozen=True)
class Loaded:
    """Questions of one data set, and how many answers were shifted by one character."""

    questions: list[Question]
    shifted: int


def fingerprint(dataset: Mapping) -> str:
    """What the data set is, without reading its questions: source bytes, selection and this module's recipe.

    Raises StudyError for an unknown source or key, or a local file that is not there.
    """
    kind, rest = _source(dataset)
    if kind in ("path", "mlqa"):
        identity = file_digest(_local(_file(kind, rest, dataset)))
    elif kind == "archive":
        identity = archives.pinned(rest)[2]
    else:
        identity = rest
    selection = {key: dataset[key] for key in sorted(dataset) if key != "source"}
    return digest({"kind": kind, "identity": identity, "selection": selection, "recipe": RECIPE})


def load(dataset: Mapping) -> Loaded:
    """Read, check and select questions. Raises StudyError naming the file and question that is at fault."""
    kind, rest = _source(dataset)
    if kind == "facts":
        wanted = dict(
            contexts=dataset.get("paragraphs", 100),
            facts=dataset.get("facts", 5),
            seed=dataset.get("seed", 0),
        )
        return parse(
            {"data": [{"title": p["title"], "paragraphs": [p]} for p in facts.paragraphs(rest, **wanted)]},
            f"facts:{rest}",
            "en",
        )
    path = archives.member(rest) if kind == "archive" else _local(_file(kind, rest, dataset))
    loaded = parse(_content(path), str(path), language(dataset))
    if kind == "mlqa":
        official = MLQA[dataset["context"]][dataset["split"] == "test"]
        if dataset["context"] == dataset["question"] and len(loaded.questions) != official:
            raise StudyError(f"{path} holds {len(loaded.questions)} questions, the official file {official}: fetch MLQA_V1 again.")
    return Loaded(_select(loaded.questions, dataset), loaded.shifted)


def language(dataset: Mapping) -> str:
    """The language of a described data set's contexts."""
    return dataset.get("context", "en") if str(dataset.get("source", "")).startswith("mlqa:") else dataset.get("language", "en")


def _file(kind: str, rest: str, dataset: Mapping) -> str:
    if kind == "path":
        return rest
    split = dataset["split"]
    return f"{rest}/{split}/{split}-context-{dataset['context']}-question-{dataset['question']}.json"


def _content(path: Path) -> object:
    """SQuAD-format content of a JSON file, or of one of JSON lines."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".jsonl":
            return json.loads(text)
        return {"data": [_article(json.loads(line), path) for line in text.splitlines() if line.strip()]}
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StudyError(f"{path} is not JSON in UTF-8 ({error}): give a SQuAD-format file.") from error


def _article(item: object, path: Path) -> dict:
    """One line {id, context, question, answers} in SQuAD's form; without a title the context is its own article.

    `answers` is a list of {text, answer_start}, or the hub's {text: [...], answer_start: [...]}.
    """
    try:
        answers, context = item["answers"], item["context"]
        if isinstance(answers, Mapping):
            answers = [{"text": text, "answer_start": start} for text, start in zip(answers["text"], answers["answer_start"], strict=True)]
        title = item.get("title") or _shuffled(context)
        return {
            "title": title,
            "paragraphs": [{"context": context, "qas": [{"id": item["id"], "question": item["question"], "answers": answers}]}],
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise StudyError(f"{path}: a line needs id, context, question and answers ({type(error).__name__}: {error}).") from error


def parse(content: object, name: str, language: str) -> Loaded:
    """SQuAD v1.1 schema -> questions. Every answer must stand at its offset.

    In the published SQuAD files a few answers stand one character later than they say (mostly those with
    a leading blank): they are shifted and counted. Raises StudyError for anything else.
    """
    questions, seen, shifted = [], set(), 0
    try:
        for article in content["data"]:
            for paragraph in article["paragraphs"]:
                context = paragraph["context"]
                for item in paragraph["qas"]:
                    answers = []
                    for answer in item["answers"]:
                        text, start = answer["text"], answer["answer_start"]
                        if not context.startswith(text, start) and context.startswith(text, start + 1):
                            start, shifted = start + 1, shifted + 1
                        answers.append((text, start))
                    questions.append(Question(item["id"], article["title"], context, item["question"], tuple(answers), language))
    except (KeyError, TypeError, AttributeError) as error:
        raise StudyError(
            f"{name} is not in SQuAD format ({type(error).__name__}: {error}): it needs data, paragraphs, context, qas, id, question, answers."
        ) from error
    for question in questions:
        _check(question, name)
        if question.id in seen:
            raise StudyError(f"{name} has question {question.id!r} twice: ids must be unique.")
        seen.add(question.id)
    if not questions:
        raise StudyError(f"{name} holds no question: give a SQuAD-format file with at least one.")
    return Loaded(questions, shifted)


def by_context(questions: Sequence[Question]) -> list[list[Question]]:
    """Questions grouped by their context, in order of first appearance."""
    groups: dict[tuple[str, str], list[Question]] = defaultdict(list)
    for question in questions:
        groups[question.article, question.context].append(question)
    return list(groups.values())


def _source(dataset: Mapping) -> tuple[str, str]:
    """The kind of source and what follows it. Raises StudyError for anything in `dataset` that is unknown or cannot be."""
    if not isinstance(dataset, Mapping) or "source" not in dataset:
        raise StudyError(f"data set {dataset!r} needs a source: {SOURCES}.")
    kind, _, rest = str(dataset["source"]).partition(":")
    if kind not in KEYS:
        raise StudyError(f"data source {dataset['source']!r} is unknown: use {SOURCES}.")
    if kind == "facts" and rest not in facts.SPLITS:
        raise StudyError(f"facts:{rest} is unknown: the splits are {', '.join(facts.SPLITS)}.")
    if unknown := sorted(set(dataset) - KEYS[kind]):
        raise StudyError(f"data set {dataset['source']} has an unknown key {unknown[0]!r}: known are {', '.join(sorted(KEYS[kind]))}.")
    for key, least in COUNTS.items():
        if type(dataset.get(key, least)) is not int or dataset.get(key, least) < least:
            raise StudyError(f"{dataset['source']}: {key} must be a whole number of at least {least}, not {dataset[key]!r}.")
    if kind == "mlqa":
        for key, known in (("split", ("dev", "test")), ("context", MLQA), ("question", MLQA)):
            if dataset.get(key) not in known:
                raise StudyError(f"{dataset['source']}: {key} must be one of {', '.join(known)}, not {dataset.get(key)!r}.")
    if not isinstance(dataset.get("language", "en"), str):
        raise StudyError(f"{dataset['source']}: language must be text, not {dataset['language']!r}.")
    return kind, rest


def _local(name: str) -> Path:
    from studylib.project import root

    path = Path(name) if Path(name).is_absolute() else root() / name
    if not path.is_file():
        raise StudyError(f"There is no file {path}: the data source path:{name} needs it.")
    return path


def _check(question: Question, name: str) -> None:
    at = f"{name}, question {question.id!r}"
    if not all(isinstance(value, str) for value in (question.id, question.article, question.context, question.question)):
        raise StudyError(f"{at}: id, title, context and question must be text.")
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
            raise StudyError(f"{at}: the answer {text!r} is not in the context at offset {start}: mend the file.")


def _select(questions: list[Question], dataset: Mapping) -> list[Question]:
    """The `part` (train or dev, split by whole articles), then whole paragraphs spread over all articles."""
    if part := dataset.get("part"):
        articles = sorted({q.article for q in questions}, key=_shuffled)
        held = set(articles[: dataset.get("dev_articles", 0)])
        if part not in ("train", "dev") or not held or len(held) == len(articles):
            raise StudyError(f"{dataset['source']}: part must be train or dev, and dev_articles between 1 and {len(articles) - 1}.")
        questions = [q for q in questions if (q.article in held) == (part == "dev")]
    if (count := dataset.get("paragraphs")) is None:
        return questions
    rounds: dict[str, int] = defaultdict(int)
    order = []
    for group in sorted(by_context(questions), key=lambda group: _shuffled(group[0].context)):
        order.append((rounds[group[0].article], _shuffled(group[0].article), group))
        rounds[group[0].article] += 1
    order.sort(key=lambda entry: entry[:2])
    if count > len(order):
        raise StudyError(f"{dataset['source']} has {len(order)} paragraphs, {count} were asked for: lower `paragraphs`.")
    return [question for _, _, group in order[:count] for question in group]


def _shuffled(text: str) -> str:
    return sha256(text.encode()).hexdigest()
