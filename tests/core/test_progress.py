"""What a log is told of runs: few lines, and all that matters; what a terminal shows: two lines."""

import itertools
import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator

import pytest

from studylib.core import progress
from studylib.core.progress import Progress, Runs


class Clock:
    """Stands for `time`: goes on by as much as it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """What it shows."""
        return self.now

    def make(self, runs: Runs, kind: str, label: str, seconds: float, steps: int) -> None:
        """A run of so many seconds and steps."""
        with Progress().run(label) as bar:
            bar.total(steps)
            for step in range(1, steps + 1):
                self.now += seconds / steps
                bar.step(step, loss=1 / step)
        runs.done(kind, seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands unless a run goes on."""
    stopped = Clock()
    monkeypatch.setattr(progress, "time", stopped)
    return stopped


def lines(capsys: pytest.CaptureFixture) -> list[str]:
    """What a log has, which is nothing but lines."""
    captured = capsys.readouterr()
    assert captured.err == "" and "\r" not in captured.out and "\x1b" not in captured.out
    return captured.out.splitlines()


def test_a_log_of_many_short_runs_has_a_line_for_each_fifth(clock: Clock, capsys):
    kinds = ["teacher", *["answers", "student", "loyalty"] * 42]
    with Runs("capacity_gap (tiny)", kinds) as runs:
        for number, kind in enumerate(kinds):
            clock.make(runs, kind, f"run {number}", seconds=4.0, steps=30)
    log = lines(capsys)
    assert len(log) == 5
    assert log[0] == "capacity_gap (tiny): 26/127 runs, about 7 minutes left"
    assert log[-1] == "capacity_gap (tiny): 127/127 runs"


def test_a_log_of_a_long_training_has_a_line_every_few_minutes(clock: Clock, capsys):
    with Runs("capacity_gap (qwen)", ["teacher"] * 40) as runs:
        clock.make(runs, "teacher", "the teacher", seconds=4 * 3600, steps=2000)
    *steps, last = lines(capsys)
    assert 4 * 3600 / 300 * 0.95 < len(steps) <= 4 * 3600 / 300
    assert steps[0] == "the teacher: 42/2000, loss 0.024, 3.9 hours left"
    assert last == "capacity_gap (qwen): 1/40 runs", "how long the others take is not known yet"


@pytest.mark.parametrize(("seconds", "count"), [(3.0, 4), (400.0, 99)])
def test_a_log_has_a_line_for_a_run_that_ends_after_minutes(
    seconds: float, count: int, clock: Clock, capsys
):
    with Runs("all", ["answers"] * 100) as runs:
        for number in range(99):
            clock.make(runs, "answers", str(number), seconds, steps=1)
    assert len([line for line in lines(capsys) if line.startswith("all: ")]) == count


def test_time_left_is_that_of_runs_of_the_same_kinds(clock: Clock, capsys):
    with Runs("all", ["teacher", *["answers"] * 9]) as runs:
        clock.make(runs, "teacher", "a", seconds=600.0, steps=1)
        clock.make(runs, "answers", "b", seconds=10.0, steps=1)
    assert lines(capsys)[-1] == "all: 2/10 runs, about 80 seconds left"


def test_time_left_is_shorter_where_several_are_made_at_once(clock: Clock, capsys):
    with Runs("all", ["answers"] * 10) as runs:
        clock.now += 600.0
        for _ in range(6):
            runs.done("answers", 600.0)
    assert lines(capsys)[-1] == "all: 6/10 runs, about 7 minutes left"


def test_time_left_of_a_run_counts_from_where_it_went_on(clock: Clock, capsys):
    with Progress().run("teacher") as bar:
        bar.total(110)
        for step in range(101, 107):
            clock.now += 60
            bar.step(step, loss=1.0)
    assert lines(capsys) == ["teacher: 106/110, loss 1.000, 4 minutes left"], (
        "six steps took six minutes, four are left"
    )


def test_a_quiet_run_says_nothing(clock: Clock, capsys):
    with Progress(quiet=True).run("teacher") as bar:
        bar.total(2)
        clock.now += 3600
        bar.step(1, loss=1.0)
    assert lines(capsys) == []


def test_going_over_items_counts_them():
    with Progress().run("states") as bar:
        assert list(bar.over("abc")) == ["a", "b", "c"]
        assert bar.count == 3


STUDY = """
import time
from studylib.core.progress import Progress, Runs, say
with Runs("capacity_gap (tiny)", ["student"] * 3) as runs:
    for number in range(3):
        with Progress().run(f"student {number}") as bar:
            bar.total(4)
            for step in range(1, 5):
                time.sleep(0.15)
                bar.step(step, loss=1 / step)
        runs.done("student", 0.6)
        say(f"after {number}")
"""


@pytest.fixture
def screen() -> Iterator[Callable[[], str]]:
    """Runs the study in a terminal, and returns what it writes there."""
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 100))

    def read() -> str:
        done = subprocess.Popen([sys.executable, "-c", STUDY], stdout=terminal, stderr=terminal)
        os.close(terminal)
        written = b""
        try:
            for _ in itertools.count():
                written += os.read(controller, 65536)
        except OSError:  # the other end is closed
            pass
        assert done.wait() == 0
        return written.decode()

    yield read
    os.close(controller)


def test_a_terminal_shows_one_bar_and_below_it_the_run_that_goes_on(screen: Callable[[], str]):
    written = screen()
    assert "capacity_gap (tiny): 2/3 runs, about 2 seconds left |" in written
    assert "  3/4, loss 0.333, 2 seconds left: student 1" in written
    assert shown(written) == ["after 0", "after 1", "after 2", "capacity_gap (tiny): 3/3 runs"]


def shown(written: str) -> list[str]:
    """The beginnings of the lines that a terminal shows at the end."""
    rows: dict[int, str] = {}
    row, column = 0, 0
    for part in re.findall(r"\x1b\[A|\r|\n|[^\r\n\x1b]+", written):
        if part == "\r":
            column = 0
        elif part in ("\n", "\x1b[A"):
            row += 1 if part == "\n" else -1
        else:
            line = rows.get(row, "").ljust(column)
            rows[row] = line[:column] + part + line[column + len(part) :]
            column += len(part)
    return [line.partition("|")[0].rstrip() for line in rows.values() if line.strip()]
