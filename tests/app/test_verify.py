"""What was changed behind the study's back is found and named, what was not passes: shown files,
rows, stored answers, checkpoints."""

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from miniatures import FACTS, grouped, planned

from studylib.app import cli, redrawing, study, verify
from studylib.app.notebooks import Job
from studylib.core import filesystem
from studylib.core import project as core_project
from studylib.core.errors import StudyError
from studylib.core.project import root
from studylib.evaluation import generate
from studylib.experiments.plans import Plan
from studylib.store import output_folder
from studylib.store.run import Run
from studylib.store.store import Store

pytestmark = pytest.mark.slow

SMALL = {
    "profile": "mine",
    "train": {"source": "facts:train", **FACTS},
    "dev": {"source": "facts:dev", **FACTS},
    "tests": {"near": {"source": "facts:test", **FACTS}},
    "eval_prompts": ["zero-shot"],
    "sizes": [2],
    "from_base": [],
    "batch_size": 2,
    "teacher_steps": 2,
    "num_evals": 1,
    "stages": [{"steps": 2, "losses": {"forward_kl": 1.0}}],
    "threads": 1,
}


@pytest.fixture(scope="module")
def project(raw: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the project in which a small study of one's own was run; its store is beside it."""
    place = tmp_path_factory.mktemp("project")
    for entry in ("studylib", "params", "README.md"):
        (place / entry).symlink_to(root() / entry)
    shutil.copytree(root() / "notebooks", place / "notebooks")
    (place / "capacity_gap.yaml").write_text(
        yaml.safe_dump(grouped(SMALL | {"families": {"mini": raw}})), encoding="utf-8"
    )
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(place):
        patch.setenv("STUDY_HOME", str(place / "home"))
        assert cli.main(["run", "capacity_gap.yaml"]) == 0
        yield place


@pytest.fixture
def checked(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Calls `study verify` in that project and returns its exit code and all that it says; what was
    changed is put back afterwards."""
    shown, before = project / "figures" / "mine" / "capacity_gap", project / "before"
    shutil.copytree(shown, before)
    monkeypatch.setenv("STUDY_HOME", str(project / "home"))

    def run() -> tuple[int, str]:
        code = cli.main(["verify", "capacity_gap.yaml", "--sample", "3"])
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        return code, output.out + output.err

    yield shown, run
    shutil.rmtree(shown)
    before.rename(shown)


def test_an_undisturbed_study_passes_and_says_what_was_looked_at(checked):
    shown, run = checked
    before = {file: file.read_bytes() for file in shown.iterdir()}
    code, output = run()
    assert code == 0, output
    assert output.count("rows, and at least 3 questions asked again, are as they were") == 3
    assert f"{len(before) - 1} files looked at; differences: none." in output, (
        "all but the list of their digests"
    )
    assert before == {file: file.read_bytes() for file in shown.iterdir()}, (
        "verifying writes nothing there"
    )


def test_changed_and_missing_files_are_named_with_the_first_place_that_differs(checked):
    shown, run = checked
    text = (shown / "table.md").read_text(encoding="utf-8")
    changed = text.replace("| uncut | teacher |", "| uncut | teachers |")
    (shown / "table.md").write_text(changed, encoding="utf-8")
    table = pd.read_csv(shown / "retention.csv", dtype={"student": str})
    f1 = table.f1[1] + 1
    table.assign(f1=table.f1.where(table.index != 1, f1)).to_csv(
        shown / "retention.csv", index=False
    )
    (shown / "results.csv").unlink()
    (shown / "cost.png").unlink()
    (shown / "older.csv").write_text("a\n1\n")
    code, output = run()
    assert (
        code == 2
        and "What 'mine' shows does not follow from its rows and the store (4 found, see above)"
        in output
    )
    assert (
        "table.md, line 3: " in output and f"retention.csv, line 3, f1: {f1} is shown, " in output
    )
    assert "results.csv is missing" in output and "cost.png is missing" in output
    assert "older.csv is not the study's: left alone" in output


def test_a_changed_row_is_found_by_its_tables_and_by_the_stored_answer(checked):
    shown, run = checked
    rows = pd.read_parquet(shown / "rows.parquet")
    rows.assign(f1=1 - rows.f1).to_parquet(shown / "rows.parquet", index=False)
    code, output = run()
    assert (
        code == 2
        and "results.csv, line " in output
        and "rows.parquet is not what was written (digest differs)" in output
    )
    assert (
        output.count(", f1: ") >= 3
        and " in rows.parquet, " in output
        and " by the stored answer" in output
    )


@pytest.fixture(scope="module")
def miniature(raw: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """A plan of three models that are asked once each, and where the store is that has all of
    it."""
    plan, place = (
        planned(raw, sizes=[2], from_base=[], eval_prompts=["zero-shot"]),
        tmp_path_factory.mktemp("made"),
    )
    study.complete(plan, Store(place))
    return plan, place


@pytest.fixture
def stored(
    miniature: tuple[Plan, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Job, Store, Path]:
    """Its job, a copy of its store, and what it exported; nothing is redrawn."""
    monkeypatch.setattr(redrawing, "redrawn", lambda *_: iter(()))
    plan, store, folder = (
        miniature[0],
        Store(tmp_path / "store"),
        tmp_path / "shown" / "capacity_gap",
    )
    shutil.copytree(miniature[1], tmp_path / "store")
    study.export(folder, study.rows(plan, store), {"runs": study.origins(plan, store)}, {}, {})
    monkeypatch.setattr(core_project, "figures_folder", lambda *_: folder)
    return Job(root() / "notebooks" / "capacity_gap.ipynb", "mini", {}, plan), store, folder


def looked(job: Job, store: Store, **how: int) -> tuple[str, str]:
    """What is said, and the sentence of the error, if there is one."""
    lines: list[str] = []
    try:
        verify.verify([job], lines.append, store=store, **how)
    except StudyError as error:
        return "\n".join(lines), str(error)
    return "\n".join(lines), ""


def rewritten(store: Store, run: Run, change) -> Path:
    """The run's answers as `change` makes them of what they were."""
    file = store.path(run, "answers.json")
    file.write_text(
        json.dumps(change(json.loads(file.read_text(encoding="utf-8")))), encoding="utf-8"
    )
    return file


def signed(store: Store, run: Run) -> None:
    """Make the digest of a run's changed files what it says, as a forger would who does not know
    that keys hang on it."""
    folder, result = store.folder(run), store.result(run)
    files = {name: filesystem.file_digest(folder / name) for name in result["files"]}
    filesystem.write_sealed(
        folder / "result.json", result | {"files": files, "digest": result["digest"]}
    )


def test_a_changed_stored_answer_is_found(stored):
    job, store, _ = stored
    assert looked(job, store)[1] == ""
    for asked in job.plan.asked:
        rewritten(
            store,
            asked.answers,
            lambda answers: {
                name: answer | {"text": "nothing"} for name, answer in answers.items()
            },
        )
    output, error = looked(job, store)
    assert output.count("answers.json is not what the run stored (digest differs)") == 3 and error
    for asked in job.plan.asked:
        signed(store, asked.answers)
    output, error = looked(job, store)
    assert (
        output.count("'nothing' is stored, the model says ") >= 3
        and output.count(" by the stored answer") == 3
        and error
    )


def test_a_changed_probability_is_found_beyond_the_tolerance_alone(stored):
    job, store, _ = stored
    for more, is_wrong in ((verify.TOLERANCE / 2, False), (3 * verify.TOLERANCE, True)):
        for asked in job.plan.asked:
            rewritten(
                store,
                asked.answers,
                lambda answers, more=more: {
                    name: a | {"probability": a["probability"] + more}
                    for name, a in answers.items()
                },
            )
            signed(store, asked.answers)
        output, error = looked(job, store)
        assert (" is stored, now " in output) == is_wrong == bool(error)


def test_a_changed_checkpoint_is_found_and_one_that_is_gone_is_said(stored):
    job, store, _ = stored
    for run, _ in job.plan.trained:
        file = store.path(run, "model/model.safetensors")
        file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\1")
    output, error = looked(job, store)
    assert (
        output.count("model.safetensors is not what the run stored (digest differs)") == 2 * 3
        and error
    ), "of models and of answers"
    shutil.rmtree(store.root / "student")
    output, error = looked(job, store)
    assert "2 of 3 sets of answers are not at hand: of these only rows were looked at" in output
    assert "model.safetensors is not what the run stored" in output and error, (
        "the teacher's is still there"
    )


def forged(store: Store, run: Run, other: Run) -> None:
    """Put the other run's model in the place of this one's, with all digests that the run itself
    holds."""
    folder, result = store.folder(run), store.result(run)
    shutil.rmtree(folder / "model")
    shutil.copytree(store.folder(other) / "model", folder / "model")
    files = {name: filesystem.file_digest(folder / name) for name in result["files"]}
    filesystem.write_sealed(
        folder / "result.json", result | {"files": files, "digest": filesystem.digest(files)}
    )


def exported(plan: Plan, store: Store, folder: Path) -> None:
    """All that hangs on what is stored now, made anew, and shown."""
    study.complete(plan, store)
    shutil.rmtree(folder)
    study.export(folder, study.rows(plan, store), {"runs": study.origins(plan, store)}, {}, {})


def test_the_teachers_weights_in_a_students_run_are_found(stored):
    """Its answers would be the teacher's: all is kept, and the parameters are said to be fewer."""
    job, store, folder = stored
    teacher, student, _ = (run for run, _ in job.plan.trained)
    counts = [store.result(run)["facts"]["parameters"]["total"] for run in (teacher, student)]
    forged(store, student, teacher)
    exported(job.plan, store, folder)
    rows = pd.read_parquet(folder / "rows.parquet").groupby("role").f1.mean()
    assert rows["student"] == rows["teacher"]
    output, error = looked(job, store)
    holds = f"{student.label}: {store.folder(student) / 'model'} holds {counts[0]:,} parameters"
    assert (
        output.count(holds) == 2
        and f"its result says {counts[1]:,}" in output
        and f", {counts[1]:,} were planned" in output
        and error
    )
    assert (
        f"{student.label}: {store.folder(student) / 'model'} holds the weights of {teacher.label},"
        " to the bit" in output
    )
    result = store.result(student)
    result["facts"]["parameters"] = store.result(teacher)["facts"]["parameters"]
    filesystem.write_sealed(store.folder(student) / "result.json", result)
    output, error = looked(job, store)
    assert output.count(holds) == 1 and f", {counts[1]:,} were planned" in output and error, (
        "what the result says can be forged, too"
    )


def test_weights_of_another_model_of_its_size_are_found(stored):
    job, store, folder = stored
    _, student, control = (run for run, _ in job.plan.trained)
    forged(store, control, student)
    exported(job.plan, store, folder)
    output, error = looked(job, store)
    assert (
        f"{control.label}: {store.folder(control) / 'model'} holds the weights of"
        f" {student.label}, to the bit"
        in output
        and error
    )
    assert "parameters (" not in output


def test_a_model_that_nothing_was_made_of_is_found(stored):
    """With the old digest, answers still belong to it."""
    job, store, _ = stored
    student = job.plan.trained[1][0]
    file = store.path(student, "model/model.safetensors")
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\1")
    signed(store, student)
    output, error = looked(job, store)
    assert (
        f"{student.label}: its files are not those that answers and students were made of (digest"
        " differs)"
        in output
        and error
    )


def test_another_fingerprint_than_was_exported_is_found(stored):
    job, store, folder = stored
    runs = pd.read_csv(folder / "runs.csv")
    (folder / output_folder.DIGESTS).unlink()
    runs.assign(digest=runs.digest.where(runs.kind != "cut", "0" * 64)).to_csv(
        folder / "runs.csv", index=False
    )
    output, error = looked(job, store)
    assert output.count("runs.csv, digest: 000") == 1 and error


def export_curves(job: Job, store: Store, folder: Path) -> None:
    """Show how models learnt, too."""
    curves = {"learning": study.curves(job.plan, store)}
    study.export(folder, study.rows(job.plan, store), curves, {}, {})


def test_columns_that_no_score_hangs_on_are_compared_with_the_store(stored):
    """What tables and intervals are made of besides: parameter counts, articles, traits."""
    job, store, folder = stored
    export_curves(job, store, folder)
    output, error = looked(job, store)
    assert not error, output
    rows = pd.read_parquet(folder / "rows.parquet")
    (folder / output_folder.DIGESTS).unlink()  # which would tell all of it
    for column, other in (
        ("parameters_total", 2 * rows.parameters_total),
        ("article", "another"),
        ("answer_words", 1 + rows.answer_words),
    ):
        rows.assign(**{column: other}).to_parquet(folder / "rows.parquet", index=False)
        output, error = looked(job, store)
        assert error and output.count(f", {column}: ") == 3
    rows.to_parquet(folder / "rows.parquet", index=False)
    assert looked(job, store)[1] == ""


def test_tables_that_no_score_hangs_on_are_compared_with_the_store(stored):
    """How models learnt, where runs come from, and what they took."""
    job, store, folder = stored
    export_curves(job, store, folder)
    (folder / output_folder.DIGESTS).unlink()  # which would tell all of it
    learned, runs, times = (
        pd.read_csv(folder / f"{name}.csv") for name in ("learning", "runs", "times")
    )
    for name, table in (
        ("learning", learned.assign(loss=learned.loss + 0.001)),
        ("runs", runs.assign(threads=99)),
        ("learning", learned.iloc[1:]),
        ("runs", runs.iloc[1:]),
        ("runs", runs.drop(columns="threads")),
        ("runs", runs.drop(columns="planned")),
        ("times", times.assign(seconds=times.seconds + 1)),
    ):
        table.to_csv(folder / f"{name}.csv", index=False)
        output, error = looked(job, store)
        assert error and f"  {name}.csv" in output, output
        learned.to_csv(folder / "learning.csv", index=False)
        runs.to_csv(folder / "runs.csv", index=False)
        times.to_csv(folder / "times.csv", index=False)
    assert looked(job, store)[1] == ""


@pytest.mark.parametrize("name", ["rows.parquet", "runs.csv", "learning.csv"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"\xff\0,,\n,"])
def test_a_damaged_table_is_named_in_a_sentence(stored, name, content):
    job, store, folder = stored
    export_curves(job, store, folder)
    (folder / name).write_bytes(content)
    output, error = looked(job, store)
    assert error and (
        name in output or "the tables of capacity_gap cannot be compared with the store" in output
    ), output


def test_the_seed_draws_the_sample_and_no_sample_is_refused(stored, monkeypatch):
    job, store, _ = stored
    drawn: list[list[str]] = []
    asked = generate.answer

    def noted(model, tokenizer, prompts, **how):
        drawn.append([branch.question.id for prompt in prompts for branch in prompt.branches])
        return asked(model, tokenizer, prompts, **how)

    monkeypatch.setattr(generate, "answer", noted)
    for seed in (0, 0, 1):
        assert looked(job, store, seed=seed, sample=3)[1] == ""
    assert drawn[:3] == drawn[3:6] != drawn[6:] and all(len(some) >= 3 for some in drawn)
    (output, _), (again, _) = (looked(job, store, sample=3) for _ in range(2))
    seeds = [
        re.search(r"Drawn by seed (\d+): --seed \1 again\.", text)[1] for text in (output, again)
    ]
    assert seeds[0] != seeds[1], "nobody knows beforehand what is asked"
    assert (
        looked(job, store, seed=int(seeds[1]), sample=3)[0].count(
            "which was given and so could be known beforehand"
        )
        == 1
    )
    questions = [sorted(some) for some in drawn[9:]]
    assert (
        questions[3:6] == questions[6:9]
        and "Of forged answers in a set that is drawn, a sample of 3 finds 1 in 10 with 27 %"
        in output
    )
    assert "--sample 0 is no number of questions" in looked(job, store, sample=0)[1]


def test_without_the_store_rows_alone_are_looked_at_and_without_rows_there_is_nothing(
    stored, tmp_path
):
    job, _, folder = stored
    output, error = looked(job, Store(tmp_path / "empty"))
    assert (
        "3 of 3 sets of answers are not at hand: of these only rows were looked at" in output
        and not error
    )
    (folder / "rows.parquet").unlink()
    output, error = looked(job, Store(tmp_path / "empty"))
    assert "rows.parquet is missing" in output and error, "what else is there follows from nothing"
    shutil.rmtree(folder)
    assert "Nothing of 'mini' is exported" in looked(job, Store(tmp_path / "empty"))[1]
