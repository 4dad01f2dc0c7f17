"""Plain lines where nobody watches: few, and with what matters."""

import itertools

import pytest

from studylib.core import progress
from studylib.core.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by two seconds every time it is read."""
    ticks = itertools.count(0, 2)
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(ticks)))


def test_a_log_gets_a_line_every_ten_seconds_and_no_bar(clock, capsys):
    with Progress().run("teacher") as bar:
        bar.total(20)
        for step in range(1, 21):
            bar.step(step, loss=1 / step)
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert said.err == "" and "\r" not in said.out
    assert len(lines) == 1 + 3, "forty seconds"
    assert lines[0] == "teacher: 6/20, loss 0.167, 28 s left"
    assert lines[-1].startswith("teacher: done in")


def test_time_left_counts_from_where_a_run_went_on(clock, capsys):
    with Progress().run("teacher") as bar:
        bar.total(110)
        for step in range(101, 111):
            bar.step(step, loss=1.0)
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "teacher: 106/110, loss 1.000, 8 s left", (
        "six steps took twelve seconds, four are left"
    )


def test_going_over_items_counts_them(capsys):
    with Progress().run("states") as bar:
        assert list(bar.over("abc")) == ["a", "b", "c"]
        assert bar.count == 3
    assert capsys.readouterr().out.splitlines()[-1].startswith("states: done in")
