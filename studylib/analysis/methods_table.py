"""Every method beside the control and beside plain distillation: scores, differences with their
intervals, loyalty, and cost."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from studylib.analysis import contrasts, pairing, prose, roles, run_ids, statistics, tables
from studylib.analysis.figures import look
from studylib.analysis.formats import number, probability, signed, span
from studylib.core.labels import CONTROL, METHOD, STUDENT

SETTING = ["family", "eval_prompt", "test_set"]
MODEL = ["role", "arm", "objective", "steps"]
COST = ["training_flops", "answer_flops"]
PLAIN = "plain"
SCORES = ("f1", "exact_match", "loyalty")
BESIDE = ("difference", "low", "high", "p", "detectable")


def compare(rows: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """A line per family, prompting, test set and model: F1, EM and loyalty of 0 to 100, and the
    FLOPs of `costs` (`training_cost.of`). F1 minus that of the control and of plain distillation
    has an interval, p (Holm's over all methods) and detectable difference."""
    rows = rows.assign(arm=roles.arms(rows))
    table = pd.DataFrame(_lines(pairing.distinct(rows)))
    for other in (CONTROL, PLAIN):
        tested = table[f"{other}_p"].dropna()
        table[f"{other}_p_holm"] = pd.Series(statistics.holm(list(tested)), tested.index, float)
    names = ["family", "objective", "steps"]
    return table.merge(costs.groupby(names, sort=False)[COST].mean(), on=names, how="left")


def _lines(rows: pd.DataFrame) -> Iterator[dict]:
    for setting, part in rows.groupby(SETTING, sort=False):
        students = part[part.role.isin([STUDENT, CONTROL])]
        models = {key: model for key, model in students.groupby(MODEL, sort=False)}
        steps = students.steps[students.role == STUDENT].max()
        plain = next((key for key in models if key[1] == STUDENT), None)
        control = next((key for key in models if key[0] == CONTROL and key[-1] == steps), None)
        for key, model in models.items():
            references = {other for other in (control, plain) if other is not None}
            line = {
                **dict(zip([*SETTING, *MODEL], [*setting, *key], strict=True)),
                **{name: 100 * model[name].mean() for name in SCORES},
                "runs": run_ids.of(model, *(models[other] for other in references)),
            }
            for name, other in ((CONTROL, control), (PLAIN, plain)):
                beside = {} if other in (None, key) else contrasts.difference(model, models[other])
                line |= {f"{name}_{each}": float(beside.get(each, "nan")) for each in BESIDE}
            yield line


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table to read: every cell as text, intervals beside their differences."""
    read = table[[*SETTING, "objective", "steps"]].astype(str).rename(columns=tables.IDENTITY)
    for name, title in zip(SCORES, ("F1", "EM", "loyalty"), strict=True):
        read[title] = table[name].map(number)
    for name in (CONTROL, PLAIN):
        read[f"F1 minus {name}"] = [_beside(row, name) for _, row in table.iterrows()]
        read[f"p, minus {name}"] = table[f"{name}_p_holm"].map(probability)
    for cost in COST:
        read[cost.replace("_flops", ", FLOPs")] = table[cost].map("{:.2e}".format)
    return read


def _beside(row: pd.Series, name: str) -> str:
    difference = row[f"{name}_difference"]
    interval = span(row[f"{name}_low"], row[f"{name}_high"])
    return "–" if pd.isna(difference) else signed(difference) + interval


def markdown(table: pd.DataFrame) -> str:
    """The same in Markdown."""
    return tables.markdown(shown(table)) + "\n"


def frontier(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """F1 against the FLOPs of training, a panel per test set; the control at its budgets is a
    line."""
    panels = list(table.groupby(SETTING, sort=False))
    figure = look.figure(2.9 * len(panels), "F1 of every method against the FLOPs of its training")
    axes = figure.subplots(len(panels), squeeze=False)[:, 0]
    for axis, (setting, part) in zip(axes, panels, strict=True):
        control = part[part.role == CONTROL].sort_values("training_flops")
        axis.plot(control.training_flops, control.f1, "s--", color="0.4", label="control")
        for count, (_, row) in enumerate(part[part.role != CONTROL].iterrows()):
            axis.plot(
                row.training_flops,
                row.f1,
                look.MARKERS[count % len(look.MARKERS)],
                ls="",
                label=row.objective,
            )
        axis.set(xlabel="training, FLOPs", ylabel="F1", title=", ".join(setting))
    axes[0].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure, table[[*SETTING, *MODEL, "f1", "training_flops", "runs"]]


def answer(table: pd.DataFrame) -> str:
    """How many methods differ from the control, and the best one, a sentence per test set."""
    settings = []
    for setting, part in table.groupby(SETTING, sort=False):
        students, methods = part[part.role == STUDENT], part[part.arm == METHOD]
        significant = methods[methods.control_p_holm < statistics.LEVEL]
        best = students.loc[students.f1.idxmax()]
        settings.append(
            {
                "test_set": setting[2],
                "eval_prompt": setting[1],
                "methods": len(methods),
                "above": int((significant.control_difference > 0).sum()),
                "below": int((significant.control_difference < 0).sum()),
                "best": best.objective,
                "f1": number(best.f1),
                "difference": _beside(best, CONTROL),
            }
        )
    return prose.render("methods_answer", settings=settings)


def conclusion(table: pd.DataFrame) -> str:
    """The answer, and which methods bring the student nearer to its teacher than the control. One
    that does not move it cannot help it by the teacher."""
    settings = []
    for setting, part in table.groupby(SETTING, sort=False):
        students = part[part.role == STUDENT]
        reference = part.loyalty[
            (part.role == CONTROL) & (part.steps == students.steps.max())
        ].max()
        nearer = students.loyalty > reference
        settings.append(
            {
                "test_set": setting[2],
                "loyalty": number(reference),
                "nearer": list(students.objective[nearer]),
                "others": list(students.objective[~nearer]),
            }
        )
    return f"{answer(table)}\n{prose.render('methods_conclusion', settings=settings)}"
