"""What each trained model took to make, and what an answer of it takes: FLOPs, as planned; and what
data it needs beside gold answers.

of(plan, rows, folder=folder)
"""

from pathlib import Path

import pandas as pd

from studylib.experiments.plans import Asked, Plan
from studylib.methods import stages as method_stages
from studylib.runs import budget, inputs, kinds, supervision
from studylib.store import exports
from studylib.store.run import Run
from studylib.store.store import Store

MADE_BY = ("student", "lr_search", "examples", "states")  # kinds of run that a student is made by

GROUP = ["family", "student", "seed", "objective", "steps"]
COUNTED = ["training_flops", "answer_flops", "extra_data"]


def of(
    plan: Plan, table: pd.DataFrame, store: Store | None = None, folder: Path | None = None
) -> pd.DataFrame:
    """A line per trained student and way of asking that has rows in `table`: FLOPs of its training
    with the search of its learning rate, its examples and its teacher's states (`training_flops`),
    and of an answer (`answer_flops`), and its `extra_data`, in words. Of answers that the store
    does not have, what was exported to `folder`: counting takes data."""
    store, lines = (store or Store()).snapshot(), []
    exported = exports.records(folder, "costs.csv")
    answered = dict(zip(table.planned, table.run, strict=True))
    for asked in plan.asked:
        model = asked.answers.needs["model"]
        if asked.teacher is None or not isinstance(model, Run) or asked.planned not in answered:
            continue
        if store.result(asked.answers) is not None:
            line = {"planned": asked.planned} | _counted(asked, model)
        elif asked.planned in exported:
            line = exported[asked.planned]
        else:
            continue
        lines.append(line | asked.called | {"run": answered[asked.planned]})
    return pd.DataFrame(lines, columns=["planned", *GROUP, *COUNTED, "run"])


def _counted(asked: Asked, model: Run) -> dict:
    questions = inputs.questions(asked.answers.needs["test"])
    teachers = set(supervision.teacher_needs(model)) - {supervision.BASE_TEACHER}
    return {
        "training_flops": sum(kinds.took(budget.SHARED, run).flops for run in _made_by(model)),
        "answer_flops": kinds.took(budget.SHARED, asked.answers).flops / len(questions),
        "extra_data": method_stages.extra_data(
            method_stages.parse(model.parameters["stages"]),
            model.parameters["targets"],
            len(teachers),
        ),
    }


def _made_by(model: Run) -> list[Run]:
    """The runs that make a student of its init and its teacher, each once, itself first."""
    needed = [
        need
        for name, need in reversed(list(model.needs.items()))
        if isinstance(need, Run) and need.kind in MADE_BY and name != "init"
    ]
    return list(dict.fromkeys([model, *(run for need in needed for run in _made_by(need))]))
