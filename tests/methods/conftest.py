"""Every method, for tests of what holds of them all."""

import pytest
from short_training import EVERY, LOSSES

from studylib.methods import stages
from studylib.methods.base import Method


@pytest.fixture(params=EVERY)
def method(request) -> Method:
    """Every method, with its default options."""
    if request.param == "objective":
        return stages.parse([{"steps": 1, "losses": LOSSES}])[0].method()
    return stages.parse([{"steps": 1, "method": request.param}])[0].method()
