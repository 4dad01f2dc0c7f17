"""Demonstrations: which example is shown with a question."""

from dataclasses import replace
from math import log
from random import Random

import pytest
from toy_data import library, question
from transformers import PreTrainedTokenizerFast

from studylib.core.errors import StudyError
from studylib.data import demonstrations, prompts
from studylib.data.squad import Question, by_context


@pytest.mark.parametrize("seed", range(5))
def test_no_demonstration_comes_from_the_asked_article(
    seed: int, tokenizer: PreTrainedTokenizerFast
):
    asked = library(4)
    shown: dict[str, set[str]] = {}
    for prompt in prompts.build(asked, tokenizer, mode="one-shot", pool=asked, seed=seed):
        article = prompt.branches[0].question.article
        before, _, after = tokenizer.decode(prompt.prefix).rpartition("\n\nText: ")
        assert article in after
        assert article not in before
        shown.setdefault(article, set()).add(before)
    assert all(len(texts) == 1 for texts in shown.values())
    assert sorted(
        len([article for article in shown if demonstration in shown[article]])
        for demonstration in set.union(*shown.values())
    ) == [1, 3]


def fixed(pool: list[Question], seed: int, asked: Question) -> Question:
    (demonstration,) = demonstrations.fixed([asked], pool, seed)
    return demonstration


def test_demonstration_follows_its_seed():
    pool, asked = library(20), question("q")
    shown = [fixed(pool, seed, asked) for seed in range(8)]
    assert [fixed(list(reversed(pool)), seed, asked) for seed in range(8)] == shown
    assert len({example.id for example in shown}) > 4


def test_demonstrations_are_short():
    pool = library(4, contexts=4)
    shorter = sorted(len(candidate.context) for candidate in pool)[len(pool) // 2 - 1]
    assert all(len(fixed(pool, seed, question("q")).context) <= shorter for seed in range(30))


def test_the_same_text_under_another_title_is_no_demonstration():
    same, other = question("p1", "B"), question("p2", "C", "Kamo lives in Tiru, says Belu.")
    assert all(
        fixed([same, other, same, other], seed, question("q", "A")) == other for seed in range(5)
    )


def test_a_long_demonstration_is_better_than_none():
    pool = [question(f"p{number}", "A", f"Kamo lives in Tiru {number}.") for number in range(5)]
    other = question("p5", "B", "Somewhere far away from all this, Kamo lives in Tiru.")
    assert fixed([*pool, other], 0, question("q", "A")) == other


def test_a_random_demonstration_is_one_a_context_and_follows_its_seed():
    asked = [group[0] for group in by_context(library(6))]
    shown = demonstrations.drawn(asked, library(6), 3)
    assert demonstrations.drawn(asked[4:], library(6), 3) == shown[4:]  # whichever others are asked
    assert len({example.id for example in shown}) > 6
    assert shown != demonstrations.drawn(asked, library(6), 4)
    assert all(a.article != b.article for a, b in zip(shown, asked, strict=True))


WORDS = ["river", "bridge", "poem", "engine", "harbour", "valley"]


def question_with(*words: str, article: str) -> Question:
    return question(article, article, " ".join([*words, "and", "the", "rest"]), answers=(words[0],))


def test_the_retrieved_demonstration_is_the_nearest_by_words_of_another_article():
    pool = [question_with(a, b, article=f"{a}-{b}") for a in WORDS for b in WORDS if a < b]
    asked = question_with("poem", "engine", "engine", article="mine")
    (nearest,) = demonstrations.retrieved([asked], pool, 0)
    assert nearest.article == "engine-poem"
    (next_best,) = demonstrations.retrieved([replace(asked, article="engine-poem")], pool, 0)
    assert "engine" in next_best.article and next_best.article != "engine-poem"


def test_retrieval_ranks_as_the_formula_of_bm25():
    """Lucene's form: Σ ln(1 + (N − n + ½)/(n + ½)) · f / (f + k₁(1 − b + b·l/l̄)), k₁ = 1.5, b =
    0.75."""
    rng = Random(0)
    pool = [
        question_with(*rng.choices(WORDS, k=rng.randint(1, 9)), article=f"a{number}")
        for number in range(40)
    ]
    texts = [candidate.context.split() for candidate in pool]
    mean = sum(map(len, texts)) / len(texts)

    def score(asked: list[str], text: list[str]) -> float:
        total = 0.0
        for word in asked:
            held = sum(word in other for other in texts)
            weight = log(1 + (len(texts) - held + 0.5) / (held + 0.5))
            total += (
                weight
                * text.count(word)
                / (text.count(word) + 1.5 * (0.25 + 0.75 * len(text) / mean))
            )
        return total

    for number in range(10):
        asked = question_with(*rng.choices(WORDS, k=4), article="mine")
        (nearest,) = demonstrations.retrieved([asked], pool, 0)
        best = max(
            score(asked.context.split(), text)
            for text, candidate in zip(texts, pool, strict=True)
            if candidate.context != asked.context
        )
        assert score(asked.context.split(), nearest.context.split()) == pytest.approx(
            best, rel=1e-5
        ), number


@pytest.mark.parametrize(
    ("language", "asked", "near", "other"),
    [
        (
            "hi",
            "नदी का पानी ठंडा है",
            "वह नदी पानी से भरी थी",
            "नगर में किताब मिली",
        ),  # vowel signs belong to their words
        ("zh", "2008年北京", "我在北京住", "我在2009年"),  # ideographs after digits are words, too
        ("ar", "كِتَابٌ قديم", "هذا كِتَابٌ جديد", "كان هناك"),
    ],
)
def test_contexts_are_compared_by_words_in_every_script(
    language: str, asked: str, near: str, other: str
):
    def context(name: str, text: str) -> Question:
        return Question(name, name, text, "?", ((text[:2], 0),), language)

    (nearest,) = demonstrations.retrieved(
        [context("q", asked)], [context("other", other), context("near", near)], 0
    )
    assert nearest.id == "near"


@pytest.mark.parametrize("wordless", ["...", "$ ।", "—"])
def test_contexts_without_words_have_a_demonstration_as_well(wordless: str):
    pool = [
        question("a", "A", "Kamo lives in Tiru."),
        question("b", "B", wordless, answers=(wordless[0],)),
    ]
    asked = question("q", "C", wordless + wordless, answers=(wordless[0],))
    assert demonstrations.retrieved([asked], pool, 0)[0].id == "a"
    assert demonstrations.retrieved([asked], pool[1:], 0)[0].id == "b"


@pytest.mark.parametrize(
    "mode", [mode for mode in demonstrations.MODES if "one-shot" in mode and "chat" not in mode]
)
def test_no_one_shot_shows_the_asked_article(mode: str, tokenizer: PreTrainedTokenizerFast):
    asked = library(4)
    for prompt in prompts.build(asked, tokenizer, mode=mode, pool=asked, seed=1):
        before, _, after = tokenizer.decode(prompt.prefix).rpartition("\n\nText: ")
        assert (
            prompt.branches[0].question.article in after
            and prompt.branches[0].question.article not in before
        )
        assert before.count("\n\nText: ") == 1


@pytest.mark.parametrize(
    "pool", [[], [question("p", "A", "Kamo lives in Tiru, too.")]], ids=["empty", "one article"]
)
def test_without_a_second_article_one_shot_is_refused(
    pool: list[Question], tokenizer: PreTrainedTokenizerFast
):
    with pytest.raises(
        StudyError,
        match="No demonstration for article 'A': the training set needs a second article",
    ):
        prompts.build([question("q")], tokenizer, mode="one-shot", pool=pool)
