"""Where results come from: a line per run with its key, its digest, its versions and its machine,
and what is said of them all.

summary(plan, origins(plan, folder=folder))
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from studylib.analysis import prose, roles
from studylib.analysis import rates as analysis_rates
from studylib.analysis.summary import Origin
from studylib.core import versions
from studylib.core.escaping import markdown
from studylib.experiments.plans import Plan
from studylib.methods import stages as method_stages
from studylib.runs import plan_parts
from studylib.store import exports
from studylib.store.run import Run
from studylib.store.store import Store

MANIFEST = ("started", "python", "unicode", "threads", "git", "dirty")


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
    store, lines = (store or Store()).snapshot(), []
    exported, times = exports.records(folder, "runs.csv"), exports.records(folder, "times.csv")
    for run in plan.runs if runs is None else runs:
        result, before = store.result(run), exported.get(run.planned)
        if result is not None:
            line = _origin(run, store, result)
        elif before is not None:
            when = times.get(run.planned, before)
            line = before | {name: when.get(name, np.nan) for name in exports.WHEN}
        else:
            continue
        if np.isnan(line.get("lr", np.nan)):
            line["lr"] = plan_parts.learning_rate(run, result)
        lines.append(line)
    columns = ["kind", "label", "key", "seconds", "planned", "versions"]
    return pd.DataFrame(lines) if lines else pd.DataFrame(columns=columns)


def _origin(run: Run, store: Store, result: Mapping) -> dict:
    """Where the result of a run comes from, by its manifest. What is measured differs each time,
    and so does its digest."""
    manifest = store.manifest(store.folder(run))
    return {
        "kind": run.kind,
        "label": run.label,
        "key": store.key(run),
        "digest": result["digest"] if run.kind != "cost" else "measured",
        "seconds": result["seconds"],
        **{name: manifest[name] for name in MANIFEST},
        **manifest["machine"],
        **manifest["versions"],
        "planned": run.planned,
        "versions": versions.written(run.versions),
    }


def outdated(plan: Plan, done: pd.DataFrame) -> dict[str, str]:
    """The runs whose versions (in `origins`) are not today's, and how, in words, by what was
    planned."""
    lines = {line["planned"]: line for line in done.to_dict("records")}
    there = [run for run in plan.runs if run.planned in lines]
    return {run.planned: how for run in there if (how := change(run, lines[run.planned]))}


def change(run: Run, line: Mapping) -> str:
    """How the versions that a run was made with, by its line of `origins`, differ from today's, in
    words; nothing where they do not."""
    return versions.outdated(line.get("versions", ""), versions.written(run.versions))


def summary(plan: Plan, done: pd.DataFrame) -> Origin:
    """What numbers come from, of the runs of a plan that were `done` (`origins`)."""
    chosen = roles.named(rates(plan, done), plan.arms)
    return Origin(chosen, computed(done), missing(plan, done), superseded(plan, done))


def rates(plan: Plan, done: pd.DataFrame) -> pd.DataFrame:
    """A line per trained model of the plan among the runs that were `done` (`origins`); see
    `analysis.rates`."""
    known = dict(zip(done.planned, done.get("lr", [np.nan] * len(done)), strict=True))
    lines = [
        called
        | {
            "weights": _listed(
                sum(stage.prototype.weights.values())
                for stage in method_stages.parse(run.parameters["stages"])
            ),
            "tried": _listed(
                run.needs["lr_search"].parameters["lr"] if "lr_search" in run.needs else []
            ),
            "lr": known[run.planned],
        }
        for run, called in plan.trained
        if run.planned in known
    ]
    return pd.DataFrame(lines, columns=analysis_rates.COLUMNS)


def _listed(numbers: Iterable[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def superseded(plan: Plan, done: pd.DataFrame) -> str:
    """Which models' answers were made with other versions of the code than today's, in a paragraph;
    nothing where none were."""
    known, how = set(done.planned), outdated(plan, done)
    shown = [
        (run.planned, asked.counted.label)
        for asked in plan.asked
        for run in filter(None, (asked.answers, asked.loyalty))
        if run.planned in known
    ]
    models = defaultdict[str, list[str]](list)
    for planned, model in shown:
        if planned in how:
            models[how[planned]].append(model)
    every = {model for _, model in shown}
    named = {
        words: "all models" if set(of) == every else ", ".join(dict.fromkeys(of))
        for words, of in models.items()
    }
    return prose.render("outdated", models=named) if models else ""


def missing(plan: Plan, done: pd.DataFrame) -> str:
    """How many evaluations of a plan are among the runs that were `done`, in a sentence; nothing
    where none is missing."""
    known, planned = set(done.planned), len(plan.asked)
    count = sum(asked.answers.planned in known for asked in plan.asked)
    return prose.render("missing", done=count, planned=planned) if count < planned else ""


def computed(done: pd.DataFrame) -> str:
    """What computing runs (`origins`) took, in a sentence; nothing where none is known."""
    if done.empty:
        return ""
    machines = {
        markdown(f"{run.system} {run.processor}, threads: {run.threads:.0f}, torch {run.torch}")
        for run in done.itertuples()
    }
    students = done.seconds[done.kind == "student"]
    return prose.render(
        "computed",
        runs=len(done),
        seconds=done.seconds.sum(),
        machines=sorted(machines),
        longest=students.max() if len(students) else None,
    )
