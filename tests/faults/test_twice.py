"""The whole of `tiny`, run anew in another folder, and as another processor would: what is the same
to the byte, and what nearly."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from small import MEASURED

from studylib.core.project import root

OLD = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
}  # a processor without AVX
TEACHERS, STUDENTS = 0.5, 2.0  # points of F1, as the README says


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The figures of `study run tiny`, run in a folder of its own each: once, again, and as an old
    processor would; all at the same time."""

    def run(folder: Path, surroundings: dict[str, str]) -> Path:
        for name in ("notebooks", "params"):
            shutil.copytree(
                root() / name, folder / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints")
            )
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
            [Path(sys.executable).with_name("study"), "run", "tiny"],
            cwd=folder,
            env=around,
            check=True,
            capture_output=True,
        )
        return folder / "figures" / "tiny"

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
        {file.relative_to(place) for file in place.glob("*/*") if file.stem not in MEASURED}
        for place in (once, again)
    )
    assert len(files) > 40 and files == others
    assert [
        file for file in sorted(files) if (once / file).read_bytes() != (again / file).read_bytes()
    ] == []


@pytest.mark.faults
def test_on_a_processor_of_other_instructions_scores_are_nearly_the_same(tiny: dict[str, Path]):
    once, other, apart = tiny["once"], tiny["old"], {}
    for name in ("capacity_gap", "teacher_choice", "prompting_mode"):
        both = [
            pd.read_csv(place / name / "results.csv").query("metric == 'f1'")
            for place in (once, other)
        ]
        pairs = both[0].merge(
            both[1],
            on=[column for column in both[0] if column not in ("value", "run", "planned")],
            suffixes=("", "_other"),
        )
        assert len(pairs) == len(both[0]) > 0
        for role, part in pairs.assign(apart=(pairs.value - pairs.value_other).abs()).groupby(
            "role"
        ):
            apart[role] = max(apart.get(role, 0.0), part.apart.max())
    print({role: round(value, 2) for role, value in apart.items()})
    assert apart["teacher"] <= TEACHERS
    assert max(apart.values()) <= STUDENTS
