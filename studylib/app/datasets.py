"""The data sets that profiles name: what is at hand, and prompts as a model sees them.

A set is called by its profile and its name there, `small/squad`; without a profile, `tiny` is
meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from studylib.app import parameters
from studylib.core import segmentation
from studylib.core.errors import StudyError
from studylib.core.escaping import printable
from studylib.core.libraries import transformers
from studylib.core.project import known_profiles, notebook, profiles
from studylib.data import demonstrations, model_files, prompts, sources, squad, template, vocabulary
from studylib.evaluation import metrics
from studylib.evaluation.answers import clean
from studylib.experiments import experiments
from studylib.experiments.config import Experiment
from studylib.models import loading

SET = re.compile(r"(?:(.+?\.ya?ml|[^/]+)/)?(.+)")  # a profile or YAML, and a name with any slashes


def settings(profile: str) -> Experiment:
    """The experiment of a profile or YAML that says what is read and asked: of several notebooks
    the last."""
    file = profiles(profile)[-1]
    path = notebook(file)
    return experiments.configured(
        path.stem, parameters.defaults(path) | parameters.read(path, file)
    )


def sets(experiment: Experiment) -> dict[str, dict]:
    """The data sets by name, training set first."""
    data = experiment.data
    return {"train": data.train, "dev": data.dev, **data.tests}


def listed(profile: str | None) -> Iterator[str]:
    """What there is to say of the data sets of a profile, or of all profiles, in lines."""
    for each in [profile] if profile else known_profiles():
        for line in overview(each):
            yield f"{line.pop('set')} ({line.pop('language')}), {printable(line.pop('source'))}"
            held = (_spelt(name, value) for name, value in line.items() if value != "")
            yield f"  {line.get('missing') or '; '.join(held)}"


def _spelt(name: str, value: object) -> str:
    if isinstance(value, dict):
        return f"{name}: " + ", ".join(
            f"{key} {value:.1f}" if isinstance(value, float) else f"{value} {key}"
            for key, value in value.items()
        )
    return f"{name} {value}" if isinstance(value, str) else f"{value:,} {name}"


def overview(profile: str) -> Iterator[dict]:
    """A line per data set of a profile: what it holds, or what is missing."""
    experiment = settings(profile)
    tokenizers = {
        family: loading.tokenizer(reference)
        for family, reference in experiment.families.items()
        if not loading.to_fetch(reference)
    }
    training: list[squad.Question] = []
    for name, dataset in sets(experiment).items():
        line = {
            "set": f"{profile}/{name}",
            "language": ",".join(sources.languages(dataset)),
            "source": " + ".join(part["source"] for part in sources.parts(dataset)),
        }
        if megabytes := sources.to_fetch(dataset):
            yield line | {"missing": f"not fetched yet: {megabytes} MB with its archive"}
            continue
        try:
            loaded = squad.load(dataset)
        except StudyError as error:
            if not any(part["source"].startswith("hub:") for part in sources.parts(dataset)):
                raise
            yield line | {"missing": str(error)}
        else:
            training = loaded.questions if name == "train" else training
            yield line | _counts(dataset, loaded, training, tokenizers)


Tokenizers = Mapping[str, transformers.PreTrainedTokenizerBase]


def _counts(
    dataset: Mapping,
    loaded: squad.Loaded,
    training: list[squad.Question],
    tokenizers: Tokenizers,
) -> dict[str, object]:
    """What a data set that is at hand holds, and what it has in common with the training set."""
    asked, declared = loaded.questions, dataset.get("seen_paragraphs", 0)
    seen = sum(place < declared for place in loaded.paragraphs.values())
    withheld = len(asked) - len(loaded.labelled)
    return {
        "questions": len(asked),
        "contexts": len(squad.by_context(asked)),
        "articles": len({question.article for question in asked}),
        **(_by_tokenizer(asked, tokenizers, sources.is_mlqa(dataset)) if tokenizers else {}),
        "answers of the file shifted": loaded.shifted,
        "repeated questions": len(loaded.repeats),
        **({"questions seen while choices were made": seen} if declared else {}),
        **({"gold answers withheld in training": withheld} if withheld else {}),
        "shared with train": (
            {what: len(same) for what, same in squad.shared(training, asked).items()}
            if training is not asked and training
            else ""
        ),
        "fingerprint": sources.fingerprint(dataset)[:12],
    }


def _by_tokenizer(
    asked: list[squad.Question], tokenizers: Tokenizers, mlqa: bool
) -> dict[str, Mapping[str, float]]:
    """What is said of a set by the tokenizer of each family that is at hand: mean tokens of the
    answers to learn, end of sequence included; how many of them are wrong by the official rules
    once they come out of it; and, where there are any, the exact match of a reader that says each
    of them."""
    form = template.plain(None)
    texts = [form.answer(question) for question in asked]
    answers = {family: form.ids(tokenizer, texts) for family, tokenizer in tokenizers.items()}
    wrong = {
        family: sum(
            _is_misspelt(question, ids, tokenizer, mlqa)
            for question, ids in zip(asked, answers[family], strict=True)
        )
        for family, tokenizer in tokenizers.items()
    }
    exact = {family: 100 * (1 - count / len(asked)) for family, count in wrong.items()}
    return {
        "answer tokens": {
            family: sum(len(ids) + 1 for ids in each) / len(asked)
            for family, each in answers.items()
        },
        "gold answers not reproduced": wrong,
        **({"EM of a perfect reader": exact} if any(wrong.values()) else {}),
    }


def _is_misspelt(
    question: squad.Question,
    ids: list[int],
    tokenizer: transformers.PreTrainedTokenizerBase,
    mlqa: bool,
) -> bool:
    """Whether a question's answer to learn is no exact match once it was split into tokens."""
    return not metrics.exact_match(
        clean(vocabulary.text(tokenizer, ids)),
        [text for text, _ in question.answers],
        language=question.language,
        rules=segmentation.usual_rules(question.language, mlqa=mlqa),
    )


def shown(name: str, count: int, mode: str) -> Iterator[str]:
    """Prompts of the first `count` contexts of a set for the profile's first family and seed, with
    the first question each, segments marked.

    Raises StudyError for an unknown set.
    """
    named = SET.fullmatch(name)
    profile, short = (named[1] or "tiny", named[2]) if named else ("tiny", name)
    experiment = settings(profile)
    described = sets(experiment)
    if short not in described:
        raise StudyError(
            f"There is no data set {short!r} in {profile}: known are {', '.join(described)}."
        )
    tokenizer, config = loading.reading(next(iter(experiment.families.values())))
    pool, seed = squad.load(described["train"]).labelled, experiment.seeds[0]
    for group in squad.by_context(squad.load(described[short]).questions)[:count]:
        (example,) = demonstrations.choose(group[:1], mode, pool, seed)
        (text,) = template.segments([example], tokenizer, mode)
        with model_files.panics(tokenizer.name_or_path):
            built = prompts.build(
                group,
                tokenizer,
                mode=mode,
                pool=pool,
                seed=seed,
                longest=config.max_position_embeddings,
            )
        for prompt in built:
            yield from _marked(prompt, text, example, tokenizer)


def _marked(
    prompt: prompts.Prompt,
    text: template.Segments,
    example: squad.Question | None,
    tokenizer: transformers.PreTrainedTokenizerBase,
) -> list[str]:
    """The parts of a prompt, each under a line that says what it is."""
    branch = prompt.branches[0]
    before = text.before.replace(vocabulary.GUARD, "")
    shown = f", demonstration {printable(example.id)} of {example.article!r}" if example else ""
    instructions, begin, rest = (
        before.partition(template.CONTEXT.format(context=segmentation.composed(example.context)))
        if example
        else (before, "", "")
    )
    context = vocabulary.text(tokenizer, prompt.prefix).removeprefix(before)
    question, answer = (vocabulary.text(tokenizer, ids) for ids in (branch.given, branch.target))
    return [
        f"═══ {printable(branch.question.id)} of {branch.question.article!r}{shown}",
        f"─── instructions\n{instructions.rstrip()}",
        *([f"─── demonstration\n{(begin + rest).rstrip()}"] if begin else []),
        f"─── context ({len(prompt.prefix)} tokens up to here, shared by {len(prompt.branches)}"
        f" questions)\n{context}",
        f"─── question ({len(branch.given)} tokens)\n{question.lstrip()}",
        f"─── answer to learn ({len(branch.target)} tokens)\n{answer}",
    ]
