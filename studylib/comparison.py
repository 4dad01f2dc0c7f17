"""What students keep of their teacher, from per-question rows: a line per model, over seeds, with intervals.

Retention is a ratio of means on the same questions and seeds, student over teacher. Its interval is that of the ratio
under draws shared by both (two-level bootstrap: seeds, then articles).
"""

import numpy as np
import pandas as pd

from studylib import statistics
from studylib.scoring import METRICS

FLOOR = 20.0  # a teacher below this F1 has nothing worth keeping
SETTING = ["family", "trained", "asked", "test_set", "language"]
MODEL = ["role", "student", "start", "targets", "objective", "steps", "parameters_total", "parameters_nonembedding"]


def compare(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per setting and model: mean scores over its seeds, retention of F1 and EM, reductions, all in percent.

    `f1_low` to `f1_high` and `retention_low` to `retention_high` (of F1) are 95 % intervals, missing where questions or
    articles are too few (`statistics.why_no_interval`); retention is missing where the teacher is below 20 F1.
    """
    lines = []
    for setting, group in rows.groupby(SETTING, sort=False):
        teacher = group[group.role == "teacher"]
        for model, own in group.groupby(MODEL, sort=False):
            lines.append(dict(zip(SETTING, setting, strict=True)) | dict(zip(MODEL, model, strict=True)) | _line(own, teacher))
    return pd.DataFrame(lines)


def _line(own: pd.DataFrame, teacher: pd.DataFrame) -> dict:
    seeds = sorted(set(own.seed) & set(teacher.seed))
    own, teacher = own[own.seed.isin(seeds)], teacher[teacher.seed.isin(seeds)]
    found = {"seeds": len(seeds), "n": own.question.nunique(), "articles": own.article.nunique()}
    found |= {metric: 100 * own[metric].mean() for metric in METRICS}
    for count in ("total", "nonembedding"):
        left = own[f"parameters_{count}"].iloc[0] / teacher[f"parameters_{count}"].iloc[0]
        found[f"reduction_{count}"] = 100 * (1 - left)
    both = [table.pivot(index="seed", columns="question", values="f1") for table in (own, teacher)]  # (S, n) each
    clusters = own[own.seed == seeds[0]].set_index("question").article[both[0].columns].to_numpy()
    compared = 100 * both[1].to_numpy().mean() >= FLOOR
    for metric in ("f1", "exact_match"):
        found[f"retention_{metric}"] = 100 * own[metric].mean() / teacher[metric].mean() if compared else np.nan
    if statistics.why_no_interval(clusters):
        return found | dict.fromkeys(("f1_low", "f1_high", "retention_low", "retention_high"), np.nan)
    drawn = statistics.resampled_means(np.stack([table.to_numpy() for table in both]), clusters, np.random.default_rng(0))
    low, high = statistics.interval(100 * drawn[:, 0])
    student = own.role.iloc[0] != "teacher"
    least, most = statistics.interval(100 * drawn[:, 0] / drawn[:, 1]) if compared and student else (np.nan, np.nan)
    return found | {"f1_low": low, "f1_high": high, "retention_low": least, "retention_high": most}
