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

YES, NO, UNDECIDED = "yes", "no", "undecided"  # whether enough is kept
SCORES = dict(zip(RETAINED, ("F1", "EM"), strict=True))


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
    claim, `passed` is the smallest model that passes, if any does. `verdict` is yes where one does,
    else what the largest model says; `deciding` are the scores that it says it by."""
    if models.empty:
        return {}
    models = models.sort_values("reduction_total")
    tested = models[BOUNDS["retention_f1"][0]].notna().all()
    names = [BOUNDS[name][0] if tested else name for name in RETAINED]
    passes = (models[names] >= MARGIN).all(axis=1)
    passed = models[passes.groupby(models.way).cummin()].nlargest(1, "reduction_total")
    smallest = next(iter(passed.to_dict("records")), None)
    verdict, deciding = _verdict(models.iloc[0], tested)
    return {
        "models": models.to_dict("records"),
        "tested": tested,
        "passed": smallest,
        "verdict": YES if smallest else verdict,
        "deciding": deciding,
    }


def _verdict(model: pd.Series, tested: bool) -> tuple[str, list[str]]:
    """What is said of a model that does not pass, and the scores that decide it: it keeps less
    where a whole interval, or without intervals an estimate, lies below the margin."""
    lower, upper = ({k: model[BOUNDS[k][end] if tested else k] for k in SCORES} for end in (0, 1))
    less, short = ([SCORES[k] for k in SCORES if ends[k] < MARGIN] for ends in (upper, lower))
    return (NO, less) if less else (UNDECIDED, short)


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
