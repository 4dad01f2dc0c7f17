"""Where results come from, and what is said of it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from miniatures import exported

from studylib.app import origins, study
from studylib.runs import plan_parts
from studylib.store import output_folder
from studylib.store.run import Run
from studylib.store.store import Store


def test_the_learning_rate_of_a_run_is_the_planned_one_or_that_which_its_search_chose():
    assert plan_parts.learning_rate(Run("teacher", {"lr": 2e-4})) == 2e-4
    searched = Run("student", {"lr": "searched"})
    assert plan_parts.learning_rate(searched, {"facts": {"rate": 1e-4}}) == 1e-4 and np.isnan(
        plan_parts.learning_rate(searched)
    )
    assert (
        plan_parts.learning_rate(Run("lr_search", {"lr": [1e-4, 5e-5]}), {"facts": {"rate": 5e-5}})
        == 5e-5
    )
    assert np.isnan(plan_parts.learning_rate(Run("answers", {}), {"facts": {"questions": 3}}))


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
    assert origins.computed(runs).endswith(
        "(S P, threads: 2, torch 2); training a student took up to 60 seconds."
    )
    assert origins.missing(plan, runs) == "1 of 3 evaluations done."
    assert origins.missing(SimpleNamespace(asked=plan.asked[:1]), runs) == ""
    assert origins.computed(runs[:0]) == ""


@pytest.mark.slow
def test_the_learning_rate_of_every_training_is_exported_and_stays(finished, tmp_path):
    plan, store = finished
    table = study.origins(plan, store)
    trained = table[table.kind.isin(("teacher", "student"))]
    assert (
        trained.lr.tolist() == [1e-3] * len(trained)
        and table.lr[table.kind == "answers"].isna().all()
    )
    exported(plan, store, tmp_path / "shown")
    pd.testing.assert_series_equal(
        study.origins(plan, Store(tmp_path / "empty"), tmp_path / "shown").lr, table.lr
    )
    before = pd.read_csv(tmp_path / "shown" / "runs.csv").drop(columns="lr")
    before.to_csv(
        tmp_path / "shown" / "runs.csv", index=False
    )  # as it was exported when learning rates were not
    (tmp_path / "shown" / output_folder.DIGESTS).unlink()
    pd.testing.assert_series_equal(
        study.origins(plan, Store(tmp_path / "empty"), tmp_path / "shown").lr, table.lr
    )
