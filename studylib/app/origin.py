"""What the numbers of an experiment come from: learning rates, versions of the code, machines and
hours.

origin.of(plan, origins.origins(plan, folder=folder))
"""

import numpy as np
import pandas as pd

from studylib.analysis import prose
from studylib.analysis import rates as analysis_rates
from studylib.analysis.summary import Origin
from studylib.app import origins
from studylib.core.escaping import markdown
from studylib.experiments.plans import Plan
from studylib.methods import stages as method_stages


def of(plan: Plan, done: pd.DataFrame) -> Origin:
    """All of it, of the runs of a plan that were `done` (`origins`)."""
    return Origin(
        rates(plan, done), computed(done), missing(plan, done), outdated=superseded(plan, done)
    )


def rates(plan: Plan, done: pd.DataFrame) -> pd.DataFrame:
    """A line per trained model of the plan among the runs that were `done` (`origins`); see
    `analysis.rates`."""
    known = dict(zip(done.planned, done.get("lr", [np.nan] * len(done)), strict=True))
    lines = []
    for run, called in plan.trained:
        if run.planned in known:
            weights = [
                sum(stage.prototype.weights.values())
                for stage in method_stages.parse(run.parameters["stages"])
            ]
            search = run.needs.get("lr_search")
            searched = search.parameters["lr"] if search is not None else []
            line = {
                name: called[name]
                for name in (*analysis_rates.PAIR, "role", "teacher", "targets", "objective")
            }
            lines.append(
                line
                | {
                    "weights": _listed(weights),
                    "tried": _listed(searched),
                    "lr": known[run.planned],
                }
            )
    return pd.DataFrame(lines, columns=analysis_rates.COLUMNS)


def _listed(numbers: list[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def superseded(plan: Plan, done: pd.DataFrame) -> str:
    """Which models' answers were made with other versions of the code than today's, in a paragraph;
    nothing where none were."""
    how, models = origins.outdated(plan, done), dict[str, dict[str, None]]()
    for asked in plan.asked:
        for run in (asked.answers, asked.loyalty):
            if run is not None and run.planned in how:
                models.setdefault(how[run.planned], {})[asked.counted.label] = None
    if not models:
        return ""
    return prose.render("outdated", models=models)


def missing(plan: Plan, done: pd.DataFrame) -> str:
    """How many evaluations of a plan are among the runs that were `done`, in a sentence; nothing
    where none is missing."""
    count = sum(asked.answers.planned in set(done.planned) for asked in plan.asked)
    if count == len(plan.asked):
        return ""
    return prose.render("missing", done=count, planned=len(plan.asked))


def computed(done: pd.DataFrame) -> str:
    """What computing runs (`origins`) took, in a sentence; nothing where none is known."""
    if done.empty:
        return ""
    computers = (
        f"{run.system} {run.processor}, {run.threads:.0f} threads, torch {run.torch}"
        for run in done.itertuples()
    )
    machines = sorted({markdown(computer) for computer in computers})
    students = done.seconds[done.kind == "student"]
    longest = students.max() if len(students) else None
    seconds = done.seconds.sum()
    return prose.render(
        "computed", runs=len(done), seconds=seconds, machines=machines, longest=longest
    )
