"""`study plan`: what it says before anything is fetched."""

import json

import pandas as pd
import pytest
from miniatures import planned

from studylib.app import cli, notebooks, study, time_budget
from studylib.app import plan as app_plan
from studylib.runs import kinds
from studylib.runs.budget import Budget
from studylib.store.store import Store


@pytest.fixture(scope="module")
def work() -> Budget:
    """What counts the work of runs, of each once."""
    return Budget()


@pytest.fixture(scope="module")
def paper(work) -> pd.DataFrame:
    """All runs of `paper` on one kind of card, nothing of it at hand."""
    return app_plan.runs(notebooks.jobs("paper"), app_plan.named("h100"), work)


@pytest.mark.slow
def test_paper_is_planned_with_nothing_at_hand(paper):
    assert len(paper) > 5000 and (paper.state == "missing").all() and paper.estimated.any()
    assert (paper[["parameters", "flops", "memory", "seconds"]] > 0).all().all()
    tuned = paper[(paper.kind == "teacher") & paper.run.str.startswith("Qwen2.5 7B s0")].iloc[0]
    assert tuned.parameters == 7_615_616_512
    assert (
        tuned.memory > 4 * 4 * tuned.parameters / 4
    )  # weights, gradients and both moments, shared by four
    assert tuned.disk == pytest.approx(4 * tuned.parameters)


@pytest.mark.slow
def test_what_does_not_fit_is_said(work):
    small = app_plan.named("8e12:16")
    table = app_plan.runs(notebooks.jobs("paper")[:1], small, work)
    lines = list(app_plan.lines_of(table, small))
    warnings = [line for line in lines if line.startswith("WARNING")]
    assert any(
        "teacher Qwen2.5 7B teacher takes about" in line and "16.0 GB" in line for line in warnings
    )
    assert not any("Pythia 160M, pretrained init, control takes" in line for line in warnings)


def test_a_device_is_a_known_one_or_given(capsys):
    assert app_plan.named("h100").memory == 80e9
    assert app_plan.named("165e12:24") == app_plan.Card("165e12:24", 165e12, 165e12, 24e9)
    assert cli.main(["plan", "tiny", "--device", "abacus"]) == 2
    assert "device 'abacus' is unknown: use t4, l4" in capsys.readouterr().err


def test_twice_the_speed_is_half_the_time():
    runs = [
        run
        for run in notebooks.jobs("tiny")[0].plan.runs
        if run.kind in ("student", "answers", "states", "cut")
    ]
    work = Budget()
    slow, fast = (app_plan.Card("x", peak, peak, 1e9) for peak in (1e6, 2e6))
    for run in runs:
        took = kinds.took(work, run)
        assert slow.seconds(run, took) == pytest.approx(2 * fast.seconds(run, took), rel=0.01)


def test_seeds_stand_in_one_line_and_totals_below(raw, tmp_path, capsys, monkeypatch):
    values = {
        "profile": "test-plan",
        "seeds": [0, 1],
        "from_base": [],
        "machine": {"threads": 1, "engine": "local"},
    }
    (tmp_path / "capacity_gap.yaml").write_text(json.dumps(values))
    monkeypatch.setattr(time_budget, "calibrated", lambda *_: time_budget.Pace(1.0, 1e9))
    assert (
        cli.main(["plan", str(tmp_path / "capacity_gap.yaml"), "--out", str(tmp_path / "plan.csv")])
        == 0
    )
    output = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "plan.csv")
    assert (
        f"{len(table)} runs, {len(table)} not done in the store" in output
        and "on this machine" in output
    )
    teachers = [line for line in output.splitlines() if line.endswith("gpt_neox teacher")]
    assert len(teachers) == 1 and teachers[0].split()[:3] == ["2", "missing", "teacher"]
    assert not list(tmp_path.glob("home/runs/*"))


@pytest.mark.slow
def test_what_is_done_is_named_and_counts_no_more(raw, tmp_path, home):
    plan = planned(raw, sizes=[3], from_base=[])
    job = notebooks.Job(tmp_path / "capacity_gap.ipynb", "test-plan", {}, plan)
    study.complete(plan, Store())
    table = app_plan.runs([job], app_plan.named("t4"), Budget())
    assert set(table.state) == {"done"}
    assert any(
        line.startswith(f"{len(table)} runs, 0 not done")
        for line in app_plan.lines_of(table, app_plan.named("t4"))
    )


def test_an_unknown_model_has_no_plan_before_it_is_fetched(tmp_path, capsys):
    values = {
        "profile": "x",
        "families": {"a": f"hub:someone/something@{'0' * 40}"},
        "sizes": [2],
        "from_base": [],
    }
    (tmp_path / "capacity_gap.yaml").write_text(json.dumps(values))
    assert cli.main(["plan", str(tmp_path / "capacity_gap.yaml"), "--device", "h100"]) == 2
    assert "is not at hand and its size is not known" in capsys.readouterr().err


def test_a_run_that_will_not_fit_is_warned_of_before_the_start(raw, monkeypatch):
    plan = planned(raw)
    assert list(app_plan.too_large(plan, plan.runs)) == []
    monkeypatch.setattr(
        app_plan.psutil, "virtual_memory", lambda: type("Memory", (), {"total": 10**6})()
    )
    first, *_ = app_plan.too_large(plan, plan.runs)
    assert first.startswith("WARNING: mini s0 teacher takes about") and first.endswith(
        "there are 0.0 GB: see `study plan`."
    )
