"""Whether students that are near their teacher answer better, on scores with a known answer."""

import numpy as np
import pandas as pd
import pytest
from invented import rows
from scipy.stats import spearmanr

from studylib.analysis import fidelity, methods_table, prose
from studylib.core.labels import METHOD, STUDENT


def test_rank_correlations_are_those_of_scipy_draw_by_draw():
    first, second = np.random.default_rng(0).normal(size=(2, 5, 9)).round(1)  # with ties
    expected = [spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)]
    assert fidelity.spearman(first, second) == pytest.approx(expected)
    assert fidelity.spearman(np.ones((2, 4)), np.arange(8.0).reshape(2, 4)).tolist() == [0, 0]


def students(order: list[int], count: int = 6) -> pd.DataFrame:
    """Students of rising F1 whose loyalty rises in this order, and whose agreement falls."""
    rng, frames = np.random.default_rng(1), []
    for number in range(count):
        model = rows(
            STUDENT, 0.3 + 0.05 * number, articles=40, objective=f"method {number}", arm=METHOD
        )
        noise = rng.normal(0, 0.02, (2, len(model)))
        model["f1"] += noise[0]
        model["loyalty"] = 0.5 + 0.05 * order[number] + noise[1]
        model["agreement"] = 1 - 0.1 * number
        frames.append(model)
    return pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize(("order", "planted"), [([0, 1, 2, 3, 4, 5], 1), ([5, 4, 3, 2, 1, 0], -1)])
def test_a_planted_correlation_comes_out(order, planted):
    table = fidelity.correlations(students(order)).set_index("measure")
    loyal, agreeing = table.loc["loyalty"], table.loc["agreement with the teacher"]
    assert loyal.methods == 6 and loyal.correlation == pytest.approx(planted)
    assert loyal.low <= planted <= loyal.high and abs(loyal.low - loyal.high) < 0.5
    assert agreeing.correlation == pytest.approx(-1)


def test_of_few_students_there_is_none():
    assert fidelity.correlations(students([0, 1, 2, 3], count=4)).empty


def test_it_is_a_sentence_of_the_conclusion():
    table = fidelity.correlations(students([0, 1, 2, 3, 4, 5]))
    text = prose.render("methods_conclusion", settings=[], fidelity=table, notes="")
    assert (
        "Over these 6 students on near, the rank correlation of F1 with loyalty is +1.00 (" in text
    )
    assert set(methods_table.SETTING) <= set(table)
