"""Questions: what SQuAD-format content is taken, what is refused and how, what is selected, what is
shared."""

import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from studylib.core.errors import StudyError
from studylib.data import squad as data_squad
from studylib.data import targets
from studylib.data.squad import Question


def first(content: dict) -> dict:
    """The first question of the content."""
    return content["data"][0]["paragraphs"][0]["qas"][0]


def library(articles: int, paragraphs: int) -> dict:
    """SQuAD content of many articles: article `a`, paragraph `p`, three questions `a-p-q` each."""

    def paragraph(a: int, p: int) -> dict:
        answers = [{"text": "here", "answer_start": 0}]
        return {
            "context": f"here is {a} {p}",
            "qas": [
                {"id": f"{a}-{p}-{q}", "question": f"{q}?", "answers": answers} for q in range(3)
            ],
        }

    return {
        "data": [
            {"title": str(a), "paragraphs": [paragraph(a, p) for p in range(paragraphs)]}
            for a in range(articles)
        ]
    }


def ids(path: Path, **selection) -> list[str]:
    return [
        question.id
        for question in data_squad.load({"source": f"path:{path}", **selection}).questions
    ]


def test_questions_are_read_in_order(squad: dict, save: Callable):
    loaded = data_squad.load({"source": f"path:{save(squad)}", "language": "es"})
    context = "Kamo lives in Tiru. Belu wrote Sado."
    assert loaded == data_squad.Loaded(
        [
            Question("q1", "Kamo", context, "Where does Kamo live?", (("Tiru", 14),), "es"),
            Question("q2", "Kamo", context, "What did Belu write?", (("Sado", 31),), "es"),
        ],
        shifted=0,
    )


def test_answers_one_character_early_are_shifted_and_counted(squad: dict):
    first(squad)["answers"] = [{"text": "Tiru", "answer_start": start} for start in (13, 14, 13)]
    loaded = data_squad.parse(squad, "mine", "en")
    assert loaded.questions[0].answers == (("Tiru", 14),) * 3
    assert loaded.shifted == 2


@pytest.mark.parametrize(
    "answer",
    [
        ("Tiru", 12),
        ("Tiru", 15),
        ("Sado", -5),
        ("Nowhere", 14),
        ("tiru", 14),
        ("Tiru", 1000),
        ("", 3),
        (" ", 4),
        ("amo", True),
    ],
    ids=[
        "two early",
        "one late",
        "from the end",
        "not there",
        "other case",
        "behind the end",
        "empty",
        "blank",
        "no number",
    ],
)
def test_an_answer_that_is_not_in_its_context_is_refused(
    answer: tuple, squad: dict, save: Callable
):
    first(squad)["answers"].append({"text": answer[0], "answer_start": answer[1]})
    path = save(squad)
    with pytest.raises(
        StudyError,
        match=f"{path}, question 'q1': the answer {answer[0]!r} is not in the context at offset",
    ):
        data_squad.load({"source": f"path:{path}"})


def test_a_context_that_is_too_long_to_be_split_into_tokens_is_refused(squad: dict):
    squad["data"][0]["paragraphs"][0]["context"] += data_squad.LONGEST * "."
    with pytest.raises(
        StudyError,
        match=(
            r"mine, question 'q1': its context has 1,000,036 characters, of at most 1,000,000: make"
            r" it several"
        ),
    ):
        data_squad.parse(squad, "mine", "en")


def change(**fields) -> Callable[[dict], None]:
    return lambda content: first(content).update(fields)


@pytest.mark.parametrize(
    ("damage", "message"),
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
        (
            change(answers=[{"text": "Tiru", "answer_start": "14"}]),
            "question 'q1': the answer 'Tiru' is not in the context at offset '14'",
        ),
        (
            change(answers=[{"text": 5, "answer_start": 14}]),
            "question 'q1': the answer 5 is not in the context at offset 14",
        ),
        (lambda content: first(content).pop("id"), "is not in SQuAD format .*id"),
        (lambda content: content["data"][0].pop("title"), "is not in SQuAD format .*title"),
        (
            lambda content: content["data"][0].update(title=None),
            "question 'q1': id, title, context and question must be text",
        ),
        (lambda content: content["data"][0]["paragraphs"][0].update(context=""), "question 'q1'"),
        (
            lambda content: content["data"][0]["paragraphs"][0].update(context=5),
            "is not in SQuAD format",
        ),
        (lambda content: content["data"][0].update(paragraphs={}), "holds no question"),
        (lambda content: content.update(data=[]), "holds no question"),
        (lambda content: content.update(data=5), "is not in SQuAD format"),
        (lambda content: content.update(data="text"), "is not in SQuAD format"),
        (lambda content: content.pop("data"), "is not in SQuAD format .*data"),
    ],
)
def test_a_damaged_file_is_refused_by_name(
    damage: Callable, message: str, squad: dict, save: Callable
):
    damage(squad)
    path = save(squad)
    with pytest.raises(StudyError, match=f"{path}.*{message}"):
        data_squad.load({"source": f"path:{path}"})


@pytest.mark.parametrize("content", [None, 5, [], "text", {}])
def test_json_of_another_form_is_refused_by_name(content: object, save: Callable):
    path = save(content)
    with pytest.raises(StudyError, match=f"{path} is not in SQuAD format"):
        data_squad.load({"source": f"path:{path}"})


def test_questions_of_one_context_stand_together():
    questions = [
        Question(i, article, context, "?", (("x", 0),))
        for i, article, context in ("1Ax", "2Ay", "3Bx", "4Ax")
    ]
    assert [[q.id for q in group] for group in data_squad.by_context(questions)] == [
        ["1", "4"],
        ["2"],
        ["3"],
    ]


def test_selection_takes_whole_paragraphs_of_all_articles(save: Callable):
    path = save(library(articles=40, paragraphs=10))
    chosen = {count: ids(path, paragraphs=count) for count in (40, 100, 300)}
    for count, names in chosen.items():
        paragraphs = Counter(name.rpartition("-")[0] for name in names)
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
    articles = {part: {name.partition("-")[0] for name in names} for part, names in parts.items()}
    assert (len(articles["train"]), len(articles["dev"])) == (7, 5)
    assert not articles["train"] & articles["dev"]
    assert sorted(parts["train"] + parts["dev"]) == sorted(ids(path))
    assert set(ids(path, part="dev", dev_articles=5, paragraphs=6)) < set(parts["dev"])


def test_the_place_of_a_paragraph_says_which_draws_hold_it(save: Callable):
    """Draws are nested, so that a number says which questions were looked at."""
    path = save(library(articles=6, paragraphs=5))
    places = data_squad.load({"source": f"path:{path}"}).paragraphs
    assert set(places.values()) == set(range(30))
    for count in (1, 7, 30):
        assert {name for name, place in places.items() if place < count} == set(
            ids(path, paragraphs=count)
        )
    drawn = data_squad.load({"source": f"path:{path}", "paragraphs": 12, "seen_paragraphs": 4})
    assert drawn.paragraphs == {name: place for name, place in places.items() if place < 12}, (
        "what is declared selects nothing"
    )


def repeating(save: Callable) -> Path:
    """Two paragraphs of three questions each; the first asks its first question again, in other
    blanks, case and composition, and its second."""
    content = library(articles=2, paragraphs=1)
    asked = content["data"][0]["paragraphs"][0]["qas"]
    asked += [
        {**asked[0], "id": "again", "question": " E\u0301  0 ?"},
        {**asked[1], "id": "third"},
        {**asked[1], "id": "fourth"},
    ]
    asked[0]["question"] = "\u00e9 0 ?"
    return save(content)


def test_a_repeat_asks_what_an_earlier_question_of_its_paragraph_asks(save: Callable):
    """The same question about another paragraph is another question."""
    assert data_squad.load({"source": f"path:{repeating(save)}"}).repeats == {
        "again",
        "third",
        "fourth",
    }


def test_repeats_are_dropped_where_that_is_said(save: Callable):
    path = repeating(save)
    assert len(ids(path)) == 9
    assert sorted(ids(path, repeats="drop")) == [
        f"{article}-0-{number}" for article in (0, 1) for number in range(3)
    ]
    assert len(ids(path, repeats="drop", paragraphs=1)) == 3


SHIFTS = Path(__file__).parents[3] / "shared" / "data" / "squad_shifts"


@pytest.mark.skipif(not SHIFTS.exists(), reason="the published sets are not at hand")
@pytest.mark.parametrize(
    ("name", "questions", "repeats"), [("nyt_v1.0", 10056, 274), ("new_wiki_v1.0", 7936, 200)]
)
def test_published_sets_repeat_questions(name: str, questions: int, repeats: int):
    loaded = data_squad.load({"source": f"path:{SHIFTS / name}.json"})
    assert (len(loaded.questions), len(loaded.repeats)) == (questions, repeats)


@pytest.mark.skipif(not SHIFTS.exists(), reason="the published sets are not at hand")
@pytest.mark.parametrize("name", ["nyt_v1.0", "new_wiki_v1.0", "squaddev_v1.1"])
def test_prompts_of_the_committed_sets_are_what_they_were_before_texts_were_normalised(name: str):
    """All text is in NFC and holds no control token, and no answer to learn has a line break: so no
    version was raised."""
    for q in data_squad.load({"source": f"path:{SHIFTS / name}.json"}).questions:
        for text in (q.context, q.question, *(answer for answer, _ in q.answers)):
            assert (
                unicodedata.is_normalized("NFC", text)
                and "<|" not in text
                and "<repo_name>" not in text
            )
        assert "\n" not in targets.target_of(q)


def test_paragraphs_that_are_skipped_are_those_that_as_many_paragraphs_draw(save: Callable):
    path = save(library(articles=12, paragraphs=2))
    first, rest, some = (
        ids(path, **how)
        for how in (
            {"paragraphs": 10},
            {"skip_paragraphs": 10},
            {"skip_paragraphs": 10, "paragraphs": 5},
        )
    )
    assert sorted(first + rest) == sorted(ids(path)) and not set(first) & set(rest)
    assert rest[: len(some)] == some and len(some) < len(rest)
    skipping = data_squad.load({"source": f"path:{path}", "skip_paragraphs": 10, "paragraphs": 5})
    assert sorted(set(skipping.paragraphs.values())) == list(range(10, 15))


def test_unlabelled_questions_of_other_sets_come_after_the_labelled_ones(save: Callable):
    path, other = save(library(articles=12, paragraphs=2)), {"source": "facts:train", "facts": 2}
    added = [other | {"paragraphs": 3, "seed": seed} for seed in (0, 1)]
    described = {"source": f"path:{path}", "paragraphs": 10, "labelled_paragraphs": 4}
    whole = data_squad.load(described | {"unlabelled": added})
    main = data_squad.load(described)
    assert whole.labelled == main.labelled and whole.paragraphs == main.paragraphs
    assert whole.questions == main.questions + [
        question for part in added for question in data_squad.load(part).questions
    ]
    assert (
        data_squad.load({"source": f"path:{path}", "paragraphs": 10, "unlabelled": added}).labelled
        == main.questions
    )
    with pytest.raises(StudyError, match=f"{path}: question .* of an unlabelled data set is there"):
        ids(path, unlabelled=[added[0], added[0]])


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (
            {"skip_paragraphs": 24},
            "has 24 paragraphs, 24 to be skipped and the rest were asked for",
        ),
        (
            {"skip_paragraphs": 20, "paragraphs": 5},
            "has 24 paragraphs, 20 to be skipped and 5 were asked for",
        ),
        ({"skip_paragraphs": 0}, "skip_paragraphs must be a whole number"),
        (
            {"labelled_paragraphs": 24},
            "must be fewer than the 24 paragraphs that there are, not 24",
        ),
        ({"labelled_paragraphs": 0}, "labelled_paragraphs must be a whole number"),
        ({"seen_paragraphs": 0}, "seen_paragraphs must be a whole number"),
        ({"unlabelled": []}, r"unlabelled must be a list of data sets, not \[\]"),
        ({"unlabelled": {"source": "facts:dev"}}, "unlabelled must be a list of data sets"),
        (
            {"unlabelled": [{"source": "facts:dev", "labelled_paragraphs": 3}]},
            "the unlabelled facts:dev has 'labelled_paragraphs': none of its answers is known",
        ),
        ({"repeats": "keep"}, "repeats must be one of drop"),
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
def test_a_selection_that_cannot_be_is_refused(selection: dict, message: str, save: Callable):
    path = save(library(articles=12, paragraphs=2))
    with pytest.raises(StudyError, match=f"{path}.*{message}"):
        ids(path, **selection)


def test_an_answer_elsewhere_is_taken_at_its_nearest_place_where_that_is_said(
    squad: dict, save: Callable
):
    first(squad)["answers"] = [
        {"text": "Kamo", "answer_start": 9},
        {"text": "lives", "answer_start": 0},
    ]
    path = save(squad)
    with pytest.raises(StudyError, match="mend the file, or say `offsets: nearest`"):
        data_squad.load({"source": f"path:{path}"})
    loaded = data_squad.load({"source": f"path:{path}", "offsets": "nearest"})
    assert loaded.questions[0].answers == (("Kamo", 0), ("lives", 5)) and loaded.shifted == 2
    squad["data"][0]["paragraphs"][0]["context"] += " Kamo."
    first(squad)["answers"] = [{"text": "Kamo", "answer_start": 30}]
    assert data_squad.load({"source": f"path:{save(squad)}", "offsets": "nearest"}).questions[
        0
    ].answers == (("Kamo", 37),)


def test_what_test_and_training_share_is_found_through_case_and_blanks():
    training = [Question("1", "A", "Belu wrote\nSado.", "Who wrote Sado?", (("Belu", 0),))]
    clean = Question("2", "B", "Kamo lives in Tiru.", "Where?", (("Tiru", 14),))
    same = replace(clean, article="A", context="belu  wrote sado.", question="WHO wrote Sado?")
    assert data_squad.shared(training, [clean]) == {"articles": [], "contexts": [], "questions": []}
    assert data_squad.shared(training, [clean, same]) == {
        "articles": ["A"],
        "contexts": ["belu wrote sado."],
        "questions": ["who wrote sado?"],
    }


def test_what_test_and_training_share_is_found_through_two_spellings_of_one_text():
    """A model sees both in NFC."""
    texts = ("Café", "Käse in Tiru.", "Où?")
    composed, decomposed = (
        Question("1", *(unicodedata.normalize(form, text) for text in texts), (("Tiru", 0),))
        for form in ("NFC", "NFD")
    )
    assert composed != decomposed
    assert data_squad.shared([composed], [decomposed]) == {
        "articles": ["Café"],
        "contexts": ["käse in tiru."],
        "questions": ["où?"],
    }
