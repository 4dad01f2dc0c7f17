"""Every method beside the control and beside plain distillation: scores, differences with their
intervals, loyalty, and cost."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from studylib.analysis import comparison, pairing, statistics

SETTING = ["family", "asked", "test_set"]
MODEL = ["role", "objective", "steps"]
COST = ["training_flops", "answer_flops"]
CONTROL, PLAIN = "control", "plain"
MATCHED = "twin"  # the role of controls
BESIDE = ("difference", "low", "high", "p", "p_holm", "detectable")


def compare(rows: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """A line per family, prompting, test set and model: F1, EM and loyalty of 0 to 100, F1 minus
    that of the control and of plain distillation with interval, p (Holm's over all methods) and
    detectable difference, and the FLOPs of `costs` (`training_cost.of`)."""
    table = pd.DataFrame(_lines(pairing.distinct(rows)))
    for other in (CONTROL, PLAIN):
        tested = table[f"{other}_p"].notna()
        corrected = statistics.holm(list(table.loc[tested, f"{other}_p"]))
        table.loc[tested, f"{other}_p_holm"] = corrected
    means = costs.groupby(["family", "objective", "steps"], sort=False)[COST].mean().reset_index()
    return table.merge(means, on=["family", "objective", "steps"], how="left")


def _lines(rows: pd.DataFrame) -> Iterator[dict]:
    for setting, part in rows.groupby(SETTING, sort=False):
        students = part[part.role.isin(["student", MATCHED])]
        models = {key: model for key, model in students.groupby(MODEL, sort=False)}
        (plain,) = (key for key in models if key[0] == "student" and _is_first(key, models))
        control = (
            MATCHED,
            *next(key for key in models if key[0] == MATCHED and key[2] == plain[2])[1:],
        )
        for key, model in models.items():
            line = dict(zip([*SETTING, *MODEL], [*setting, *key], strict=True))
            line |= {name: 100 * model[name].mean() for name in ("f1", "exact_match", "loyalty")}
            for name, other in ((CONTROL, control), (PLAIN, plain)):
                beside = comparison.difference(model, models[other]) if key != other else {}
                line |= {f"{name}_{each}": beside.get(each) for each in BESIDE}
            yield line


def _is_first(key: tuple, models: dict) -> bool:
    """Plain distillation is planned before all methods."""
    return key == next(each for each in models if each[0] == "student")


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table to read: numbers rounded, intervals beside their differences."""
    read = table[[*SETTING, "objective", "steps", "f1", "exact_match", "loyalty"]].round(1)
    for name in (CONTROL, PLAIN):
        read[f"minus {name}"] = [
            ""
            if pd.isna(row.difference)
            else f"{row.difference:+.1f} ({row.low:+.1f} to {row.high:+.1f})"
            for row in _beside(table, name).itertuples()
        ]
        read[f"p, minus {name}"] = table[f"{name}_p_holm"].astype(float).round(3)
    for cost in COST:
        read[cost.replace("_flops", ", FLOPs")] = [f"{value:.2e}" for value in table[cost]]
    return read


def _beside(table: pd.DataFrame, name: str) -> pd.DataFrame:
    return table[[f"{name}_{each}" for each in BESIDE]].set_axis(list(BESIDE), axis=1).astype(float)


def frontier(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """F1 against the FLOPs of training, a panel per test set; the control at its budgets is a
    line."""
    panels = list(table.groupby(SETTING, sort=False))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(5.2 * len(panels), 4.2), squeeze=False, layout="constrained"
    )
    for axis, (setting, part) in zip(axes[0], panels, strict=True):
        control = part[part.role == MATCHED].sort_values("training_flops")
        axis.plot(control.training_flops, control.f1, "o-", color="0.5", label="control")
        for number, row in enumerate(part[part.role != MATCHED].itertuples()):
            axis.plot(row.training_flops, row.f1, "osD^vP*X"[number % 8], label=row.objective)
        axis.set(xscale="log", xlabel="training, FLOPs", ylabel="F1", title=", ".join(setting))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure, table[[*SETTING, *MODEL, "f1", "training_flops"]]


def conclusion(table: pd.DataFrame) -> str:
    """What the table says, a sentence per test set."""
    lines = []
    for setting, part in table.groupby(SETTING, sort=False):
        methods = part[part.role != MATCHED]
        better = methods[(methods.control_p_holm.astype(float) < 0.05) & (methods.control_low > 0)]
        worse = methods[(methods.control_p_holm.astype(float) < 0.05) & (methods.control_high < 0)]
        best = methods.loc[methods.f1.idxmax()]
        lines.append(
            f"**{setting[2]}**, {setting[1]}: of {len(methods)} methods {len(better)} score"
            f" significantly above the control and {len(worse)} below it. The best is"
            f" {best.objective} with {best.f1:.1f} F1"
            + (
                f", {best.control_difference:+.1f} points to the control"
                f" ({best.control_low:+.1f} to {best.control_high:+.1f})."
                if pd.notna(best.control_difference)
                else "."
            )
        )
    return "\n\n".join(lines) + "\n"
