"""What each trained model took to make, and what an answer of it takes: FLOPs, as planned."""

import pandas as pd

from studylib.experiments.plans import Plan
from studylib.runs import budget, inputs, kinds
from studylib.store.run import Run

MADE_BY = ("student", "lr_search", "examples", "states")  # kinds of run that a student is made by


def of(plan: Plan) -> pd.DataFrame:
    """A line per trained student: FLOPs of its training with the search of its learning rate, its
    examples and its teacher's states (`training_flops`), and of an answer (`answer_flops`); by
    family, seed, objective and steps."""
    work = budget.Work()
    lines = []
    for asked in plan.asked:
        model = asked.answers.needs["model"]
        if asked.teacher is None or not isinstance(model, Run):
            continue
        group = {name: asked.called[name] for name in ("family", "seed", "objective", "steps")}
        answering = kinds.took(work, asked.answers).flops
        lines.append(
            group
            | {
                "training_flops": sum(kinds.took(work, run).flops for run in _made_by(model)),
                "answer_flops": answering / len(inputs.questions(asked.answers.needs["test"])),
            }
        )
    each = ["family", "seed", "objective", "steps"]
    return pd.DataFrame(lines).groupby(each, sort=False).mean().reset_index()


def _made_by(model: Run) -> list[Run]:
    """The runs that make a student of its init and its teacher."""
    sources, waiting = [], [model]
    while waiting:
        run = waiting.pop()
        if run not in sources:
            sources.append(run)
            waiting += [
                need
                for name, need in run.needs.items()
                if isinstance(need, Run) and need.kind in MADE_BY and name != "init"
            ]
    return sources
