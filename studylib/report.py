"""One self-contained page of a profile: what its notebooks exported, where that comes from, and the answers side by side.

Computes no model. Text of data, models and files is escaped, so that a context with `<script>` in it shows as text.
"""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import mistune
import nbformat
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from studylib import makers, study
from studylib.batch import Job
from studylib.errors import StudyError
from studylib.runs import Store, write_text

MARKDOWN = mistune.create_markdown(escape=True, plugins=["table"])
DESCRIPTION = "{http://purl.org/dc/elements/1.1/}description"


def write(jobs: Sequence[Job], store: Store | None = None) -> Path:
    """Write `report.html` beside the folders of a profile's notebooks and return where it lies.

    Raises StudyError when none of them has exported anything.
    """
    store, shown = store or Store(), exported(jobs)
    page = Environment(loader=PackageLoader("studylib", "."), autoescape=True, undefined=StrictUndefined).get_template("report.html")
    target = _folder(shown[0]).parent / "report.html"
    write_text(
        target,
        page.render(
            profile=shown[0].profile,
            sections=[_section(job) for job in shown],
            origins=_origins(shown, store),
            data=[(source.label, source.value, source.digest) for source in (shown[0].plan.train, shown[0].plan.dev, *shown[0].plan.tests)],
            answers=_answers(shown, store),
        ),
    )
    return target


def exported(jobs: Sequence[Job]) -> list[Job]:
    """Those that have exported what they show. Raises StudyError when none has."""
    found = [job for job in jobs if (_folder(job) / "conclusion.md").exists()]
    if not found:
        raise StudyError(f"There is nothing to report of {jobs[0].profile!r}: `study run {jobs[0].profile}` first.")
    return found


def _folder(job: Job) -> Path:
    return study.folder(job.profile, job.notebook.stem)


def _section(job: Job) -> dict:
    """What the page says of a notebook: its title, question and method, its conclusion, figures, tables, and parameters."""
    folder, (first, *_) = _folder(job), nbformat.read(job.notebook, as_version=4).cells
    title, _, method = first.source.partition("\n")
    texts = {file.stem: MARKDOWN(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.md"))}
    return {
        "name": job.notebook.stem,
        "title": title.lstrip("# "),
        "method": MARKDOWN(method),
        "conclusion": texts.pop("conclusion"),
        "tables": {"table": texts.pop("table")} | texts,
        "figures": [_figure(file) for file in sorted(folder.glob("*.svg"))],
        "parameters": json.dumps(job.values, indent=1, ensure_ascii=False),
    }


def _figure(file: Path) -> dict:
    """A figure as an address that holds it whole, and what it shows in words."""
    content = file.read_bytes()
    said = ElementTree.fromstring(content).find(f".//{DESCRIPTION}")
    encoded = base64.b64encode(content).decode()
    return {"name": file.stem, "source": f"data:image/svg+xml;base64,{encoded}", "words": file.stem if said is None else said.text}


def _origins(jobs: Sequence[Job], store: Store) -> dict:
    """Every run once, with the time it took, and the versions and machines that were used."""
    made = pd.concat([study.origins(job.plan, store, _folder(job)) for job in jobs]).drop_duplicates("planned")
    used = [name for name in made if name not in ("kind", "label", "key", "digest", "seconds", "started", "planned")]
    versions = {name: sorted(made[name].dropna().astype(str).unique()) for name in used}
    return {"runs": made.to_dict("records"), "hours": made.seconds.sum() / 3600, "versions": versions}


def _answers(jobs: Sequence[Job], store: Store) -> dict:
    """Every question of every test set with the answers that the store has, a list of (model, answer) each; every context once."""
    sets, contexts, asked_questions = {}, {}, []
    for one in (one for job in jobs for one in job.plan.asked if store.result(one.answers) is not None):
        called, test = one.called, one.answers.needs["test"]
        _, models = sets.setdefault((called["test_set"], called["asked"]), (test, {}))
        said = json.loads(store.path(one.answers, "answers.json").read_text(encoding="utf-8"))
        models.setdefault(_model(called), said)
    for (test_set, asked), (test, models) in sets.items():
        for question in makers.questions(test):
            about = {"set": f"{test_set}, {asked}", "article": question.article, "question": question.question}
            about["context"] = contexts.setdefault(question.context, len(contexts))
            about["gold"] = list(dict.fromkeys(text for text, _ in question.answers))
            asked_questions.append(about | {"said": [[name, said[question.id]["text"]] for name, said in models.items()]})
    return {"contexts": list(contexts), "questions": asked_questions}


def _model(called: dict) -> str:
    """A model in words: what it is called in tables, without what is the same for all."""
    parts = [called["family"] if called["role"] == "teacher" else called["student"], called["role"], called["trained"]]
    parts += [f"{called['start']} start"] if called["start"] and called["role"] != "teacher" else []
    parts += [f"taught by {called['teacher']}"] if called["role"] == "student" else []
    return ", ".join(part for part in [*parts, f"seed {called['seed']}"] if part)
