"""The few verbs a notebook calls on a plan: complete it, then read rows and curves, and write what is shown.

study.complete(plan)
rows = study.rows(plan)
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from studylib import data, makers, prompts, scoring, sources
from studylib.errors import StudyError
from studylib.plans import Asked, Plan
from studylib.progress import Progress
from studylib.project import root
from studylib.runs import Run, Store, digest

IDENTITY = [
    "family",
    "teacher",
    "student",
    "role",
    "start",
    "targets",
    "objective",
    "trained",
    "asked",
    "test_set",
    "language",
    "seed",
    "steps",
]
COUNTS = ["parameters_total", "parameters_nonembedding"]
BESIDE = ["probability", "agreement", "loyalty"]
TRAITS = ["asks", "answer_words", "answer_place"]


def complete(plan: Plan, store: Store | None = None) -> None:
    """Make whatever runs of the plan are missing, one after the other, with a bar each."""
    store = store or Store()
    makers.use_threads(plan.threads)
    maker = makers.make(store, Progress())
    makers.rehearse(run for run in plan.runs if store.result(run) is None)
    for run in plan.runs:
        if store.result(run) is None:
            store.complete(run, maker)


def rows(plan: Plan, store: Store | None = None) -> pd.DataFrame:
    """Per-question rows of all answers that are there: identity, parameter counts, scores of 0 to 1, digest of the answer.

    `probability` is the model's of its answer; `agreement` and `loyalty` (to the teacher) are missing in a teacher's rows.
    """
    store, frames = store or Store(), []
    for one in plan.asked:
        if store.result(one.answers) is not None and (one.loyalty is None or store.result(one.loyalty) is not None):
            counts = store.result(one.counted)["facts"]["parameters"]
            fixed = one.called | {f"parameters_{name}": count for name, count in counts.items()} | {"run": store.key(one.answers)}
            frames.append(pd.DataFrame(_scored(one, store)).assign(**fixed))
    if not frames:
        raise StudyError("No answers are there yet: complete the plan first.")
    table = pd.concat(frames, ignore_index=True)
    return table[[*IDENTITY, *COUNTS, "run", "article", "question", *TRAITS, *scoring.METRICS, *scoring.MENDED, *BESIDE, "answer"]]


def _scored(one: Asked, store: Store) -> Iterator[dict]:
    """A row per question of one set of answers."""
    said, theirs, loyal = _read(store, one.answers), None, None
    test = one.answers.needs["test"]
    if one.teacher is not None:
        theirs, loyal = _read(store, one.teacher.answers), _read(store, one.loyalty)
    for q in makers.questions(test):
        text, judged = (
            said[q.id]["text"],
            dict(language=q.language, rules=scoring.usual_rules(q.language, mlqa=sources.is_mlqa(test.value))),
        )
        yield {
            "language": q.language,
            "article": q.article,
            "question": q.id,
            **prompts.traits(q),
            **scoring.score(text, [gold for gold, _ in q.answers], **judged),
            "probability": said[q.id]["probability"],
            "agreement": scoring.agreement(text, theirs[q.id]["text"], **judged) if theirs else np.nan,
            "loyalty": loyal[q.id] if loyal else np.nan,
            "answer": digest(text)[:16],
        }


def _read(store: Store, run: Run) -> dict:
    return json.loads(store.path(run, f"{run.kind}.json").read_text(encoding="utf-8"))


def results(table: pd.DataFrame) -> pd.DataFrame:
    """Tidy results: a line per run, test set and metric, values of 0 to 100."""
    keys, metrics = [*IDENTITY, *COUNTS, "run"], [*scoring.METRICS, *scoring.MENDED, *BESIDE]
    long = table.melt(id_vars=keys, value_vars=metrics, var_name="metric").dropna(subset="value")
    tidy = long.groupby([*keys, "metric"], sort=False)["value"].agg(["mean", "size"]).reset_index()
    tidy["value"] = (100 * tidy.pop("mean")).round(4)
    return tidy.rename(columns={"size": "n"})[[*IDENTITY, "metric", "value", "n", "run", *COUNTS]]


def curves(plan: Plan, store: Store | None = None) -> pd.DataFrame:
    """The loss of every step of every trained model, and the dev F1 where it was measured."""
    store, frames = store or Store(), []
    for run, called in plan.trained:
        if store.result(run) is not None:
            curve = json.loads(store.path(run, "curve.json").read_text())
            fixed = {key: called[key] for key in ("family", "student", "role", "start", "targets", "seed")}
            frames.append(pd.DataFrame(curve).assign(**fixed, run=store.key(run)))
    return pd.concat(frames, ignore_index=True)


def overview(plan: Plan, store: Store | None = None) -> pd.DataFrame:
    """Every run of the plan: kind, what it is, whether it is done, and its key once that is known."""
    store = store or Store()
    return pd.DataFrame(
        [{"kind": run.kind, "run": run.label, "state": store.state(run)[0], "key": store.key(run) or ""} for run in plan.runs]
    )


def leakage(plan: Plan) -> pd.DataFrame:
    """What must not be, counted, a line per set: its articles, contexts and questions that are among the training ones, too,
    and its contexts that are shown a demonstration of their own article in any way of asking or training."""
    training = makers.questions(plan.train)
    ways = sorted({(one.called[way], one.called["seed"]) for one in plan.asked for way in ("asked", "trained")})
    lines = []
    for source in (plan.train, plan.dev, *plan.tests):
        asked = makers.questions(source)
        first = [group[0] for group in data.by_context(asked)]
        examples = [prompts.demonstrations(first, mode, training, seed) for mode, seed in ways]
        own = sum(
            shown is not None and shown.article == one.article for chosen in examples for shown, one in zip(chosen, first, strict=True)
        )
        shared = dict.fromkeys(data.SHARED, pd.NA) if source is plan.train else data.shared(training, asked)
        counts = {what: found if found is pd.NA else len(found) for what, found in shared.items()}
        lines.append({"set": source.label, **counts, "demonstrations": own})
    return pd.DataFrame(lines)


def export(
    profile: str, notebook: str, table: pd.DataFrame, learned: pd.DataFrame, texts: Mapping[str, str], drawn: Mapping[str, Figure]
) -> Path:
    """Write rows, their results, curves, `texts` (as Markdown) and figures by their names into `figures/<profile>/<notebook>/`;
    return that folder."""
    from studylib import figures  # slow to import, and planning draws nothing

    folder = root() / "figures" / profile / notebook
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".draft-") as place:
        draft = Path(place)
        table.to_parquet(draft / "rows.parquet", index=False)
        results(table).to_csv(draft / "results.csv", index=False)
        learned.to_csv(draft / "learning.csv", index=False)
        for name, text in texts.items():
            (draft / f"{name}.md").write_text(text, encoding="utf-8")
        for name, figure in drawn.items():
            figures.save(figure, draft, name)
        for file in draft.iterdir():
            file.replace(folder / file.name)
    return folder
