"""Systems in processes of their own: who fails is named, and the others go on."""

from functools import partial

import pytest
from miniatures import built
from systems import Absent, Dying, Echo, Greedy, Large, Wrong, matched

from studylib.bench.baselines import Setting
from studylib.bench.process import Failure, SystemProcess
from studylib.bench.table import OURS
from studylib.bench.turns import Turns, _tune, questions

LIMIT = 2**33
PROMPTS = built()[:2]


def turns(folder, log, **systems) -> Turns:
    makes = {name: partial(matched, system) for name, system in systems.items()}
    return Turns("answering", makes, folder, LIMIT, log.append)


@pytest.mark.slow
def test_who_fails_is_named_and_the_others_go_on(tmp_path, capfd):
    """By memory, of Python's and of torch's, by a signal, by an error, or before it begins."""
    others = {"greedy": Greedy, "large": Large, "dying": Dying, "wrong": Wrong, "absent": Absent}
    shown: list[str] = []
    with turns(tmp_path, shown, ours=Echo, second=Echo, **others) as processes:
        processes.tune(PROMPTS, ["fp32"], 1)
        results = processes.rounds([PROMPTS, PROMPTS])
        failures = processes.failures
    memory = "it needs more than 8.6 GB of memory"
    assert failures == {
        "greedy": memory,
        "large": memory,
        "dying": "its process was ended",
        "wrong": "ValueError: it has no rows",
        "absent": "ImportError: no such library",
    }
    assert results["questions"] == [questions(PROMPTS)] * 2 and results["same"]["second"] == 1
    for name in ("settings", "prepared", "seconds"):
        assert set(results[name]) == {OURS, "second"}
    assert all(len(seconds) == 2 for seconds in results["seconds"].values())
    assert "Round 2 of answering" in shown[-1] and shown.count(f"large failed: {memory}.") == 1
    assert "noise" not in "".join(capfd.readouterr())
    assert "noise" in (tmp_path / "answering/ours/log").read_text()


@pytest.mark.slow
def test_the_bench_ends_where_ours_fails(tmp_path):
    with (
        turns(tmp_path, [], ours=Wrong, second=Echo) as processes,
        pytest.raises(Failure, match="no"),
    ):
        processes.tune(PROMPTS, ["fp32"], 1)


COSTS = {("fp32", 0): 3.0, ("fp32", 4): 1.0, ("bf16", 0): 2.0, ("bf16", 4): 4.0}


class Slow(Echo):
    """Its seconds are what `COSTS` says of its setting."""

    rows = (0, 4)

    def run(self, prompts):
        return (
            super().run(prompts)._replace(seconds=COSTS[self.setting.precision, self.setting.rows])
        )


@pytest.mark.parametrize(
    ("precisions", "rows", "best"),
    [
        (["fp32", "bf16"], 2, Setting("fp32", 4)),
        (["fp32", "bf16"], 1, Setting("bf16", 0)),
        (["bf16"], 2, Setting("bf16", 0)),
    ],
)
def test_the_fastest_setting_is_taken(precisions, rows, best, tmp_path):
    system = matched(Slow, tmp_path)
    assert _tune(system, PROMPTS, precisions, rows) == system.setting == best


class Picky(Slow):
    """Fails by some settings."""

    def work(self, prompts):
        if self.setting.rows == 4:
            raise RuntimeError("not enough memory")


def test_a_setting_by_which_it_fails_is_left_out(tmp_path):
    system = matched(Picky, tmp_path)
    assert _tune(system, PROMPTS, ["fp32", "bf16"], 2) == Setting("bf16", 0)
    system.rows = (4,)
    with pytest.raises(RuntimeError, match="not enough memory"):
        _tune(system, PROMPTS, ["fp32"], 1)


@pytest.mark.slow
def test_memory_is_bounded_in_its_process_alone(tmp_path):
    with (
        SystemProcess(partial(matched, Echo), tmp_path / "a", LIMIT) as bounded,
        SystemProcess(partial(matched, Echo), tmp_path / "b", 4 * LIMIT) as other,
    ):
        assert [each.call(limit) for each in (bounded, other)] == [LIMIT, 4 * LIMIT]
    assert limit(None) not in (LIMIT, 4 * LIMIT)


def limit(system) -> int:
    import resource

    return resource.getrlimit(resource.RLIMIT_DATA)[0]
