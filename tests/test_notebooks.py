"""The notebooks as they are committed, and one run of the smoke profile by papermill from another
folder."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from studylib.analysis import figures
from studylib.app import notebooks, parameters, readme, study
from studylib.core.errors import StudyError
from studylib.core.filesystem import read_sealed
from studylib.core.project import root
from studylib.store import output_folder

NOTEBOOKS = sorted((root() / "notebooks").glob("*.ipynb"))
COMMITTED = [job for job in notebooks.jobs("small") if job.folder.exists()]
OUTPUTS = [  # of the smoke profile of the capacity gap
    "answer.md",
    "conclusion.md",
    "contrasts.csv",
    "contrasts.md",
    "cost.csv",
    "cost.png",
    "cost.svg",
    "digests.json",
    "headline.md",
    "learning.csv",
    "learning.png",
    "learning.svg",
    "pooled.csv",
    "rates.md",
    "results.csv",
    "retention.csv",
    "retention.png",
    "retention.svg",
    "rows.parquet",
    "runs.csv",
    "seeds.csv",
    "table.md",
    "teacher_sizes.csv",
    "teacher_sizes.png",
    "teacher_sizes.svg",
    "times.csv",
    "timing.csv",
    "untouched.csv",
]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stripped_short_and_has_one_parameters_cell(path):
    cells = nbformat.read(path, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    for cell in code:
        most = 15 if "parameters" in cell.metadata.get("tags", []) else 8
        assert len(cell.source.splitlines()) <= most
        assert not any(
            line.lstrip().startswith(("!", "%", "def ")) for line in cell.source.splitlines()
        )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_parameter_has_a_literal_default(path):
    assert parameters.defaults(path)["profile"] == (
        "small" if path.stem == "report" else "smoke"
    )  # whose rows are committed


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The smoke profile by papermill, called from a folder of its own, written to a profile of its
    own."""
    place = tmp_path_factory.mktemp("elsewhere")
    values = place / "values.yaml"
    values.write_text(
        "profile: test-smoke\nmachine: {threads: 1}\nteacher_sizes: [2, 4]\n"
        "alternative: {sizes: [4], stages: [{steps: 6, losses: {taid: 1, cross_entropy: 0.5}}]}\n"
    )
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(root() / "notebooks/capacity_gap.ipynb"),
        "out.ipynb",
        "-f",
        str(values),
        "--no-progress-bar",
    ]
    environment = os.environ | {"PYTHONPATH": str(root())}  # what notebooks computed is there
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    runs = Path(os.environ["STUDY_HOME"]) / "runs"
    yield place, root() / "figures/test-smoke/capacity_gap", runs
    for file in (root() / "figures/test-smoke/capacity_gap").iterdir():
        file.unlink()
    (root() / "figures/test-smoke/capacity_gap").rmdir()
    (root() / "figures/test-smoke").rmdir()


def test_the_notebook_writes_every_output(smoke):
    _, folder, _ = smoke
    assert sorted(file.name for file in folder.iterdir()) == OUTPUTS


def test_results_are_the_means_of_rows_in_percent(smoke):
    _, folder, _ = smoke
    rows, tidy = pd.read_parquet(folder / "rows.parquet"), pd.read_csv(folder / "results.csv")
    for line in tidy.itertuples():
        scored = rows[(rows.run == line.run) & (rows.language == line.language)]
        assert line.value == pytest.approx(100 * scored[line.metric].mean(), abs=1e-3)


def test_results_have_every_kind_of_model_that_was_planned(smoke):
    _, folder, _ = smoke
    tidy = pd.read_csv(folder / "results.csv")
    assert set(tidy.role) == {"teacher", "student", "control"}
    assert set(tidy.teacher) == {"fine-tuned", "none (gold only)", "control of 4"}
    assert tidy[tidy.role == "student"].objective.nunique() == 2
    assert set(tidy.init) == {"base", "fine-tuned"}
    assert set(tidy.eval_prompt) == {"zero-shot", "one-shot"}


def test_the_executed_notebook_shows_its_table_figures_and_conclusion(smoke):
    place, _, _ = smoke
    cells = nbformat.read(place / "out.ipynb", as_version=4).cells
    shown = json.dumps([cell.get("outputs", []) for cell in cells])
    assert (
        shown.count('"image/png": "') == 4
        and "F1 kept, %" in shown
        and "No intervals on " in shown
        and "student \\u2212 control" in shown
    )


def test_every_line_leads_to_a_run(smoke):
    _, folder, runs = smoke
    for key in pd.read_csv(folder / "results.csv").run.unique():
        manifest = json.loads((runs / "answers" / key / "manifest.json").read_text())
        assert manifest["kind"] == "answers" and (runs / "answers" / key / "result.json").exists()
        parent = manifest["needs"]["model"]
        assert (runs / parent["kind"] / parent["key"] / "result.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("job", COMMITTED, ids=lambda job: job.notebook.stem)
def test_what_is_committed_is_what_the_notebook_computes_from_the_committed_rows(
    job, tmp_path, monkeypatch
):
    """Tables and words; the bytes of figures hang on fonts, what they draw is among the tables."""
    monkeypatch.setenv("STUDY_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(figures, "save", lambda *_: None)
    monkeypatch.setattr(figures, "show", lambda *_: None)
    written, export, there = tmp_path / "written", study.export, {}
    monkeypatch.setattr(study, "export", lambda _, *shown: export(written, *shown))
    for cell in nbformat.read(job.notebook, as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, there)
            there |= (
                job.values | {"profile": "small", "compute": False}
                if "parameters" in cell.metadata.get("tags", [])
                else {}
            )
    folder = study.folder("small", job.notebook.stem)
    kinds = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    for file in written.iterdir():
        committed = folder / file.name
        if file.suffix == ".md":
            assert file.read_text(encoding="utf-8") == committed.read_text(encoding="utf-8")
        elif file.suffix in kinds:
            pd.testing.assert_frame_equal(
                *(kinds[file.suffix](path) for path in (file, committed)), obj=file.name
            )
    assert read_sealed(folder / output_folder.DIGESTS)["files"].keys() == {
        file.name for file in folder.iterdir()
    } - {output_folder.DIGESTS}
    assert [file for file in folder.iterdir() if not output_folder.as_written(file)] == []
    drawn = {file.with_suffix(".csv").name for file in folder.glob("*.svg")}
    assert (
        drawn
        <= {file.name for file in written.iterdir()}
        >= {"answer.md", "conclusion.md", "rows.parquet", "results.csv"}
    )


def test_the_readme_shows_the_results_that_are_committed():
    """Number by number: what `python -m studylib.app.readme` puts into the pages is there."""
    pages = readme.pages()
    assert sum(map(len, pages.values())) == 10
    for page, results in pages.items():
        text = page.read_text(encoding="utf-8")
        assert readme.filled(page, text, results) == text
        assert all(result.strip() in text for result in results.values())
        with pytest.raises(StudyError, match=next(iter(results))):
            readme.filled(page, text.replace(f"<!-- /{next(iter(results))} -->", ""), results)


def test_the_readme_is_a_page_of_links_that_lead_somewhere():
    text = (root() / "README.md").read_text(encoding="utf-8")
    assert len(text.encode()) < 9 << 10
    for page in (
        root() / "README.md",
        root() / "CONTRIBUTING.md",
        *root().glob("*/README.md"),
        *root().glob("*/*/README.md"),
    ):
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page}: {link}"
