"""Several calls on one store at once."""

from pathlib import Path

import pytest
from small import INTERVAL, Victims, prepare, repeated, shown, stored


@pytest.mark.parametrize("calls", [2, pytest.param(4, marks=pytest.mark.faults)])
def test_at_once_they_compute_everything_once_and_show_the_same(calls: int, undisturbed: Path, victims: Victims, tmp_path: Path):
    folder = prepare(tmp_path / "shared")
    ended = victims.run(folder, *[""] * calls)
    assert [one.code for one in ended] == [0] * calls, ended
    assert any("another process makes it, this one waits" in one.out for one in ended)
    assert not repeated(folder)
    assert shown(folder) == shown(undisturbed)
    assert stored(folder / "home") == stored(undisturbed / "home")


@pytest.mark.faults
def test_what_one_leaves_that_is_killed_the_others_take_over(undisturbed: Path, victims: Victims, tmp_path: Path):
    folder = prepare(tmp_path / "shared")
    first, *others = victims.run(folder, "between checkpoints", "", "")
    assert first.code == -9 and [one.code for one in others] == [0, 0], others
    again = repeated(folder)
    assert len(again) <= 1 and sum(again.values()) <= INTERVAL
    assert shown(folder) == shown(undisturbed)
    assert stored(folder / "home") == stored(undisturbed / "home")
