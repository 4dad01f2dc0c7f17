"""Every method beside the control and beside plain distillation: scores, differences with their
intervals, loyalty, and cost."""

from collections.abc import Iterator, Mapping

import pandas as pd

from studylib.analysis import contrasts, pairing, prose, roles, run_ids, statistics, tables
from studylib.analysis.formats import number, probability, signed, span
from studylib.core.labels import CONTROL, METHOD, SMALLER_TEACHER, STUDENT

SETTING = ["family", "eval_prompt", "test_set"]
MODEL = ["role", "arm", "objective", "steps"]
COST = ["training_flops", "answer_flops"]
EXTRA = "extra_data"
NONE = "–"
PLAIN = "plain"
METRICS = {"f1": "F1", "exact_match": "EM", "loyalty": "loyalty"}
COMPARED = [
    *((CONTROL, metric) for metric in METRICS),
    *((PLAIN, metric) for metric in ("f1", "exact_match")),
]  # to whom there is a difference, and of which metric
TESTED = ("difference", "low", "high", "p", "detectable")


def compare(rows: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """A line per family, prompting, test set and model: F1, EM and loyalty of 0 to 100, and the
    FLOPs and extra data of `costs` (`training_cost.of`).

    Differences to the control of as many steps and to plain distillation have an interval, p and
    detectable difference (`contrasts.difference`), e.g. `control_f1_low`. `p_holm` is Holm's over
    all students and test sets, for each metric and reference, and the detectable difference is by
    his first step; controls are not tested.
    """
    rows = of_methods(rows)
    table = pd.DataFrame(_lines(pairing.distinct(rows)))
    for other, metric in COMPARED:
        tested = table[f"{other}_{metric}_p"][table.role == STUDENT].dropna()
        corrected = pd.Series(statistics.holm(list(tested)), tested.index, float)
        table[f"{other}_{metric}_p_holm"] = corrected
        table.loc[tested.index, f"{other}_{metric}_detectable"] *= statistics.stricter(len(tested))
    costs = costs[costs.student.isin(rows.student)]
    names = ["family", "objective", "steps"]
    needed = costs.groupby([*names, EXTRA], sort=False)[COST].mean().reset_index(EXTRA)
    return table.merge(needed, on=names, how="left")


def of_methods(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the student that methods are compared on and of its controls, with their arms;
    without those of a sweep over teachers."""
    arms = roles.arms(rows)
    students = rows.student[arms.isin((METHOD, STUDENT))]
    return rows.assign(arm=arms)[(arms != SMALLER_TEACHER) & rows.student.isin(students)]


def _lines(rows: pd.DataFrame) -> Iterator[dict]:
    for setting, part in rows.groupby(SETTING, sort=False):
        students = part[part.role.isin([STUDENT, CONTROL])]
        models = {key: model for key, model in students.groupby(MODEL, sort=False)}
        steps = students.steps[students.role == STUDENT].max()
        plain = next((key for key in models if key[1] == STUDENT), None)
        control = next((key for key in models if key[0] == CONTROL and key[-1] == steps), None)
        for key, model in models.items():
            others = {
                name: models[other]
                for name, other in ((CONTROL, control), (PLAIN, plain))
                if other not in (None, key)
            }
            yield {
                **dict(zip([*SETTING, *MODEL], [*setting, *key], strict=True)),
                **pairing.counts(model),
                **{metric: 100 * model[metric].mean() for metric in METRICS},
                "runs": run_ids.of(model, *others.values()),
                **_beside(model, others),
            }


def _beside(model: pd.DataFrame, others: Mapping[str, pd.DataFrame]) -> dict[str, float]:
    """A model's differences to the models that it is compared with, by their names."""
    line: dict[str, float] = {}
    for name, metric in COMPARED:
        known = name in others and model[metric].notna().any()
        values = {}
        if known:
            compared, other = pairing.known([model, others[name]], metric)
            values = contrasts.difference(compared, other, metric)
        line |= {f"{name}_{metric}_{each}": float(values.get(each, "nan")) for each in TESTED}
    return line


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table to read: every cell as text, intervals beside their differences."""
    read = table[[*SETTING, "objective", "steps"]].astype(str).rename(columns=tables.IDENTITY)
    for metric, title in METRICS.items():
        read[title] = table[metric].map(number)
    for name, metric in COMPARED:
        title = f"{METRICS[metric]} minus {name}"
        read[title] = [_interval(row, f"{name}_{metric}") for _, row in table.iterrows()]
        read[f"p, {title}"] = table[f"{name}_{metric}_p_holm"].map(probability)
        if metric == "f1":
            corrected = table[f"{name}_{metric}_p_holm"].notna()
            read[f"MDE, {title}"] = (
                table[f"{name}_{metric}_detectable"].where(corrected).map(number)
            )
    for cost in COST:
        flops = table[cost].map("{:.2e}".format, na_action="ignore")
        read[cost.replace("_flops", ", FLOPs")] = flops.astype(object).fillna(NONE)
    return read.assign(**{"extra data": table[EXTRA].replace("", NONE).fillna(NONE)})


def domains(table: pd.DataFrame) -> pd.DataFrame:
    """A line per student and way of asking, with a column per test set: F1, and in brackets its
    difference to the control there, with its interval."""
    gains = [_interval(row, "control_f1") for _, row in table.iterrows()]
    cells = table.f1.map(number) + [f" [{gain}]" if gain != NONE else "" for gain in gains]
    names = ["family", "eval_prompt", "objective", "steps"]
    wide = cells.groupby([table[name].astype(str) for name in (*names, "test_set")], sort=False)
    by_set = wide.first().unstack(sort=False).fillna(NONE)
    return by_set.rename_axis(columns=None).reset_index().rename(columns=tables.IDENTITY)


def _interval(row: pd.Series, name: str) -> str:
    difference = row[f"{name}_difference"]
    interval = span(row[f"{name}_low"], row[f"{name}_high"])
    return NONE if pd.isna(difference) else signed(difference) + interval


def answer(table: pd.DataFrame) -> str:
    """How many methods differ from the control, and the best student, a sentence per test set."""
    seeds = table.seeds.min(), table.seeds.max()
    return prose.render("methods_answer", settings=list(_settings(table)), seeds=seeds) + "\n"


def conclusion(table: pd.DataFrame, fidelity: pd.DataFrame) -> str:
    """The answer; which students come nearer to their teacher than the control, by a test; and what
    being near is worth (`fidelity.correlations`). A method that does not move the student cannot
    help it by the teacher."""
    settings, notes = list(_settings(table)), tables.notes_on(table)
    texts = prose.render("methods_conclusion", settings=settings, fidelity=fidelity, notes=notes)
    return f"{answer(table)}\n{texts}"


def _settings(table: pd.DataFrame) -> Iterator[dict]:
    """What is said of each test set and way of asking."""
    for (_, eval_prompt, test_set), part in table.groupby(SETTING, sort=False):
        students = part[part.role == STUDENT]
        best, usual = students.loc[students.f1.idxmax()], students[~other_way(students)]
        methods, tested = usual[usual.arm == METHOD], usual[usual.control_loyalty_p_holm.notna()]
        nearer, farther = (set(_significant(usual, "control_loyalty", sign)) for sign in (1, -1))
        yield {
            "test_set": test_set,
            "eval_prompt": eval_prompt,
            "methods": len(methods),
            "above": len(_significant(methods, "control_f1", 1)),
            "below": len(_significant(methods, "control_f1", -1)),
            "best": best.objective,
            "f1": number(best.f1),
            "difference": _interval(best, "control_f1"),
            "loyalty": _interval(best, "control_loyalty"),
            "nearer": [name for name in usual.objective if name in nearer],
            "farther": [name for name in usual.objective if name in farther],
            "others": [name for name in tested.objective if name not in nearer | farther],
        }


def other_way(lines: pd.DataFrame) -> pd.Series:
    """Which lines are of a method's student that answers in another way than usual, which follows
    the method's name."""
    return (lines.arm == METHOD) & lines.objective.str.contains(", ")


def _significant(lines: pd.DataFrame, name: str, sign: int) -> pd.Series:
    """The objectives whose difference of this name is significant and has this sign."""
    significant = lines[f"{name}_p_holm"] <= statistics.LEVEL
    return lines.objective[significant & (sign * lines[f"{name}_difference"] > 0)]
