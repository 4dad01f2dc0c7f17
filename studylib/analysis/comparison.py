"""What students keep of their teacher and gain on their twins, from per-question rows, over seeds,
with intervals.

Retention is a ratio of means on the same questions and seeds, student over teacher. Its interval is
that of the ratio under draws shared by both (two-level bootstrap: seeds, then articles); that of a
difference likewise. With fewer than five seeds only articles are drawn: such intervals, and all
tests, are conditional on the seeds at hand.

Every question counts once: rows of repeats are left out (`pairing.distinct`). Every line names the
`runs` whose rows it is computed from (`keys`), and how many of its questions are `untouched`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product

import numpy as np
import pandas as pd

from studylib.analysis import pairing, run_ids, statistics
from studylib.core import sizes
from studylib.core.labels import BASE, FOLDED, METRICS, RAW, TUNED, TWIN, rung

MARGIN = 90.0  # percent of its teacher's score that a student must keep
# percent: up to so many fewer parameters the paper reports that more than MARGIN is kept (its
# abstract)
REPORTED = 57.1
PAPER = "Datta et al. (2025)"
FEW_TEACHERS = 4  # of fewer no correlation is given
HEAD_STARTS = (
    "tuned",
    "pretrained",
)  # of the students that the claim is about: cut from the tuned teacher, or siblings of it
# parameters of the best teacher over its student's (Zhang et al., 2025, arXiv:2311.07052, in
# others' words)
LAW = 2.5
UNCOMPARED = ("guide", BASE)  # roles that are not compared with a tuned teacher
FLOOR = 20.0  # a teacher below this F1 has nothing worth keeping
SETTING = ["family", "trained", "asked", "test_set"]
MODEL = [
    "role",
    "teacher",
    "student",
    "start",
    "targets",
    "objective",
    "steps",
    "parameters_total",
    "parameters_nonembedding",
]
KEPT = ("f1", "exact_match")  # what retention is of
ALIKE = ("agreement", "loyalty")
BOUNDED = (*METRICS, *ALIKE, "calibration_error", *(f"retention_{metric}" for metric in KEPT))
BOUNDS = {name: (f"{name}_low", f"{name}_high") for name in BOUNDED}
SPREAD = {name: f"{name}_sd" for name in METRICS}  # over seeds
LINE = [
    "seeds",
    "n",
    "untouched",
    "articles",
    "language",
    *METRICS,
    *ALIKE,
    *SPREAD.values(),
    "calibration_error",
]
LINE += ["reduction_total", "reduction_nonembedding", *(f"retention_{metric}" for metric in KEPT)]
LINE += [*(bound for bounds in BOUNDS.values() for bound in bounds), "runs"]
R = ("r", "r_low", "r_high")
APART = ("apart", "apart_low", "apart_high")
BINS = 10  # of probability, for the calibration error

PAIR = ["contrast", "start", "student", "teacher", "objective"]
ADDED = "student − twin"
AGAINST = {
    ADDED: ("student", "twin"),
    "rival − student": ("rival", "student"),
    "pupil − student": ("pupil", "student"),
}
INHERITED = {"student": "tuned − raw start, students", "twin": "tuned − raw start, twins"}
WHOLE, TRAINING = "in training and asking", "in training"  # where a demonstration is shown
ASKING, CHOOSING = "in asking", "in asking, chosen otherwise"
FOLDING, BOTH = "folded in by the teacher (context distillation)", "folded in, and shown in asking"
TESTED = ["low", "high", "p", "p_holm", "detectable"]
DIFFERENCE = ["seeds", "n", "untouched", "articles", "difference", *TESTED, "runs"]


def titled(table: pd.DataFrame, family: str, *others: str) -> str:
    """What a part of a table is of, in words: its family only where there are several."""
    return ", ".join(([family] if table.family.nunique() > 1 else []) + list(others))


def compare(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per setting and model: mean scores over its seeds, retention of F1 and EM, reductions,
    and how like its teacher it is, in percent.

    `SPREAD` names the standard deviations of scores over seeds, `BOUNDS` the 95 % intervals of
    scores and retention, missing where questions or articles are too few (`statistics.enough`);
    retention is missing where the teacher is below 20 F1.
    """
    lines, rows = [], pairing.distinct(rows)
    for setting, group in rows[~rows.role.isin(UNCOMPARED)].groupby(SETTING, sort=False):
        teacher = group[group.role == "teacher"]
        for model, own in group[group.seed.isin(teacher.seed)].groupby(MODEL, sort=False):
            lines.append(
                dict(zip(SETTING, setting, strict=True))
                | dict(zip(MODEL, model, strict=True))
                | _line(own, teacher)
            )
    return pd.DataFrame(lines, columns=[*SETTING, *MODEL, *LINE])


def on_untouched(rows: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """The comparison (`kept`, of the same rows) on untouched questions alone, on which claims rest:
    of test sets with questions that were looked at while choices were made, compared anew; of the
    others as it is."""
    looked_at = rows.test_set.isin(rows.test_set[~rows.untouched])
    if not looked_at.any():
        return kept
    fresh = compare(rows[looked_at & rows.untouched])
    return pd.concat(
        [kept[~kept.test_set.isin(rows.test_set[looked_at])], fresh], ignore_index=True
    )


def by_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per setting, model and seed: F1, and retention of F1 (missing where the teacher is
    below 20 F1), in percent."""
    rows = pairing.distinct(rows)
    found = rows[~rows.role.isin(UNCOMPARED)].groupby([*SETTING, *MODEL, "seed"], sort=False)
    each = pd.DataFrame(
        {"f1": 100 * found.f1.mean(), "run": found.run.agg(run_ids.joined)}
    ).reset_index()
    theirs = (
        each[each.role == "teacher"]
        .set_index([*SETTING, "seed"])[["f1", "run"]]
        .add_prefix("teacher_")
    )
    each = each.join(theirs, on=[*SETTING, "seed"])
    each = each.assign(
        retention_f1=(100 * each.f1 / each.teacher_f1).where(each.teacher_f1 >= FLOOR)
    )
    runs = [
        run_ids.joined(both)
        for both in zip(each.pop("run"), each.pop("teacher_run").fillna(""), strict=True)
    ]
    return each.assign(runs=runs)


def bases(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per model as it comes from outside, test set and way of asking: EM and F1 in percent,
    with 95 % intervals."""
    columns = ["family", "student", "parameters_total", "asked", "test_set"]
    lines, rows = [], pairing.distinct(rows)
    for about, group in rows[rows.role == BASE].groupby(columns, sort=False):
        values, clusters = _paired([group], KEPT)
        scores, enough = 100 * values[:, 0], _enough(clusters)  # (metric, S, n)
        drawn = _drawn(scores, clusters).T if enough else None
        line = dict(zip(columns, about, strict=True)) | {
            "seeds": group.seed.nunique(),
            **_counts(group),
        }
        for number, metric in enumerate(KEPT):
            bounds = statistics.interval(drawn[number]) if drawn is not None else (np.nan, np.nan)
            line |= {metric: scores[number].mean()} | dict(zip(BOUNDS[metric], bounds, strict=True))
        lines.append(line | {"runs": run_ids.of(group)})
    named = [name for metric in KEPT for name in (metric, *BOUNDS[metric])]
    return pd.DataFrame(
        lines, columns=[*columns, "seeds", "n", "untouched", "articles", *named, "runs"]
    )


def _line(own: pd.DataFrame, teacher: pd.DataFrame) -> dict:
    own, teacher = _same_seeds(own, teacher)
    spoken = own.language.unique()
    found = {"seeds": own.seed.nunique(), **_counts(own)}
    found |= {"language": spoken[0] if len(spoken) == 1 else f"{len(spoken)} languages"}
    found |= {metric: 100 * own[metric].mean() for metric in (*METRICS, *ALIKE)}
    found |= {SPREAD[metric]: 100 * own.groupby("seed")[metric].mean().std() for metric in METRICS}
    found["calibration_error"] = 100 * statistics.calibration_error(
        own.probability, own.exact_match, BINS
    )
    for count in ("total", "nonembedding"):
        left = own[f"parameters_{count}"].iloc[0] / teacher[f"parameters_{count}"].iloc[0]
        found[f"reduction_{count}"] = 100 * (1 - left)
    compared = 100 * teacher.f1.mean() >= FLOOR
    for metric in KEPT:
        found[f"retention_{metric}"] = (
            100 * own[metric].mean() / teacher[metric].mean()
            if compared and teacher[metric].any()
            else np.nan
        )
    found |= dict.fromkeys(
        (bound for bounds in BOUNDS.values() for bound in bounds), np.nan
    ) | _intervals(own, teacher, compared)
    return found | {"runs": run_ids.of(own, teacher)}


def _counts(own: pd.DataFrame) -> dict[str, int]:
    """Questions, those of them that are untouched, and articles."""
    questions, untouched = own.question.nunique(), own.question[own.untouched].nunique()
    return {"n": questions, "untouched": untouched, "articles": own.article.nunique()}


def _intervals(own: pd.DataFrame, teacher: pd.DataFrame, compared: bool) -> dict[str, float]:
    """The bounds of all that `BOUNDED` names and that there is something to say about, from one set
    of draws."""
    student = own.role.iloc[0] != "teacher"
    measured = [*METRICS, *(ALIKE if student else ())]
    values, clusters = _paired([own], [*measured, "probability"])  # (metric, 1, S, n)
    if not _enough(clusters):
        return {}
    taught, _ = _paired([teacher], KEPT)
    *scores, sure = values[:, 0]
    within = np.minimum((sure * BINS).astype(int), BINS - 1) == np.arange(BINS)[:, None, None]
    parts = np.concatenate(
        [scores, taught[:, 0], within * (sure - scores[measured.index("exact_match")])]
    )
    drawn = 100 * _drawn(parts, clusters).T  # (part, repeats)
    samples = dict(zip(measured, drawn, strict=False))
    if student and compared:
        whole = zip(KEPT, drawn[len(measured) :], strict=False)
        samples |= {
            f"retention_{metric}": 100 * samples[metric] / theirs
            for metric, theirs in whole
            if theirs.all()
        }
    samples["calibration_error"] = np.abs(drawn[-BINS:]).sum(0)
    return {
        bound: value
        for name, draws in samples.items()
        for bound, value in zip(BOUNDS[name], statistics.interval(draws), strict=True)
    }


def _drawn(values: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Bootstrap means (repeats, ...) of values (..., S, n), always by the same draws; few seeds are
    not drawn, but averaged."""
    values = values.mean(-2, keepdims=True) if values.shape[-2] < statistics.SEEDS else values
    return statistics.means_of(values, clusters, _draws(values.shape[-2], len(set(clusters))))


@lru_cache(maxsize=2)
def _draws(seeds: int, groups: int) -> tuple[np.ndarray, np.ndarray]:
    return statistics.draws(seeds, groups, np.random.default_rng(0))


def contrasts(rows: pd.DataFrame, primary: str = "") -> pd.DataFrame:
    """What models of one size differ by in points of F1, a line per setting, contrast, start, size,
    teacher and objective.

    Student minus twin is what the teacher adds while training; rival minus student, what other
    losses do; pupil minus student, what a smaller teacher does; tuned minus raw start, what is
    inherited through weights. Where several rates are searched, each side has the one that is best
    for it, and loss weights may add up to different sums (`rates.differences`).

    The `primary` lines are of untouched questions alone, the others of all. `low` to `high` is the
    95 % interval; `p` the article-level sign-flip test on means over seeds, `p_holm` the same after
    Holm over all lines but the `primary` ones, declared beforehand: by the teacher of that name,
    asked as was trained, on the first test set; `detectable` the least difference that would be
    found in four cases of five: with enough seeds to draw from (`statistics.SEEDS`) the spread of
    the seeds is in it; with fewer it is, like interval and test, for these seeds. All missing where
    questions or articles are too few.
    """
    rows = pairing.distinct(rows)
    table = _contrasts(rows)
    declared = (
        (table.test_set == rows.test_set.iloc[0])
        & (table.teacher == primary)
        & (table.asked == table.trained)
    )
    return _corrected(_on_untouched(table, declared, rows, _contrasts), declared)


def _contrasts(rows: pd.DataFrame) -> pd.DataFrame:
    """Those lines, not yet corrected for their number."""
    lines = []
    for setting, group in rows[(rows.student != "") & ~rows.role.isin(UNCOMPARED)].groupby(
        [*SETTING, "student"], sort=False
    ):
        for pair, one, other in _pairs(group):
            if set(one.seed) & set(other.seed):
                named = one[["start", "student", "teacher", "objective"]].iloc[0].to_dict()
                lines.append(
                    dict(zip([*SETTING, "student"], setting, strict=True))
                    | {"contrast": pair}
                    | named
                    | difference(one, other)
                )
    return pd.DataFrame(lines, columns=[*SETTING, *PAIR, *DIFFERENCE])


def _pairs(models: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """The contrasts among models of one setting and size, by name, with the rows of both sides."""
    for _, alike in models.groupby("start", sort=False):
        for name, (role, against) in AGAINST.items():
            other = alike[alike.role == against]
            for _, one in alike[alike.role == role].groupby(["teacher", "objective"], sort=False):
                yield name, one, other
    for role, name in INHERITED.items():
        tuned, raw = (
            models[(models.role == role) & (models.start == start)] for start in ("tuned", "raw")
        )
        if len(tuned):
            yield name, tuned, raw


LADDER = [*SETTING, "student", "teacher", "ratio", "teacher_f1", "f1", *BOUNDS["f1"], "runs"]


def ladder(rows: pd.DataFrame) -> pd.DataFrame:
    """A student under ever larger teachers: a line per setting and teacher, with the `ratio` of
    their parameters, both scores and the interval of the student's; pupils on the seeds that they
    have, and siblings that learn from several families, whose own name is then their family and the
    families' are their teachers'."""
    return pd.concat([_pupils(rows), _shared(rows)], ignore_index=True)


def _shared(rows: pd.DataFrame) -> pd.DataFrame:
    """That of siblings that are students in several families."""
    if not (rows.start == "pretrained").any():
        return pd.DataFrame(columns=LADDER)
    kept, lines = compare(rows[rows.role.isin(("teacher", "student"))]), []
    theirs = kept[kept.role == "teacher"].set_index(SETTING).f1
    students = kept[(kept.role == "student") & (kept.start == "pretrained")]
    for (name, trained, asked, test), group in students.groupby(
        [students.student.map(sizes.written), *SETTING[1:]], sort=False
    ):
        for one in group.to_dict("records") if len(group) > 1 else ():
            about = {
                "family": name,
                "trained": trained,
                "asked": asked,
                "test_set": test,
                "student": one["student"],
                "teacher": one["family"],
            }
            ratio, taught_by = (
                1 / (1 - one["reduction_total"] / 100),
                theirs[one["family"], trained, asked, test],
            )
            lines.append(
                about
                | {"ratio": ratio, "teacher_f1": taught_by}
                | {name: one[name] for name in ("f1", *BOUNDS["f1"], "runs")}
            )
    return pd.DataFrame(lines, columns=LADDER).sort_values(
        ["family", *SETTING[1:], "ratio"], kind="stable"
    )


def law(rows: pd.DataFrame) -> pd.DataFrame:
    """Under how large a teacher a sibling does best: a line per sibling that learns in at least
    `FEW_TEACHERS` families, way of asking and test set, with the `ratio` of parameters where a
    parabola in its logarithm, through the students' F1, is highest, from `low` to `high`.

    The ratio is missing where the parabola has no summit between the smallest and the largest
    teacher, `least` to `most`; `within` is the share of draws of the bootstrap in which it has one,
    and the interval is over those. After Zhang et al. (2025, arXiv:2311.07052), who find 2.5 by
    such curves; their fit is not known here.
    """
    columns, lines = (
        ["student", *SETTING[1:], "teachers", "least", "most", "ratio", "low", "high", "within"],
        [],
    )
    rows = pairing.distinct(rows)
    students = rows[(rows.role == "student") & (rows.start == "pretrained")]
    for setting, group in students.groupby(
        [students.student.map(sizes.written), *SETTING[1:]], sort=False
    ):
        families = dict(list(group.groupby("family", sort=False)))
        if len(families) < FEW_TEACHERS:
            continue
        own = _same_seeds(*families.values())
        whole = rows[rows.role == "teacher"].groupby("family").parameters_total.first()
        ratios = np.array(
            [whole[family] / one.parameters_total.iloc[0] for family, one in families.items()]
        )
        values, clusters = _paired(own, ["f1"])
        found = dict.fromkeys(("low", "high", "within"), np.nan) | {
            "ratio": _summits(ratios, values[0].mean((-2, -1))[None])[0]
        }
        if _enough(clusters):
            drawn = _summits(ratios, _drawn(values[0], clusters))
            found["within"] = np.isfinite(drawn).mean()
            if found["within"] > 0:
                found["low"], found["high"] = statistics.interval(drawn[np.isfinite(drawn)])
        about = dict(zip(["student", *SETTING[1:]], setting, strict=True))
        lines.append(
            about | {"teachers": len(ratios), "least": ratios.min(), "most": ratios.max()} | found
        )
    return pd.DataFrame(lines, columns=columns)


def _summits(ratios: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Where parabolas in log ratio through scores (repeats, teacher) are highest, (repeats,); no
    number where that is not between the teachers."""
    places = np.log(ratios)
    curved, steep, _ = np.polyfit(places, scores.T, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        summit = -steep / (2 * curved)
    inside = (curved < 0) & (summit >= places.min()) & (summit <= places.max())
    return np.exp(np.where(inside, summit, np.nan))


def _pupils(rows: pd.DataFrame) -> pd.DataFrame:
    """That of pupils, on the seeds that they have."""
    shared, found = rows[rows.seed.isin(rows.seed[rows.role == "pupil"])], []
    if shared.empty:
        return pd.DataFrame(columns=LADDER)
    for setting, group in compare(shared).groupby(SETTING, sort=False):
        lines, pupils = [], group[group.role == "pupil"]
        twins = group[(group.role == "twin") & (group.start == "tuned")]
        named = [*(rung(sizes.written(name)) for name in twins.student), TUNED]
        teachers = dict(
            zip(
                named,
                pd.concat([twins, group[group.role == "teacher"]]).to_dict("records"),
                strict=True,
            )
        )
        students = group[
            (group.role == "student")
            & (group.start == "tuned")
            & group.student.isin(pupils.student)
        ]
        for one in pd.concat([pupils, students]).to_dict("records"):
            if (theirs := teachers.get(one["teacher"])) is None:
                continue  # not answered yet
            ratio = (1 - theirs["reduction_total"] / 100) / (1 - one["reduction_total"] / 100)
            scores = {name: one[name] for name in ("student", "teacher", "f1", *BOUNDS["f1"])}
            scores |= {
                "ratio": ratio,
                "teacher_f1": theirs["f1"],
                "runs": run_ids.joined([one["runs"], theirs["runs"]]),
            }
            lines.append(dict(zip(SETTING, setting, strict=True)) | scores)
        found += sorted(lines, key=lambda line: line["ratio"])
    return pd.DataFrame(found, columns=LADDER)


def pareto(costs: pd.DataFrame) -> pd.DataFrame:
    """The costs (`study.timing`), means over seeds, with `front`: of the family and test set's
    models of at least 20 F1 none has a higher one in as little time."""
    each = costs.drop(columns=["seed", "planned"])
    about = [
        name
        for name in each
        if name == "steps" or not (name == "runs" or pd.api.types.is_numeric_dtype(each[name]))
    ]
    grouped = each.groupby(about, sort=False)
    mean = (
        grouped.mean(numeric_only=True).assign(runs=grouped.runs.agg(run_ids.joined)).reset_index()
    )
    ordered = mean.sort_values(["time", "f1"], ascending=[True, False])
    best = ordered.groupby(["family", "trained", "test_set"], sort=False).f1.transform(
        lambda f1: f1.cummax().shift(fill_value=-1)
    )
    return mean.assign(front=(ordered.f1 > best.clip(lower=FLOOR)).reindex(mean.index))


def _on_untouched(
    table: pd.DataFrame,
    primary: pd.Series,
    rows: pd.DataFrame,
    compare_rows: Callable[[pd.DataFrame], pd.DataFrame],
) -> pd.DataFrame:
    """The lines that `compare_rows` gives, with those that are `primary` made anew from untouched
    questions; missing where none is."""
    if rows.untouched.all() or not primary.any():
        return table
    named = [name for name in table if name not in DIFFERENCE]
    fresh = compare_rows(rows[rows.untouched])
    claimed = (
        table.loc[primary, named].merge(fresh, how="left", on=named).set_index(table.index[primary])
    )
    return pd.concat([table[~primary], claimed]).loc[table.index]


def _corrected(table: pd.DataFrame, primary: pd.Series) -> pd.DataFrame:
    """The contrasts with `p_holm`, Holm's over all lines that are not `primary`, and with what can
    be detected by his first step, the strictest."""
    table["primary"] = primary
    table["p_holm"] = table.p.where(primary)
    tested = table.p.notna() & ~primary
    table.loc[tested, "p_holm"] = statistics.holm(list(table.p[tested]))
    table.loc[tested, "detectable"] *= statistics.stricter(tested.sum())
    return table


def prompting(rows: pd.DataFrame, trained: Sequence[str], asked: Sequence[str]) -> pd.DataFrame:
    """What ways of prompting are worth in points of F1: a line per family, test set, role and two
    ways of training and asking, with the `contrast` that they belong to.

    Of the ways of training the first is plain and the last shows a demonstration. Columns as in
    `contrasts`; the comparison of whole ways, of students on the first test set, was declared
    beforehand and is not corrected, the others by Holm over all of them.
    """
    rows = pairing.distinct(rows)
    table = _prompting(rows, trained, asked)
    declared = (
        (table.role == "student")
        & (table.contrast == WHOLE)
        & (table.test_set == rows.test_set.iloc[0])
    )
    return _corrected(
        _on_untouched(table, declared, rows, lambda some: _prompting(some, trained, asked)),
        declared,
    )


def _prompting(rows: pd.DataFrame, trained: Sequence[str], asked: Sequence[str]) -> pd.DataFrame:
    """Those lines, not yet corrected for their number."""
    lines, columns = [], ["family", "test_set", "role", "contrast", "ways"]
    for (family, test), group in rows.groupby(["family", "test_set"], sort=False):
        for role in ("student", "teacher"):
            there = dict(list(group[group.role == role].groupby(["teacher", "trained", "asked"])))
            for contrast, ways, one, other in _ways(trained, asked):
                if (
                    one in there
                    and other in there
                    and set(there[one].seed) & set(there[other].seed)
                ):
                    named = dict(zip(columns, (family, test, role, contrast, ways), strict=True))
                    lines.append(named | difference(there[one], there[other]))
    return pd.DataFrame(lines, columns=[*columns, *DIFFERENCE])


def _ways(trained: Sequence[str], asked: Sequence[str]) -> Iterator[tuple[str, str, tuple, tuple]]:
    """What is compared of ways of prompting: contrast, both ways in words, and as (teacher,
    trained, asked) the one and the other."""
    plain, last = trained[0], trained[-1]
    yield WHOLE, declared(trained), (TUNED, last, last), (TUNED, plain, plain)
    for number, contrast in enumerate((ASKING, CHOOSING)):
        for mode, other in product(trained, asked[number + 1 :]):
            yield (
                contrast,
                f"trained {mode}: asked {other}, not {asked[number]}",
                (TUNED, mode, other),
                (TUNED, mode, asked[number]),
            )
    for mode in asked:
        yield (
            TRAINING,
            f"asked {mode}: trained {last}, not {plain}",
            (TUNED, last, mode),
            (TUNED, plain, mode),
        )
    for mode in asked:
        contrast = FOLDING if mode == plain else BOTH
        yield (
            contrast,
            f"asked {mode}: the demonstration folded in, not unseen",
            (FOLDED, plain, mode),
            (TUNED, plain, mode),
        )


def declared(trained: Sequence[str]) -> str:
    """The comparison of ways of prompting that was declared before its results were known, in
    words."""
    return f"{trained[-1]} in training and asking, not {trained[0]}"


def by_trait(rows: pd.DataFrame, trained: Sequence[str]) -> pd.DataFrame:
    """Which questions gain by a demonstration: F1 of the student that is shown one in training and
    asking minus that of the one that never is, a line per family, test set, trait of the question
    and its value, with 95 % intervals, and how far (`apart`) that is above the other questions' on
    the same test set; nothing is tested here. Where some values on a test set have questions enough
    for an interval, those that have not are left out."""
    lines, rows = [], pairing.distinct(rows)
    columns = [
        "family",
        "test_set",
        "trait",
        "value",
        "seeds",
        "n",
        "untouched",
        "articles",
        "difference",
        "low",
        "high",
        *APART,
        "runs",
    ]
    for (family, test), group in rows[(rows.role == "student") & (rows.teacher == TUNED)].groupby(
        ["family", "test_set"], sort=False
    ):
        plain, shown = (
            group[(group.trained == mode) & (group.asked == mode)]
            for mode in (trained[0], trained[-1])
        )
        if not set(plain.seed) & set(shown.seed):
            continue
        for trait, values in _traits(plain).items():
            for value in values.cat.categories:
                here = set(plain.question[values == value])
                if not here:
                    continue
                found = difference(*(one[one.question.isin(here)] for one in (shown, plain)))
                lines.append(
                    {
                        "family": family,
                        "test_set": test,
                        "trait": trait,
                        "value": value,
                        **found,
                        **_apart(shown, plain, here),
                    }
                )
    table = pd.DataFrame(lines, columns=columns)
    bounded = table.low.notna()
    return table[bounded | ~bounded.groupby([table.family, table.test_set]).transform("any")]


def _apart(shown: pd.DataFrame, plain: pd.DataFrame, here: set) -> dict[str, float]:
    """How far the difference of both is above that of the other questions on these questions, where
    there are enough of both."""
    both = _same_seeds(shown, plain)
    values, clusters = _paired(both, ["f1"])
    inside = np.isin(np.unique(both[0].question), list(here))
    if not (_enough(clusters[inside]) and _enough(clusters[~inside])):
        return dict.fromkeys(APART, np.nan)
    difference = 100 * (values[0, 0] - values[0, 1])  # (S, n)
    parts = np.stack(
        [
            part * np.ones_like(difference)
            for side in (inside, ~inside)
            for part in (difference * side, side)
        ]
    )
    found, drawn = parts.mean((-2, -1)), _drawn(parts, clusters).T
    point, each = (own / share - others / rest for own, share, others, rest in (found, drawn))
    return dict(zip(APART, (point, *statistics.interval(each)), strict=True))


def _traits(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Traits of questions (`prompts.traits`), numbers in classes; of many questions words that few
    ask with are other words, and those of languages but English are none."""
    asks = rows.asks.where(rows.language == "en")
    if rows.question.nunique() >= statistics.QUESTIONS:
        common = rows.groupby(asks).question.nunique() >= statistics.QUESTIONS
        asks = asks.where(asks.isna() | asks.isin(common[common].index), "other")
    words = pd.cut(
        rows.answer_words,
        [0, 1, 2, 4, np.inf],
        labels=["1 word", "2 words", "3 or 4 words", "5 or more words"],
    )
    thirds = pd.cut(
        rows.answer_place,
        [-1, 1 / 3, 2 / 3, 1],
        labels=["first third", "second third", "last third"],
    )
    return {"asks": asks.astype("category"), "answer": words, "answer stands in the": thirds}


def schooling(rows: pd.DataFrame) -> pd.DataFrame:
    """F1 of teachers and of the students that they taught, equal but for them and the learning rate
    that each searched, a line per setting and teacher, in percent; and over the teachers of a
    setting the correlation of both (Pearson's `r`, with `r_low` to `r_high`, missing where articles
    or teachers are too few), once more over those that were tuned, where others are among them.

    A teacher's score is that in the prompting in which it taught; teachers that are asked together
    have none. The interval draws articles: it is for these teachers, and says nothing of others.
    """
    lines, rows = [], pairing.distinct(rows)
    for setting, students in rows[rows.role == "student"].groupby(
        [*SETTING, "start", "student"], sort=False
    ):
        about = dict(zip([*SETTING, "start", "student"], setting, strict=True))
        there = rows[(rows.family == about["family"]) & (rows.test_set == about["test_set"])]
        pairs = {}
        for name, student in students.groupby("teacher", sort=False):
            own = _taught_by(name, there, student)
            if not own.empty:
                pairs[name] = (own, student)
        tuned = {name: pair for name, pair in pairs.items() if not name.startswith(RAW)}
        among = _correlated(tuned)[0] if 0 < len(tuned) < len(pairs) else {}
        lines += [
            about | one | {f"tuned_{name}": among.get(name, np.nan) for name in R}
            for one in _correlated(pairs)
        ]
    named = [
        *SETTING,
        "start",
        "student",
        "teacher",
        "teacher_f1",
        "student_f1",
        *R,
        *(f"tuned_{name}" for name in R),
        "runs",
    ]
    return pd.DataFrame(lines, columns=named)


def _taught_by(name: str, rows: pd.DataFrame, student: pd.DataFrame) -> pd.DataFrame:
    """The rows of a student's teacher: of a guide; of the tuned teacher or of its twin in the
    prompting that both were trained in."""
    mode, who = student.trained.iloc[0], rows[rows.teacher == name]
    if name == TWIN:
        who = rows[
            (rows.role == "twin")
            & (rows.student == student.student.iloc[0])
            & (rows.start == student.start.iloc[0])
        ]
    return who[(who.role == "guide") | (who.role.isin(("teacher", "twin")) & (who.asked == mode))]


def _correlated(pairs: Mapping[str, Sequence[pd.DataFrame]]) -> list[dict]:
    """A line per teacher with both scores, and the correlation over all."""
    if not pairs:
        return []
    every = _same_seeds(
        *(own for own, _ in pairs.values()), *(student for _, student in pairs.values())
    )
    values, clusters = _paired(every, ["f1"])
    means = 100 * values[0].mean((-2, -1)).reshape(2, -1)  # (2, teacher)
    found = dict.fromkeys(R, np.nan) | {"runs": run_ids.of(*every)}
    if len(pairs) >= FEW_TEACHERS and np.ptp(means, -1).all():
        found["r"] = np.corrcoef(means)[0, 1]
        if _enough(clusters):
            drawn = _drawn(values[0], clusters).reshape(-1, 2, len(pairs))  # (repeats, 2, teacher)
            own, students = np.moveaxis(drawn - drawn.mean(-1, keepdims=True), 1, 0)
            r = (own * students).sum(-1) / np.sqrt((own**2).sum(-1) * (students**2).sum(-1))
            found["r_low"], found["r_high"] = statistics.interval(r)
    return [
        {"teacher": name, "teacher_f1": own, "student_f1": its, **found}
        for name, own, its in zip(pairs, *means, strict=True)
    ]


def difference(student: pd.DataFrame, twin: pd.DataFrame) -> dict:
    student, twin = _same_seeds(student, twin)
    values, clusters = _paired([student, twin], ["f1"])
    difference = 100 * (values[0, 0] - values[0, 1])  # (S, n)
    found = {"seeds": len(difference), **_counts(student), "difference": difference.mean()}
    found |= {"runs": run_ids.of(student, twin)}
    if not _enough(clusters):
        return found | dict.fromkeys(TESTED, np.nan)
    each = difference.mean(0)
    low, high = statistics.interval(_drawn(difference, clusters))
    p = statistics.sign_flip(each, clusters, np.random.default_rng(0))
    effect = statistics.design_effect(each, clusters) if each.any() and each.std() else 1.0
    least = statistics.detectable(each.std(ddof=1), len(each), effect)
    if len(difference) >= statistics.SEEDS:
        least = np.hypot(
            least, statistics.detectable(difference.mean(1).std(ddof=1), len(difference))
        )
    return found | {"low": low, "high": high, "p": p, "p_holm": np.nan, "detectable": least}


def _enough(clusters: np.ndarray) -> bool:
    return statistics.enough(len(clusters), len(set(clusters)))


def _same_seeds(*models: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of each model of the seeds that all of them have. Raises StudyError where these are
    not of the same questions."""
    seeds = set.intersection(*(set(one.seed) for one in models))
    shared = [one[one.seed.isin(seeds)] for one in models]
    pairing.check(*shared)
    return shared


def _paired(models: list[pd.DataFrame], metrics: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Scores (metric, model, S, n) on the same seeds and questions, and the questions' articles
    (n,). Raises StudyError for other ones."""
    pairing.check(*models)
    ordered = [one.sort_values(["seed", "question"]) for one in models]
    seeds = ordered[0].seed.nunique()
    values = np.stack(
        [one[list(metrics)].to_numpy(float).reshape(seeds, -1, len(metrics)) for one in ordered]
    )  # (model, S, n, metric)
    return np.moveaxis(values, -1, 0), ordered[0].article.to_numpy()[: values.shape[2]]
