"""Learning curves."""

import numpy as np
import pytest

from studylib.app import study

pytestmark = pytest.mark.slow


def test_curves_cover_every_step(finished):
    plan, store = finished
    learned = study.curves(plan, store)
    assert (learned.groupby("run").step.max() == 2).all() and learned.groupby(
        "run"
    ).step.nunique().eq(3).all()
    assert list(
        learned[learned.dev_f1.notna()].groupby("run").step.unique().map(list)
    ) == learned.run.nunique() * [[0, 2]]


def test_curves_show_dev_loss_beside_the_score(finished):
    plan, store = finished
    learned = study.curves(plan, store).dropna(subset="dev_f1")
    assert learned.dev_loss.notna().all()
    student = learned[learned.role == "student"]
    assert np.allclose(student.dev_loss, student.dev_forward_kl + 0.5 * student.dev_hidden_mse)
