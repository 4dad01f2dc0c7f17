"""Questions: what SQuAD-format content is taken, what is refused and how, what is selected, what is generated."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from studylib import archives, data, facts
from studylib.data import Question
from studylib.errors import StudyError

XQUAD = Path(__file__).parents[2] / "shared" / "data" / "xquad"
SHIFTS = Path(__file__).parents[2] / "shared" / "data" / "squad_shifts"
GENERATED = ("Vuji Tito wrote Nali Zesi. Rubo works for Kavo Kefu.", "22381727860d28d6")
NAME = re.compile(r"[A-Z][a-z]+(?: [A-Z][a-z]+)*")  # in generated sentences every run of capitalised words is a name


def first(content: dict) -> dict:
    """The first question of the content."""
    return content["data"][0]["paragraphs"][0]["qas"][0]


def library(articles: int, paragraphs: int) -> dict:
    """SQuAD content of many articles: article `a`, paragraph `p`, three questions `a-p-q` each."""

    def paragraph(a: int, p: int) -> dict:
        answers = [{"text": "here", "answer_start": 0}]
        return {"context": f"here is {a} {p}", "qas": [{"id": f"{a}-{p}-{q}", "question": f"{q}?", "answers": answers} for q in range(3)]}

    return {"data": [{"title": str(a), "paragraphs": [paragraph(a, p) for p in range(paragraphs)]} for a in range(articles)]}


def ids(path: Path, **selection) -> list[str]:
    return [question.id for question in data.load({"source": f"path:{path}", **selection}).questions]


def test_questions_are_read_in_order(squad: dict, save: Callable):
    loaded = data.load({"source": f"path:{save(squad)}", "language": "es"})
    context = "Kamo lives in Tiru. Belu wrote Sado."
    assert loaded == data.Loaded(
        [
            Question("q1", "Kamo", context, "Where does Kamo live?", (("Tiru", 14),), "es"),
            Question("q2", "Kamo", context, "What did Belu write?", (("Sado", 31),), "es"),
        ],
        shifted=0,
    )


def test_answers_one_character_early_are_shifted_and_counted(squad: dict):
    first(squad)["answers"] = [{"text": "Tiru", "answer_start": start} for start in (13, 14, 13)]
    loaded = data.parse(squad, "mine", "en")
    assert loaded.questions[0].answers == (("Tiru", 14),) * 3
    assert loaded.shifted == 2


@pytest.mark.parametrize(
    "answer",
    [("Tiru", 12), ("Tiru", 15), ("Sado", -5), ("Nowhere", 14), ("tiru", 14), ("Tiru", 1000), ("", 3), (" ", 4), ("amo", True)],
    ids=["two early", "one late", "from the end", "not there", "other case", "behind the end", "empty", "blank", "no number"],
)
def test_an_answer_that_is_not_in_its_context_is_refused(answer: tuple, squad: dict, save: Callable):
    first(squad)["answers"].append({"text": answer[0], "answer_start": answer[1]})
    path = save(squad)
    with pytest.raises(StudyError, match=f"{path}, question 'q1': the answer {answer[0]!r} is not in the context at offset"):
        data.load({"source": f"path:{path}"})


def change(**fields) -> Callable[[dict], None]:
    return lambda content: first(content).update(fields)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (change(id="q2"), "has question 'q2' twice"),
        (change(answers=[]), "question 'q1' has no answer"),
        (change(question=" "), "question 'q1': context and question must not be empty"),
        (change(question=5), "question 'q1': id, title, context and question must be text"),
        (change(id=5), "question 5: id, title, context and question must be text"),
        (change(id=["q1"]), r"question \['q1'\]: id, title, context and question must be text"),
        (change(answers="Tiru"), "is not in SQuAD format"),
        (change(answers=None), "is not in SQuAD format"),
        (change(answers=[{"text": "Tiru"}]), "is not in SQuAD format .*answer_start"),
        (change(answers=[{"text": "Tiru", "answer_start": "14"}]), "is not in SQuAD format"),
        (change(answers=[{"text": 5, "answer_start": 14}]), "is not in SQuAD format"),
        (lambda content: first(content).pop("id"), "is not in SQuAD format .*id"),
        (lambda content: content["data"][0].pop("title"), "is not in SQuAD format .*title"),
        (lambda content: content["data"][0].update(title=None), "question 'q1': id, title, context and question must be text"),
        (lambda content: content["data"][0]["paragraphs"][0].update(context=""), "question 'q1'"),
        (lambda content: content["data"][0]["paragraphs"][0].update(context=5), "is not in SQuAD format"),
        (lambda content: content["data"][0].update(paragraphs={}), "holds no question"),
        (lambda content: content.update(data=[]), "holds no question"),
        (lambda content: content.update(data=5), "is not in SQuAD format"),
        (lambda content: content.update(data="text"), "is not in SQuAD format"),
        (lambda content: content.pop("data"), "is not in SQuAD format .*data"),
    ],
)
def test_a_damaged_file_is_refused_by_name(damage: Callable, said: str, squad: dict, save: Callable):
    damage(squad)
    path = save(squad)
    with pytest.raises(StudyError, match=f"{path}.*{said}"):
        data.load({"source": f"path:{path}"})


@pytest.mark.parametrize("content", [b"", b"{", b"Kamo lives in Tiru.", b'{"data": "\xff"}', '{"data": []}'.encode("utf-16")])
def test_what_is_no_json_is_refused_by_name(content: bytes, tmp_path: Path):
    path = tmp_path / "mine.json"
    path.write_bytes(content)
    with pytest.raises(StudyError, match=f"{path} is not JSON in UTF-8"):
        data.load({"source": f"path:{path}"})


@pytest.mark.parametrize("content", [None, 5, [], "text", {}])
def test_json_of_another_form_is_refused_by_name(content: object, save: Callable):
    path = save(content)
    with pytest.raises(StudyError, match=f"{path} is not in SQuAD format"):
        data.load({"source": f"path:{path}"})


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ({"source": "path:no/such.json"}, "There is no file .*no/such.json"),
        ({"source": "hub:squad"}, "data source 'hub:squad' is unknown: use path:FILE, mlqa:"),
        ({"source": "squad"}, "data source 'squad' is unknown"),
        ({"source": "facts:all"}, "facts:all is unknown: the splits are train, dev, test"),
        ({"source": "archive:squad==1.1/dev.json"}, "archive:squad==1.1/dev.json has no pinned checksum"),
        ({"source": "facts:train", "paragraph": 3}, "facts:train has an unknown key 'paragraph': known are"),
        ({"paragraphs": 3}, "needs a source"),
        ("facts:train", "needs a source"),
        (None, "needs a source"),
        ({"source": "facts:train", "paragraphs": "many"}, "paragraphs must be a whole number"),
        ({"source": "facts:train", "paragraphs": 0}, "paragraphs must be a whole number"),
        ({"source": "facts:train", "facts": 2.5}, "facts must be a whole number"),
        ({"source": "facts:train", "seed": True}, "seed must be a whole number"),
    ],
)
def test_a_wrong_description_is_refused_before_anything_is_read(dataset: object, said: str):
    with pytest.raises(StudyError, match=said):
        data.fingerprint(dataset)
    with pytest.raises(StudyError, match=said):
        data.load(dataset)


def test_paths_are_relative_to_the_project(squad: dict, save: Callable, monkeypatch: pytest.MonkeyPatch):
    path = save(squad)
    monkeypatch.setattr("studylib.project.root", lambda: path.parent)
    assert data.load({"source": f"path:{path.name}"}) == data.load({"source": f"path:{path}"})
    assert data.fingerprint({"source": f"path:{path.name}"}) == data.fingerprint({"source": f"path:{path}"})


def test_questions_of_one_context_stand_together():
    questions = [Question(i, article, context, "?", (("x", 0),)) for i, article, context in ("1Ax", "2Ay", "3Bx", "4Ax")]
    assert [[q.id for q in group] for group in data.by_context(questions)] == [["1", "4"], ["2"], ["3"]]


def test_selection_takes_whole_paragraphs_of_all_articles(save: Callable):
    path = save(library(articles=40, paragraphs=10))
    chosen = {count: ids(path, paragraphs=count) for count in (40, 100, 300)}
    for count, found in chosen.items():
        paragraphs = Counter(name.rpartition("-")[0] for name in found)
        assert set(paragraphs.values()) == {3}
        assert len(paragraphs) == count
        articles = Counter(name.partition("-")[0] for name in paragraphs)
        assert len(articles) == 40
        assert max(articles.values()) - min(articles.values()) <= 1
    assert set(chosen[40]) < set(chosen[100]) < set(chosen[300])
    assert sorted(ids(path, paragraphs=400)) == sorted(ids(path))
    assert {name.split("-")[1] for name in chosen[40]} != {"0"}  # not simply the first of each


def test_selection_depends_on_the_texts_and_not_on_their_order(save: Callable):
    content = library(articles=6, paragraphs=5)
    chosen = set(ids(save(content), paragraphs=8))
    for article in content["data"]:
        article["paragraphs"].reverse()
    content["data"].reverse()
    assert set(ids(save(content, "reversed.json"), paragraphs=8)) == chosen


def test_parts_split_whole_articles(save: Callable):
    path = save(library(articles=12, paragraphs=2))
    parts = {part: ids(path, part=part, dev_articles=5) for part in ("train", "dev")}
    articles = {part: {name.partition("-")[0] for name in found} for part, found in parts.items()}
    assert (len(articles["train"]), len(articles["dev"])) == (7, 5)
    assert not articles["train"] & articles["dev"]
    assert sorted(parts["train"] + parts["dev"]) == sorted(ids(path))
    assert set(ids(path, part="dev", dev_articles=5, paragraphs=6)) < set(parts["dev"])


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        ({"paragraphs": 25}, "has 24 paragraphs, 25 were asked for"),
        ({"part": "train"}, "part must be train or dev, and dev_articles between 1 and 11"),
        ({"part": "train", "dev_articles": 12}, "dev_articles between 1 and 11"),
        ({"part": "test", "dev_articles": 5}, "part must be train or dev"),
        ({"part": "dev", "dev_articles": -1}, "dev_articles"),
        ({"part": "dev", "dev_articles": "five"}, "dev_articles"),
        ({"paragraphs": 0}, "paragraphs"),
        ({"paragraphs": -3}, "paragraphs"),
    ],
)
def test_a_selection_that_cannot_be_is_refused(selection: dict, said: str, save: Callable):
    path = save(library(articles=12, paragraphs=2))
    with pytest.raises(StudyError, match=f"{path}.*{said}"):
        ids(path, **selection)


def test_fingerprint_says_bytes_and_selection(squad: dict, save: Callable, tmp_path: Path):
    def of(path: Path, **selection) -> str:
        return data.fingerprint({"source": f"path:{path}", **selection})

    path = save(squad)
    moved = tmp_path / "moved.json"
    moved.write_bytes(path.read_bytes())
    assert of(moved) == of(path)
    assert of(path, part="dev", dev_articles=1) == of(path, dev_articles=1, part="dev")
    different = [of(path), of(path, paragraphs=1), of(path, paragraphs=2), of(path, part="dev", dev_articles=1), of(path, language="de")]
    moved.write_bytes(path.read_bytes() + b"\n")
    different.append(of(moved))
    assert len(set(different)) == len(different)


def test_fingerprint_of_an_archive_reads_nothing(monkeypatch: pytest.MonkeyPatch):
    def pin(digest: str) -> str:
        monkeypatch.setattr(archives, "PINNED", {"toy==1.0": archives.Archive("0" * 64, {"dev.json": digest, "same.json": "aa"}, 1)})
        return data.fingerprint({"source": "archive:toy==1.0/dev.json", "paragraphs": 3})

    monkeypatch.setattr(archives, "member", lambda reference: pytest.fail("fetched"))
    assert pin("aa") == data.fingerprint({"source": "archive:toy==1.0/same.json", "paragraphs": 3})
    assert pin("aa") != pin("bb")


def test_fingerprint_of_generated_facts_says_split_and_selection():
    described = [
        {"source": f"facts:{split}", **more} for split in facts.SPLITS for more in ({}, {"paragraphs": 3}, {"facts": 3}, {"seed": 3})
    ]
    assert len({data.fingerprint(one) for one in described}) == 12


def test_archive_members_are_read_as_files(squad: dict, save: Callable, home: Path, monkeypatch: pytest.MonkeyPatch):
    content = save(squad).read_bytes()
    pinned = archives.Archive("0" * 64, {"dev.json": hashlib.sha256(content).hexdigest()}, 1)
    monkeypatch.setattr(archives, "PINNED", {"toy==1.0": pinned})
    path = home / "downloads" / "toy==1.0" / "dev.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert data.load({"source": "archive:toy==1.0/dev.json"}).questions == data.parse(squad, "mine", "en").questions


LINE = {"id": "1", "context": "Belu wrote Sado.", "question": "Who wrote Sado?", "answers": [{"text": "Belu", "answer_start": 0}]}


def lines(path: Path, *items: dict) -> list[Question]:
    path.write_text("\n".join(json.dumps(item, ensure_ascii=False) for item in items) + "\n\n", encoding="utf-8")
    return data.load({"source": f"path:{path}", "language": "es"}).questions


def test_json_lines_are_read_in_both_forms_of_answers(tmp_path: Path):
    other = LINE | {"id": "2", "answers": {"text": ["Belu", "Belu wrote"], "answer_start": [0, 0]}, "title": "Belu"}
    one, two = lines(tmp_path / "mine.jsonl", LINE, other)
    assert one == Question("1", one.article, LINE["context"], LINE["question"], (("Belu", 0),), "es")
    assert two.answers == (("Belu", 0), ("Belu wrote", 0)) and two.article == "Belu"


def test_without_a_title_a_context_is_its_own_article(tmp_path: Path):
    found = lines(tmp_path / "mine.jsonl", LINE, LINE | {"id": "2"}, LINE | {"id": "3", "context": "Belu wrote Kamo."})
    assert found[0].article == found[1].article != found[2].article


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answers": None}, "is not in SQuAD format"),
        ({"answers": {"text": ["Belu"], "answer_start": []}}, "a line needs id, context, question and answers"),
        ({"context": 3}, "a line needs id, context, question and answers"),
        ({"answers": [{"text": "Kamo", "answer_start": 0}]}, "question '1': the answer 'Kamo' is not in the context"),
    ],
)
def test_a_damaged_line_is_refused_by_the_name_of_its_file(change: dict, said: str, tmp_path: Path):
    with pytest.raises(StudyError, match=said) as refused:
        lines(tmp_path / "mine.jsonl", LINE | change)
    assert "mine.jsonl" in str(refused.value)


@pytest.fixture
def mlqa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Describes a file of an MLQA folder, and writes it with `count` questions first."""

    def write(split: str, context: str, question: str, count: int) -> dict:
        (tmp_path / split).mkdir(exist_ok=True)
        qas = [{"id": str(i), "question": "¿?", "answers": [{"text": "Belu", "answer_start": 0}]} for i in range(count)]
        content = {"data": [{"title": "t", "paragraphs": [{"context": "Belu.", "qas": qas}]}]}
        (tmp_path / split / f"{split}-context-{context}-question-{question}.json").write_text(json.dumps(content), encoding="utf-8")
        return {"source": f"mlqa:{tmp_path}", "split": split, "context": context, "question": question}

    return write


def test_mlqa_is_read_from_its_folder_in_the_language_of_the_context(mlqa: Callable):
    found = data.load(mlqa("dev", "de", "de", 512)).questions
    assert len(found) == 512 and {question.language for question in found} == {"de"}
    assert {question.language for question in data.load(mlqa("test", "zh", "hi", 3)).questions} == {"zh"}
    assert data.language({"source": "mlqa:x", "split": "dev", "context": "vi", "question": "en"}) == "vi"


def test_mlqa_of_another_size_is_not_the_official_one(mlqa: Callable):
    with pytest.raises(StudyError, match=r"test-context-hi-question-hi\.json holds 5 questions, the official file 4918"):
        data.load(mlqa("test", "hi", "hi", 5))


@pytest.mark.parametrize(("key", "value"), [("split", "train"), ("context", "fr"), ("question", None)])
def test_a_part_of_mlqa_that_is_not_there_is_refused(key: str, value: object, mlqa: Callable):
    with pytest.raises(StudyError, match=f"{key} must be one of"):
        data.fingerprint(mlqa("dev", "de", "en", 1) | {key: value})


@pytest.mark.parametrize("language", ["ar", "de", "en", "es", "hi", "vi", "zh"])
def test_xquad_is_read_whole_in_every_script(language: str):
    if not XQUAD.is_dir():
        pytest.skip("needs the XQuAD files")
    found = data.load({"source": f"path:{XQUAD}/xquad.{language}.json", "language": language})
    assert len(found.questions) == 1190 and len({question.article for question in found.questions}) == 48


def test_generated_facts_are_the_same_everywhere():
    """What a published key rests on: if this changes, raise data.RECIPE."""
    (paragraph,) = facts.paragraphs("test", contexts=1, facts=2, seed=0)
    found = hashlib.sha256(json.dumps(facts.paragraphs("train", contexts=50, facts=5, seed=1)).encode()).hexdigest()
    assert (paragraph["context"], found[:16]) == GENERATED


def test_generated_facts_follow_their_seed():
    described = {"source": "facts:dev", "paragraphs": 3, "facts": 2, "seed": 1}
    assert data.load(described) == data.load(described)
    more = data.load(described | {"paragraphs": 5}).questions
    assert more[:6] == data.load(described).questions
    others = {q.context for q in data.load(described | {"seed": 2}).questions}
    assert not others & {q.context for q in more}


def test_generated_answers_stand_at_their_offsets():
    loaded = data.load({"source": "facts:train", "paragraphs": 100, "facts": 4})
    assert (len(loaded.questions), loaded.shifted) == (400, 0)
    for paragraph in facts.paragraphs("train", contexts=100, facts=4, seed=0):
        for question in paragraph["qas"]:
            for answer in question["answers"]:
                assert paragraph["context"].startswith(answer["text"], answer["answer_start"])


def test_generated_names_occur_once_and_are_asked_for_once():
    for paragraph in facts.paragraphs("train", contexts=100, facts=6, seed=3):
        names = NAME.findall(paragraph["context"])
        assert len(set(names)) == 12
        assert all(paragraph["context"].count(name) == 1 for name in names)
        assert sorted(question["answers"][0]["text"] for question in paragraph["qas"]) == sorted(names[1::2])
        assert sorted(NAME.findall(question["question"].partition(" ")[2])[0] for question in paragraph["qas"]) == sorted(names[::2])


def test_a_generated_question_is_answered_by_its_own_sentence():
    for paragraph in facts.paragraphs("dev", contexts=50, facts=5, seed=4):
        sentences = [NAME.findall(sentence) for sentence in paragraph["context"].split(".")]
        for question in paragraph["qas"]:
            (asked,) = NAME.findall(question["question"].partition(" ")[2])
            assert [asked, question["answers"][0]["text"]] in sentences


def test_splits_share_no_name():
    names = {
        split: {name for paragraph in facts.paragraphs(split, contexts=300, facts=5, seed=0) for name in NAME.findall(paragraph["context"])}
        for split in facts.SPLITS
    }
    assert all(len(found) > 1000 for found in names.values())
    assert len(set.union(*names.values())) == sum(len(found) for found in names.values())


@pytest.mark.skipif(not SHIFTS.is_dir(), reason="the SQuADShifts files lie beside the checkout only")
@pytest.mark.parametrize(("name", "count", "shifted"), [("squaddev_v1.1", 10565, 15), ("new_wiki_v1.0", 7936, 8), ("nyt_v1.0", 10056, 10)])
def test_published_files_are_read_whole(name: str, count: int, shifted: int):
    path = SHIFTS / f"{name}.json"
    loaded = data.parse(json.loads(path.read_text(encoding="utf-8")), str(path), "en")
    assert (len(loaded.questions), loaded.shifted) == (count, shifted)
    assert all(q.context.startswith(text, start) for q in loaded.questions for text, start in q.answers)
