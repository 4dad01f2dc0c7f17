"""One self-contained page of a profile: what its notebooks exported, where that comes from, and the
answers side by side.

Computes no model. Text of data, models and files is escaped, so that a context with `<script>` in
it shows as text.
"""

import base64
import html
import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from xml.etree import ElementTree

import mistune
import nbformat
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from studylib.analysis import run_ids, tables
from studylib.app import origin, parameters, study
from studylib.app.notebooks import Job
from studylib.core.errors import StudyError, said
from studylib.core.escaping import printable
from studylib.core.filesystem import write_text
from studylib.runs import inputs
from studylib.store import exports
from studylib.store.run import Input
from studylib.store.store import Store

MARKDOWN = mistune.create_markdown(escape=True, plugins=["table"])
for rule in (
    "link",
    "link_close",
    "auto_link",
    "auto_email",
):  # there are none but in names that someone gave
    MARKDOWN.inline.rules.remove(rule)
TABLES = {
    "headline": "Main scores",
    "table": "Every model",
    "contrasts": "What models of one size differ by",
    "comparisons": "Ways of prompting",
    "rates": "Learning rates",
}
COMPARED = (
    "retention",
    "students",
    "prompting",
)  # the figures, one a notebook, that draw the lines of `table`
SHORT = 4  # digits of a key that a link shows: the whole is where it leads
TITLE = "what students keep of their teacher</title>"  # in every report
CHANGED = "not that of the runs shown: changed since, or read by another version"
DESCRIPTION = "{http://purl.org/dc/elements/1.1/}description"


def write(jobs: Sequence[Job], store: Store | None = None) -> Path:
    """Write `report.html` beside the folders of a profile's notebooks and return where it lies.

    Raises StudyError when none of them has exported anything, or where something else than that
    lies there.
    """
    store, shown = store or Store(), exported(jobs)
    target = _folder(shown[0]).parent / "report.html"
    if target.is_file() and TITLE not in target.read_text(encoding="utf-8", errors="replace"):
        raise StudyError(
            f"{target} would be replaced, and is no report of the study: move it away."
        )
    try:
        page = _page(shown, store)
    except (
        OSError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        SyntaxError,
    ) as error:  # of tables, texts and drawings
        profile = shown[0].profile
        raise StudyError(
            f"{target.parent} is not what notebooks write ({said(error)}): `study verify {profile}`"
            " says what."
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
    environment.filters |= {"markdown": _written, "source": _source, "described": described}
    environment.filters |= {"hashed": _hashed, "led": _led, "runs": _behind}
    return environment.get_template("report.html").render(
        profile=shown[0].profile,
        sections=[_traced(job, store) for job in shown],
        about=_about(shown),
        origins=_origins(shown, store),
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
    found = [job for job in jobs if (_folder(job) / "conclusion.md").exists()]
    if not found:
        raise StudyError(
            f"There is nothing to report of {jobs[0].profile!r}: `study run` it first."
        )
    return found


def _folder(job: Job) -> Path:
    return study.folder(job.profile, job.notebook.stem)


def section(job: Job) -> dict:
    """What is shown of a notebook: its title, question and method, the answer and the conclusion,
    tables (name, title, Markdown), figures (SVG files, in the notebook's order), and parameters.
    All text is Markdown. Raises StudyError for a file that is not what was written."""
    folder, (first, *others) = _folder(job), nbformat.read(job.notebook, as_version=4).cells
    for file in sorted(folder.iterdir()):
        exports.check(file)
    shown = "".join(cell.source for cell in others)
    title, _, method = first.source.partition("\n")
    texts = {file.stem: file.read_text(encoding="utf-8") for file in folder.glob("*.md")}
    drawn = sorted((shown.find(f'folder, "{file.stem}"'), file) for file in folder.glob("*.svg"))
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


def _traced(job: Job, store: Store) -> dict:
    """The same, with the runs that each line of its tables is computed from, by the tables' names,
    and a note on what today's code would compute anew, unless the answer has it."""
    shown, note = (
        section(job),
        origin.superseded(job.plan, study.origins(job.plan, store, _folder(job))),
    )
    shown |= {"note": "" if note in shown["answer"] else note}
    return shown | {
        "runs": {name: list(_lines(_folder(job), name).runs) for name, _, _ in shown["tables"]}
    }


def _lines(folder: Path, name: str) -> pd.DataFrame:
    """What the lines of a table are written from, in their order."""
    if name == "rates":  # of models, not computed from rows
        return pd.DataFrame(columns=["runs"])
    whole = name in ("contrasts", "comparisons")
    found = [
        folder / f"{stem}.csv"
        for stem in ((name,) if whole else COMPARED)
        if (folder / f"{stem}.csv").exists()
    ]
    if not found:
        return pd.DataFrame(columns=["runs"])
    lines = exports.read(found[0])
    return tables.main(lines) if name == "headline" else lines


def _led(table: str, runs: Sequence[str]) -> str:
    """A table in HTML with one column more: links to the runs that each line is computed from."""
    if not len(runs):
        return table
    each = (printable(named).split() for named in runs)
    cells = [
        " ".join(
            f'<a href="#run-{html.escape(key)}">{html.escape(key[:SHORT])}</a>' for key in named
        )
        for named in each
    ]
    *rows, end = table.split("</tr>")
    column = ["<th>runs</th>", *(f"<td>{cell}</td>" for cell in cells)]
    return "".join(f"{row}{cell}</tr>" for row, cell in zip(rows, column, strict=True)) + end


def _behind(figure: Path) -> list[str]:
    """The runs that a figure is drawn from, by the first digits of their keys."""
    shown = exports.read(figure.with_suffix(".csv"))
    return run_ids.joined(shown.runs if "runs" in shown else shown.run).split()


def _about(jobs: Sequence[Job]) -> list[str]:
    """Which models were asked what, a sentence a family and test set."""
    columns = ["family", "test_set", "article", "question", "seed"]
    rows = pd.concat([exports.read(_folder(job) / "rows.parquet", columns) for job in jobs])
    return [
        f"{family} asked {test}: {own.question.nunique():,} questions of {own.article.nunique():,}"
        f" articles, seeds: {own.seed.nunique()}."
        for (family, test), own in rows.groupby(["family", "test_set"], sort=False)
    ]


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
    found = {}
    for job in jobs:
        made = exports.exported(_folder(job), "runs.csv")
        used = {
            need.digest
            for run in job.plan.runs
            if run.planned in made
            for need in run.needs.values()
            if isinstance(need, Input)
        }
        for one in (job.plan.train, job.plan.dev, *job.plan.tests):
            found[one.label, one.digest] = (
                one.label,
                one.value,
                one.digest[:12] if one.digest in used else CHANGED,
            )
    return list(found.values())


def _origins(jobs: Sequence[Job], store: Store) -> dict:
    """Every run once, with the time it took, and the versions and machines that were used."""
    each = [study.origins(job.plan, store, _folder(job)) for job in jobs]
    how = {
        planned: why
        for job, part in zip(jobs, each, strict=True)
        for planned, why in study.outdated(job.plan, part).items()
    }
    made = pd.concat(each).drop_duplicates("planned")
    made = made.assign(outdated=[how.get(planned, "") for planned in made.planned])
    about = (
        "kind",
        "label",
        "key",
        "digest",
        "seconds",
        "started",
        "planned",
        "versions",
        "outdated",
        "rate",
    )
    used = [name for name in made if name not in about]
    short = {
        name: (
            made[name].dropna().astype(str).str[:12]
            if name == "git"
            else made[name].dropna().astype(str)
        )
        for name in used
    }
    versions = {name: sorted(set(values) - {""}) for name, values in short.items()}
    return {
        "runs": made.to_dict("records"),
        "hours": made.seconds.sum() / 3600,
        "versions": versions,
    }


def _answers(jobs: Sequence[Job], store: Store) -> dict:
    """Every question of every test set with the answers that the store has, a list of (model,
    answer) each; every context and every model's name once, then by their numbers."""
    sets: dict[tuple, tuple] = {}
    for job in jobs:
        for one in job.plan.asked:
            if store.result(one.answers) is not None:
                test = one.answers.needs["test"]
                name = f"{test.label}, {one.called['asked']}"
                _, _, models = sets.setdefault((test.digest, one.called["asked"]), (name, test, {}))
                models.setdefault(store.key(one.answers), (_model(one.called), one.answers))
    contexts: dict[str, int] = {}
    names: dict[str, int] = {}
    listed = []
    for name, test, models in sets.values():
        said = [
            (
                names.setdefault(model, len(names)),
                json.loads(store.path(run, "answers.json").read_text(encoding="utf-8")),
            )
            for model, run in models.values()
        ]
        for question in inputs.questions(test):
            about = {"set": name, "article": question.article, "question": question.question}
            about["context"] = contexts.setdefault(question.context, len(contexts))
            about["gold"] = list(dict.fromkeys(text for text, _ in question.answers))
            listed.append(
                about | {"said": [[model, found[question.id]["text"]] for model, found in said]}
            )
    return {"contexts": list(contexts), "models": list(names), "questions": listed}


def _model(called: dict) -> str:
    """A model in words: all that it is called in tables."""
    parts = [
        called["student"] or called["family"],
        called["role"],
        f"trained {called['trained']}",
        called["objective"],
    ]
    if called["role"] not in ("teacher", "guide"):
        parts += [f"{called['start']} start", f"taught by {called['teacher']}"]
    parts += [called["teacher"]] if called["role"] == "guide" else []
    return ", ".join(part for part in [*parts, f"seed {called['seed']}"] if part)
