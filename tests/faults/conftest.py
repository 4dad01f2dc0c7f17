"""What the tests of faults share: a process that runs small studies, and one of these that nothing
disturbed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from small import Victims, prepare, repeated


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here are `faults`; those that are not marked so are in every test run."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("faults") is None:
            item.add_marker("faults")
            item.add_marker("always")


@pytest.fixture(scope="session")
def victims() -> Iterator[Victims]:
    """Runs studies that may be killed."""
    begun = Victims()
    yield begun
    begun.close()


def _undisturbed(victims: Victims, folder: Path, drawn: bool) -> Path:
    (ended,) = victims.run(prepare(folder), drawn=drawn)
    assert ended.code == 0, ended.err
    assert not repeated(folder)
    return folder


@pytest.fixture(scope="session")
def undisturbed(victims: Victims, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study, run without any fault."""
    return _undisturbed(victims, tmp_path_factory.mktemp("undisturbed"), True)


@pytest.fixture(scope="session")
def undrawn(victims: Victims, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, whose figures hold their words alone."""
    return _undisturbed(victims, tmp_path_factory.mktemp("undrawn"), False)
