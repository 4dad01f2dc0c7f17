"""All that is compared, under one name: see the modules that it comes from."""

import pandas as pd

from studylib.analysis.contrasts import ADDED, AGAINST, INHERITED, contrasts
from studylib.analysis.cost import pareto
from studylib.analysis.prompting import (
    ASKING,
    BOTH,
    CHOOSING,
    FOLDING,
    TRAINING,
    WHOLE,
    by_trait,
    declared,
    prompting,
)
from studylib.analysis.retention import (
    BOUNDS,
    FLOOR,
    HEAD_STARTS,
    MARGIN,
    MODEL,
    PAPER,
    REPORTED,
    SETTING,
    SPREAD,
    bases,
    by_seed,
    compare,
    on_untouched,
)
from studylib.analysis.retention import LIKENESS as ALIKE
from studylib.analysis.teacher_sizes import LAW, ladder, law
from studylib.analysis.teacher_vs_student import schooling
from studylib.core.labels import FOLDED, METRICS, TUNED

__all__ = [
    "ADDED",
    "AGAINST",
    "ALIKE",
    "ASKING",
    "BOTH",
    "BOUNDS",
    "CHOOSING",
    "FLOOR",
    "FOLDED",
    "FOLDING",
    "HEAD_STARTS",
    "INHERITED",
    "LAW",
    "MARGIN",
    "METRICS",
    "MODEL",
    "PAPER",
    "REPORTED",
    "SETTING",
    "SPREAD",
    "TRAINING",
    "TUNED",
    "WHOLE",
    "bases",
    "by_seed",
    "by_trait",
    "compare",
    "contrasts",
    "declared",
    "ladder",
    "law",
    "on_untouched",
    "pareto",
    "prompting",
    "schooling",
    "titled",
]


def titled(table: pd.DataFrame, family: str, *others: str) -> str:
    """What a part of a table is of, in words: its family only where there are several."""
    return ", ".join(([family] if table.family.nunique() > 1 else []) + list(others))
