"""Which models keep enough of their teacher: a test of non-inferiority, on untouched questions.

A model passes if the lower ends of the intervals of both F1 and EM kept reach the margin. Sizes are
gone through from the largest to the first that fails. Without intervals nothing is claimed: the
estimates take their place, and `Claim.tested` says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from studylib.analysis import roles
from studylib.analysis.retention import BOUNDS, HEAD_INITS, MARGIN, RETAINED
from studylib.core import sizes
from studylib.core.labels import TEACHER


@dataclass(frozen=True)
class Claim:
    """What is claimed of models, which are lines of a comparison from the largest to the smallest.
    It says whether intervals test it, and names the smallest model that passes, if any does."""

    models: Sequence[Mapping]
    tested: bool
    passed: Mapping | None


def compressed(kept: pd.DataFrame, eval_prompt: str) -> pd.DataFrame:
    """The lines that the claim is about: students and controls with this eval prompt. `way` says
    how they were cut."""
    main = kept.init.isin(HEAD_INITS) & roles.main(kept) & (kept.role != TEACHER)
    models = kept[(kept.eval_prompt == eval_prompt) & main]
    return models.assign(way=[sizes.named(name).way for name in models.student])


def headline(kept: pd.DataFrame, eval_prompt: str) -> pd.DataFrame:
    """The same, as far as it is known what they keep."""
    return compressed(kept, eval_prompt).dropna(subset="retention_f1")


def untouched(kept: pd.DataFrame) -> pd.DataFrame:
    """The lines that a claim may rest on: those of questions none of which was looked at while
    choices were made."""
    return kept[kept.untouched == kept.n]


def claim(models: pd.DataFrame) -> Claim | None:
    """What is claimed of some lines of the headline; none where there are none."""
    if models.empty:
        return None
    models = models.sort_values("reduction_total")
    tested = models[BOUNDS["retention_f1"][0]].notna().all()
    names = [BOUNDS[name][0] if tested else name for name in RETAINED]
    passes = (models[names] >= MARGIN).all(axis=1)
    passed = models[passes.groupby(models.way).cummin()].nlargest(1, "reduction_total")
    return Claim(models.to_dict("records"), tested, next(iter(passed.to_dict("records")), None))


def by_test(models: pd.DataFrame, role: str) -> dict[str, Claim | None]:
    """What is claimed of the models of one role, by test set."""
    return {
        test: claim(group)
        for test, group in models[models.role == role].groupby("test_set", sort=False)
    }
