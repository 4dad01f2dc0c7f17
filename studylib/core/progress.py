"""A bar per run: what, step, loss, time left. A widget in JupyterLab, one line in a terminal, plain
lines in a log."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from tqdm.auto import tqdm

QUIET_SECONDS = 10


def watched() -> bool:
    """Whether somebody looks on: a terminal, or a notebook's kernel."""
    return sys.stderr.isatty() or (
        "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None
    )


class Progress:
    """Shows runs one after the other; `run` yields the bar of one."""

    def __init__(self, quiet: bool = False) -> None:
        self.live, self.quiet = watched() and not quiet, quiet
        self.bar: tqdm

    @contextmanager
    def run(self, label: str) -> Iterator["Progress"]:
        """The bar of one run."""
        self.label, self.started, self.shown, self.count = label, time.monotonic(), 0.0, 0
        self.first: int | None = None
        self.bar = tqdm(desc=label, leave=True, disable=not self.live, dynamic_ncols=True)
        try:
            yield self
        finally:
            self.bar.close()
        if not self.live and not self.quiet:
            print(f"{label}: done in {time.monotonic() - self.started:.0f} s", flush=True)

    def total(self, count: int) -> None:
        """How many steps there will be."""
        self.count = count
        self.bar.reset(total=count)

    def step(self, number: int, **values: float) -> None:
        """Step `number` (from 1) is done; `values` stand beside the bar."""
        self.bar.set_postfix(
            {name: f"{value:.3f}" for name, value in values.items()}, refresh=False
        )
        self.first = (
            number if self.first is None else self.first
        )  # a resumed run does not begin at 1
        self.bar.update(number - self.bar.n)
        now = time.monotonic()
        if not self.live and not self.quiet and now - self.shown > QUIET_SECONDS:
            self.shown = now
            left = (now - self.started) / (number - self.first + 1) * (self.count - number)
            said = "".join(f", {name} {value:.3f}" for name, value in values.items())
            print(f"{self.label}: {number}/{self.count}{said}, {left:.0f} s left", flush=True)

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
