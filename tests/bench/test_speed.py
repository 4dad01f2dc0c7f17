"""Ratios, their spread and their table; and that all of the bench runs, on a miniature."""

import json

import pytest
from miniatures import built, model, tokenizer

from studylib.app import cli
from studylib.bench import baselines, speed
from studylib.bench.baselines import Match, PlainLoop
from studylib.data import packing

MEASURED = {
    "machine": {
        "processor": "a processor",
        "threads": 2,
        "torch": "2",
        "transformers": "5",
        "precision": "bf16",
        "teacher": "tuned",
        "teacher layers": 30,
        "student layers": 15,
    },
    "peak": {"gigaflops": 350.4},
    "distilling": {
        "questions": [20, 20, 16],
        "micro-batches of TRL": 4,
        "seconds": {
            "ours": [1.0, 2.0, 1.0],
            "store": [1.0, 1.0, 1.0],
            "trl": [30.0, 40.0, 20.0],
            "plain loop": [10.0, 10.0, 10.0],
        },
    },
    "share": {"rounds": [0.5, 0.7, 0.6]},
    "scaling": {
        "exponents": [0.97, 0.98, 1.02],
        "questions": [20, 40],
        "seconds a step by layers": {8: 1.0, 30: 3.5},
    },
    "states": {"bytes a question": 12345.6},
    "answering": {
        "same answers": 0.995,
        "batch of generate": 16,
        "seconds": {"ours": [1.0, 1.0, 2.0], "generate": [4.0, 5.0, 6.0]},
    },
    "memory": {"ours": 3000.0, "trl": 15000.0},
}


def test_a_steps_contexts_are_alike_in_length_and_of_the_pool():
    pool = built(paragraphs=40)[:60]  # a window of the order of training, which is sorted
    chosen = speed.steps(pool, 3)
    assert [len(contexts) for contexts in chosen] == [speed.CONTEXTS] * 3
    assert all(prompt in pool for contexts in chosen for prompt in contexts)
    lengths = sorted(len(packing.pack(prompt).ids) for prompt in pool)
    assert len(set(lengths)) > 10
    for contexts in chosen:  # one after the other in the order of length
        sizes = sorted(len(packing.pack(prompt).ids) for prompt in contexts)
        assert sizes in [lengths[at : at + speed.CONTEXTS] for at in range(len(lengths))]


def test_ratios_are_taken_round_by_round():
    ratios = speed.ratios(MEASURED)
    assert ratios["distill_vs_trl_later_student"] == {
        "median": 20.0,
        "least": 20.0,
        "greatest": 30.0,
        "rounds": 3,
    }
    assert ratios["distill_vs_trl_first_student"]["median"] == pytest.approx(40 / 3)
    assert ratios["memory_vs_trl"]["median"] == 0.2 and ratios["share_of_peak"]["median"] == 0.6
    assert ratios["answers_vs_generate"]["median"] == 4.0
    assert list(ratios) == list(speed.GOALS)


def test_the_table_has_a_line_per_ratio_and_names_the_machine():
    table = speed.table(MEASURED | {"ratios": speed.ratios(MEASURED)})
    lines = [" ".join(line.split()) for line in table.splitlines()]
    assert "| `share_of_peak` | 0.60 | 0.50 to 0.70 | at least 0.6 |" in lines
    assert "| `scaling_exponent` | 0.98 | 0.97 to 1.02 | 0.9 to 1.1 |" in lines
    assert "| `memory_vs_trl` | 0.20 | | at most 0.25 |" in lines
    assert (
        "| questions distilled a second, ours, later students | 16.00 |" in lines
    )  # of 20, 10 and 16
    assert (
        "| questions distilled a second, ours, first student | 8.00 |" in lines
    )  # of 10, 20 / 3 and 8
    assert "| seconds a step by layers | 8: 1.00, 30: 3.50 |" in lines
    assert "| states, bytes a question | 12,346 |" in lines
    assert (
        "by TRL in 4 micro-batches" in lines[-1]
        and "over 20, 40 questions" in lines[-1]
        and "a processor, 2 threads" in lines[-1]
        and "350 GFLOP/s" in lines[-1]
    )


class Stand(PlainLoop):
    """In TRL's place, to be quick."""

    def __init__(self, match, folder, parts=1):
        super().__init__(match, folder)

    def distil(self, prompts):
        self.seconds = speed.timed(lambda: PlainLoop.distil(self, prompts))


@pytest.fixture
def miniature(monkeypatch):
    match = Match(model("llama"), tokenizer(), 2, "fp32")
    monkeypatch.setattr(speed, "prepared", lambda plan: (match, built(paragraphs=4), "raw"))
    monkeypatch.setattr(speed, "Gkd", Stand)
    for name, value in {
        "ROUNDS": 2,
        "CONTEXTS": 2,
        "ASKED": 2,
        "DEPTHS": (1, 2),
        "SCALES": (1, 2),
        "SIZES": (2,),
        "PARTS": (1, 2),
        "PASSES": 2,
    }.items():
        monkeypatch.setattr(speed, name, value)


def test_the_whole_bench_runs_and_writes_its_table(miniature, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(speed, "memory", lambda plan, parts, say: {"ours": 1.0, "trl": 4.0})
    monkeypatch.setattr(speed, "peak", lambda: {"gigaflops": 100.0, "of": "nothing"})
    out = tmp_path / "speed.json"
    assert cli.main(["bench", "--out", str(out)]) == 0
    results = json.loads(out.read_text())
    assert set(results["ratios"]) == set(speed.GOALS)
    assert all(
        entry["median"] > 0
        for name, entry in results["ratios"].items()
        if name != "scaling_exponent"
    )  # of moments, this is noise
    assert results["answering"]["same answers"] == 1.0
    assert results["states"]["bytes a question"] > 4 * 32
    assert out.with_suffix(".md").read_text() in capsys.readouterr().out


def test_memory_is_measured_for_each(miniature, tmp_path):
    for name in ("nothing", "store", "read", "ours", "trl", "plain loop"):
        assert speed._peak_memory(None, name, tmp_path, 1) > 10


def test_a_folder_that_is_not_there_is_refused_before_hours_of_work(tmp_path, capsys):
    assert cli.main(["bench", "--out", str(tmp_path / "no" / "speed.json")]) == 2
    assert "is a folder, or in none" in capsys.readouterr().err


def test_without_trl_the_bench_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "trl.experimental.gkd", None)
    match = Match(model("llama"), tokenizer(), 2, "fp32")
    with pytest.raises(baselines.StudyError, match=r"\[bench\]"):
        baselines.Gkd(match, tmp_path)


def test_a_file_of_somebody_s_own_beside_the_measurements_is_not_replaced(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(speed, "speed", lambda say: pytest.fail("measured"))
    for name, text in (("speed.md", "my notes"), ("speed.json", "{}")):
        (tmp_path / name).write_text(text)
        assert cli.main(["bench", "--out", str(tmp_path / "speed.json")]) == 2
        assert (
            f"{tmp_path / 'speed.md'} would be replaced, and is not the table of"
            in capsys.readouterr().err
        )
    monkeypatch.setattr(speed, "table", lambda results: "my notes")
    assert speed.wrote(tmp_path / "speed.md"), "as its table is"
