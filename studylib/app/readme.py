"""What the pages of the project show of results, from what is committed under figures/.

python -m studylib.app.readme     writes them anew
"""

import json
import re
from pathlib import Path

import pandas as pd

from studylib.analysis import methods_table, prose, repeats, retention, roles, tables
from studylib.app import methods_list, study
from studylib.app.notebooks import Job, jobs
from studylib.bench import table
from studylib.core.errors import StudyError
from studylib.core.labels import TEACHER
from studylib.core.project import root
from studylib.experiments.experiments import EXPERIMENTS
from studylib.store import exports

ANSWERED = (
    (
        "How far can a model be compressed?",
        (
            ("Qwen2.5-Coder-0.5B, pretrained sibling:", "qwen", "capacity_gap"),
            ("SmolLM2-135M, pruned:", "small", "capacity_gap"),
        ),
    ),
    ("Whom should it learn from?", (("SmolLM2-135M, pruned:", "small", "teacher_choice"),)),
    (
        "What is a demonstration in the prompt worth?",
        (
            ("Qwen2.5-Coder-0.5B:", "qwen", "prompting_mode"),
            ("SmolLM2-135M, pruned:", "small", "prompting_mode"),
        ),
    ),
)  # questions, and of each of their answers what it is of, its profile and its experiment


def pages() -> dict[Path, dict[str, str]]:
    """The results that each page shows, by name: answers, conclusions of the experiments in
    `small` (each with its headline table if it has one), the bench's table."""
    measured = json.loads((root() / "figures" / "bench.json").read_text(encoding="utf-8"))
    folders, again = {name: study.folder("small", name) for name in EXPERIMENTS}, _repeated()
    return {
        root() / "README.md": {
            "answers": _answers(again),
            "methods": methods_list.overview(),
            "kept": _kept(next(job for job in jobs("qwen") if job.notebook.stem == "capacity_gap")),
        },
        root() / "figures" / "small" / "README.md": {
            name: _text(folder, "conclusion", "headline")
            for name, folder in folders.items()
            if folder.exists()
        }
        | {"repeats": repeats.markdown(again)},
        root() / "studylib" / "bench" / "README.md": {"bench": table.table(measured)},
        root() / "studylib" / "methods" / "README.md": {
            "methods": methods_list.table(*_gains(folders["methods"]))
        },
    }


def _repeated() -> pd.DataFrame:
    """What a second training changed: models of `small` in `capacity_gap` and again in `methods`,
    which stands apart."""
    rows, others = (
        exports.read(study.folder("small", name) / "rows.parquet")
        for name in ("capacity_gap", "methods")
    )
    return repeats.compare(rows, others)


def _gains(folder: Path) -> tuple[dict[str, str], str]:
    """What each method adds to its control on the first test set, with its interval, by name, and
    the test set; of a method that was not computed nothing."""
    if not (folder / "methods.csv").exists():
        return {}, ""
    table = exports.read(folder / "methods.csv")
    first = table.test_set.iloc[0]
    shown = methods_table.shown(table[table.test_set == first])
    return dict(zip(shown.objective, shown["F1 minus control"], strict=True)), first


def _answers(again: pd.DataFrame) -> str:
    """The answers as a list. After it stands what a second training changed (`again`), and once
    what all of them add in a paragraph of its own."""
    sources = [source for _, answers in ANSWERED for _, *source in answers]
    notes = {_answer(*source)[1] for source in sources}
    shared = notes.pop() if len(notes) == 1 else ""
    lines = []
    for question, answers in ANSWERED:
        texts = []
        for title, *source in answers:
            answer, note = _answer(*source)
            texts.append(" ".join(filter(None, (title, answer, "" if shared else note))))
        several = len(texts) > 1
        lines.append(f"- **{question}**" + ("" if several else f" {texts[0]}"))
        lines += [f"  - {text}" for text in texts if several]
    changed = prose.render("repeats", profile="small", changes=list(again.difference))
    return "\n".join([*lines, f"\n{changed} {shared}".rstrip() + "\n"])


def _answer(profile: str, name: str) -> tuple[str, str]:
    """An experiment's answer, and what it adds in a paragraph of its own."""
    return _text(study.folder(profile, name), "answer").strip().partition("\n\n")[::2]


def _kept(job: Job) -> str:
    """What students and controls keep of F1 and EM, as a table with a column for each way of asking
    them."""
    kept = tables.main(roles.named(exports.read(job.folder / "retention.csv"), job.plan.arms))
    models = kept[kept.role != TEACHER]
    cells = tables.cells(models, ("size", "test_set", "role", "eval_prompt"), retention.RETAINED)
    if "eval prompt" not in cells:  # which is the same in every line
        return tables.markdown(cells) + "\n"
    names = [name for name in cells if not name.endswith("kept, %")]
    by_mode = cells.set_index(names).unstack("eval prompt", sort=False)
    wide = by_mode.set_axis([f"{score} {mode}" for score, mode in by_mode.columns], axis=1)
    return tables.markdown(wide.reset_index()) + "\n"


def filled(page: Path, text: str, results: dict[str, str]) -> str:
    """A page's text with these results between `<!-- name -->` and `<!-- /name -->`. Raises
    StudyError where such marks are missing."""
    for name, result in results.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        shown = f"{begin}{result}{end}".replace("\\", r"\\")
        text, count = re.subn(f"{begin}.*?{end}", shown, text, flags=re.DOTALL)
        if count != 1:
            raise StudyError(
                f"{page} has {count} places between {begin.strip()} and {end}: it must have one."
            )
    return text


def _text(folder: Path, *names: str) -> str:
    """These texts of an experiment, as far as it has them."""
    files = [file for name in names if (file := folder / f"{name}.md").exists()]
    return "\n\n".join(file.read_text(encoding="utf-8").strip() for file in files) + "\n"


if __name__ == "__main__":
    for page, results in pages().items():
        page.write_text(filled(page, page.read_text(encoding="utf-8"), results), encoding="utf-8")
