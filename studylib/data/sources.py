"""Where questions lie: a data set described by a mapping, as in a YAML, and its content in SQuAD's
form.

    {source: "hub:rajpurkar/squad", split: train}    # its commit is pinned here
    {source: "hub:facebook/mlqa@COMMIT", folder: mlqa.de.en, split: test, language: de}
    {source: "mlqa:data/MLQA_V1", split: dev, context: de, question: en}   # the official folder
    {source: "archive:MLQA_V1/test-context-de-question-de.json", official: mlqa-test-de,
     language: de}                                         # the same, fetched
    {source: "path:my.json"}    # relative to the project's root; or JSON lines, my.jsonl
    {source: "path:train-v1.1.json", official: squad-train}                # its count is checked
    {source: "archive:bigbench==1.0.0/new_wiki_v1.0.json", part: train, dev_articles: 5}
    {source: "archive:bigbench==1.0.0/reddit_v1.0.json", articles: contexts}
                                                           # all under one title
    {source: "archive:bigbench==1.0.0/amazon_reviews_v1.0.json", offsets: nearest}
                                                           # counted on other text
    {source: "facts:train", paragraphs: 400, facts: 5, seed: 0, languages: [en, zh]}

`part`, `dev_articles` and `paragraphs` select (see `data`); `repeats: drop` leaves out the
questions that repeat another of their paragraph. `skip_paragraphs: 100` leaves out those that
`paragraphs: 100` draws. `labelled_paragraphs: 100` withholds from training the gold answers of all
but the first 100 that are drawn; `unlabelled: [{source: ...}, ...]` adds all questions of other
data sets, with theirs withheld. `seen_paragraphs: 100` declares that the questions which
`paragraphs: 100` draws were looked at while choices were made: it changes nothing that is computed
and is no part of the fingerprint. Only the hub's and the archives' bytes are ever fetched.
"""

import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import psutil

from studylib.core import versions
from studylib.core.errors import StudyError, sentence_of
from studylib.core.filesystem import digest, file_digest
from studylib.core.progress import watched
from studylib.core.project import root
from studylib.data import archives, hub, squad_format, synthetic

READING = 10  # bytes of memory for each of a JSON file
DECLARED = {"seen_paragraphs"}  # what is known of a data set and changes nothing in it
SELECTING = DECLARED | {
    "source",
    "part",
    "dev_articles",
    "paragraphs",
    "skip_paragraphs",
    "labelled_paragraphs",
    "unlabelled",
    "language",
    "articles",
    "offsets",
    "official",
    "repeats",
}
KEYS = {
    "hub": SELECTING | {"split", "folder"},
    "mlqa": {"source", "split", "context", "question", "paragraphs", "repeats"} | DECLARED,
    "path": SELECTING,
    "archive": SELECTING,
    "facts": {
        "source",
        "paragraphs",
        "labelled_paragraphs",
        "unlabelled",
        "facts",
        "seed",
        "languages",
    },
}
SOURCES = (
    "hub:OWNER/NAME@COMMIT, mlqa:FOLDER, path:FILE, archive:NAME==VERSION/MEMBER or facts:SPLIT"
)
COUNTS = {  # the least of each
    "paragraphs": 1,
    "skip_paragraphs": 1,
    "seen_paragraphs": 1,
    "labelled_paragraphs": 1,
    "dev_articles": 1,
    "facts": 1,
    "seed": 0,
}
MOST = {  # of what is generated
    "facts": 10,  # a context has no more names to give
    "paragraphs": 100_000,  # more than SQuAD has five times over
}
COMMITS = {"rajpurkar/squad": "7b6d24c440a36b6815f21b70d25016731768db1f"}
# Questions in dev and test where context and question are in one language (facebookresearch/MLQA,
# README.md).
MLQA = {
    "en": (1148, 11590),
    "de": (512, 4517),
    "es": (500, 5254),
    "ar": (517, 5335),
    "zh": (504, 5137),
    "vi": (511, 5495),
    "hi": (507, 4918),
}
OFFICIAL = {"squad-train": 87599, "squad-dev": 10570} | {  # questions of SQuAD v1.1, and of MLQA
    f"mlqa-{split}-{language}": counts[at]
    for language, counts in MLQA.items()
    for at, split in enumerate(("dev", "test"))
}

CHOICES = {
    "official": tuple(OFFICIAL),
    "articles": ("contexts",),
    "offsets": ("nearest",),
    "repeats": ("drop",),
}
MLQA_CHOICES = {"split": ("dev", "test"), "context": tuple(MLQA), "question": tuple(MLQA)}


def fingerprint(dataset: Mapping) -> str:
    """What the data set is, without reading its questions: source bytes, selection and this
    module's recipe.

    Raises StudyError for an unknown source or key, or a local file that is not there.
    """
    description = _identified(dataset, fingerprint)
    made_by = recipe(dataset)
    version = f" {made_by['facts']}" if described(dataset)[0] == "facts" else ""
    return digest(
        description
        | {"identity": f"{description['identity']}{version}", "recipe": made_by["sources"]}
    )


def identity(dataset: Mapping) -> str:
    """The same, whatever the versions of the code that reads or generates it."""
    return digest(_identified(dataset, identity))


def recipe(dataset: Mapping) -> dict[str, int]:
    """The versions of the code that has a part in what the data set holds."""
    generated = any(described(part)[0] == "facts" for part in parts(dataset))
    return versions.of("sources", *["facts"] * generated)


def unlabelled(dataset: Mapping) -> list[Mapping]:
    """The data sets whose questions are added to a described one, without gold answers in
    training."""
    return dataset.get("unlabelled", [])


def parts(dataset: Mapping) -> list[Mapping]:
    """A described data set, and those that are added to it."""
    return [dataset, *unlabelled(dataset)]


def _identified(dataset: Mapping, of: Callable[[Mapping], str]) -> dict:
    """Source and selection of a described data set; `of` says what each unlabelled one is."""
    kind, rest = described(dataset)
    if kind in ("path", "mlqa"):
        identity = file_digest(_local(kind, rest, dataset))
    elif kind == "archive":
        identity = archives.pinned(rest)[2]
    elif kind == "hub":
        identity = "@".join(hub.pinned(rest, COMMITS, "datasets"))
    else:
        identity = rest
    selection = {key: dataset[key] for key in sorted(set(dataset) - DECLARED - {"source"})}
    if "unlabelled" in selection:
        selection["unlabelled"] = list(map(of, selection["unlabelled"]))
    return {"kind": kind, "identity": identity, "selection": selection}


def to_fetch(dataset: Mapping) -> int:
    """Megabytes of archive to download before the described data set is at hand; what the hub
    serves is not counted."""
    return archives.to_fetch(
        rest for kind, rest in map(described, parts(dataset)) if kind == "archive"
    )


def content(dataset: Mapping) -> tuple[object, str]:
    """The described source's whole content in SQuAD's form (nothing of it checked yet), and what to
    call it in errors."""
    kind, rest = described(dataset)
    if kind == "facts":
        paragraphs = synthetic.paragraphs(
            rest,
            contexts=dataset.get("paragraphs", 100),
            facts=dataset.get("facts", 5),
            seed=dataset.get("seed", 0),
            languages=dataset.get("languages", ["en"]),
        )
        articles = [{"title": p["title"], "paragraphs": [p]} for p in paragraphs]
        return {"data": articles}, f"facts:{rest}"
    if kind == "hub":
        articles = [squad_format.article(row, rest) for row in _from_hub(rest, dataset)]
        return {"data": articles}, f"hub:{rest}"
    path = archives.member(rest) if kind == "archive" else _local(kind, rest, dataset)
    return squad_format.read(path), str(path)


def official(dataset: Mapping) -> int | None:
    """How many questions the source must hold, where it is declared to be an official set."""
    kind, _ = described(dataset)
    if kind == "mlqa" and dataset["context"] == dataset["question"]:
        return OFFICIAL[f"mlqa-{dataset['split']}-{dataset['context']}"]
    return OFFICIAL.get(dataset.get("official", ""))


def languages(dataset: Mapping) -> list[str]:
    """The languages of a described data set's contexts."""
    kind, rest = described(dataset)
    pair = (
        re.fullmatch(r"mlqa\.(\w+)\.\w+", dataset.get("folder", ""))
        if rest.startswith("facebook/mlqa")
        else None
    )
    usual = dataset["context"] if kind == "mlqa" else pair[1] if pair else "en"
    return dataset.get("languages", [dataset.get("language", usual)])


def is_mlqa(dataset: Mapping) -> bool:
    """Whether a described data set is MLQA, and so scored by its rules in English, too."""
    return dataset["source"].startswith(("mlqa:", "hub:facebook/mlqa")) or dataset.get(
        "official", ""
    ).startswith("mlqa")


def described(dataset: Mapping) -> tuple[str, str]:
    """The kind of source and what follows it. Raises StudyError for anything in `dataset` that is
    unknown or cannot be."""
    if not isinstance(dataset, Mapping) or "source" not in dataset:
        raise StudyError(f"data set {dataset!r} needs a source: {SOURCES}.")
    kind, _, rest = str(dataset["source"]).partition(":")
    if kind not in KEYS:
        raise StudyError(f"data source {dataset['source']!r} is unknown: use {SOURCES}.")
    if unknown := sorted(set(dataset) - KEYS[kind]):
        raise StudyError(
            f"data set {dataset['source']} has an unknown key {unknown[0]!r}: known are"
            f" {', '.join(sorted(KEYS[kind]))}."
        )
    faults = [
        f"{key} must be a whole number of at least {least}, not {dataset[key]!r}."
        for key, least in COUNTS.items()
        if type(dataset.get(key, least)) is not int or dataset.get(key, least) < least
    ]
    faults += [
        f"{key} must be text, not {dataset[key]!r}."
        for key in ("language", "split", "folder")
        if not isinstance(dataset.get(key, ""), str)
    ]
    faults += [
        f"{key} must be one of {', '.join(known)}, not {dataset.get(key)!r}."
        for key, known in (CHOICES | (MLQA_CHOICES if kind == "mlqa" else {})).items()
        if (key in dataset or key in MLQA_CHOICES) and dataset.get(key) not in known
    ]
    if faults:
        raise StudyError(f"{dataset['source']}: {faults[0]}")
    if kind == "hub":
        hub.pinned(rest, COMMITS, "datasets")
        if not dataset.get("split"):
            raise StudyError(f"{dataset['source']}: say which split, for example `split: train`.")
    if kind == "facts":
        _check_facts(rest, dataset)
    _check_unlabelled(dataset)
    return kind, rest


def _check_unlabelled(dataset: Mapping) -> None:
    added = unlabelled(dataset)
    if "unlabelled" in dataset and (not isinstance(added, list) or not added):
        raise StudyError(
            f"{dataset['source']}: unlabelled must be a list of data sets, not {added!r}."
        )
    for other in added:
        described(other)
        if unknown := sorted({"labelled_paragraphs", "unlabelled"} & set(other)):
            raise StudyError(
                f"{dataset['source']}: the unlabelled {other['source']} has {unknown[0]!r}: none of"
                " its answers is known, so leave that out."
            )


def _check_facts(split: str, dataset: Mapping) -> None:
    languages = dataset.get("languages", ["en"])
    for key, most in MOST.items():
        if dataset.get(key, 1) > most:
            raise StudyError(
                f"facts:{split}: {key} must be at most {most:,}, not {dataset[key]:,}."
            )
    if split not in synthetic.SPLITS:
        raise StudyError(f"facts:{split} is unknown: the splits are {', '.join(synthetic.SPLITS)}.")
    if (
        not isinstance(languages, list)
        or not languages
        or any(language not in list(synthetic.LANGUAGES) for language in languages)
    ):
        raise StudyError(
            f"facts:{split}: languages must be a list of {', '.join(synthetic.LANGUAGES)}, not"
            f" {languages!r}."
        )


def _from_hub(rest: str, dataset: Mapping) -> Iterable[dict]:
    """The rows of one split, by `datasets`, which keeps them in its own cache (HF_HOME)."""
    import datasets  # slow to import

    name, commit = hub.pinned(rest, COMMITS, "datasets")
    if Path(name).exists():
        raise StudyError(
            f"hub:{rest}: {Path(name).absolute()} would be read in its place: call the study from"
            " another folder."
        )
    if not watched():
        datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(
            name, revision=commit, data_dir=dataset.get("folder"), split=dataset["split"]
        )
    # whatever the hub, the network or the files may do; what it says of requests may hold a token
    except Exception as error:
        raise StudyError(
            f"hub:{rest} could not be read ({type(error).__name__}: {sentence_of(error)}): check"
            " the network, split and folder."
        ) from None
    try:
        hub.check((hub.cache_of(name, "dataset") / "snapshots" / commit).rglob("*"))
    except StudyError:
        for file in rows.cache_files:  # made of what was fetched
            shutil.rmtree(Path(file["filename"]).parent, ignore_errors=True)
        raise
    return rows


def _local(kind: str, rest: str, dataset: Mapping) -> Path:
    if kind == "mlqa":
        languages = f"context-{dataset['context']}-question-{dataset['question']}"
        rest = f"{rest}/{dataset['split']}/{dataset['split']}-{languages}.json"
    path = Path(rest) if Path(rest).is_absolute() else root() / rest
    if not path.is_file():
        raise StudyError(f"There is no file {path}: the data source {kind}:{rest} needs it.")
    needed, there = READING * path.stat().st_size, psutil.virtual_memory().total
    if needed > there:
        raise StudyError(
            f"{path} takes about {needed / 1e9:.1f} GB of memory to be read, there are"
            f" {there / 1e9:.1f} GB: make it smaller."
        )
    return path
