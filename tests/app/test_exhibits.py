"""What notebooks show, in their folder."""

import pandas as pd
import pytest
from miniatures import chosen, exported, planned, prompted, stages

from studylib.analysis import (
    contrasts,
    cost,
    figures,
    prompting,
    retention,
    summary,
    teacher_sizes,
    teacher_vs_student,
)
from studylib.app import exhibits, origins, study
from studylib.core import labels
from studylib.core.progress import Progress
from studylib.evaluation import question_scores
from studylib.runs import kinds, plan_parts
from studylib.store import exports, output_folder
from studylib.store.store import Store

pytestmark = pytest.mark.slow


def test_results_are_the_means_of_the_rows_in_percent(finished):
    plan, store = finished
    rows = study.rows(plan, store)
    tidy = exhibits.results(rows)
    expected = "family,teacher,student,role,init,targets,objective,train_prompt,eval_prompt,"
    expected += "test_set,language,seed,steps,metric,value,n,run"
    assert list(tidy.columns) == [
        *expected.split(","),
        "parameters_total",
        "parameters_nonembedding",
    ]
    assert set(tidy.role) == {"teacher", "student", "control"} and set(tidy.metric) == {
        *labels.METRICS,
        *labels.MENDED,
        *question_scores.BESIDE,
    }
    assert not tidy.duplicated(["run", "metric", "language"]).any()
    assert set(tidy[tidy.role == "teacher"].metric) == {
        *labels.METRICS,
        *labels.MENDED,
        "probability",
    }  # it has no teacher to be like
    for line in tidy.itertuples():
        subset = rows[(rows.run == line.run) & (rows.language == line.language)]
        assert line.n == len(subset) and line.value == pytest.approx(
            100 * subset[line.metric].mean(), abs=1e-4
        )


def complete_until(last, plan, store):
    """Answer what comes first in the plan, up to a model of this role that has this teacher or
    teaches as it."""
    models = [(asked.called["role"], asked.called["teacher"]) for asked in plan.asked]
    first = plan.asked[: models.index(last) + 1]
    answers = (run for asked in first for run in (asked.answers, asked.loyalty) if run is not None)
    for run in plan_parts.each_run(answers):
        store.complete(run, kinds.make(store, Progress()))


def check_shown_so_far(folder, rows, curves, texts, drawn):
    """Nothing is compared, and nothing fails."""
    study.export(folder, rows, {"learning": curves}, texts, drawn)
    assert "answered yet." in texts["conclusion"] and len(drawn) in (1, 2)
    assert figures.show(drawn, folder, "traits").data == "There is nothing to draw yet."


def test_what_is_answered_so_far_of_a_choice_of_teachers_can_be_shown(raw, tmp_path):
    plan, store = chosen(raw), Store(tmp_path)
    complete_until(("teacher", "base"), plan, store)
    rows, curves = study.rows(plan, store), study.curves(plan, store)
    kept, scores = retention.compare(rows), teacher_vs_student.compare(rows)
    texts = summary.teacher_choice(
        kept,
        contrasts.contrasts(rows, "fine-tuned"),
        scores,
        "zero-shot",
        origins.summary(plan, study.origins(plan, store)),
    )
    drawn = figures.teacher_choice(kept, retention.by_seed(rows), scores, curves)
    check_shown_so_far(tmp_path / "shown", rows, curves, texts, drawn)


def test_what_is_answered_so_far_of_prompting_can_be_shown(raw, tmp_path):
    plan, store, modes = prompted(raw), Store(tmp_path), ["zero-shot", "one-shot"]
    complete_until(("student", "fine-tuned"), plan, store)
    rows, curves = study.rows(plan, store), study.curves(plan, store)
    kept, traits = retention.compare(rows), prompting.by_trait(rows, modes)
    texts = summary.prompting_mode(
        kept,
        prompting.prompting(rows, modes, modes),
        traits,
        modes,
        origins.summary(plan, study.origins(plan, store)),
    )
    drawn = figures.prompting_mode(kept, retention.by_seed(rows), traits, retention.bases(rows))
    check_shown_so_far(tmp_path / "shown", rows, curves, texts, drawn)


def test_rows_of_other_runs_are_kept_when_some_are_exported(finished, raw, tmp_path):
    plan, store = finished
    rows, _ = exported(plan, store, tmp_path / "shown")
    fewer = planned(raw, stages=stages(forward_kl=1.0, hidden_mse=0.5), sizes=[3], from_base=[])
    shown, _ = exported(fewer, store, tmp_path / "shown")
    assert set(shown.student) == {"", "mini-3"}
    assert len(pd.read_parquet(tmp_path / "shown" / "rows.parquet")) == len(rows)
    everything, _ = exported(plan, Store(tmp_path / "empty"), tmp_path / "shown")
    assert len(everything) == len(rows)


def test_figures_of_somebody_s_own_stay(finished, tmp_path):
    plan, store = finished
    exported(plan, store, tmp_path / "shown")
    plots = {f"my_plot.{ending}": f"my {ending}" for ending in ("svg", "png", "csv")}
    for name, text in plots.items():
        (tmp_path / "shown" / name).write_text(text)
    study.export(tmp_path / "shown", study.rows(plan, store), {}, {}, {})
    left = {file.name for file in (tmp_path / "shown").iterdir()}
    assert left == {
        *plots,
        *(name for name in exports.KEPT if name != "costs.csv"),
        "results.csv",
        "seeds.csv",
        "table.md",
        output_folder.DIGESTS,
    }, "all figures of the study are gone"
    assert {name: (tmp_path / "shown" / name).read_text() for name in plots} == plots


def test_what_models_answer_before_any_training_is_shown_before_there_is_a_teacher(raw, tmp_path):
    plan, store, folder = (
        planned(raw, base_prompts=["zero-shot"]),
        Store(tmp_path),
        tmp_path / "p" / "capacity_gap",
    )
    for each in plan.asked:
        if each.called["role"] == "base":
            store.complete(each.answers, kinds.make(store, Progress()))
    rows = study.rows(plan, store, folder)
    kept, gained, shipped = (
        retention.compare(rows),
        contrasts.contrasts(rows),
        retention.bases(rows),
    )
    costs, sweep = cost.pareto(study.timing(plan, rows, store)), teacher_sizes.sweep(rows)
    texts = summary.capacity_gap(
        kept,
        gained,
        costs,
        teacher_sizes.law(rows),
        shipped,
        "zero-shot",
        origins.summary(plan, study.origins(plan, store)),
    )
    curves = study.curves(plan, store)
    drawn = figures.capacity_gap(kept, retention.by_seed(rows), costs, sweep, curves, "zero-shot")
    study.export(folder, rows, {"bases": shipped, "learning": curves}, texts, drawn)
    assert set(rows.role) == {"base"} and kept.empty and not drawn
    (line,) = exports.read(folder / "bases.csv").to_dict("records")
    assert (
        line["f1"] == pytest.approx(100 * rows.f1.mean()) and line["n"] == rows.question.nunique()
    )
    done = sum(asked.called["role"] == "base" for asked in plan.asked)
    assert (folder / "answer.md").read_text() == (
        f"Nothing to compare was answered yet. {done} of {len(plan.asked)} evaluations done.\n"
    )
    assert f"{rows.parameters_total.iloc[0]:,}" in (folder / "bases.md").read_text()
