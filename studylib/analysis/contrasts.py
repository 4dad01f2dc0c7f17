"""What models of one size differ by in points of F1, paired question by question, with tests; and
students and controls of all sizes together.

contrasts.judged(contrasts.contrasts(rows))     with what is significant
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from studylib.analysis import pairing, retention, roles, run_ids, statistics
from studylib.core import labels
from studylib.core.labels import BASE, CONTROL, FINE_TUNED, STUDENT, TEACHER

PAIR = ["contrast", "init", "student", "teacher", "objective"]
ADDED = "student − control"
OTHER_LOSSES, SMALLER_TEACHER = "other losses − main losses", "smaller teacher − uncut teacher"
AGAINST = {
    ADDED: (STUDENT, CONTROL),
    OTHER_LOSSES: (labels.OTHER_LOSSES, STUDENT),
    SMALLER_TEACHER: (labels.SMALLER_TEACHER, STUDENT),
}
MORE_TRAINING = "uncut control − teacher"
INHERITED = {
    STUDENT: "fine-tuned − base init, students",
    CONTROL: "fine-tuned − base init, controls",
}
TESTED = ["low", "high", "p", "p_holm", "detectable"]
DIFFERENCE = [*retention.COUNTS, "difference", *TESTED, "runs"]
CHECKS = ("loyalty", "calibration_error")  # also of student minus control, in points
CHECKED = [f"{name}{bound}" for name in CHECKS for bound in ("", "_low", "_high")]
POOLED = ["family", "train_prompt", "test_set", "contrast", "pairs", "sizes", "eval_prompts"]
Pairs = Sequence[tuple[pd.DataFrame, pd.DataFrame]]


def contrasts(rows: pd.DataFrame, primary: str = "") -> pd.DataFrame:
    """What models of one size differ by in points of F1, a line per setting, contrast, start, size,
    teacher and objective.

    Student minus control is what the teacher adds while training. Other losses or a smaller teacher
    are compared with the student. Fine-tuned minus base init is what is inherited through weights.
    An uncut control minus the teacher that it began as is what more training adds.
    Each side has the learning rate that is best for it. Loss weights may add up to different sums
    (`rates.differences`).

    The `primary` lines were declared beforehand: by the teacher of that name, asked as was trained,
    on the first test set. They are of untouched questions alone, the others of all. `low` to `high`
    is the 95 % interval. `p` is the article-level sign-flip test on means over seeds. `p_holm` is
    the same after Holm over all lines but the primary ones. `detectable` is the least difference
    that would be found in four cases of five. With enough seeds to draw from (`statistics.SEEDS`)
    it has the spread of the seeds in it. With fewer it is, like interval and test, for these seeds.
    All are missing where questions or articles are too few.

    Of student minus control, `loyalty` is how much nearer the student is to its teacher, and
    `calibration_error` how much larger that error is.
    """
    rows = pairing.distinct(rows)
    table, first = _contrasts(rows), rows.test_set.iloc[0]
    declared = (table.test_set == first) & (table.teacher == primary)
    return tested(table, declared & (table.eval_prompt == table.train_prompt), rows, _contrasts)


def pooled(rows: pd.DataFrame, *, declared: bool = False, complete: bool = True) -> pd.DataFrame:
    """Student minus control over all sizes and ways of asking, a line per family and test set: of
    each question the mean difference over all `pairs` of models that are cut from the fine-tuned
    teacher, or siblings of it; uncut ones are left out. Seeds are those that all have. There is no
    line where they share none, or were asked other questions.

    Where it was `declared` before any of these rows was there, it is the primary contrast: of
    untouched questions alone and, once its rows are `complete`, tested, `p_holm` after Holm over
    these lines. Elsewhere it is described, not tested: this line was chosen when rows of seed 0 in
    `small` had been seen.
    """
    rows = pairing.distinct(rows)
    models, lines = roles.compared(rows[rows.untouched] if declared else rows), []
    models = models[models.init.isin(retention.HEAD_INITS) & ~_uncut(models)]
    for setting, group in models.groupby(POOLED[:3], sort=False):
        pairs = [
            (model, other)
            for _, size in group.groupby(["eval_prompt", "student"], sort=False)
            for name, model, other in _pairs(size)
            if name == ADDED and len(model) and len(other)
        ]
        if len(pairs) > 1 and _are_shared(pairs):
            sizes, modes = (
                dict.fromkeys(model[name].iloc[0] for model, _ in pairs)
                for name in ("student", "eval_prompt")
            )
            counted = [len(pairs), len(sizes), " and ".join(modes)]
            named = dict(zip(POOLED, [*setting, ADDED, *counted], strict=True))
            lines.append(named | _difference(pairs, "f1") | manipulation_check(pairs))
    table = pd.DataFrame(lines, columns=[*POOLED, *DIFFERENCE, *CHECKED]).assign(primary=declared)
    if not (declared and complete):
        return table.assign(p=np.nan)
    corrected = table.p.notna()
    table.loc[corrected, "p_holm"] = statistics.holm(list(table.p[corrected]))
    table["detectable"] *= statistics.stricter(corrected.sum())
    return table


def _uncut(models: pd.DataFrame) -> pd.Series:
    """Which rows are of models with as many parameters as their family's teacher."""
    whole = models[models.role == TEACHER].groupby("family").parameters_total.max()
    return models.parameters_total == models.family.map(whole)


def tested(
    table: pd.DataFrame,
    primary: pd.Series,
    rows: pd.DataFrame,
    compare_rows: Callable[[pd.DataFrame], pd.DataFrame],
) -> pd.DataFrame:
    """The lines that `compare_rows` gives of `rows`. Those that are `primary` are made anew from
    untouched questions, and missing where none is. `p_holm` is Holm's over all other lines. What
    can be detected is by his first step, the strictest."""
    if not rows.untouched.all() and primary.any():
        names = [name for name in table if name not in (*DIFFERENCE, *CHECKED)]
        lines, fresh = table.loc[primary, names], compare_rows(rows[rows.untouched])
        untouched = lines.merge(fresh, how="left", on=names).set_index(lines.index)
        table = pd.concat([table[~primary], untouched]).loc[table.index]
    table["primary"], table["p_holm"] = primary, table.p.where(primary)
    corrected = table.p.notna() & ~primary
    table.loc[corrected, "p_holm"] = statistics.holm(list(table.p[corrected]))
    table.loc[corrected, "detectable"] *= statistics.stricter(corrected.sum())
    return table


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """The lines with what is `tested` at all, and `significant`. That is by the test, corrected for
    the number of lines, and by an interval that leaves out 0."""
    around_zero = (table.low <= 0) & (table.high >= 0)
    significant = (table.p_holm <= statistics.LEVEL) & ~around_zero
    return table.assign(tested=table.p_holm.notna(), significant=significant)


def difference(model: pd.DataFrame, other: pd.DataFrame, metric: str = "f1") -> dict:
    """The mean paired difference of a metric in points on the seeds that both have, as in
    `DIFFERENCE`. Raises StudyError for models that answered other questions."""
    return _difference([(model, other)], metric)


def _difference(pairs: Pairs, metric: str) -> dict:
    """The same of the mean over some pairs of models."""
    both = _shared(pairs)
    values, clusters = pairing.scores(both, [metric])
    differences = 100 * (values[0, ::2] - values[0, 1::2]).mean(0)  # (S, n)
    line = pairing.counts(both[0]) | {"difference": differences.mean(), "runs": run_ids.of(*both)}
    if not statistics.enough_clusters(clusters):
        return line
    means = differences.mean(0)
    low, high = statistics.interval(statistics.bootstrap(differences, clusters))
    effect = statistics.design_effect(means, clusters) if means.any() and means.std() else 1.0
    least = statistics.detectable(means.std(ddof=1), len(means), effect)
    if len(differences) >= statistics.SEEDS:
        spread = differences.mean(1).std(ddof=1)
        least = np.hypot(least, statistics.detectable(spread, len(differences)))
    p = statistics.sign_flip(means, clusters, np.random.default_rng(0))
    return line | {"low": low, "high": high, "p": p, "detectable": least}


def manipulation_check(pairs: Pairs) -> dict[str, float]:
    """Whether students came closer to their teacher than their controls at all, the mean over
    pairs, in points: loyalty to it, on the questions that have one, and calibration error."""
    shared = _shared(pairs)
    (probability, right), clusters = pairing.scores(shared, ["probability", "exact_match"])
    gaps = 100 * statistics.calibration_gaps(probability, right, retention.BINS)
    line = {"calibration_error": float(_error(gaps.mean((-2, -1))))}
    if statistics.enough_clusters(clusters):
        line |= retention.bounds(
            {"calibration_error": _error(statistics.bootstrap(gaps, clusters))}
        )
    if len((compared := pairing.known(shared, "loyalty"))[0]):
        (loyalty,), clusters = pairing.scores(compared, ["loyalty"])  # (2 * pairs, S, n)
        nearer = 100 * (loyalty[::2] - loyalty[1::2]).mean(0)
        line["loyalty"] = nearer.mean()
        if statistics.enough_clusters(clusters):
            line |= retention.bounds({"loyalty": statistics.bootstrap(nearer, clusters)})
    return line


def _error(gaps: np.ndarray) -> np.ndarray:
    """The mean difference of calibration errors (...), by gaps (..., bin, 2 * pairs)."""
    errors = np.abs(gaps).sum(-2)
    return (errors[..., ::2] - errors[..., 1::2]).mean(-1)


def _are_shared(pairs: Pairs) -> bool:
    """Whether all models have some seed, and the same questions."""
    models = [model for pair in pairs for model in pair]
    first = set(models[0].question)
    seeds = set.intersection(*(set(model.seed) for model in models))
    return bool(seeds) and all(set(model.question) == first for model in models)


def _shared(pairs: Pairs) -> list[pd.DataFrame]:
    """The rows of all models, one after the other, on the seeds that all have."""
    return pairing.shared(*(model for pair in pairs for model in pair))


def _contrasts(rows: pd.DataFrame) -> pd.DataFrame:
    """Those lines, not yet corrected for their number."""
    lines = [
        model[[*retention.SETTING, *PAIR[1:]]].iloc[0].to_dict()
        | {"contrast": name}
        | difference(model, other)
        | (manipulation_check([(model, other)]) if name == ADDED else {})
        for name, model, other in _compared(roles.compared(rows))
        if set(model.seed) & set(other.seed)
    ]
    return pd.DataFrame(lines, columns=[*retention.SETTING, *PAIR, *DIFFERENCE, *CHECKED])


def _compared(models: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """The contrasts of all settings and sizes, by name, with the rows of both sides."""
    students = models[models.student != ""]
    for _, group in students.groupby([*retention.SETTING, "student"], sort=False):
        yield from _pairs(group)
    for _, group in models[_uncut(models)].groupby(retention.SETTING, sort=False):
        controls, teacher = group[group.arm == CONTROL], group[group.role == TEACHER]
        for _, control in controls[controls.init == FINE_TUNED].groupby("student", sort=False):
            yield MORE_TRAINING, control, teacher


def _pairs(models: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """The contrasts among models of one setting and size, by name, with the rows of both sides."""
    for _, group in models.groupby("init", sort=False):
        for name, (arm, against) in AGAINST.items():
            other = group[group.arm == against]
            for _, model in group[group.arm == arm].groupby(["teacher", "objective"], sort=False):
                yield name, model, other
    for arm, name in INHERITED.items():
        side = models[models.arm == arm]
        yield name, side[side.init == FINE_TUNED], side[side.init == BASE]
