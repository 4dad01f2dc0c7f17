"""Every method, for tests of what holds of them all."""

import pytest

from studylib.methods import stages
from studylib.methods.base import Method


@pytest.fixture(params=[*stages.known(), "objective"])
def method(request) -> Method:
    """Every method, with its default options."""
    if request.param == "objective":
        losses = {"forward_kl": 1.0, "cross_entropy": 0.5}
        return stages.parse([{"steps": 1, "losses": losses}])[0].method()
    return stages.parse([{"steps": 1, "method": request.param}])[0].method()
