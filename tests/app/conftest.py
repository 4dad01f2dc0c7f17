"""A completed miniature study that these tests look at."""

import pytest
from miniatures import planned, stages

from studylib.app import study
from studylib.experiments.plans import Plan
from studylib.store.store import Store


@pytest.fixture(scope="session")
def finished(raw: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Store]:
    """Its plan and store."""
    store = Store(tmp_path_factory.mktemp("home"))
    plan = planned(raw, stages=stages(forward_kl=1.0, hidden_mse=0.5))
    study.complete(plan, store)
    return plan, store
