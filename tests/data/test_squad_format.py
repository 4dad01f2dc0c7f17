"""SQuAD-format content of files: JSON and JSON lines, how they are read and refused."""

import json
from pathlib import Path

import pytest
from toy_data import LINE

from studylib.core.errors import StudyError
from studylib.data import sources
from studylib.data import squad as data_squad
from studylib.data.squad import Question


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"Kamo lives in Tiru.", b'{"data": "\xff"}', '{"data": []}'.encode("utf-16")],
)
def test_what_is_no_json_is_refused_by_name(content: bytes, tmp_path: Path):
    path = tmp_path / "mine.json"
    path.write_bytes(content)
    with pytest.raises(StudyError, match=f"{path} is not JSON in UTF-8"):
        data_squad.load({"source": f"path:{path}"})


def lines(path: Path, *items: dict) -> list[Question]:
    path.write_text(
        "\n".join(json.dumps(item, ensure_ascii=False) for item in items) + "\n\n", encoding="utf-8"
    )
    return data_squad.load({"source": f"path:{path}", "language": "es"}).questions


def test_json_lines_are_read_in_both_forms_of_answers(tmp_path: Path):
    line = LINE | {
        "id": "2",
        "answers": {"text": ["Belu", "Belu wrote"], "answer_start": [0, 0]},
        "title": "Belu",
    }
    first, second = lines(tmp_path / "mine.jsonl", LINE, line)
    assert first == Question(
        "1", first.article, LINE["context"], LINE["question"], (("Belu", 0),), "es"
    )
    assert second.answers == (("Belu", 0), ("Belu wrote", 0)) and second.article == "Belu"


def test_without_a_title_a_context_is_its_own_article(tmp_path: Path):
    questions = lines(
        tmp_path / "mine.jsonl",
        LINE,
        LINE | {"id": "2"},
        LINE | {"id": "3", "context": "Belu wrote Kamo."},
    )
    assert questions[0].article == questions[1].article != questions[2].article


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": None}, "is not in SQuAD format"),
        (
            {"answers": {"text": ["Belu"], "answer_start": []}},
            "a row needs id, context, question and answers",
        ),
        ({"context": 3}, "a row needs id, context, question and answers"),
        (
            {"answers": [{"text": "Kamo", "answer_start": 0}]},
            "question '1': the answer 'Kamo' is not in the context",
        ),
    ],
)
def test_a_damaged_line_is_refused_by_the_name_of_its_file(
    change: dict, message: str, tmp_path: Path
):
    with pytest.raises(StudyError, match=message) as refused:
        lines(tmp_path / "mine.jsonl", LINE | change)
    assert "mine.jsonl" in str(refused.value)


def test_a_line_may_hold_signs_that_end_lines_elsewhere(tmp_path: Path):
    """JSON allows U+2028 and U+0085 inside a text as they are; `str.splitlines` would tear it
    apart."""
    (question,) = lines(
        tmp_path / "mine.jsonl", LINE | {"context": "Belu wrote Sado.\u2028And\x85 more."}
    )
    assert question.context == "Belu wrote Sado.\u2028And\x85 more."


def test_texts_are_kept_as_they_are(tmp_path: Path):
    """No normalisation: a decomposed accent stays decomposed, and the answer is found by its own
    characters."""
    (question,) = lines(
        tmp_path / "mine.jsonl",
        LINE | {"context": "Cafe\u0301 Belu", "answers": [{"text": "e\u0301", "answer_start": 3}]},
    )
    assert question.context == "Cafe\u0301 Belu" and question.answers == (("e\u0301", 3),)


def test_a_key_twice_among_very_many_is_named(tmp_path):
    """In time that grows with their number, not with its square."""
    (tmp_path / "mine.json").write_text(
        "{" + ", ".join(f'"{number}": 0' for number in [*range(300_000), 299_999]) + "}"
    )
    with pytest.raises(StudyError, match="the key '299999' twice in one object"):
        sources.content({"source": f"path:{tmp_path / 'mine.json'}"})
