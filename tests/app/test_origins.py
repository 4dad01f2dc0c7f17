"""Where results come from."""

import pandas as pd
import pytest
from miniatures import exported

from studylib.app import study
from studylib.store import exports
from studylib.store.store import Store

pytestmark = pytest.mark.slow


def test_the_learning_rate_of_every_training_is_exported_and_stays(finished, tmp_path):
    plan, store = finished
    origins = study.origins(plan, store)
    trained = origins[origins.kind.isin(("teacher", "student"))]
    assert (
        trained.lr.tolist() == [1e-3] * len(trained)
        and origins.lr[origins.kind == "answers"].isna().all()
    )
    exported(plan, store, tmp_path / "shown")
    pd.testing.assert_series_equal(
        study.origins(plan, Store(tmp_path / "empty"), tmp_path / "shown").lr, origins.lr
    )
    before = pd.read_csv(tmp_path / "shown" / "runs.csv").drop(columns="lr")
    before.to_csv(
        tmp_path / "shown" / "runs.csv", index=False
    )  # as it was exported when learning rates were not
    (tmp_path / "shown" / exports.DIGESTS).unlink()
    pd.testing.assert_series_equal(
        study.origins(plan, Store(tmp_path / "empty"), tmp_path / "shown").lr, origins.lr
    )
