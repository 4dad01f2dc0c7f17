"""A completed miniature study that these tests look at."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from studylib.experiments.plans import Plan
    from studylib.store.store import Store


@pytest.fixture(scope="session")
def finished(raw: str, tmp_path_factory: pytest.TempPathFactory) -> "tuple[Plan, Store]":
    """Its plan and store."""
    from miniatures import planned, stages  # after the hub's home is set

    from studylib.app import study
    from studylib.store.store import Store

    store = Store(tmp_path_factory.mktemp("home"))
    plan = planned(raw, stages=stages(forward_kl=1.0, hidden_mse=0.5))
    study.complete(plan, store)
    return plan, store
