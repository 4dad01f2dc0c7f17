"""A process that is killed, at every kind of moment: another call goes on, and ends with the same
bytes."""

from pathlib import Path
from random import Random

import pytest
from small import INTERVAL, WHOLE, Victims, prepare, repeated, shown, stored
from victim import MOMENTS

IN_WEIGHTS = "in a checkpoint's weights"
RANDOM = 40


def check_goes_on(
    folder: Path, undisturbed: Path, moment: str, victims: Victims, drawn: bool = True
) -> None:
    """The study is killed at the moment; a further call ends as if nothing had been, and does
    little again."""
    how = {"kernel": "notebook" in moment, "drawn": drawn}
    (killed,) = victims.run(prepare(folder), moment, **how)
    assert killed.code == -9, (moment, killed)
    (ended,) = victims.run(folder, **how)
    assert ended.code == 0, ended.err
    assert shown(folder) == shown(undisturbed)
    assert stored(folder / "home") == stored(undisturbed / "home")
    again = repeated(folder)
    assert len(again) <= 1, again
    assert all(count <= INTERVAL for label, count in again.items() if not label.endswith(WHOLE)), (
        again
    )
    assert not list(folder.rglob(".draft-*"))


def test_killed_in_the_weights_of_a_checkpoint_it_goes_on(
    undrawn: Path, victims: Victims, tmp_path: Path
):
    """The kill that is in every test run."""
    check_goes_on(tmp_path / "killed", undrawn, IN_WEIGHTS, victims, drawn=False)


@pytest.mark.faults
@pytest.mark.parametrize(
    "moment",
    [moment for moment in MOMENTS if not moment.startswith("no ") and moment != IN_WEIGHTS],
)
def test_killed_at_a_moment_of_every_kind_it_goes_on(
    moment: str, undisturbed: Path, victims: Victims, tmp_path: Path
):
    check_goes_on(tmp_path / "killed", undisturbed, moment, victims)


@pytest.mark.faults
@pytest.mark.parametrize("number", range(RANDOM))
def test_killed_at_any_moment_it_goes_on(
    number: int, undrawn: Path, victims: Victims, tmp_path: Path
):
    touched = int((undrawn / "touched").read_text())
    moment = sorted(Random(7).sample(range(1, touched + 1), RANDOM))[number]
    check_goes_on(tmp_path / "killed", undrawn, str(moment), victims, drawn=False)
