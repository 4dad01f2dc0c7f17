"""What models keep of their teacher's scores, from per-question rows, over seeds, with intervals.

Retention is a ratio of means on the same questions and seeds, student over teacher. Its interval is
that of the ratio under draws shared by both (two-level bootstrap: seeds, then articles). With fewer
than five seeds only articles are drawn: such intervals are conditional on the seeds at hand.

Every question counts once: rows of repeats are left out (`pairing.distinct`). Every line names the
`runs` whose rows it is computed from (`run_ids`), and how many of its questions are `untouched`.
"""

from typing import Any

import numpy as np
import pandas as pd

from studylib.analysis import pairing, roles, run_ids, statistics
from studylib.core.labels import BASE, FINE_TUNED, METRICS, PRETRAINED

MARGIN = 90.0  # percent of its teacher's score that a student must keep
REPORTED = 57.1  # percent fewer parameters: the paper keeps more than MARGIN up to there (abstract)
PAPER = "Datta et al. (2025)"
# Of the students that the claim is about: cut from the fine-tuned teacher, or siblings of it.
HEAD_INITS = (FINE_TUNED, PRETRAINED)
FLOOR = 20.0  # a teacher below this F1 has nothing worth keeping
SETTING = ["family", "train_prompt", "eval_prompt", "test_set"]
PARAMETERS = ["parameters_total", "parameters_nonembedding"]
MODEL = ["role", "teacher", "student", "init", "targets", "objective", "steps", *PARAMETERS]
KEPT = ("f1", "exact_match")  # what retention is of
LIKENESS = ("agreement", "loyalty")
RETAINED = tuple(f"retention_{metric}" for metric in KEPT)
BOUNDED = (*METRICS, *LIKENESS, "calibration_error", *RETAINED)
BOUNDS = {name: (f"{name}_low", f"{name}_high") for name in BOUNDED}
SPREAD = {name: f"{name}_sd" for name in METRICS}  # over seeds
COUNTS = ["seeds", "n", "untouched", "articles"]
LINE = [
    *(*COUNTS, "language", *METRICS, *LIKENESS, *SPREAD.values(), "calibration_error"),
    *("reduction_total", "reduction_nonembedding", *RETAINED),
    *(bound for bounds in BOUNDS.values() for bound in bounds),
    "runs",
]
BINS = 10  # of probability, for the calibration error


def compare(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per setting and model, in percent: mean scores over its seeds, retention, reductions,
    and how like its teacher it is.

    `SPREAD` names the standard deviations of scores over seeds, `BOUNDS` the 95 % intervals of
    scores and retention. They are missing where questions or articles are too few
    (`statistics.enough`). Retention is missing where the teacher is below 20 F1.
    """
    lines, rows, identity = [], pairing.distinct(roles.compared(rows)), [*MODEL, "arm"]
    for setting, group in rows.groupby(SETTING, sort=False):
        teacher = group[group.role == "teacher"]
        for name, model in group[group.seed.isin(teacher.seed)].groupby(identity, sort=False):
            lines.append(
                dict(zip([*SETTING, *identity], [*setting, *name], strict=True))
                | _line(model, teacher)
            )
    return pd.DataFrame(lines, columns=[*SETTING, *identity, *LINE])


def on_untouched(rows: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """The comparison (`kept`, of the same rows) on untouched questions alone, on which claims rest.
    Test sets with questions that were looked at while choices were made are compared anew. The
    others stay as they are."""
    looked_at = rows.test_set.isin(rows.test_set[~rows.untouched])
    if not looked_at.any():
        return kept
    others = kept[~kept.test_set.isin(rows.test_set[looked_at])]
    return pd.concat([others, compare(rows[looked_at & rows.untouched])], ignore_index=True)


def by_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per setting, model and seed: F1, and retention of F1 (missing where the teacher is
    below 20 F1), in percent."""
    rows = pairing.distinct(roles.compared(rows))
    models = rows.groupby([*SETTING, *MODEL, "arm", "seed"], sort=False)
    seeds = pd.DataFrame(
        {"f1": 100 * models.f1.mean(), "run": models.run.agg(run_ids.joined)}
    ).reset_index()
    teachers = seeds[seeds.role == "teacher"].set_index([*SETTING, "seed"])[["f1", "run"]]
    seeds = seeds.join(teachers.add_prefix("teacher_"), on=[*SETTING, "seed"])
    retention = (100 * seeds.f1 / seeds.teacher_f1).where(seeds.teacher_f1 >= FLOOR)
    runs = zip(seeds.pop("run"), seeds.pop("teacher_run").fillna(""), strict=True)
    return seeds.assign(retention_f1=retention, runs=[run_ids.joined(both) for both in runs])


def bases(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per model as it comes from outside, test set and way of asking: EM and F1 in percent,
    with 95 % intervals."""
    columns = ["family", "student", "parameters_total", "eval_prompt", "test_set"]
    lines, rows = [], pairing.distinct(rows)
    for setting, model in rows[rows.role == BASE].groupby(columns, sort=False):
        values, clusters = pairing.scores([model], KEPT)
        scores = 100 * values[:, 0]  # (metric, S, n)
        line = dict(zip(columns, setting, strict=True)) | pairing.counts(model)
        line |= {metric: each.mean() for metric, each in zip(KEPT, scores, strict=True)}
        if statistics.enough_clusters(clusters):
            line |= bounds(dict(zip(KEPT, statistics.bootstrap(scores, clusters).T, strict=True)))
        lines.append(line | {"runs": run_ids.of(model)})
    measured = [name for metric in KEPT for name in (metric, *BOUNDS[metric])]
    return pd.DataFrame(lines, columns=[*columns, *COUNTS, *measured, "runs"])


def _line(model: pd.DataFrame, teacher: pd.DataFrame) -> dict:
    """Scores, reductions, retention and likeness of a model, on the seeds that its teacher has."""
    model, teacher = pairing.shared(model, teacher)
    intervals = _intervals(model, teacher)
    languages, seeds = model.language.unique(), model.groupby("seed")
    line: dict[str, Any] = pairing.counts(model)
    line["language"] = languages[0] if len(languages) == 1 else f"{len(languages)} languages"
    line |= {metric: 100 * model[metric].mean() for metric in (*METRICS, *LIKENESS)}
    line |= {SPREAD[metric]: 100 * seeds[metric].mean().std() for metric in METRICS}
    line["calibration_error"] = 100 * statistics.calibration_error(
        model.probability, model.exact_match, BINS
    )
    line |= {
        name.replace("parameters", "reduction"): 100
        * (1 - model[name].iloc[0] / teacher[name].iloc[0])
        for name in PARAMETERS
    }
    line |= {
        retained: 100 * model[metric].mean() / teacher[metric].mean()
        for metric, retained in zip(KEPT, RETAINED, strict=True)
        if _comparable(teacher) and teacher[metric].any()
    }
    return line | intervals | {"runs": run_ids.of(model, teacher)}


def _comparable(teacher: pd.DataFrame) -> bool:
    """Whether its F1 is high enough (`FLOOR`) for a share of it to mean anything."""
    return 100 * teacher.f1.mean() >= FLOOR


def _intervals(model: pd.DataFrame, teacher: pd.DataFrame) -> dict[str, float]:
    """The bounds of all that `BOUNDED` names and that there is something to say about, from one set
    of draws. Raises StudyError for models that answered other questions."""
    student = model.role.iloc[0] != "teacher"
    measured = [*METRICS, *(LIKENESS if student else ())]
    values, clusters = pairing.scores([model, teacher], [*measured, "probability"])
    if not statistics.enough_clusters(clusters):
        return {}
    *scores, confidence = values[:, 0]
    reference = values[[measured.index(metric) for metric in KEPT], 1]
    right = scores[measured.index("exact_match")]
    gaps = statistics.calibration_gaps(confidence, right, BINS)  # (bin, S, n)
    parts = np.concatenate([scores, reference, gaps])
    drawn = 100 * statistics.bootstrap(parts, clusters).T  # (part, repeats)
    samples = dict(zip(measured, drawn, strict=False))
    for metric, each in zip(measured, scores, strict=True):
        if (missing := np.isnan(each).any(0)).any():  # of students with a trimmed vocabulary
            if not statistics.enough_clusters(clusters[~missing]):
                del samples[metric]
            else:
                some = statistics.bootstrap(each[:, ~missing], clusters[~missing])
                samples[metric] = 100 * some
    if student and _comparable(teacher):
        samples |= {
            retained: 100 * samples[metric] / draws
            for metric, retained, draws in zip(KEPT, RETAINED, drawn[len(measured) :], strict=False)
            if draws.all()
        }
    return bounds(samples | {"calibration_error": np.abs(drawn[-BINS:]).sum(0)})


def bounds(samples: dict[str, np.ndarray]) -> dict[str, float]:
    """The 95 % intervals of bootstrap samples (repeats,), by the names in `BOUNDS`."""
    return {
        bound: edge
        for name, draws in samples.items()
        for bound, edge in zip(BOUNDS[name], statistics.interval(draws), strict=True)
    }
