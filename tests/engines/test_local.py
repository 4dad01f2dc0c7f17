"""Processes of this machine go on when one of them dies."""

import os
import signal

import pytest
from patience import PATIENCE

from studylib.engines import local


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_process_that_dies_is_named_and_loses_nothing_else(tmp_path):
    """The run that kills its process fails; what does not need it is made by new ones."""
    pool = local.Processes(1, [])
    future = pool.submit(_die)
    with pytest.raises(local.BrokenProcessPool):
        future.result(PATIENCE)
    assert pool.submit(os.getpid).result(PATIENCE) != os.getpid()
    pool.shutdown()
