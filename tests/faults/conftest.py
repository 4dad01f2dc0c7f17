"""What the tests of faults share: a process that runs small studies, and one of these that nothing disturbed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from small import Victims, prepare, repeated


@pytest.fixture(scope="session")
def victims() -> Iterator[Victims]:
    """Runs studies that may be killed."""
    begun = Victims()
    yield begun
    begun.close()


@pytest.fixture(scope="session")
def undisturbed(victims: Victims, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study, run without any fault."""
    folder = prepare(tmp_path_factory.mktemp("undisturbed"))
    (ended,) = victims.run(folder)
    assert ended.code == 0, ended.err
    assert not repeated(folder)
    return folder
