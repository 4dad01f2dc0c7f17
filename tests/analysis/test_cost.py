"""What an answer costs against its score."""

import pandas as pd

from studylib.analysis import cost


def test_the_front_are_those_that_none_beats_in_time_and_score():
    lines = [
        ("a", 10, 40, 1),
        ("b", 20, 30, 0),
        ("c", 20, 50, 1),
        ("d", 20, 45, 0),
        ("e", 60, 50, 0),
        ("f", 100, 80, 1),
        ("g", 110, 70, 0),
    ]
    table = pd.DataFrame(
        [*lines, ("useless", 5, 19, 0)], columns=["student", "time", "f1", "expected"]
    ).sample(frac=1, random_state=0)
    setting = {
        "family": "f",
        "train_prompt": "zero-shot",
        "test_set": "near",
        "steps": 5,
        "planned": "p",
        "runs": "r",
    }
    seeds = [
        table.assign(seed=seed, time=table.time + more, f1=table.f1 - more, **setting)
        for seed, more in ((0, -1), (1, 1))
    ]
    costs = cost.pareto(pd.concat(seeds, ignore_index=True))
    assert len(costs) == len(table) and (costs.front == costs.expected).all()
    assert costs.set_index("student").time["a"] == 10 and costs.set_index("student").f1["g"] == 70
