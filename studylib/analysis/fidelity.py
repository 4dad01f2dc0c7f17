"""Do students that are nearer to their teacher answer better? Over all methods of one student.

After *generalisation against fidelity* (2025, arXiv:2505.15442); its sweeps of the temperature and
of noise on the teacher's logits are the profile `small-fidelity`. Left out: fidelity of texts by
n-grams.
"""

import numpy as np
import pandas as pd

from studylib.analysis import pairing, roles, run_ids, statistics
from studylib.analysis.methods_table import MODEL, SETTING, other_way
from studylib.core.labels import STUDENT

FIDELITY = {"loyalty": "loyalty", "agreement": "agreement with the teacher"}
FEW_METHODS = 5  # of fewer no correlation is given


def correlations(rows: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rank correlation, over students, of their F1 with how near they are to their
    teacher: a line per setting and measure of that, with its 95 % interval.

    The interval is of a bootstrap over articles, which all students share (`pairing.scores`): it is
    for these methods, and says nothing of others. It is missing where articles are too few, and the
    line where students are.
    """
    lines = []
    students = pairing.distinct(rows[rows.role == STUDENT])
    students = students[~other_way(students.assign(arm=roles.arms(students)))]
    for setting, part in students.groupby(SETTING, sort=False):
        models = [model for _, model in part.groupby(MODEL[2:], sort=False)]
        for measure, title in FIDELITY.items():
            measured = [model for model in models if model[measure].notna().any()]
            if len(measured) >= FEW_METHODS:
                line = dict(zip(SETTING, setting, strict=True)) | {"measure": title}
                known = pairing.known(pairing.shared(*measured), measure)
                lines.append(line | _correlation(known, measure))
    columns = [*SETTING, "measure", "methods", "correlation", "low", "high", "runs"]
    return pd.DataFrame(lines, columns=columns)


def _correlation(models: list[pd.DataFrame], measure: str) -> dict:
    values, clusters = pairing.scores(models, ["f1", measure])  # (2, models, S, n)
    line = {
        "methods": len(models),
        "correlation": float(spearman(*values.mean((-2, -1)))),
        "runs": run_ids.of(*models),
    }
    if statistics.enough_clusters(clusters):
        drawn = statistics.bootstrap(values, clusters)  # (repeats, 2, models)
        line["low"], line["high"] = statistics.interval(spearman(drawn[:, 0], drawn[:, 1]))
    return line


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Rank correlations of scores (..., models); 0 where all of one side are equal."""
    return statistics.correlation(_ranks(first), _ranks(second))


def _ranks(scores: np.ndarray) -> np.ndarray:
    """The ranks of scores among the last axis, equal ones their mean."""
    lines = pd.DataFrame(scores.reshape(-1, scores.shape[-1]))
    return lines.rank(axis="columns").to_numpy().reshape(scores.shape)
