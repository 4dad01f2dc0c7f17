"""Several calls on one store at once."""

from pathlib import Path

import pytest
from small import INTERVAL, Victims, prepare, repeated, shown, stored

pytestmark = pytest.mark.faults


def test_at_once_they_compute_everything_once_and_show_the_same(
    undisturbed: Path, victims: Victims, tmp_path: Path
):
    folder = prepare(tmp_path / "shared")
    ended = victims.run(folder, *[""] * 3)
    assert [call.code for call in ended] == [0] * 3, ended
    assert any("another process makes it, this one waits" in call.out for call in ended)
    assert not repeated(folder)
    assert shown(folder) == shown(undisturbed)
    assert stored(folder / "home") == stored(undisturbed / "home")


def test_what_one_leaves_that_is_killed_the_others_take_over(
    undisturbed: Path, victims: Victims, tmp_path: Path
):
    """Each dies at its fourth step, and there are more steps than three could do: who is left goes
    on with what the dead one held."""
    folder = prepare(tmp_path / "shared")
    ended = victims.run(folder, *["between checkpoints"] * 3)
    assert [call.code for call in ended] == [-9] * 3, ended
    (last,) = victims.run(folder)
    assert last.code == 0, last
    assert sum(repeated(folder).values()) <= 3 * INTERVAL
    assert shown(folder) == shown(undisturbed)
    assert stored(folder / "home") == stored(undisturbed / "home")
