"""What is seen of runs while they are made: in a terminal and in JupyterLab a bar of all runs of a
notebook and, below it, one of the run that goes on; in a log a line from time to time.

with Runs("capacity_gap", ["teacher", "answers"]) as runs:
    with Progress().run("the teacher") as bar:
        bar.total(80)
        bar.step(1, loss=3.2)
    runs.done("teacher", seconds=95.0)
"""

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from multiprocessing import parent_process
from statistics import mean
from typing import ClassVar

from tqdm.auto import tqdm

LOG_SECONDS = 300  # between two lines of a log
PARTS = 5  # in which a log tells of the runs of a notebook
RUNS, STEPS = "{desc} |{bar}|", "  {desc}"
_bar = partial(tqdm, dynamic_ncols=True)


def watched() -> bool:
    """Whether somebody looks on: a terminal, or a notebook's kernel."""
    return sys.stderr.isatty() or (
        "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None
    )


def say(text: str) -> None:
    """Print a line, above the bars if there are any."""
    tqdm.write(text)
    sys.stdout.flush()


class Runs(AbstractContextManager):
    """How many runs of a notebook are done, and how long the others take: as long as those of their
    kinds before them. A log has a line when another fifth of them is done, or after some
    minutes."""

    shown: ClassVar["Runs | None"] = None  # in this process

    def __init__(self, title: str, kinds: Iterable[str]) -> None:
        self.title, self.waiting = title, Counter(kinds)
        self.took: dict[str, list[float]] = defaultdict(list)
        self.count = self.waiting.total()
        self.started = self.logged = time.monotonic()
        self.bar = _bar(desc=str(self), total=self.count, bar_format=RUNS, disable=not watched())
        self.below = _bar(bar_format=STEPS, leave=False, disable=not watched())
        Runs.shown = self

    def __exit__(self, *_: object) -> None:
        Runs.shown = None
        self.below.close()
        self.bar.close()

    def done(self, kind: str, seconds: float) -> None:
        """Another run is done, of this kind and in so many seconds."""
        parts, now = self._parts(), time.monotonic()
        self.waiting[kind] -= 1
        self.took[kind].append(seconds)
        self.bar.set_description_str(str(self), refresh=False)
        self.bar.update()
        if self.bar.disable and (self._parts() > parts or now - self.logged > LOG_SECONDS):
            self.logged = now
            print(self, flush=True)

    def __str__(self) -> str:
        """What the bar and a line of a log say."""
        waiting = self.waiting.total()
        left = f", about {spoken(self._left())} left" if waiting and self._parts() else ""
        return f"{self.title}: {self.count - waiting}/{self.count} runs{left}"

    def _parts(self) -> int:
        return PARTS * (self.count - self.waiting.total()) // self.count

    def _left(self) -> float:
        """Seconds that the others take, if as many are made at once as before."""
        every = [seconds for times in self.took.values() for seconds in times]
        expected = sum(
            count * mean(self.took.get(kind, every)) for kind, count in self.waiting.items()
        )
        return expected * (time.monotonic() - self.started) / max(sum(every), 0.1)


class Progress:
    """Shows runs one after the other; `run` yields the bar of one."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    @contextmanager
    def run(self, label: str) -> Iterator["Progress"]:
        """The bar of one run, below that of all; in a log a line every few minutes."""
        self.label, self.count = label, 0
        self.first: int | None = None
        self.started = self.logged = time.monotonic()
        line = 1 if parent_process() else None  # another process has the bar of all
        options = dict(bar_format=STEPS, leave=False, disable=self.quiet or not watched())
        shown = nullcontext(Runs.shown.below) if Runs.shown else _bar(position=line, **options)
        with shown as self.bar:
            self.bar.set_description_str(label)
            yield self

    def total(self, count: int) -> None:
        """How many steps there will be."""
        self.count = count
        self.bar.reset(total=count)

    def step(self, number: int, **values: float) -> None:
        """Step `number` (from 1) is done; `values` stand beside the bar."""
        now = time.monotonic()
        if self.first is None:
            self.first = number  # a resumed run does not begin at 1
        left = (now - self.started) / (number - self.first + 1) * (self.count - number)
        measured = "".join(f", {name} {value:.3f}" for name, value in values.items())
        text = f"{number}/{self.count}{measured}, {spoken(left)} left"
        self.bar.set_description_str(f"{text}: {self.label}", refresh=False)
        self.bar.update(number - self.bar.n)
        if self.bar.disable and not self.quiet and now - self.logged > LOG_SECONDS:
            self.logged = now
            print(f"{self.label}: {text}", flush=True)

    def over(self, items: Sequence) -> Iterable:
        """Go over `items`, a step each."""
        self.total(len(items))
        for number, item in enumerate(items, start=1):
            yield item
            self.step(number)


def spoken(seconds: float) -> str:
    """'40 seconds', '6 minutes' or '2.5 hours'."""
    if seconds < 90:
        return f"{max(2, round(seconds))} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
