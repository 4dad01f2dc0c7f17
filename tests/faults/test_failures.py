"""What fails alone: a notebook that raises or whose kernel dies, a run without memory. The rest
goes on, and the end names what failed."""

import json
from pathlib import Path

import pytest
import yaml
from miniatures import grouped
from small import STUDY, Victims, prepare, shown, stored

pytestmark = pytest.mark.faults

CELLS = [
    (
        "raise ValueError('no luck')",
        "capacity_gap.ipynb stopped with ValueError: no luck.",
    ),
    (
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "capacity_gap.ipynb stopped, its kernel died",
    ),
]


def both(folder: Path) -> Path:
    """The study with a second experiment, that shares its teacher, as a profile of two."""
    second = {name: value for name, value in STUDY.items() if name not in ("sizes", "from_base")}
    second |= {
        "size": "4",
        "train_prompts": ["zero-shot", "one-shot"],
        "eval_prompts": ["zero-shot", "one-shot"],
    }
    prepare(folder)
    (folder / "params" / "both").mkdir()
    for name, values in (("capacity_gap", STUDY), ("prompting_mode", second)):
        (folder / "params" / "both" / f"{name}.yaml").write_text(
            yaml.safe_dump(grouped(values)), encoding="utf-8"
        )
    return folder


def add_cell(notebook: Path, source: str) -> bytes:
    """Put a cell at the end of a notebook; return what it was before."""
    before = notebook.read_bytes()
    content = json.loads(before)
    content["cells"].append(
        {
            "cell_type": "code",
            "execution_count": None,
            "id": "last",
            "metadata": {},
            "outputs": [],
            "source": source,
        }
    )
    notebook.write_text(json.dumps(content), encoding="utf-8")
    return before


def test_a_notebook_that_fails_is_named_and_the_others_go_on(
    undisturbed: Path, victims: Victims, tmp_path: Path
):
    folder = both(tmp_path / "two")
    notebook = folder / "notebooks" / "capacity_gap.ipynb"
    for source, message in CELLS:
        before = add_cell(notebook, source)
        (ended,) = victims.run(folder, what="both", kernel=True)
        assert ended.code == 2 and "Traceback" not in ended.err
        (last,) = [line for line in ended.err.splitlines() if line.startswith("study: ")]
        assert message in last and "prompting_mode" not in last
        assert (folder / "figures" / "small" / "prompting_mode" / "table.md").is_file()
        notebook.write_bytes(before)
    (ended,) = victims.run(folder, what="both", kernel=True)
    assert ended.code == 0, ended.err
    assert "0 to compute" in ended.out
    assert shown(folder) == shown(undisturbed)


def test_a_run_without_memory_is_named_and_what_does_not_need_it_goes_on(
    undisturbed: Path, victims: Victims, tmp_path: Path
):
    folder = prepare(tmp_path / "little")
    (ended,) = victims.run(folder, "no memory for a student")
    assert ended.code == 2 and "Traceback" not in ended.err
    (last,) = [line for line in ended.err.splitlines() if line.startswith("study: ")]
    named = (
        "gpt_neox s0 4 layers, fine-tuned init, student (there is not enough memory for it: take"
        " a smaller `micro_batch_size`, and see `study plan`)"
    )
    assert named in last and "All others are there" in last
    there, whole = stored(folder / "home"), stored(undisturbed / "home")
    kinds = {
        kind: sum(name.startswith(f"{kind}/") for name in there)
        for kind in ("student", "answers", "loyalty", "states")
    }
    assert kinds == {
        "student": 1,
        "answers": 2,
        "loyalty": 1,
        "states": 1,
    }, "the control, and the answers of teacher and control"
    assert there.items() <= whole.items()
    (ended,) = victims.run(folder)
    assert ended.code == 0, ended.err
    assert shown(folder) == shown(undisturbed) and stored(folder / "home") == whole
