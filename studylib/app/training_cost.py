"""What each trained model took to make, and what an answer of it takes: FLOPs, as planned; and what
data it needs beside gold answers."""

import pandas as pd

from studylib.experiments.plans import Plan
from studylib.methods import stages as method_stages
from studylib.runs import budget, inputs, kinds
from studylib.store.run import Run

MADE_BY = ("student", "lr_search", "examples", "states")  # kinds of run that a student is made by

GROUP = ["family", "student", "seed", "objective", "steps"]


def of(plan: Plan) -> pd.DataFrame:
    """A line per trained student: FLOPs of its training with the search of its learning rate, its
    examples and its teacher's states (`training_flops`), and of an answer (`answer_flops`), and its
    `extra_data`, in words; by family, student, seed, objective and steps."""
    work, lines = budget.SHARED, []
    for asked in plan.asked:
        model = asked.answers.needs["model"]
        if asked.teacher is None or not isinstance(model, Run):
            continue
        lines.append(
            {
                **{name: asked.called[name] for name in GROUP},
                "training_flops": sum(kinds.took(work, run).flops for run in _made_by(model)),
                "answer_flops": kinds.took(work, asked.answers).flops
                / len(inputs.questions(asked.answers.needs["test"])),
                "extra_data": method_stages.extra_data(
                    method_stages.parse(model.parameters["stages"])
                ),
            }
        )
    return pd.DataFrame(lines).groupby([*GROUP, "extra_data"], sort=False).mean().reset_index()


def _made_by(model: Run) -> list[Run]:
    """The runs that make a student of its init and its teacher, each once, itself first."""
    needed = [
        need
        for name, need in reversed(list(model.needs.items()))
        if isinstance(need, Run) and need.kind in MADE_BY and name != "init"
    ]
    return list(dict.fromkeys([model, *(run for need in needed for run in _made_by(need))]))
