"""What is said of the runs behind an experiment's numbers."""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from studylib.app import origin
from studylib.runs import planning
from studylib.store.run import Run


def test_the_learning_rate_of_a_run_is_the_planned_one_or_that_which_its_search_chose():
    assert planning.learning_rate(Run("teacher", {"lr": 2e-4})) == 2e-4
    searched = Run("student", {"lr": "searched"})
    assert planning.learning_rate(searched, {"facts": {"rate": 1e-4}}) == 1e-4 and np.isnan(
        planning.learning_rate(searched)
    )
    assert (
        planning.learning_rate(Run("lr_search", {"lr": [1e-4, 5e-5]}), {"facts": {"rate": 5e-5}})
        == 5e-5
    )
    assert np.isnan(planning.learning_rate(Run("answers", {}), {"facts": {"questions": 3}}))


def test_what_is_missing_of_a_plan_is_counted():
    runs = pd.DataFrame(
        {
            "planned": ["a"],
            "seconds": [60.0],
            "system": "S",
            "processor": "P",
            "threads": 2,
            "torch": "2",
            "kind": "student",
        }
    )
    plan = SimpleNamespace(
        asked=[SimpleNamespace(answers=SimpleNamespace(planned=name)) for name in "abc"]
    )
    assert origin.computed(runs).endswith(
        "(S P, 2 threads, torch 2); training a student took up to 60 seconds."
    )
    assert origin.missing(plan, runs) == "1 of 3 planned evaluations are done."
    assert origin.missing(SimpleNamespace(asked=plan.asked[:1]), runs) == ""
    assert origin.computed(runs[:0]) == ""
