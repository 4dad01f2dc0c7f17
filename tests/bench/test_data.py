"""The data_bench's synthetic set, and that what it times is the study's own path."""

import json

import pytest

from studylib.bench import data as bench_data
from studylib.core.errors import StudyError
from studylib.data import sources, squad


@pytest.fixture
def smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ARTICLES": 3, "CONTEXTS": 20, "QUESTIONS": 90}.items():
        monkeypatch.setattr(bench_data, name, value)
    monkeypatch.setitem(sources.OFFICIAL, "squad-train", 90)


def test_the_synthetic_set_has_the_size_it_says(smaller: None, tmp_path):
    (tmp_path / "a.json").write_text(
        json.dumps({"data": [bench_data._article(number) for number in range(3)]})
    )
    loaded = squad.load({"source": f"path:{tmp_path}/a.json", "official": "squad-train"})
    assert len(loaded.questions) == 90 and len(squad.by_context(loaded.questions)) == 20
    assert len({question.article for question in loaded.questions}) == 3 and loaded.shifted == 0
    assert {len(question.context.split()) for question in loaded.questions} == {bench_data.WORDS}


def test_loading_packing_and_batching_are_each_told_and_packing_saves(smaller: None):
    lines: list[str] = []
    bench_data.data_speed(lines.append)
    assert [line.partition(" ")[0] for line in lines] == [
        "loading",
        "packing",
        "batching",
        "Together",
        "One",
    ]
    assert "90 questions" in lines[0] and "20 rows" in lines[1] and "s and " in lines[3]
    assert float(lines[4].rpartition(", ")[2].split()[0]) > 1.5


def test_over_the_limit_is_refused(smaller: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench_data, "SECONDS", 0)
    with pytest.raises(StudyError, match="over the limit of 0 s and 1500 MB"):
        bench_data.data_speed(lambda text: None)


def test_what_the_process_held_before_does_not_count(
    smaller: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bench_data, "megabytes", lambda: 2000.0)
    bench_data.data_speed(lambda text: None)
    held = iter([2000.0, 2500.0, 3000.0, 3501.0])
    monkeypatch.setattr(bench_data, "megabytes", lambda: next(held))
    with pytest.raises(StudyError, match="over the limit of 90 s and 1500 MB"):
        bench_data.data_speed(lambda text: None)
