"""How versions of code are written, and what is said where they differ from today's."""

from collections import Counter
from itertools import chain
from pathlib import Path

import pandas as pd
import pytest

from studylib.app import notebooks
from studylib.core import versions
from studylib.core.project import root
from studylib.store import exports
from studylib.store.run import Run
from studylib.store.store import Snapshot

COMMITTED = [name for name in ("small", "qwen") if (root() / "figures" / name).is_dir()]


@pytest.mark.parametrize(
    ("stored", "today", "how"),
    [
        ("kinds 1, training 3", "kinds 1, training 3", ""),
        ("kinds 1, training 3", "kinds 1, training 4", "made with training 3, today 4"),
        (
            "facts 1, kinds 1, training 3",
            "facts 2, kinds 1, training 4",
            "made with facts 1, training 3, today 2, 4",
        ),
        ("kinds 1", "kinds 1, scoring 2", "made with no scoring, today 2"),
        ("kinds 1, scoring 2", "kinds 1", "made with scoring 2, today none"),
        ("", "kinds 1", "made with unknown versions"),
    ],
)
def test_what_differs_is_named(stored: str, today: str, how: str):
    assert versions.outdated(stored, today) == how


def test_versions_are_those_of_all_that_a_run_builds_on():
    upstream = Run("teacher", {}, recipe={"training": 3, "kinds": 1})
    assert (
        versions.written(
            Run("answers", {}, {"model": upstream}, {"answering": 5, "kinds": 1}).versions
        )
        == "answering 5, kinds 1, training 3"
    )


class Exported(Snapshot):
    """A store of which only exported digests are left, by what was planned."""

    def __init__(self, digests: dict[str, str]):
        super().__init__(Path())
        self.digests = digests

    def result(self, run: Run) -> dict | None:
        """As of any store, as far as a key needs it."""
        digest = self.digests.get(run.planned)
        return {"digest": digest} if digest else None


def generations(runs: pd.DataFrame) -> list[pd.DataFrame]:
    """The runs by those versions of which there are several; others go with the last."""
    pairs = runs.versions.str.split(", ")
    numbers = Counter(pair.split(" ")[0] for pair in set(chain.from_iterable(pairs)))
    several = {name for name, count in numbers.items() if count > 1}
    made_by = pairs.map(lambda row: ", ".join(p for p in row if p.split(" ")[0] in several))
    return [group for _, group in runs.groupby(made_by.replace("", made_by.max()))]


@pytest.mark.parametrize("apart", [False, True], ids=["shared", "methods"])
@pytest.mark.parametrize("profile", COMMITTED)
def test_the_keys_of_committed_results_come_out_as_before(
    profile: str, apart: bool, monkeypatch: pytest.MonkeyPatch
):
    """By the versions that they were made with; those of methods stand apart."""
    files = [
        file
        for file in sorted((root() / "figures" / profile).glob("*/runs.csv"))
        if (file.parent.name in exports.APART) == apart
    ]
    if not files:
        pytest.skip("nothing of it is committed")
    runs = pd.concat(map(pd.read_csv, files)).drop_duplicates("planned").set_index("planned")
    store = Exported(dict(runs.digest))
    for group in generations(runs):
        recorded = {pair for written in group.versions for pair in written.split(", ")}
        numbers = dict(pair.split(" ") for pair in recorded)
        assert len(numbers) == len(recorded), "all runs of a generation have the same"
        for name in numbers.keys() & versions.VERSIONS.keys():
            monkeypatch.setitem(versions.VERSIONS, name, int(numbers[name]))
        plans = [job.plan for job in notebooks.jobs(profile)]
        planned = {run.planned: run for plan in plans for run in plan.runs}
        assert {name: store.key(planned[name]) for name in group.index} == dict(group.key)
        assert {name: versions.written(planned[name].versions) for name in group.index} == dict(
            group.versions
        )
