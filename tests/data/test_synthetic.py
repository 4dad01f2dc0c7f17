"""Generated facts: the same everywhere, apart from split to split, each answerable from its own
sentence, in every language."""

import hashlib
import json
from collections.abc import Iterator

import pytest

from studylib.core import segmentation
from studylib.data import squad, synthetic
from studylib.evaluation import metrics

GENERATED = ("Jato Niso works for Vevi. Gese married Tave.", "b6c6ac7094025aed")
LANGUAGES = list(synthetic.LANGUAGES)


def stated(
    split: str, contexts: int, language: str, number: int = 5, seed: int = 0
) -> Iterator[tuple[dict, list[tuple[str, str, str]]]]:
    """Generated paragraphs, each with (question, answer, sentence) triples: the sentence that holds
    the answer."""
    for paragraph in synthetic.paragraphs(
        split, contexts=contexts, facts=number, seed=seed, languages=[language]
    ):
        triples = []
        for question in paragraph["qas"]:
            (answer,) = question["answers"]
            (sentence,) = [
                statement for statement in paragraph["statements"] if answer["text"] in statement
            ]
            triples.append((question["question"], answer["text"], sentence))
        yield paragraph, triples


def name_in(question: str, templates: tuple[tuple[str, str], ...]) -> tuple[str, str]:
    """The name that a question asks about, and the statement that its wording belongs to."""
    for statement, wording in templates:
        before, after = wording.split("{a}")
        if question.startswith(before) and question.endswith(after):
            return question[len(before) : len(question) - len(after)], statement
    raise AssertionError(question)


def test_generated_facts_are_the_same_everywhere():
    """What a published key rests on: if this changes, raise "facts" in versions.VERSIONS."""
    (paragraph,) = synthetic.paragraphs("test", contexts=1, facts=2, seed=0)
    many = synthetic.paragraphs("train", contexts=70, facts=5, seed=1, languages=LANGUAGES)
    assert (
        paragraph["context"],
        hashlib.sha256(json.dumps(many).encode()).hexdigest()[:16],
    ) == GENERATED


def test_generated_facts_follow_their_seed():
    described = {"source": "facts:dev", "paragraphs": 3, "facts": 2, "seed": 1}
    assert squad.load(described) == squad.load(described)
    more = squad.load(described | {"paragraphs": 5}).questions
    assert {q.id for q in squad.load(described).questions} < {q.id for q in more}
    others = {q.context for q in squad.load(described | {"seed": 2}).questions}
    assert not others & {q.context for q in more}


def test_languages_take_turns():
    questions = squad.load(
        {"source": "facts:train", "paragraphs": 14, "facts": 2, "languages": LANGUAGES}
    ).questions
    assert {
        language: sum(q.language == language for q in questions) for language in LANGUAGES
    } == dict.fromkeys(LANGUAGES, 4)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("split", ["train", "out-of-domain"])
def test_answers_stand_at_their_offsets_and_nowhere_else(split: str, language: str):
    described = {"source": f"facts:{split}", "paragraphs": 60, "facts": 6, "languages": [language]}
    loaded = squad.load(described)
    assert (len(loaded.questions), loaded.shifted) == (360, 0)
    for question in loaded.questions:
        ((text, start),) = question.answers
        assert question.context.startswith(text, start) and question.context.count(text) == 1


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("split", ["dev", "out-of-domain"])
def test_a_question_is_answered_by_the_sentence_that_names_what_it_asks_about(
    split: str, language: str
):
    grammar = synthetic.LANGUAGES[language]
    templates = grammar.out_of_domain if split == "out-of-domain" else grammar.in_domain
    for paragraph, triples in stated(split, 40, language):
        names = set()
        for question, answer, sentence in triples:
            name, statement = name_in(question, templates)
            assert statement.format(a=name, b=answer) == sentence
            assert paragraph["context"].count(name) == 1
            names |= {name, answer}
        assert len(names) == 10


@pytest.mark.parametrize("language", LANGUAGES)
def test_splits_share_no_name(language: str):
    names: dict[str, set[str]] = {}
    for split in synthetic.SPLITS:
        grammar = synthetic.LANGUAGES[language]
        templates = grammar.out_of_domain if split == "out-of-domain" else grammar.in_domain
        facts = [fact for _, triples in stated(split, 100, language) for fact in triples]
        names[split] = {answer for _, answer, _ in facts} | {
            name_in(question, templates)[0] for question, _, _ in facts
        }
    assert all(len(split_names) > 100 for split_names in names.values())
    assert len(set.union(*names.values())) == sum(map(len, names.values()))


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_far_test_shares_no_template(language: str):
    grammar = synthetic.LANGUAGES[language]
    assert not {text for pair in grammar.in_domain for text in pair} & {
        text for pair in grammar.out_of_domain for text in pair
    }
    assert all(
        text.count("{a}") == 1
        for pair in grammar.in_domain + grammar.out_of_domain
        for text in pair
    )
    assert all(
        statement.count("{b}") == 1 and "{b}" not in question
        for statement, question in grammar.in_domain + grammar.out_of_domain
    )


def test_the_languages_are_those_that_mlqa_scores_and_every_scorer_is_exercised():
    assert set(LANGUAGES) == set(segmentation.ARTICLES)
    questions = squad.load(
        {"source": "facts:test", "paragraphs": 700, "facts": 5, "languages": LANGUAGES}
    ).questions
    for language in LANGUAGES:
        answers = [q.answers[0][0] for q in questions if q.language == language]
        assert all(
            metrics.f1(answer, [answer], language=language, rules="mlqa") == 1 for answer in answers
        )
    arabic = [q.answers[0][0] for q in questions if q.language == "ar"]
    official, mended = (
        [segmentation.words(answer, language="ar", rules=rules) for answer in arabic]
        for rules in ("mlqa", "mlqa_mended")
    )
    assert official != mended  # names that hold the two letters of the article
