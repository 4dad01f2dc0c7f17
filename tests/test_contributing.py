"""CONTRIBUTING.md, followed: an objective, a data set and an experiment are added in the steps that
it prints."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from miniatures import grouped
from refusals import SMALL

from studylib.app import readme
from studylib.app.cli import main
from studylib.core.filesystem import file_digest
from studylib.core.project import root
from studylib.data import archives, pins, sources
from studylib.data.archives import Archive
from studylib.experiments import experiments
from studylib.methods import divergences, objective, stages

TEXT = (root() / "CONTRIBUTING.md").read_text(encoding="utf-8")
PARTS = dict(part.split("\n", 1) for part in TEXT.split("\n## ")[1:])


def test_each_part_has_at_most_five_steps_and_names_what_is_there():
    assert set(PARTS) == {
        "Set up",
        "Test",
        "Add an objective",
        "Add a method",
        "Add a data set",
        "Add an experiment",
    }
    for part in PARTS.values():
        assert [line[:2] for line in part.strip().splitlines()] == ["1.", "2.", "3.", "4.", "5."]
    named = set(re.findall(r"`(studylib/[a-z/_]+\.py)`", TEXT))
    assert len(named) > 6 and all((root() / name).is_file() for name in named)
    for name in (
        "features.py",
        "retention.py",
        "contrasts.py",
        "tables.py",
        "conclusions.py",
        "summary.py",
    ):
        assert list((root() / "studylib").rglob(name)) and f"`{name}`" in TEXT
    for owner, name in (
        (objective, "DIVERGENCES"),
        (objective, "FEATURES"),
        (pins, "PINNED"),
        (sources, "KEYS"),
        (sources, "COMMITS"),
    ):
        assert hasattr(owner, name) and f"`{name}`" in TEXT


def half_forward_kl(
    student: torch.Tensor, teacher: torch.Tensor, *, share: float = 0.5
) -> torch.Tensor:
    """Part of forward KL."""
    return share * divergences.forward_kl(student, teacher)


def test_an_objective_is_a_function_and_a_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(objective.DIVERGENCES, "half_forward_kl", half_forward_kl)
    monkeypatch.setitem(objective.LOSSES, "half_forward_kl", half_forward_kl)
    (stage,) = both = stages.parse(
        [{"steps": 3, "losses": {"half_forward_kl": {"weight": 2, "share": 0.25}}}]
    )
    student, teacher = torch.randn(2, 5, 11, generator=torch.Generator().manual_seed(0))
    views = [
        SimpleNamespace(logits=logits, at=lambda tokens, n=n: views[n])
        for n, logits in enumerate((student, teacher))
    ]
    (loss,) = stage.method().loss(views[0], views[1:]).values()
    assert torch.allclose(loss, 0.25 * divergences.forward_kl(student, teacher))
    assert stage.prototype.weights == {"half_forward_kl": 2}
    assert "half_forward_kl" in stages.title(both)


def test_a_data_set_in_an_archive_is_a_line(
    home: Path,
    squad: dict,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    tmp_path: Path,
):
    file = home / "downloads" / "mine==1.0" / "mine.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(squad), encoding="utf-8")
    monkeypatch.setitem(
        archives.PINNED, "mine==1.0", Archive("0" * 64, {"mine.json": file_digest(file)}, 1)
    )
    params_file = tmp_path / "capacity_gap.yaml"
    params_file.write_text(
        yaml.safe_dump(
            grouped(SMALL | {"tests": {"mine": {"source": "archive:mine==1.0/mine.json"}}})
        ),
        encoding="utf-8",
    )
    assert main(["data", str(params_file)]) == 0
    assert "mine (en), archive:mine==1.0/mine.json\n  2 questions" in capsys.readouterr().out


@pytest.mark.slow
def test_an_experiment_is_a_class_a_notebook_and_a_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    for name in ("notebooks", "params"):
        shutil.copytree(root() / name, tmp_path / name)
    notebook = (tmp_path / "notebooks" / "capacity_gap.ipynb").read_text(encoding="utf-8")
    (tmp_path / "notebooks" / "another_gap.ipynb").write_text(
        notebook.replace('capacity_gap\\")', 'another_gap\\")'), encoding="utf-8"
    )
    (tmp_path / "params" / "tiny" / "another_gap.yaml").write_text(
        yaml.safe_dump(grouped(SMALL)), encoding="utf-8"
    )
    monkeypatch.setitem(experiments.EXPERIMENTS, "another_gap", experiments.CapacityGap)
    assert all(
        readme.filled(page, page.read_text(encoding="utf-8"), shown)
        for page, shown in readme.pages().items()
    ), "an experiment without results in `small` is not missed"
    monkeypatch.chdir(tmp_path)
    assert main(["status", "params/tiny/another_gap.yaml"]) == 0
    assert capsys.readouterr().out.startswith("another_gap (refused): ")
    assert main(["run", "params/tiny/another_gap.yaml"]) == 0
    assert (tmp_path / "figures" / "refused" / "another_gap" / "table.md").is_file()
    assert main(["verify", "params/tiny/another_gap.yaml"]) == 0
