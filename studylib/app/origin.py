"""What the numbers of an experiment come from: learning rates, versions of the code, machines and
hours.

origin.of(plan, origins.origins(plan, folder=folder))
"""

import numpy as np
import pandas as pd

from studylib.analysis import rates as analysis_rates
from studylib.analysis.summary import Origin
from studylib.app import origins
from studylib.core.escaping import markdown
from studylib.core.progress import spoken
from studylib.experiments.plans import Plan
from studylib.methods import stages as method_stages


def of(plan: Plan, made: pd.DataFrame) -> Origin:
    """All of it, of the runs of a plan that were `made` (`origins`)."""
    return Origin(
        rates(plan, made), computed(made), missing(plan, made), outdated=superseded(plan, made)
    )


def rates(plan: Plan, made: pd.DataFrame) -> pd.DataFrame:
    """A line per trained model of the plan among the runs that were `made` (`origins`); see
    `analysis.rates`."""
    known = dict(zip(made.planned, made.get("lr", [np.nan] * len(made)), strict=True))
    lines = []
    for run, called in plan.trained:
        if run.planned in known:
            weights = [
                sum(stage.prototype.weights.values())
                for stage in method_stages.parse(run.parameters["stages"])
            ]
            search = run.needs.get("lr_search")
            searched = search.parameters["lr"] if search is not None else []
            about = {
                name: called[name]
                for name in (*analysis_rates.PAIR, "role", "teacher", "targets", "objective")
            }
            lines.append(
                about
                | {
                    "weights": _listed(weights),
                    "tried": _listed(searched),
                    "lr": known[run.planned],
                }
            )
    return pd.DataFrame(lines, columns=analysis_rates.COLUMNS)


def _listed(numbers: list[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def superseded(plan: Plan, made: pd.DataFrame) -> str:
    """Which models' answers were made with other versions of the code than today's, in a paragraph;
    nothing where none were."""
    how, models = origins.outdated(plan, made), dict[str, dict[str, None]]()
    for one in plan.asked:
        for run in (one.answers, one.loyalty):
            if run is not None and run.planned in how:
                models.setdefault(how[run.planned], {})[one.counted.label] = None
    if not models:
        return ""
    each = "; ".join(f"{versions}: {', '.join(labels)}" for versions, labels in models.items())
    return (
        f"Answers of models that today's code would compute anew (`study run --compute`): {each}."
    )


def missing(plan: Plan, made: pd.DataFrame) -> str:
    """How many answers of a plan are not among the runs that were `made`, in a sentence; nothing
    where none are missing."""
    count = sum(answers.answers.planned not in set(made.planned) for answers in plan.asked)
    return f"Still missing: {count} of {len(plan.asked)} planned sets of answers." if count else ""


def computed(made: pd.DataFrame) -> str:
    """What computing runs (`origins`) took, in a sentence; nothing where none is known."""
    if made.empty:
        return ""
    computers = (
        f"{run.system} {run.processor}, {run.threads:.0f} threads, torch {run.torch}"
        for run in made.itertuples()
    )
    machines = sorted({markdown(computer) for computer in computers})
    students = made.seconds[made.kind == "student"]
    longest = f"; training a student took up to {spoken(students.max())}" if len(students) else ""
    return (
        f"{len(made)} runs, those that other experiments need, too, among them, took"
        f" {spoken(made.seconds.sum())} ({'; '.join(machines)}){longest}."
    )
