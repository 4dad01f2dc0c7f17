"""The data sets that profiles name: what is at hand, and prompts as a model sees them.

A set is called by its profile and its name there, `small/squad`; without a profile, `tiny` is meant.
"""

from collections.abc import Iterator

from studylib import archives, data, models, parameters, prompts, sources
from studylib.errors import StudyError
from studylib.project import notebook, profiles


def sets(profile: str) -> tuple[dict[str, dict], dict[str, str]]:
    """The data sets of a profile or YAML by name, training set first, and its model families."""
    described, families = {}, {}
    for file in profiles(profile):
        path = notebook(file)
        values = parameters.defaults(path) | parameters.read(path, file)
        families |= values["families"]
        described |= {"train": values["train"], "dev": values["dev"], **values["tests"]}
        described |= sources.xquad(values["xquad"], values["xquad_paragraphs"])
    return described, families


def overview(profile: str) -> Iterator[dict]:
    """A line per data set of a profile: what it holds, or what is missing."""
    described, families = sets(profile)
    tokenizers = {family: models.tokenizer(reference) for family, reference in families.items() if not _to_fetch(reference)}
    training = []
    for name, dataset in described.items():
        sources.described(dataset)
        line = {"set": f"{profile}/{name}", "language": ",".join(sources.languages(dataset)), "source": dataset["source"]}
        if megabytes := _to_fetch(dataset["source"]):
            yield line | {"missing": f"not fetched yet: {megabytes} MB with its archive"}
            continue
        loaded = data.load(dataset)
        asked = loaded.questions
        training = asked if name == "train" else training
        yield line | {
            "questions": len(asked),
            "contexts": len(data.by_context(asked)),
            "articles": len({question.article for question in asked}),
            "answer tokens": {family: _answer_tokens(asked, tokenizer) for family, tokenizer in tokenizers.items()},
            "answers of the file shifted": loaded.shifted,
            "shared with train": _shared(training, asked) if training is not asked and training else "",
            "fingerprint": sources.fingerprint(dataset)[:12],
        }


def _shared(training: list[data.Question], asked: list[data.Question]) -> dict[str, int]:
    return {what: len(same) for what, same in data.shared(training, asked).items()}


def _answer_tokens(asked: list[data.Question], tokenizer: models.PreTrainedTokenizerBase) -> float:
    """Mean tokens of the answers to learn, end of sequence included."""
    texts = [prompts.Segments("", "", " ").answer(question) for question in asked]
    return sum(len(ids) + 1 for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]) / len(asked)


def _to_fetch(reference: str) -> int:
    kind, _, rest = reference.partition(":")
    return archives.missing(rest) if kind == "archive" else 0


def shown(name: str, count: int, mode: str) -> Iterator[str]:
    """The first prompts of `count` contexts of a set, in the tokens of the profile's first family, segments marked.

    Raises StudyError for an unknown set.
    """
    profile, _, short = name.rpartition("/")
    described, families = sets(profile or "tiny")
    if short not in described:
        raise StudyError(f"There is no data set {short!r} in {profile or 'tiny'}: known are {', '.join(described)}.")
    tokenizer = models.tokenizer(next(iter(families.values())))
    pool, groups = data.load(described["train"]).questions, data.by_context(data.load(described[short]).questions)[:count]
    asked = [question for group in groups for question in group]
    examples = prompts.demonstrations([group[0] for group in groups], mode, pool, seed=0)
    texts = prompts.segments(examples, tokenizer, mode)
    built = prompts.build(asked, tokenizer, mode=mode, pool=pool)
    for prompt, text, example, group in zip(built, texts, examples, groups, strict=True):
        prefix, branch = tokenizer.decode(prompt.prefix), prompt.branches[0]
        source = f", demonstration {example.id} of {example.article!r}" if example else ""
        yield f"═══ {group[0].id} of {group[0].article!r}{source}"
        yield f"─── instructions{' and demonstration' if example else ''}\n{prefix[: len(text.before)]}"
        yield f"─── context ({len(prompt.prefix)} tokens so far, shared by {len(prompt.branches)} questions){prefix[len(text.before) :]}"
        yield f"─── question ({len(branch.given)} tokens){tokenizer.decode(branch.given)}"
        yield f"─── answer to learn ({len(branch.target)} tokens)\n{tokenizer.decode(branch.target)}"
