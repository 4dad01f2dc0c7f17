"""Prompts: what a model is shown, token by token, and which demonstration with it."""

import pytest
from transformers import PreTrainedTokenizerFast

from studylib import bases, prompts
from studylib.data import Question
from studylib.errors import StudyError


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, with the end of text also as padding."""
    return bases.tokenizer()


def question(
    name: str, article: str = "A", context: str = "Kamo lives in Tiru.", asked: str = "Where?", answers: tuple = ("Tiru",)
) -> Question:
    return Question(name, article, context, asked, tuple((text, context.find(text)) for text in answers))


def library(articles: int, contexts: int = 3) -> list[Question]:
    """Two questions a context; every context names its article, and the longest of each is long."""
    return [
        question(f"{a}-{c}-{q}", f"article{a}", f"Text {c} of article{a}." + " It goes on." * c, f"What is {q}?", (f"article{a}",))
        for a in range(articles)
        for c in range(contexts)
        for q in range(2)
    ]


def text(tokenizer: PreTrainedTokenizerFast, prompt: prompts.Prompt, number: int = 0) -> str:
    """What a prompt says with one of its questions, without the end of text."""
    branch = prompt.branches[number]
    return tokenizer.decode(prompt.prefix + branch.given + branch.target[:-1])


@pytest.mark.parametrize(
    ("answers", "target"),
    [
        (("Tiru",), "Tiru"),
        (("Kamo", "Tiru", "Tiru"), "Tiru"),
        (("Tiru", "Kamo"), "Tiru"),
        (("Kamo", "Tiru", "Tiru", "Kamo"), "Kamo"),
        (("in", "lives", "Tiru", "Tiru", "lives"), "lives"),
        ((" Tiru", "Kamo", "Tiru "), "Tiru"),
    ],
)
def test_target_is_the_most_frequent_answer_and_the_first_among_equals(answers: tuple, target: str):
    assert prompts.target_of(Question("q", "A", "c", "?", tuple((answer, 0) for answer in answers))) == target


def test_zero_shot_text_to_the_letter(tokenizer: PreTrainedTokenizerFast):
    asked = [question("q1", asked=" Where does Kamo live?\n"), question("q2", asked="Who lives in Tiru?", answers=("Kamo",))]
    (prompt,) = prompts.build(asked, tokenizer, mode="zero-shot", pool=library(2))
    shared = "Answer the question with words from the text.\n\nText: Kamo lives in Tiru."
    assert text(tokenizer, prompt, 0) == shared + "\n\nQuestion: Where does Kamo live?\nAnswer: Tiru"
    assert text(tokenizer, prompt, 1) == shared + "\n\nQuestion: Who lives in Tiru?\nAnswer: Kamo"


def test_one_shot_text_to_the_letter(tokenizer: PreTrainedTokenizerFast):
    shown = question("p", "B", "Belu wrote Sado.", "Who wrote Sado?", ("Belu",))
    (prompt,) = prompts.build([question("q")], tokenizer, mode="one-shot", pool=[shown])
    assert text(tokenizer, prompt) == (
        "Answer the question with words from the text."
        "\n\nText: Belu wrote Sado.\n\nQuestion: Who wrote Sado?\nAnswer: Belu"
        "\n\nText: Kamo lives in Tiru.\n\nQuestion: Where?\nAnswer: Tiru"
    )


@pytest.mark.parametrize("context", ["“Žižek” – 24–10 , said he !", "東京 is\tbig.\n\n  Really .", "don't  do n't", "🦊 e\u0301"])
def test_tokens_of_the_segments_say_the_rendered_text(context: str, tokenizer: PreTrainedTokenizerFast):
    asked = question("q", context=context, asked=f"Why “{context}” ?", answers=(context.split()[0],))
    (prompt,) = prompts.build([asked], tokenizer, mode="zero-shot")
    said = prompts.QUESTION.format(question=asked.question) + prompts.ANSWER.format(answer=context.split()[0])
    assert text(tokenizer, prompt) == prompts.render_prefix(context, None) + said


def test_answers_end_in_end_of_text_even_where_it_is_the_padding(tokenizer: PreTrainedTokenizerFast):
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    for prompt in prompts.build(library(3), tokenizer, mode="one-shot", pool=library(3)):
        for branch in prompt.branches:
            assert branch.target[-1] == tokenizer.eos_token_id
            assert tokenizer.decode(branch.target[:-1]) == f" {branch.question.article}"
            assert tokenizer.eos_token_id not in prompt.prefix + branch.given + branch.target[:-1]


def test_every_context_is_a_prompt_and_every_question_a_branch(tokenizer: PreTrainedTokenizerFast):
    asked = library(2)
    shuffled = asked[::2] + asked[1::2]
    built = prompts.build(shuffled, tokenizer, mode="zero-shot")
    assert [[branch.question.id for branch in prompt.branches] for prompt in built] == [
        [f"{a}-{c}-{q}" for q in range(2)] for a in range(2) for c in range(3)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_no_demonstration_comes_from_the_asked_article(seed: int, tokenizer: PreTrainedTokenizerFast):
    asked = library(4)
    shown: dict[str, set[str]] = {}
    for prompt in prompts.build(asked, tokenizer, mode="one-shot", pool=asked, seed=seed):
        article = prompt.branches[0].question.article
        before, _, own = tokenizer.decode(prompt.prefix).rpartition("\n\nText: ")
        assert article in own
        assert article not in before
        shown.setdefault(article, set()).add(before)
    assert all(len(found) == 1 for found in shown.values())
    assert sorted(
        len([article for article in shown if demonstration in shown[article]]) for demonstration in set.union(*shown.values())
    ) == [1, 3]


def test_demonstration_follows_its_seed():
    pool, asked = library(20), question("q")
    found = [prompts.demonstration(pool, seed=seed, avoid=asked) for seed in range(8)]
    assert [prompts.demonstration(list(reversed(pool)), seed=seed, avoid=asked) for seed in range(8)] == found
    assert len({one.id for one in found}) > 4


def test_demonstrations_are_short():
    pool = library(4, contexts=4)
    shorter = sorted(len(one.context) for one in pool)[len(pool) // 2 - 1]
    assert all(len(prompts.demonstration(pool, seed=seed, avoid=question("q")).context) <= shorter for seed in range(30))


def test_the_same_text_under_another_title_is_no_demonstration():
    same, other = question("p1", "B"), question("p2", "C", "Kamo lives in Tiru, says Belu.")
    assert all(prompts.demonstration([same, other, same, other], seed=seed, avoid=question("q", "A")) == other for seed in range(5))


def test_a_long_demonstration_is_better_than_none():
    pool = [question(f"p{number}", "A", f"Kamo lives in Tiru {number}.") for number in range(5)]
    other = question("p5", "B", "Somewhere far away from all this, Kamo lives in Tiru.")
    assert prompts.demonstration([*pool, other], seed=0, avoid=question("q", "A")) == other


@pytest.mark.parametrize("pool", [[], [question("p", "A", "Kamo lives in Tiru, too.")]], ids=["empty", "one article"])
def test_without_a_second_article_one_shot_is_refused(pool: list[Question], tokenizer: PreTrainedTokenizerFast):
    with pytest.raises(StudyError, match="No demonstration for article 'A': the training set needs a second article"):
        prompts.build([question("q")], tokenizer, mode="one-shot", pool=pool)


def test_a_context_that_does_not_fit_is_refused_naming_the_question(tokenizer: PreTrainedTokenizerFast):
    asked = [question("short"), question("long", asked="Where in the wide world, if anywhere at all?")]
    (prompt,) = prompts.build(asked, tokenizer, mode="zero-shot")
    reach = len(prompt.prefix) + len(prompt.branches[1].given) + len(prompt.branches[1].target)
    assert prompts.build(asked, tokenizer, mode="zero-shot", longest=reach) == [prompt]
    with pytest.raises(StudyError, match=f"question 'long': .* {reach} tokens, the model has {reach - 1} positions"):
        prompts.build(asked, tokenizer, mode="zero-shot", longest=reach - 1)


@pytest.mark.parametrize("mode", ["two-shot", "", None])
def test_an_unknown_mode_is_refused(mode: str | None, tokenizer: PreTrainedTokenizerFast):
    with pytest.raises(StudyError, match=f"prompting {mode!r} is unknown: use zero-shot or one-shot"):
        prompts.build([question("q")], tokenizer, mode=mode, pool=library(2))
