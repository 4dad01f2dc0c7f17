"""A part of `tiny`, run again in another folder and as on another processor: what is the same to
the byte, and what nearly."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import yaml
from patience import PATIENCE
from small import MEASURED

from studylib.core.project import root

OLD = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
}  # a processor without AVX
PART = {
    "families": {"gpt_neox": "tiny:gpt_neox"},
    "sizes": [2],
    "from_base": [],
    "alternative": None,
    "teacher_sizes": [],
}
STEPS = {  # half of those of tiny
    "teacher_steps": 30,
    "stages": [{"steps": 10, "losses": {"forward_kl": 1, "cross_entropy": 0.5}}],
}
TEACHERS, STUDENTS = 0.5, 2.0  # points of F1, as studylib/README.md says


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The figures of the smallest students of `tiny`, run in a folder of its own each: once, again,
    and as an old processor would; all at the same time."""
    values = yaml.safe_load((root() / "params/tiny/capacity_gap.yaml").read_text(encoding="utf-8"))
    values |= PART | {"training": values["training"] | STEPS}

    def run(folder: Path, surroundings: dict[str, str]) -> Path:
        for name in ("notebooks", "params"):
            shutil.copytree(
                root() / name, folder / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints")
            )
        (folder / "capacity_gap.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        around = (
            os.environ
            | {
                "STUDY_HOME": str(folder / "home"),
                "PYTHONPATH": str(root()),
                "OMP_WAIT_POLICY": "PASSIVE",
            }
            | surroundings
        )
        subprocess.run(
            [Path(sys.executable).with_name("study"), "run", "capacity_gap.yaml"],
            cwd=folder,
            env=around,
            check=True,
            timeout=6 * PATIENCE,
        )
        return folder / "figures" / "tiny" / "capacity_gap"

    variants: dict[str, dict[str, str]] = {"once": {}, "again": {}, "old": OLD}
    with ThreadPoolExecutor(len(variants)) as pool:
        begun = {
            name: pool.submit(run, tmp_path_factory.mktemp(name), surroundings)
            for name, surroundings in variants.items()
        }
        return {name: future.result() for name, future in begun.items()}


@pytest.mark.faults
def test_run_twice_in_two_folders_tables_and_figures_are_the_same_bytes(tiny: dict[str, Path]):
    once, again = tiny["once"], tiny["again"]
    files, others = (
        {file.name for file in place.iterdir() if file.stem not in MEASURED}
        for place in (once, again)
    )
    assert len(files) > 15 and files == others
    assert [
        file for file in sorted(files) if (once / file).read_bytes() != (again / file).read_bytes()
    ] == []


@pytest.mark.faults
def test_on_a_processor_of_other_instructions_scores_are_nearly_the_same(tiny: dict[str, Path]):
    once, other = (
        pd.read_csv(tiny[variant] / "results.csv").query("metric == 'f1'")
        for variant in ("once", "old")
    )
    scores = once.merge(
        other,
        on=[column for column in once if column not in ("value", "run", "planned")],
        suffixes=("", "_other"),
    )
    assert len(scores) == len(once) > 0
    differences = (scores.value - scores.value_other).abs().groupby(scores.role).max()
    print(differences.round(2).to_dict())
    assert differences["teacher"] <= TEACHERS
    assert differences.max() <= STUDENTS
