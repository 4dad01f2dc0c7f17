"""Which models keep enough of their teacher: a test of non-inferiority, on untouched questions.

A model passes if the lower ends of the intervals of both F1 and EM kept reach the margin. Sizes are
gone through from the largest to the first that fails. Without intervals nothing is claimed: the
estimates take their place, and `tested` says so.
"""

from typing import Any

import pandas as pd

from studylib.analysis import tables
from studylib.analysis.retention import BOUNDS, MARGIN, RETAINED
from studylib.core import sizes
from studylib.core.labels import CONTROL, STUDENT, TEACHER


def compressed(kept: pd.DataFrame, eval_prompt: str) -> pd.DataFrame:
    """The lines that the claim is about: students and controls with this eval prompt, but for those
    that were not cut. `way` says how they were cut."""
    main = tables.main(kept)
    smaller = (main.role != TEACHER) & (main.reduction_total != 0)
    models = main[(main.eval_prompt == eval_prompt) & smaller]
    return models.assign(way=[sizes.named(name).way for name in models.student])


def headline(kept: pd.DataFrame, eval_prompt: str) -> pd.DataFrame:
    """The same, as far as it is known what they keep."""
    return compressed(kept, eval_prompt).dropna(subset="retention_f1")


def untouched(kept: pd.DataFrame, eval_prompt: str) -> pd.DataFrame:
    """The lines of the headline that a claim may rest on: those of questions none of which was
    looked at while choices were made."""
    return headline(kept[kept.untouched == kept.n], eval_prompt)


def claim(models: pd.DataFrame) -> dict[str, Any]:
    """What is claimed of some lines of the headline; nothing where there are none. `models` are
    those lines from the largest model to the smallest, `tested` says whether intervals test the
    claim, `passed` is the smallest model that passes, if any does. It is `undecided` where none
    does, but no interval of the largest lies below the margin."""
    if models.empty:
        return {}
    models = models.sort_values("reduction_total")
    tested = models[BOUNDS["retention_f1"][0]].notna().all()
    names = [BOUNDS[name][0] if tested else name for name in RETAINED]
    passes = (models[names] >= MARGIN).all(axis=1)
    passed = models[passes.groupby(models.way).cummin()].nlargest(1, "reduction_total")
    smallest = next(iter(passed.to_dict("records")), None)
    edges = models.iloc[0][[BOUNDS[name][1] for name in RETAINED]]
    return {
        "models": models.to_dict("records"),
        "tested": tested,
        "passed": smallest,
        "undecided": bool(tested and smallest is None and (edges >= MARGIN).all()),
    }


def by_test(models: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """What is claimed of students and of controls, a claim with its `test_set` each, by role;
    without a role that has no model."""
    claims = {
        role: [
            {"test_set": test} | claim(lines)
            for test, lines in models[models.role == role].groupby("test_set", sort=False)
        ]
        for role in (STUDENT, CONTROL)
    }
    return {role: each for role, each in claims.items() if each}
