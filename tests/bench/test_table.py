"""Ratios, their spread and their table."""

import pytest

from studylib.bench import table

MEASURED = {
    "machine": {
        "processor": "a processor",
        "instructions": "avx2",
        "threads": 2,
        "torch": "2",
        "transformers": "5",
        "teacher": "fine-tuned",
    },
    "layers": {"teacher": 30, "student": 15},
    "scale": {"rounds": 3, "contexts": 4, "asked": 12, "passes": 3},
    "peak": {"gigaflops": 350.4, "of": "2048 by 2048, bf16"},
    "distilling": {
        "questions": [20, 20, 16],
        "settings": {"ours": "bf16, all rows at a time", "TRL": "fp32, 4 rows at a time"},
        "prepared": {"ours": [1.0, 1.0, 1.0]},
        "seconds": {
            "ours": [1.0, 2.0, 1.0],
            "TRL": [30.0, 40.0, 20.0],
            "plain loop": [10.0, 10.0, 10.0],
        },
    },
    "rates": [175.2, 245.28, 210.24],
    "scaling": {"questions": [20, 40], "seconds": [[1.0, 2.0], [1.0, 4.0], [3.0, 3.0]]},
    "depths": {8: 1.0, 30: 3.5},
    "states": {"bytes a question": 12345.6},
    "answering": {
        "questions": [50, 50, 50],
        "settings": {"ours": "fp32, all rows at a time"},
        "same": {"ours": 1.0, "generate": 0.995},
        "seconds": {"ours": [1.0, 1.0, 2.0], "generate": [4.0, 5.0, 6.0]},
    },
    "memory": {"ours": {"held": 2e9, "beyond": 1e9}, "TRL": {"held": 2e9, "beyond": 5e9}},
    "failures": {},
}


def test_ratios_are_taken_round_by_round():
    ratios = table.ratios(MEASURED)
    assert ratios["distill_vs_trl_later_student"] == [30.0, 20.0, 20.0]
    assert ratios["distill_vs_trl_first_student"] == pytest.approx([15.0, 40 / 3, 10.0])
    assert ratios["memory_vs_trl"] == [0.2] and ratios["share_of_peak"] == pytest.approx(
        [0.5, 0.7, 0.6]
    )
    assert ratios["answers_vs_generate"] == [4.0, 5.0, 3.0]
    assert ratios["scaling_exponent"] == pytest.approx([1.0, 2.0, 0.0])
    assert list(ratios) == list(table.GOALS)


def test_the_table_has_a_line_per_ratio_and_names_the_machine():
    lines = [" ".join(line.split()) for line in table.table(MEASURED).splitlines()]
    assert "| `share_of_peak` | 0.60 | 0.50 to 0.70 | at least 0.6 (fp32), 0.4 (bf16) |" in lines
    assert "| `scaling_exponent` | 1.00 | 0.00 to 2.00 | 0.9 to 1.1 |" in lines
    assert "| `memory_vs_trl` | 0.20 | | at most 0.25 |" in lines
    for name, rate in (("ours", "16.00"), ("ours, first student", "8.00"), ("TRL", "0.67")):
        assert f"| questions distilled a second, {name} | {rate} |" in lines
    assert "| seconds a step by layers | 8: 1.00, 30: 3.50 |" in lines
    assert "| states, bytes a question | 12,346 |" in lines
    assert "| memory beyond that at most, in a step, MB | ours 1000, TRL 5000 |" in lines
    assert "| answers of `generate` that are ours, % | 99.5 |" in lines
    for words in (
        "TRL in fp32, 4 rows at a time",
        "over 20, 40 questions",
        "a processor (instructions: avx2), 2 threads",
        "350 GFLOP/s (2048 by 2048, bf16)",
    ):
        assert words in lines[-1]


def test_a_system_that_failed_is_named_and_its_ratios_are_left_out():
    seconds = {name: MEASURED["distilling"]["seconds"][name] for name in ("ours", "plain loop")}
    measured = MEASURED | {
        "distilling": MEASURED["distilling"] | {"seconds": seconds},
        "memory": {"ours": MEASURED["memory"]["ours"]},
        "failures": {"TRL": "it needs more than 8.0 GB of memory"},
    }
    written = table.table(measured)
    assert "TRL failed: it needs more than 8.0 GB of memory." in written
    assert "vs_trl" not in written and "`distill_vs_plain_loop`" in written
