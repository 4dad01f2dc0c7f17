"""One self-contained page of a profile: what its notebooks exported, where that comes from, and the
answers side by side.

Computes no model. Text of data, models and files is escaped, so that a context with `<script>` in
it shows as text.
"""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from xml.etree import ElementTree

import mistune
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from studylib.analysis import roles, run_ids, tables
from studylib.app import origins as app_origins
from studylib.app import parameters
from studylib.app.notebooks import Job
from studylib.core.errors import StudyError, sentence_of
from studylib.core.escaping import printable
from studylib.core.filesystem import write_text
from studylib.core.labels import FINE_TUNED, TEACHER
from studylib.runs import inputs, plan_parts
from studylib.store import exports, output_folder
from studylib.store.run import Input
from studylib.store.store import Store

MARKDOWN = mistune.create_markdown(escape=True, plugins=["table"])
for rule in ("link", "link_close", "auto_link", "auto_email"):  # only in names that someone gave
    MARKDOWN.inline.rules.remove(rule)
TABLES = {
    "headline": "Main scores",
    "table": "Every model",
    "contrasts": "What models of one size differ by",
    "comparisons": "Ways of prompting",
    "rates": "Learning rates",
}
# The figures, one a notebook, that draw the lines of `table`.
COMPARED = ("retention", "students", "prompting", "methods")
SHORT = 4  # digits of a key that a link shows: the whole is where it leads
TITLE = "what students keep of their teacher</title>"  # in every report
DAMAGE = (OSError, LookupError, ValueError, TypeError, AttributeError, SyntaxError)  # to any file
RUN_COLUMNS = {"kind", "label", "key", "digest", "seconds", "started", "planned", "versions", "lr"}
CHANGED = "not that of the runs shown: changed since, or read by another version"
DESCRIPTION = "{http://purl.org/dc/elements/1.1/}description"


def write(jobs: Sequence[Job], store: Store | None = None) -> Path:
    """Write `report.html` beside the folders of a profile's notebooks and return where it lies.

    Raises StudyError when none of them has exported anything, or where something else than that
    lies there.
    """
    store, shown = store or Store(), exported(jobs)
    target = shown[0].folder.parent / "report.html"
    if target.is_file() and TITLE not in target.read_text(encoding="utf-8", errors="replace"):
        raise StudyError(
            f"{target} would be replaced, and is no report of the study: move it away."
        )
    try:
        page = _page(shown, store)
    except DAMAGE as error:
        raise StudyError(
            f"{target.parent} is not what notebooks write ({sentence_of(error)}): `study verify"
            f" {shown[0].profile}` says what."
        ) from error
    write_text(target, page)
    return target


def _page(shown: Sequence[Job], store: Store) -> str:
    environment = Environment(
        loader=PackageLoader("studylib.app", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_seen,
    )
    environment.filters |= {
        "markdown": _written,
        "source": _source,
        "described": described,
        "hashed": _hashed,
        "led": _led,
        "runs": _behind,
    }
    origins = {job.notebook: app_origins.origins(job.plan, store, job.folder) for job in shown}
    return environment.get_template("report.html").render(
        profile=shown[0].profile,
        sections=[_traced(job, origins[job.notebook]) for job in shown],
        asked=_asked(shown),
        origins=_origins(shown, origins),
        data=_data(shown),
        answers=_answers(shown, store),
    )


def _written(text: str) -> str:
    """Markdown as HTML."""
    return str(MARKDOWN(printable(text, keep="\n\t")))


def _seen(value: object) -> object:
    """What is put into the page, without characters that steer; what is HTML already stays."""
    return (
        printable(value, keep="\n\t")
        if isinstance(value, str) and not isinstance(value, Markup)
        else value
    )


def exported(jobs: Sequence[Job]) -> list[Job]:
    """Those that have exported what they show. Raises StudyError when none has."""
    shown = [job for job in jobs if (job.folder / "conclusion.md").exists()]
    if not shown:
        raise StudyError(
            f"There is nothing to report of {jobs[0].profile!r}: `study run` it first."
        )
    return shown


def section(job: Job) -> dict:
    """What is shown of a notebook: its title, question and method, the answer and the conclusion,
    tables (name, title, Markdown), figures (SVG files, in the notebook's order), and parameters.
    All text is Markdown. Raises StudyError for a file that is not what was written."""
    folder, (first, *others) = job.folder, parameters.cells(job.notebook)
    for file in sorted(folder.iterdir()):
        output_folder.check(file)
    shown = "".join(source for source, _ in others)
    title, _, method = first[0].partition("\n")
    texts = {file.stem: file.read_text(encoding="utf-8") for file in folder.glob("*.md")}
    drawn = sorted((shown.find(f'figure("{file.stem}")'), file) for file in folder.glob("*.svg"))
    return {
        "name": job.notebook.stem,
        "title": title.lstrip("# "),
        "method": method,
        "answer": texts["answer"],
        "conclusion": texts["conclusion"],
        "tables": [(name, title, texts[name]) for name, title in TABLES.items() if name in texts],
        "figures": [file for place, file in drawn if place >= 0],  # others are somebody's own
        "parameters": json.dumps(
            parameters.defaults(job.notebook) | job.values, indent=1, ensure_ascii=False
        ),
    }


def _traced(job: Job, origins: pd.DataFrame) -> dict:
    """The same, with the runs that each line of its tables is computed from, by the tables' names,
    and a note on what today's code would compute anew, unless the answer has it."""
    shown, note = section(job), app_origins.superseded(job.plan, origins)
    return shown | {
        "note": "" if note in shown["answer"] else note,
        "runs": {name: list(_lines(job, name).runs) for name, _, _ in shown["tables"]},
    }


def _lines(job: Job, name: str) -> pd.DataFrame:
    """What the lines of a table are written from, in their order; nothing for those of models,
    which are not computed from rows."""
    stems = {"rates": (), "contrasts": (name,), "comparisons": (name,)}.get(name, COMPARED)
    for file in (job.folder / f"{stem}.csv" for stem in stems):
        if file.exists():
            lines = exports.read(file)
            return tables.main(roles.named(lines, job.plan.arms)) if name == "headline" else lines
    return pd.DataFrame(columns=["runs"])


def _led(table: str, runs: Sequence[str]) -> str:
    """A table in HTML with one column more: links to the runs that each line is computed from."""
    if not len(runs):
        return table
    links = (
        " ".join(
            f'<a href="#run-{html.escape(key)}">{html.escape(key[:SHORT])}</a>'
            for key in printable(keys).split()
        )
        for keys in runs
    )
    *rows, end = table.split("</tr>")
    column = ["<th>runs</th>", *(f"<td>{cell}</td>" for cell in links)]
    return "".join(f"{row}{cell}</tr>" for row, cell in zip(rows, column, strict=True)) + end


def _behind(figure: Path) -> list[str]:
    """The runs that a figure is drawn from, by the first digits of their keys."""
    shown = exports.read(figure.with_suffix(".csv"))
    return run_ids.joined(shown.runs if "runs" in shown else shown.run).split()


def _asked(jobs: Sequence[Job]) -> list[dict]:
    """How many questions, articles and seeds models were asked, a line a family and test set."""
    columns = ["family", "test_set", "article", "question", "seed"]
    rows = pd.concat([exports.read(job.folder / "rows.parquet", columns) for job in jobs])
    counts = rows.groupby(["family", "test_set"], sort=False).nunique()
    return counts.reset_index().to_dict("records")


def _hashed(text: str) -> str:
    """What a content security policy calls a style or program that may stand in the page."""
    return f"sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}"


def _source(file: Path) -> str:
    """A figure as an address that holds it whole."""
    return f"data:image/svg+xml;base64,{base64.b64encode(file.read_bytes()).decode()}"


def described(file: Path) -> str:
    """What an SVG file says that it shows, or its name."""
    return ElementTree.parse(file).findtext(f".//{DESCRIPTION}") or file.stem


def _data(jobs: Sequence[Job]) -> list[tuple]:
    """Every data set once: label, description, and the beginning of its fingerprint, where the runs
    that are shown were made with it."""
    sets = {}
    for job in jobs:
        shown = exports.records(job.folder, "runs.csv")
        used = {
            need.digest
            for run in job.plan.runs
            if run.planned in shown
            for need in run.needs.values()
            if isinstance(need, Input)
        }
        for source in (job.plan.train, job.plan.dev, *job.plan.tests):
            read = {source.digest, plan_parts.labelled(source).digest} & used
            sets[source.label, source.digest] = (
                source.label,
                source.value,
                source.digest[:12] if read else CHANGED,
            )
    return list(sets.values())


def _origins(jobs: Sequence[Job], origins: Mapping[Path, pd.DataFrame]) -> dict:
    """Every run once, with the time it took, and the versions and machines that were used."""
    outdated = {
        planned: how
        for job in jobs
        for planned, how in app_origins.outdated(job.plan, origins[job.notebook]).items()
    }
    runs = pd.concat(origins.values()).drop_duplicates("planned")
    versions = {
        name: sorted(
            {str(value)[: 12 if name == "git" else None] for value in runs[name].dropna()} - {""}
        )
        for name in runs
        if name not in RUN_COLUMNS
    }
    return {
        "runs": runs.assign(outdated=[outdated.get(run, "") for run in runs.planned]).to_dict(
            "records"
        ),
        "hours": runs.seconds.sum() / 3600,
        "versions": versions,
    }


def _answers(jobs: Sequence[Job], store: Store) -> dict:
    """Every question of every test set with the answers that the store has, a list of (model,
    answer) each; every context and every model's name once, then by their numbers."""
    sets: dict[tuple, dict] = {}
    for asked in (asked for job in jobs for asked in job.plan.asked):
        if store.result(asked.answers) is not None:
            key = asked.answers.needs["test"].digest, asked.called["eval_prompt"]
            sets.setdefault(key, {}).setdefault(store.key(asked.answers), asked)
    contexts, names, questions = dict[str, int](), dict[str, int](), list[dict]()
    for (_, mode), models in sets.items():
        test = next(iter(models.values())).answers.needs["test"]
        answers = {
            names.setdefault(_model(asked.called), len(names)): store.read(
                asked.answers, "answers.json"
            )
            for asked in models.values()
        }
        questions += [
            {
                "set": f"{test.label}, {mode}",
                "article": question.article,
                "question": question.question,
                "context": contexts.setdefault(question.context, len(contexts)),
                "gold": list(dict.fromkeys(text for text, _ in question.answers)),
                "answers": [
                    [model, given[question.id]["text"]] for model, given in answers.items()
                ],
            }
            for question in inputs.questions(test)
        ]
    return {"contexts": list(contexts), "models": list(names), "questions": questions}


def _model(called: dict) -> str:
    """A model in words: all that it is called in tables."""
    origin = [f"{called['init']} init", f"teacher: {called['teacher']}"]
    if called["role"] == TEACHER:
        origin = [] if called["teacher"] == FINE_TUNED else [called["teacher"]]
    parts = [
        called["student"] or called["family"],
        called["role"],
        f"trained {called['train_prompt']}",
        called["objective"],
        *origin,
        f"seed {called['seed']}",
    ]
    return ", ".join(filter(None, parts))
