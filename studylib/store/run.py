"""A run as it is planned: its kind, the parameters that matter, and what it builds on. Computes
nothing."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from typing import Any

from studylib.core import filesystem, key_names


@dataclass(frozen=True, eq=False)
class Input:
    """Something a run builds on that is no run: a data set or a model from outside, with the digest
    of its content.

    Where code has a part in the content, `digest` depends on the versions of that code (`recipe`),
    and `source` is the digest without them.
    """

    label: str
    value: Any
    digest: str
    source: str = ""
    recipe: Mapping[str, int] = field(default_factory=dict)

    @property
    def planned(self) -> str:
        """Names what it is, whatever the versions of code."""
        return self.source or self.digest


@dataclass(frozen=True, eq=False)
class Run:
    """Something to compute: its kind, the parameters that matter, and the runs it builds on.

    `label` is for people and is no part of the key; `recipe` names the modules that make this kind,
    each with a number that is raised when it changes what it makes.
    """

    kind: str
    parameters: Mapping
    # of Run or Input; which one, is a matter of the kind
    needs: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, int] = field(default_factory=dict)
    label: str = ""

    @cached_property
    def planned(self) -> str:
        """Names what was asked for, by digest: kind, parameters, and recursively what it builds on.
        Versions of code are no part of it: see `versions`."""
        # a long chain would be too deep to recurse into
        upstream = [need for need in self.needs.values() if isinstance(need, Run)]
        for run in ordered(upstream, lambda run: "planned" in vars(run)):
            _ = run.planned
        needs = {name: need.planned for name, need in self.needs.items()}
        return filesystem.digest(key_names.run(self.kind, self.parameters, needs))[:24]

    @cached_property
    def versions(self) -> dict[str, str]:
        """The versions of all code that has a part in the run or in what it builds on, by module;
        several where runs differ in one."""
        numbers = {
            pair
            for run in self.ancestry()
            for part in (run, *run.needs.values())
            for pair in part.recipe.items()
        }
        return {
            module: "/".join(str(number) for _, number in pairs)
            for module, pairs in groupby(sorted(numbers), key=itemgetter(0))
        }

    def ancestry(self) -> Iterator["Run"]:
        """The runs it builds on, deepest first, then itself; each once."""
        return ordered([self])


def ordered(runs: Iterable[Run], skip: Callable[[Run], bool] = lambda run: False) -> Iterator[Run]:
    """These runs and those that they build on, each once, in an order in which they can be made;
    without those to `skip` and what only these build on. Each is looked at once, however many
    others build on it."""
    seen: set[Run] = set()
    waiting: list[tuple[Run, bool]] = [(run, False) for run in reversed(list(runs))]
    while waiting:
        run, complete = waiting.pop()
        if complete:
            yield run
        elif run not in seen and not skip(run):
            seen.add(run)
            waiting.append((run, True))
            waiting += [
                (need, False)
                for need in reversed(list(run.needs.values()))
                if isinstance(need, Run)
            ]
