"""A disk that is full: it is said what is needed, nothing is damaged, and with more room it goes
on."""

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from small import Victims, prepare, shown, stored

from studylib.store.store import Store

pytestmark = pytest.mark.faults


class Disk:
    """A small disk in memory."""

    def __init__(self, place: Path):
        self.place = place

    def mount(self, size: int) -> bool:
        """Mount it, so many bytes large; whether that succeeded."""
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(self.place)]
        return subprocess.run(command, capture_output=True).returncode == 0

    def resize(self, size: int) -> None:
        """Make it so many bytes large."""
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.place)], check=True)

    def leave(self, free: int) -> None:
        """Make it so large that so many bytes are free."""
        blocks = os.statvfs(self.place)
        self.resize((blocks.f_blocks - blocks.f_bfree) * blocks.f_frsize + free)
        assert shutil.disk_usage(self.place).free == free


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """One that can be mounted here, which needs rights."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = Disk(place)
    if not mounted.mount(1 << 20):
        pytest.skip("no disk can be mounted here")
    yield mounted
    subprocess.run(["umount", str(place)], check=True)


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    "share",
    [0.4, 0.02, 0.8],
)
def test_a_store_on_a_full_disk_goes_on_when_there_is_room(
    share: float, disk: Disk, undisturbed: Path, victims: Victims, tmp_path: Path
):
    whole = size(undisturbed / "home")
    disk.resize(int(share * whole))
    folder = prepare(tmp_path / "full")
    (ended,) = victims.run(folder, home=disk.place)
    assert ended.code == 2, ended
    (message,) = [line for line in ended.err.splitlines() if line.startswith("study: ")]
    assert f"{disk.place / 'runs'} has no room left for gpt_neox" in message
    assert (
        "MB are free, about " in message
        and "MB are needed): make room and run again, or move the store (STUDY_HOME)" in message
    )
    assert "Traceback" not in ended.err
    store = Store(disk.place)
    for result in store.root.glob("*/*/result.json"):
        assert store.checked(result.parent) and store.finished(result.parent)
    disk.resize(3 * whole)
    (ended,) = victims.run(folder, home=disk.place)
    assert ended.code == 0, ended
    assert shown(folder) == shown(undisturbed)
    assert stored(disk.place) == stored(undisturbed / "home")


def test_tables_on_a_full_disk_are_written_when_there_is_room(
    disk: Disk, undisturbed: Path, victims: Victims, tmp_path: Path
):
    folder = prepare(disk.place / "full")
    disk.leave(free=8 * resource.getpagesize())
    (ended,) = victims.run(folder, home=tmp_path / "home")
    assert ended.code == 2, ended
    assert (
        "figures/small/capacity_gap has no room left for tables and figures" in ended.err
        and " MB are needed" in ended.err
    )
    assert "Traceback" not in ended.err
    disk.resize(64 << 20)
    (ended,) = victims.run(folder, home=tmp_path / "home")
    assert ended.code == 0, ended
    assert shown(folder) == shown(undisturbed)


def test_a_store_without_inodes_says_so_and_goes_on_when_there_are_some(
    disk: Disk, undisturbed: Path, victims: Victims, tmp_path: Path
):
    def bound(inodes: int) -> None:
        subprocess.run(
            ["mount", "-o", f"remount,size={1 << 30},nr_inodes={inodes}", str(disk.place)],
            check=True,
        )

    bound(60)
    folder = prepare(tmp_path / "full")
    (ended,) = victims.run(folder, home=disk.place)
    assert ended.code == 2, ended
    assert (
        " inodes are free, one of which every file takes): delete files and run again" in ended.err
    )
    assert "Traceback" not in ended.err
    bound(100_000)
    (ended,) = victims.run(folder, home=disk.place)
    assert ended.code == 0, ended
    assert shown(folder) == shown(undisturbed)
