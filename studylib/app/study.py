"""The few verbs a notebook calls on a plan: complete it, then read rows and curves, and write what
is shown.

study.complete(plan, folder=folder)
rows = study.rows(plan, folder=folder)
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from studylib.analysis import pairing, run_ids
from studylib.core import labels, naming, segmentation, versions
from studylib.core.errors import StudyError
from studylib.core.filesystem import digest
from studylib.core.progress import Runs
from studylib.core.project import root
from studylib.data import prompts, sources, squad
from studylib.engines import engines
from studylib.evaluation import metrics
from studylib.experiments.plans import Asked, Plan
from studylib.runs import inputs, planning
from studylib.store import exports
from studylib.store.exports import IDENTITY
from studylib.store.run import Input, Run
from studylib.store.store import Store

CALLED = [
    "family",
    "student",
    "role",
    "init",
    "teacher",
    "targets",
    "objective",
    "train_prompt",
    "seed",
    "run",
    "planned",
]  # in curves
COUNTS = ["parameters_total", "parameters_nonembedding"]
BESIDE = ["probability", "agreement", "loyalty"]
WHOSE = {"": "model", "teacher_": "teacher"}
MEASURED = [f"{whose}{what}" for whose in WHOSE for what in ("milliseconds", "memory", "disk")]
TIMES = ["time", "time_low", "time_high"]
TRAINED = [name for name in IDENTITY if name not in ("eval_prompt", "test_set", "language")]
GROUP = ["family", "train_prompt", "seed"]
TRAITS = ["asks", "answer_words", "answer_place"]
TRAINED_KINDS = ("teacher", "student")
SCORES = [*labels.METRICS, *labels.MENDED, *BESIDE]
MARKS = ["paragraph", "repeat"]  # of a question, by its data set
ROWS = [*IDENTITY, *COUNTS, "run", "planned", "article", "question", *MARKS, "untouched"]
ROWS += [*TRAITS, *SCORES, "answer"]


def complete(plan: Plan, store: Store | None = None, folder: Path | None = None) -> None:
    """Make whatever runs of the plan are missing, by the plan's engine; what a run adds to the
    exported tables is appended to `folder` as soon as it is done. Raises StudyError where the
    exported tables are of other weights or of another plan, and, when all else is done, for runs
    that failed."""
    store = store or Store()
    known = _refuse_others(plan, store, folder)
    engines.check(plan.machine)
    _refuse_unlike(pd.DataFrame([one.called for one in plan.asked]), folder)
    parts, listed = _by_run(plan), set[str]()
    missing = [run for run in plan.runs if store.result(run) is None]
    inputs.rehearse(missing)
    if not missing:
        return
    store.open()
    title = f"{folder.name} ({folder.parent.name})" if folder is not None else "all"
    with Runs(title, [run.kind for run in missing]) as shown, engines.opened(plan.machine) as pool:

        def keep(run: Run) -> None:
            now = store.snapshot()
            if folder is not None:
                _refuse_other(run, now, known.get(run.planned, []), folder)
                _keep(run, parts[run.planned], now, folder, listed)
            shown.done(run.kind, (now.result(run) or {"seconds": 0.0})["seconds"])

        engines.complete(missing, store, plan.machine, pool, keep)


def _refuse_others(
    plan: Plan, store: Store, folder: Path | None
) -> dict[str, list[tuple[str, str]]]:
    """Raise StudyError if a trained model was exported with other weights than the store has, and
    by the same versions: its scores must not stand beside these. Returns digests and versions of
    all that was exported, by what was planned."""
    known: dict[str, list[tuple[str, str]]] = {}
    for place in sorted(folder.parent.glob("*/")) if folder is not None else ():
        for table in exports.tables(place, "runs.csv"):
            for line in table.itertuples():
                known.setdefault(line.planned, []).append(
                    (line.digest, getattr(line, "versions", ""))
                )
    if folder is not None:
        now = store.snapshot()
        for run, _ in plan.trained:
            _refuse_other(run, now, known.get(run.planned, []), folder)
    return known


def _refuse_other(run: Run, store: Store, known: Sequence[tuple[str, str]], folder: Path) -> None:
    """The same for one run, of what is `known` of it."""
    made = store.result(run) if run.kind in TRAINED_KINDS else None
    if made is not None and any(
        digest != made["digest"]
        for digest, by in known
        if not versions.outdated(by, _versions(run))
    ):
        raise StudyError(
            f"{folder.parent} has results of another {run.label} than {store.folder(run)}, trained"
            " on another machine or by other versions, and the two must not be mixed: move that"
            " folder away, or have the runs elsewhere (STUDY_HOME)."
        )


def _refuse_unlike(asked: pd.DataFrame, folder: Path | None) -> None:
    """Raise StudyError where `folder` shows answers, and none of those that are `asked` for: all
    that it shows would go."""
    if folder is None or not (folder / "rows.parquet").exists():
        return
    names = [
        name for name in IDENTITY if name in asked and name != "language"
    ]  # which is known from the questions only
    shown, here = (
        set(table[names].itertuples(index=False, name=None))
        for table in (exports.read(folder / "rows.parquet", names), asked)
    )
    if shown and not shown & here:
        raise StudyError(
            f"{folder} shows other models and test sets, none of those of this plan: give the plan"
            " a `profile` of its own."
        )


def _versions(run: Run) -> str:
    """The versions of code that make a run today."""
    return versions.written(run.versions)


def _by_run(plan: Plan) -> dict[str, Plan]:
    """By what was planned, the part of the plan that a run completes: the model that it trains, the
    answers that have rows by it."""
    shown: dict[str, Plan] = defaultdict(lambda: replace(plan, trained=[], asked=[], costs=[]))
    for pair in plan.trained:
        shown[pair[0].planned].trained.append(pair)
    for one in plan.asked:
        for run in (one.answers, one.loyalty):
            if run is not None:
                shown[run.planned].asked.append(one)
    return shown


def _keep(run: Run, part: Plan, store: Store, folder: Path, listed: set[str]) -> None:
    """Append rows, their origins and curves of the part of a plan that a run completes, as far as
    they are there; origins but for those of runs that are `listed` already."""
    answered = replace(part, asked=[one for one in part.asked if is_answered(one, store)])
    added = {"rows.parquet": rows(answered, store)} if answered.asked else {}
    added |= {"learning.csv": curves(part, store)} if part.trained else {}
    new = [one for one in answered.runs if one.planned not in listed]
    kept = {"runs": origins(answered, store, runs=new)} if new else {}
    added |= {f"{name}.csv": table for name, table in exports.timed(kept).items()}
    if added:
        exports.append(folder, run.planned, added)
        listed |= {one.planned for one in new}


def rows(plan: Plan, store: Store | None = None, folder: Path | None = None) -> pd.DataFrame:
    """Per-question rows of all answers that are there: identity, parameter counts, scores of 0 to
    1, digest of the answer.

    `paragraph` is the place of the question's paragraph in the order of drawing, `untouched`
    whether it is none of those that the data set declares as seen (`seen_paragraphs`), `repeat`
    whether an earlier question of the paragraph asks the same. `probability` is the model's of its
    answer; `agreement` and `loyalty` (to the teacher) are missing in a teacher's rows. Rows that
    the store does not have are those that were exported for just such runs (`planned`) to `folder`
    or to one beside it, if they were. Raises StudyError where these are of other weights, or if
    there are no rows.
    """
    store, exported = (store or Store()).snapshot(), exports.exported(folder, "rows.parquet")
    _refuse_others(plan, store, folder)
    frames = [_rows(one, store, exported) for one in plan.asked]
    if not any(map(len, frames)):
        raise StudyError("No answers are there yet: complete the plan first.")
    return pd.concat([part for part in frames if len(part)], ignore_index=True)[ROWS]


def _rows(one: Asked, store: Store, exported: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The rows of one set of answers, from the store or as they were exported; none where it is
    neither there nor was."""
    test = one.answers.needs["test"]
    if is_answered(one, store):
        counts = inputs.parameter_counts(store, one.counted)
        fixed = one.called | {f"parameters_{name}": count for name, count in counts.items()}
        fixed |= {"run": store.key(one.answers), "planned": one.planned}
        part = pd.DataFrame(_scored(one, store)).assign(**fixed)
    elif one.planned in exported:
        part = _marked(exported[one.planned].assign(**one.called), test)
    else:
        return pd.DataFrame()
    return part.assign(untouched=part.paragraph >= test.value.get("seen_paragraphs", 0))


def _marked(exported: pd.DataFrame, test: Input) -> pd.DataFrame:
    """Exported rows with `MARKS`; where they were exported without, by the data set, which is
    fetched for that."""
    if set(MARKS) <= set(exported) and exported[MARKS].notna().all(axis=None):
        return exported.astype({"paragraph": int, "repeat": bool})
    loaded = inputs.loaded(test)
    try:
        places = [loaded.paragraphs[question] for question in exported.question]
    except KeyError as error:
        raise StudyError(
            f"The exported rows of {test.label} have question {error}, which the data set has not:"
            " export them anew."
        ) from error
    return exported.assign(paragraph=places, repeat=exported.question.isin(loaded.repeats))


def lacking(folder: Path) -> bool:
    """Whether there are rows in `folder` of runs that the store does not have: they come from
    another machine, or the store is gone."""
    keys = {
        key
        for table in exports.tables(folder, "rows.parquet", ["run"])
        for key in table.run.unique()
    }
    return not all((Store().root / "answers" / key / "result.json").exists() for key in keys)


def states(plan: Plan, folder: Path, store: Store) -> list[tuple[Run, str, str]]:
    """Every run of the plan with its state and why (`Store.state`), or `exported` if the store does
    not have it and `folder` shows what came of it, with the versions that it was made with if they
    are not today's."""
    store, exported, found = store.snapshot(), exports.exported(folder, "runs.csv"), []
    for run in plan.runs:
        state, why = store.state(run)
        if state == "missing" and run.planned in exported:
            state, why = "exported", _outdated(run, exported[run.planned])
        found.append((run, state, why))
    return found


def outdated(plan: Plan, made: pd.DataFrame) -> dict[str, str]:
    """The runs whose versions (in `origins`) are not today's, and how, in words, by what was
    planned."""
    lines = exports.grouped(made)
    found = {
        run.planned: _outdated(run, lines[run.planned]) for run in plan.runs if run.planned in lines
    }
    return {planned: how for planned, how in found.items() if how}


def _outdated(run: Run, lines: pd.DataFrame) -> str:
    return versions.outdated(lines.versions.iloc[0] if "versions" in lines else "", _versions(run))


def superseded(plan: Plan, folder: Path) -> bool:
    """Whether rows in `folder` or beside it are of versions that are not today's, and the store has
    no newer ones."""
    return any(state == "exported" and why for _, state, why in states(plan, folder, Store()))


def showable(plan: Plan, folder: Path) -> bool:
    """Whether there are any rows to show, in the store or in `folder`."""
    store, exported = Store().snapshot(), exports.exported(folder, "rows.parquet")
    return any(one.planned in exported or is_answered(one, store) for one in plan.asked)


def is_answered(one: Asked, store: Store) -> bool:
    """Whether the store has all that a set of answers' rows are made of."""
    read = [one.answers, one.counted, one.loyalty, one.teacher.answers if one.teacher else None]
    return all(store.result(run) is not None for run in read if isinstance(run, Run))


def _scored(one: Asked, store: Store) -> Iterator[dict]:
    """A row per question of one set of answers."""
    said, theirs, loyal = _read(store, one.answers, "answers"), None, None
    test = one.answers.needs["test"]
    if one.teacher is not None and one.loyalty is not None:
        theirs = _read(store, one.teacher.answers, "answers")
        loyal = _read(store, one.loyalty, "loyalty")
    loaded = inputs.loaded(test)
    for q in loaded.questions:
        text, judged = (
            said[q.id]["text"],
            dict(
                language=q.language,
                rules=segmentation.usual_rules(q.language, mlqa=sources.is_mlqa(test.value)),
            ),
        )
        yield {
            "language": q.language,
            "article": q.article,
            "question": q.id,
            "paragraph": loaded.paragraphs[q.id],
            "repeat": q.id in loaded.repeats,
            **prompts.traits(q),
            **metrics.score(text, [gold for gold, _ in q.answers], **judged),
            "probability": said[q.id]["probability"],
            "agreement": (
                metrics.agreement(text, theirs[q.id]["text"], **judged) if theirs else np.nan
            ),
            "loyalty": loyal[q.id] if loyal else np.nan,
            "answer": digest(text)[:16],
        }


def _read(store: Store, run: Run, name: str) -> dict:
    return json.loads(store.path(run, f"{name}.json").read_text(encoding="utf-8"))


def results(table: pd.DataFrame) -> pd.DataFrame:
    """Tidy results: a line per run, test set and metric, values of 0 to 100, over distinct
    questions."""
    table = pairing.distinct(table)
    keys = [*IDENTITY, *COUNTS, "run"]
    long = table.melt(id_vars=keys, value_vars=SCORES, var_name="metric").dropna(subset="value")
    tidy = long.groupby([*keys, "metric"], sort=False)["value"].agg(["mean", "size"]).reset_index()
    tidy["value"] = (100 * tidy.pop("mean")).round(4)
    return tidy.rename(columns={"size": "n"})[[*IDENTITY, "metric", "value", "n", "run", *COUNTS]]


def curves(plan: Plan, store: Store | None = None, folder: Path | None = None) -> pd.DataFrame:
    """The loss of every step of every trained model, and the dev F1 where it was measured; of
    models that the store does not have, what was exported to `folder`."""
    store, exported = (store or Store()).snapshot(), exports.exported(folder, "learning.csv")
    frames = [pd.DataFrame(columns=["step", "loss", *CALLED])]
    for run, called in plan.trained:
        fixed = {name: called[name] for name in CALLED[:-2]}
        if store.result(run) is not None:
            curve = pd.DataFrame(_read(store, run, "curve"))
            frames.append(curve.assign(**fixed, run=store.key(run), planned=run.planned))
        elif run.planned in exported:
            frames.append(exported[run.planned].dropna(axis="columns", how="all").assign(**fixed))
    table = pd.concat(frames[1:] or frames, ignore_index=True)
    return table[[name for name in table if name not in CALLED] + CALLED]


def origins(
    plan: Plan,
    store: Store | None = None,
    folder: Path | None = None,
    runs: Sequence[Run] | None = None,
) -> pd.DataFrame:
    """Where the results come from: a line per run that is done (or of these `runs`), with its key,
    the digest of what it made, the learning rate of a training (missing where a search chose it and
    that was not recorded), and when, in how many seconds (since it last went on, if it was
    stopped), by what versions and on what machine; of runs that the store does not have, what was
    exported to `folder`."""
    store, frames = (store or Store()).snapshot(), []
    exported, times = exports.exported(folder, "runs.csv"), exports.exported(folder, "times.csv")
    for run in plan.runs if runs is None else runs:
        result, before = store.result(run), exported.get(run.planned)
        if result is not None:
            part = pd.DataFrame([_origin(run, store, result)])
        elif before is not None:
            when = times.get(run.planned, before).reindex(columns=["planned", *exports.WHEN])
            part = before.drop(columns=exports.WHEN, errors="ignore").merge(when, on="planned")
        else:
            continue
        lr = part["lr"].iloc[0] if "lr" in part else np.nan
        frames.append(part.assign(lr=planning.learning_rate(run, result) if np.isnan(lr) else lr))
    none = pd.DataFrame(columns=["kind", "label", "key", "seconds", "planned", "versions"])
    return pd.concat(frames, ignore_index=True) if frames else none


def _origin(run: Run, store: Store, result: Mapping) -> dict:
    """Where the result of a run comes from, by its manifest. What is measured differs each time,
    and so does its digest."""
    made = store.manifest(store.folder(run))
    return {
        "kind": run.kind,
        "label": run.label,
        "key": store.key(run),
        "digest": result["digest"] if run.kind != "cost" else "measured",
        "seconds": result["seconds"],
        **{
            name: made[name] for name in ("started", "python", "unicode", "threads", "git", "dirty")
        },
        **made["machine"],
        **made["versions"],
        "planned": run.planned,
        "versions": _versions(run),
    }


def timing(
    plan: Plan, table: pd.DataFrame, store: Store | None = None, folder: Path | None = None
) -> pd.DataFrame:
    """What answers cost, against their scores in `table`: a line per model and test set, asked as
    it was trained.

    Milliseconds a question, memory and disk in megabytes, beside the teacher's, which were measured
    in turns with each student's (in the teacher's own line the medians of these); `time` is in
    percent of the teacher's, the median of a few rounds from `time_low` to `time_high`; `runs` are
    those that measured it and those that the scores are of. Of students that the store does not
    have, what was exported to `folder`.
    """
    students = _costs(plan, (store or Store()).snapshot(), folder)
    both = pd.concat([_teachers(students, table), students], ignore_index=True)
    table = pairing.distinct(table)
    asked = table[table.eval_prompt == table.train_prompt].groupby(
        [*TRAINED, "test_set"], sort=False
    )
    scores = 100 * asked[["f1", "exact_match"]].mean()
    scores = scores.assign(answers=asked.run.agg(run_ids.joined)).reset_index()
    found = both.merge(scores, on=TRAINED)
    runs = zip(found.pop("runs"), found.pop("answers"), strict=True)
    return found.assign(runs=[run_ids.joined(pair) for pair in runs])


def _costs(plan: Plan, store: Store, folder: Path | None) -> pd.DataFrame:
    """What the answers of each student cost, beside its teacher's."""
    lines = []
    exported, made = exports.exported(folder, "timing.csv"), exports.exported(folder, "runs.csv")
    for run, called in plan.costs:
        line = {name: called[name] for name in IDENTITY if name in called}
        if (result := store.result(run)) is not None:
            for whose, part in WHOSE.items():
                line |= {whose + what: value for what, value in result["facts"][part].items()}
            line |= result["facts"]["shares"]
            line["runs"] = run_ids.joined([store.folder(run).name])
        elif (known := exported.get(run.planned)) is not None:
            line |= known.iloc[0][[*MEASURED, *TIMES]].to_dict()
            line["runs"] = run_ids.joined(made[run.planned].key)
        else:
            continue
        lines.append(line | {"planned": run.planned})
    return pd.DataFrame(lines, columns=[*TRAINED, *MEASURED, *TIMES, "planned", "runs"])


def _teachers(students: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """What the answers of each teacher in `table` cost: the medians of what was measured beside its
    students."""
    taught, beside = students.groupby(GROUP, sort=False), MEASURED[3:]
    costs = taught[beside].median().assign(runs=taught.runs.agg(run_ids.joined))
    same = costs.rename(columns=dict(zip(beside, MEASURED[:3], strict=True)))
    costs = costs.assign(**same, **dict.fromkeys(TIMES, 100.0)).reset_index()
    fine_tuned = (table.role == labels.TEACHER) & (table.teacher == labels.FINE_TUNED)
    teachers = table.loc[fine_tuned, TRAINED].drop_duplicates()
    return teachers.merge(costs, on=GROUP)


def overview(plan: Plan, store: Store | None = None) -> pd.DataFrame:
    """Every run of the plan: kind, what it is, whether it is done, and its key once that is
    known."""
    store = (store or Store()).snapshot()
    return pd.DataFrame(
        [
            {
                "kind": run.kind,
                "run": run.label,
                "state": store.state(run)[0],
                "key": store.key(run) or "",
            }
            for run in plan.runs
        ]
    )


def leakage(plan: Plan) -> pd.DataFrame:
    """What must not be, counted, a line per set: its articles, contexts and questions that are
    among the training ones, too, and its contexts that are shown a demonstration of their own
    article in any way in which they are asked or trained on."""
    training, ways = inputs.questions(plan.train), _ways(plan)
    lines = []
    for source in (plan.train, plan.dev, *plan.tests):
        asked = inputs.questions(source)
        first = [group[0] for group in squad.by_context(asked)]
        examples = [
            prompts.demonstrations(first, mode, training, seed)
            for mode, seed in sorted(ways[source.digest])
        ]
        own = sum(
            shown is not None and shown.article == one.article
            for chosen in examples
            for shown, one in zip(chosen, first, strict=True)
        )
        shared = (
            dict.fromkeys(squad.SHARED, pd.NA)
            if source is plan.train
            else squad.shared(training, asked)
        )
        counts = {what: found if found is pd.NA else len(found) for what, found in shared.items()}
        lines.append({"set": source.label, **counts, "demonstrations": own})
    return pd.DataFrame(lines)


def _ways(plan: Plan) -> dict[str, set[tuple[str, int]]]:
    """By a data set's digest, the ways of prompting and seeds in which its questions are read."""
    ways: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for run in plan.runs:
        for need in ("train", "dev", "test"):
            if need in run.needs:
                mode = run.parameters[
                    "eval_prompt" if "eval_prompt" in run.parameters else "train_prompt"
                ]
                ways[run.needs[need].digest].add((mode, run.parameters["seed"]))
    return ways


def folder(profile: str, notebook: str) -> Path:
    """Where a notebook writes what it shows. Raises StudyError for a profile that is no name of a
    folder."""
    naming.check_profile(profile)
    return root() / "figures" / profile / notebook


def export(
    folder: Path,
    table: pd.DataFrame,
    kept: Mapping[str, pd.DataFrame],
    texts: Mapping[str, str],
    drawn: Mapping[str, tuple[Figure, pd.DataFrame]],
) -> None:
    """Write rows, their results, tables to be `kept` (as CSV), `texts` (as Markdown) and figures,
    each with what it draws (as CSV if it is not among the former), by their names into `folder`.

    Rows and lines of tables to be kept that were exported or appended before and are not among
    these are kept beside them; figures are not. Raises StudyError where the folder shows another
    plan, or a file of these names that the study did not write.
    """
    from studylib.analysis import figures  # slow to import, and planning draws nothing

    _refuse_unlike(table, folder)
    with exports.alone(folder):
        before = exports.listed(folder)
        with exports.draft(folder) as draft:
            written = {"rows.parquet": table} | {
                f"{name}.csv": part for name, part in exports.timed(kept).items()
            }
            exports.merge(folder, written, draft)
            exports.save(results(exports.read(draft / "rows.parquet")), draft / "results.csv")
            for name, text in texts.items():
                (draft / f"{name}.md").write_text(text, encoding="utf-8")
            for name, (figure, shown) in drawn.items():
                figures.save(figure, draft, name)
                if name not in kept:
                    exports.save(shown, draft / f"{name}.csv")
        exports.clear_parts(folder)
        old = {Path(name).stem for name in before if name.endswith(".svg")} - set(drawn)
        exports.drop(
            folder,
            {f"{name}.{ending}" for name in old for ending in ("svg", "png", "csv")}
            - set(exports.KEPT),
        )
