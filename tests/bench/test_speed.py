"""That all of the bench runs, on miniatures in processes of their own."""

import json

import pytest
import systems
from miniatures import built
from test_table import MEASURED

from studylib.app import cli
from studylib.bench import process, speed, table
from studylib.data import packing

CONTEXTS = 4


def test_a_steps_contexts_are_alike_in_length_and_of_the_pool():
    pool = built(paragraphs=40)[:60]  # a window of the order of training, which is sorted
    chosen = speed.steps(pool, 3, CONTEXTS)
    assert [len(contexts) for contexts in chosen] == [CONTEXTS] * 3
    assert all(prompt in pool for contexts in chosen for prompt in contexts)
    lengths = sorted(len(packing.pack(prompt).ids) for prompt in pool)
    assert len(set(lengths)) > 10
    for contexts in chosen:  # one after the other in the order of length
        sizes = sorted(len(packing.pack(prompt).ids) for prompt in contexts)
        assert sizes in [lengths[at : at + CONTEXTS] for at in range(len(lengths))]


def test_the_fastest_precision_comes_first_and_one_without_instructions_is_left_out(monkeypatch):
    rates = {"fp32": 100.0, "bf16": 400.0}
    monkeypatch.setattr(speed, "is_native", lambda precision: True)
    monkeypatch.setattr(speed, "_gigaflops", lambda precision, size: rates[precision] + size)
    best = speed.peak()
    assert [product["precision"] for product in best] == ["bf16", "fp32"]
    assert best[0] == {"gigaflops": 4496.0, "of": "4096 by 4096, bf16", "precision": "bf16"}
    monkeypatch.setattr(speed, "is_native", lambda precision: precision == "fp32")
    assert [product["precision"] for product in speed.peak()] == ["fp32"]


@pytest.mark.slow
def test_the_whole_bench_runs_and_writes_its_table(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(process, "matched", _miniature)
    monkeypatch.setattr(speed, "prepared", lambda plan, folder: built(paragraphs=4))
    monkeypatch.setattr(speed, "QUICK", speed.Scale(2, 2, 2, (1, 2), 2, (1, 2), 2))
    monkeypatch.setattr(
        speed, "peak", lambda: [{"gigaflops": 100.0, "of": "nothing", "precision": "fp32"}]
    )
    out = tmp_path / "speed.json"
    assert cli.main(["bench", "--quick", "--out", str(out)]) == 0
    results = json.loads(out.read_text())
    assert results["failures"] == {}
    assert set(table.ratios(results)) | {"memory_vs_trl"} == set(table.GOALS)
    assert all(
        min(values) > 0
        for name, values in table.ratios(results).items()
        if name not in ("scaling_exponent", "memory_vs_trl")  # of moments, this is noise
    )
    assert results["answering"]["same"] == {"ours": 1.0, "generate": 1.0}
    assert results["states"]["bytes a question"] > 4 * 32
    shown = capsys.readouterr()
    assert out.with_suffix(".md").read_text() in shown.out and shown.err == ""


@pytest.mark.skipif(not process.CLEAR.exists(), reason="needs Linux")
def test_memory_is_that_of_a_step_beyond_what_is_held(tmp_path):
    system = systems.matched(systems.Filling, tmp_path)
    system.run([])
    assert 90e6 < speed._memory(system, [])["beyond"] < 150e6


def _miniature(system, model, machine, as_study, folder):
    return systems.matched(system, folder)


def test_a_folder_that_is_not_there_is_refused_before_hours_of_work(tmp_path, capsys):
    assert cli.main(["bench", "--out", str(tmp_path / "no" / "speed.json")]) == 2
    assert "is a folder, or in none" in capsys.readouterr().err


def test_a_file_of_somebody_s_own_beside_the_measurements_is_not_replaced(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(speed, "speed", lambda *_: pytest.fail("measured"))
    for name, text in (("speed.md", "my notes"), ("speed.json", "{}")):
        (tmp_path / name).write_text(text)
        assert cli.main(["bench", "--out", str(tmp_path / "speed.json")]) == 2
        assert (
            f"{tmp_path / 'speed.md'} would be replaced, and is not the table of"
            in capsys.readouterr().err
        )
    (tmp_path / "speed.json").write_text(json.dumps(MEASURED))
    (tmp_path / "speed.md").write_text(table.table(json.loads(json.dumps(MEASURED))))
    assert table.wrote(tmp_path / "speed.md"), "as its table is"
