"""Prompts: what a model is shown, token by token, and which demonstration with it."""

import tracemalloc
import unicodedata
from dataclasses import replace
from datetime import datetime
from functools import partial
from math import log
from random import Random
from types import SimpleNamespace

import make_bases
import pytest
from transformers import PreTrainedTokenizerFast

from studylib.core.errors import StudyError
from studylib.data import chat_templates, demonstrations, prompts, targets, template
from studylib.data.squad import Question, by_context
from studylib.evaluation import metrics
from studylib.evaluation.answers import clean


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, with the end of text also as padding."""
    return make_bases.tokenizer()


def question(
    name: str,
    article: str = "A",
    context: str = "Kamo lives in Tiru.",
    asked: str = "Where?",
    answers: tuple = ("Tiru",),
) -> Question:
    return Question(
        name, article, context, asked, tuple((text, context.find(text)) for text in answers)
    )


def library(articles: int, contexts: int = 3) -> list[Question]:
    """Two questions a context; every context names its article, and the longest of each is long."""
    return [
        question(
            f"{a}-{c}-{q}",
            f"article{a}",
            f"Text {c} of article{a}." + " It goes on." * c,
            f"What is {q}?",
            (f"article{a}",),
        )
        for a in range(articles)
        for c in range(contexts)
        for q in range(2)
    ]


def text(tokenizer: PreTrainedTokenizerFast, prompt: prompts.Prompt, number: int = 0) -> str:
    """What a prompt says with one of its questions, without the end of text."""
    branch = prompt.branches[number]
    return tokenizer.decode(prompt.prefix + branch.given + branch.target[:-1])


def test_zero_shot_text_to_the_letter(tokenizer: PreTrainedTokenizerFast):
    asked = [
        question("q1", asked=" Where does Kamo live?\n"),
        question("q2", asked="Who lives in Tiru?", answers=("Kamo",)),
    ]
    (prompt,) = prompts.build(asked, tokenizer, mode="zero-shot", pool=library(2))
    shared = "Answer the question with words from the text.\n\nText: Kamo lives in Tiru."
    assert (
        text(tokenizer, prompt, 0) == shared + "\n\nQuestion: Where does Kamo live?\nAnswer: Tiru"
    )
    assert text(tokenizer, prompt, 1) == shared + "\n\nQuestion: Who lives in Tiru?\nAnswer: Kamo"


def test_one_shot_text_to_the_letter(tokenizer: PreTrainedTokenizerFast):
    shown = question("p", "B", "Belu wrote Sado.", "Who wrote Sado?", ("Belu",))
    (prompt,) = prompts.build([question("q")], tokenizer, mode="one-shot", pool=[shown])
    assert (
        text(tokenizer, prompt) == "Answer the question with words from the text."
        "\n\nText: Belu wrote Sado.\n\nQuestion: Who wrote Sado?\nAnswer: Belu"
        "\n\nText: Kamo lives in Tiru.\n\nQuestion: Where?\nAnswer: Tiru"
    )


@pytest.mark.parametrize(
    "context",
    ["“Žižek” – 24–10 , said he !", "東京 is\tbig.\n\n  Really .", "don't  do n't", "🦊 e\u0301"],
)
def test_tokens_of_the_segments_say_the_rendered_text(
    context: str, tokenizer: PreTrainedTokenizerFast
):
    asked = question(
        "q", context=context, asked=f"Why “{context}” ?", answers=(context.split()[0],)
    )
    (prompt,) = prompts.build([asked], tokenizer, mode="zero-shot")
    whole = (
        f"{template.INSTRUCTIONS}\n\nText: {context}\n\nQuestion: {asked.question}\nAnswer:"
        f" {context.split()[0]}"
    )
    assert text(tokenizer, prompt) == unicodedata.normalize("NFC", whole)


def test_answers_end_in_end_of_text_even_where_it_is_the_padding(
    tokenizer: PreTrainedTokenizerFast,
):
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


TEMPLATE = (
    "{% for turn in messages %}<|{{ turn['role'] }}|>\n{{ turn['content'] | trim"
    " }}<|endoftext|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@pytest.fixture(scope="module")
def chatting() -> PreTrainedTokenizerFast:
    words = make_bases.tokenizer()
    words.chat_template = TEMPLATE
    return words


def test_chat_text_to_the_letter(chatting: PreTrainedTokenizerFast):
    shown = question("p", "B", "Belu wrote Sado.", "Who wrote Sado?", ("Belu",))
    (zero_shot,) = prompts.build([question("q")], chatting, mode="chat zero-shot")
    assert (
        text(chatting, zero_shot)
        == "<|user|>\nAnswer the question with words from the text.\n\nText: Kamo lives in Tiru."
        "\n\nQuestion: Where?<|endoftext|>\n<|assistant|>\nTiru"
    )
    (one_shot,) = prompts.build([question("q")], chatting, mode="chat one-shot", pool=[shown])
    assert (
        text(chatting, one_shot)
        == "<|user|>\nAnswer the question with words from the text.\n\nText: Belu wrote"
        " Sado.\n\nQuestion: Who wrote"
        " Sado?<|endoftext|>\n<|assistant|>\nBelu<|endoftext|>\n<|user|>\nText: Kamo lives in"
        " Tiru.\n\nQuestion: Where?<|endoftext|>\n<|assistant|>\nTiru"
    )


@pytest.mark.parametrize("mode", ["chat zero-shot", "chat one-shot"])
def test_chat_tokens_are_those_of_the_template_itself(mode: str, chatting: PreTrainedTokenizerFast):
    shown = question("p", "B", "Belu wrote Sado.", "Who wrote Sado?", ("Belu",))
    for prompt in prompts.build(library(3), chatting, mode=mode, pool=[shown]):
        for branch in prompt.branches:
            q = branch.question
            turns = [f"Text: {q.context}\n\nQuestion: {q.question}"]
            if mode == "chat one-shot":
                turns = [f"Text: {shown.context}\n\nQuestion: {shown.question}", "Belu", *turns]
            turns[0] = f"{template.INSTRUCTIONS}\n\n{turns[0]}"
            messages = [
                {"role": ("user", "assistant")[i % 2], "content": turn}
                for i, turn in enumerate(turns)
            ]
            whole = chatting.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=False
            )
            assert prompt.prefix + branch.given == whole
            assert branch.target[-1] == chatting.eos_token_id


def test_chat_without_a_template_is_refused(tokenizer: PreTrainedTokenizerFast):
    with pytest.raises(StudyError, match="no chat template: take a prompting without `chat`"):
        prompts.build([question("q")], tokenizer, mode="chat zero-shot")


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


LONG = " ".join(f"Text {number} of Kamo{number} goes on." for number in range(40))


def long(*numbers: int) -> list[Question]:
    """Questions on one long context, answered in its sentences of these numbers."""
    return [
        question(f"q{number}", context=LONG, asked="Who?", answers=(f"Kamo{number} ",))
        for number in numbers
    ]


def test_a_context_that_fits_is_one_window_and_one_token_less_makes_more(
    tokenizer: PreTrainedTokenizerFast,
):
    asked = long(3, 30)
    (whole,) = prompts.build(asked, tokenizer, mode="zero-shot", training=True)
    reach = len(whole.prefix) + max(
        len(branch.given) + len(branch.target) for branch in whole.branches
    )
    assert prompts.build(asked, tokenizer, mode="zero-shot", training=True, longest=reach) == [
        whole
    ]
    assert (
        len(prompts.build(asked, tokenizer, mode="zero-shot", training=True, longest=reach - 1))
        == 2
    )
    room = max(len(branch.given) for branch in whole.branches) + prompts.ROOM
    assert prompts.build(asked, tokenizer, mode="zero-shot", longest=len(whole.prefix) + room) == [
        whole
    ]
    assert (
        len(prompts.build(asked, tokenizer, mode="zero-shot", longest=len(whole.prefix) + room - 1))
        > 1
    )


@pytest.mark.parametrize("longest", [100, 150, 300])
@pytest.mark.parametrize("mode", ["zero-shot", "one-shot"])
def test_windows_cut_nothing_silently(longest: int, mode: str, tokenizer: PreTrainedTokenizerFast):
    asked, pool = long(0, 13, 21, 39), [question("p", "B", "Belu wrote Sado.", "Who?", ("Belu",))]
    options = dict(mode=mode, pool=pool, longest=longest)
    built = prompts.build(asked, tokenizer, **options)
    contexts = [tokenizer.decode(prompt.prefix).rpartition("\n\nText: ")[2] for prompt in built]
    assert all(context in LONG for context in contexts)
    places = [LONG.index(context) for context in contexts]
    assert places == sorted(places) and LONG.startswith(contexts[0]) and LONG.endswith(contexts[-1])
    for place, context, following in zip(places, contexts, places[1:], strict=False):
        assert place + len(context) >= following + len(context) // 3  # they overlap
    assert all([branch.question for branch in prompt.branches] == asked for prompt in built)
    assert all(
        len(p.prefix) + len(b.given) + prompts.ROOM <= longest for p in built for b in p.branches
    )

    trained = prompts.build(asked, tokenizer, **options, training=True)
    assert sorted(branch.question.id for prompt in trained for branch in prompt.branches) == sorted(
        question.id for question in asked
    )
    for prompt in trained:
        context = tokenizer.decode(prompt.prefix).rpartition("\n\nText: ")[2]
        for branch in prompt.branches:
            assert targets.target_of(branch.question) in context
            assert len(prompt.prefix) + len(branch.given) + len(branch.target) <= longest
    assert all(prompt.branches for prompt in trained)


def test_in_training_an_answer_stands_where_it_is_farthest_from_the_ends(
    tokenizer: PreTrainedTokenizerFast,
):
    """A window's neighbour holds the same answer, but nearer to its edge: nearer than a quarter of
    it, never."""
    for number in range(2, 38):
        (prompt,) = prompts.build(
            long(number), tokenizer, mode="zero-shot", longest=150, training=True
        )
        context = tokenizer.decode(prompt.prefix).rpartition("\n\nText: ")[2]
        at = context.index(f"Kamo{number} ") / len(context)
        assert 0.2 < at < 0.8 or LONG.startswith(context) or LONG.endswith(context)


@pytest.mark.parametrize("training", [True, False])
def test_a_question_that_leaves_no_room_for_its_context_is_refused(
    training: bool, tokenizer: PreTrainedTokenizerFast
):
    asked = [question("long", context=LONG, asked="Where " * 60 + "?", answers=("Kamo3",))]
    with pytest.raises(
        StudyError, match="question 'long': not even a piece of its context fits beside it"
    ):
        prompts.build(asked, tokenizer, mode="zero-shot", longest=80, training=training)


def test_no_answer_of_the_set_is_longer_than_what_a_model_may_say(
    tokenizer: PreTrainedTokenizerFast,
):
    """Room in windows and the limit of answers follow the longest answer to learn, whatever its
    script."""
    asked = [*long(3), question("wide", "B", "x " * 60 + "end", answers=("x " * 60,))]
    built = prompts.build(asked, tokenizer, mode="zero-shot", longest=400)
    limit = prompts.longest_answer(branch.target for prompt in built for branch in prompt.branches)
    assert (
        limit
        == max(len(branch.target) for prompt in built for branch in prompt.branches)
        > prompts.ROOM
    )
    assert all(len(p.prefix) + len(b.given) + limit <= 400 for p in built for b in p.branches)
    assert prompts.longest_answer([]) == prompts.longest_answer([[1, 2]]) == prompts.ROOM


def test_an_answer_that_no_window_holds_is_refused(tokenizer: PreTrainedTokenizerFast):
    asked = [question("wide", context=LONG, answers=(LONG[:900],)), *long(3)]
    with pytest.raises(StudyError, match="question 'wide': "):
        prompts.build(asked, tokenizer, mode="zero-shot", longest=500, training=True)


def test_prompts_of_a_fixed_demonstration_say_how_far_they_are_the_same(
    tokenizer: PreTrainedTokenizerFast,
):
    asked = library(4)
    built = prompts.build(asked, tokenizer, mode="one-shot", pool=asked)
    starts = {tuple(prompt.prefix[: prompt.shared]) for prompt in built}
    assert len(starts) == 2 and all(
        "Answer: article" in tokenizer.decode(list(start)) for start in starts
    )
    assert all(0 < prompt.shared < len(prompt.prefix) for prompt in built)
    others = [mode for mode in demonstrations.MODES if mode != "one-shot" and "chat" not in mode]
    assert {
        p.shared for mode in others for p in prompts.build(asked, tokenizer, mode=mode, pool=asked)
    } == {0}


@pytest.mark.parametrize("mode", ["two-shot", "", None, "chat", "chat  one-shot", ["zero-shot"]])
def test_an_unknown_mode_is_refused(mode: object, tokenizer: PreTrainedTokenizerFast):
    with pytest.raises(
        StudyError, match=r"prompting .* is unknown: use zero-shot, one-shot, one-shot random"
    ):
        prompts.build([question("q")], tokenizer, mode=mode, pool=library(2))


# What stands in data stays text, in one spelling, on any day


SPELT = "Kamo <|endoftext|> lives in Tiru <|user|>."


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["zero-shot", "one-shot", "chat zero-shot", "chat one-shot"])
def test_control_tokens_in_data_stay_text(mode: str, chatting: PreTrainedTokenizerFast):
    """In context, question, answer and demonstration: as many ends of text as without them."""
    ids = []
    for context in (SPELT, SPELT.replace("<|endoftext|>", "nobody")):
        name = "<|endoftext|>" if "<|endoftext|>" in context else "nobody"
        asked = question("q", context=context, asked=f"Who is {name}?", answers=(name,))
        shown = question("p", "B", f"Belu and {name}.", f"Who is {name}?", (name,))
        (prompt,) = prompts.build([asked], chatting, mode=mode, pool=[shown])
        branch = prompt.branches[0]
        assert (
            chatting.decode(branch.target[:-1]).strip() == name
            and chatting.eos_token_id not in branch.target[:-1]
        )
        ids.append([*prompt.prefix, *branch.given, *branch.target])
        assert chatting.decode(prompt.prefix).endswith(f"Text: {context}")
    assert (
        ids[0].count(chatting.eos_token_id)
        == ids[1].count(chatting.eos_token_id)
        == 1 + {"chat zero-shot": 1, "chat one-shot": 3}.get(mode, 0)
    )


def test_control_tokens_in_a_long_context_are_text_in_its_windows(
    tokenizer: PreTrainedTokenizerFast,
):
    asked = question(
        "q", context=LONG + " <|endoftext|> " + LONG, asked="Who?", answers=("<|endoftext|>",)
    )
    for training in (True, False):
        for prompt in prompts.build(
            [asked], tokenizer, mode="zero-shot", longest=150, training=training
        ):
            assert tokenizer.eos_token_id not in prompt.prefix


@pytest.mark.parametrize(
    ("answers", "target"),
    [
        (("by\nKamo Belu",), "by Kamo Belu"),
        (("a \r\n b",), "a b"),
        (("a\n\n\tb\n",), "a b"),
        (("x", "a\nb", "a b"), "a b"),
        (("a  b",), "a  b"),
    ],
)
def test_an_answer_with_line_breaks_is_learnt_in_one_line(
    answers: tuple, target: str, tokenizer: PreTrainedTokenizerFast
):
    """An answer ends with its line, so nothing else could be heard."""
    asked = Question(
        "q", "A", "By\n" + " ".join(answers), "?", tuple((answer, 3) for answer in answers)
    )
    assert targets.target_of(asked) == target and targets.traits(asked)["answer_words"] == len(
        target.split()
    )
    (prompt,) = prompts.build([asked], tokenizer, mode="zero-shot")
    assert tokenizer.decode(prompt.branches[0].target[:-1]) == f" {target}"
    if "\n" in answers[0]:
        assert metrics.exact_match(clean(f" {target}"), answers) == 1.0


def test_an_answer_with_a_line_break_stands_in_the_window_that_is_learnt(
    tokenizer: PreTrainedTokenizerFast,
):
    context = f"{LONG} It was by\nZoto Belu, they say. {LONG}"
    asked = question("q", context=context, asked="Who?", answers=("by\nZoto Belu",))
    (prompt,) = prompts.build([asked], tokenizer, mode="zero-shot", longest=150, training=True)
    assert "by\nZoto Belu" in tokenizer.decode(prompt.prefix)


def test_two_spellings_of_one_text_are_one_prompt(tokenizer: PreTrainedTokenizerFast):
    """Question, context, answer and demonstration, in NFD and in NFC: é as a letter and an accent,
    and as one."""
    built = []
    for form in ("NFD", "NFC"):
        text = partial(unicodedata.normalize, form)
        asked = question(
            "q",
            context=text("René lives in Orléans."),
            asked=text("Where does René live?"),
            answers=(text("Orléans"),),
        )
        shown = question("p", "B", text("Zoé is here."), text("Is Zoé here?"), (text("Zoé"),))
        (prompt,) = prompts.build([asked], tokenizer, mode="one-shot", pool=[shown])
        built.append((prompt.prefix, prompt.branches[0].given, prompt.branches[0].target))
    assert built[0] == built[1]


DATED = (
    "{{ strftime_now('%d %b %Y, %A %-d/%-m %H:%M') }} {% if strftime_now is defined %}yes{% endif"
    " %}\n  " + TEMPLATE
)


def test_a_template_that_prints_the_date_prints_the_same_on_any_day(
    monkeypatch: pytest.MonkeyPatch,
):
    dated, texts = make_bases.tokenizer(), []
    dated.chat_template = DATED
    for year in (2001, 2031):
        clock = SimpleNamespace(now=partial(datetime, year, 5, 6))
        monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", clock)
        (prompt,) = prompts.build([question("q")], dated, mode="chat zero-shot")
        texts.append(dated.decode(prompt.prefix))
    assert texts[0] == texts[1] and texts[0].startswith(
        "26 Jul 2024, Friday 26/7 00:00 yes<|user|>\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "chance",
    [
        "{{ range(99999) | random }}",
        "{{ [range(99999)] | map('rand' ~ 'om') | list }}",
        "{{ lipsum(1) }}",
    ],
)
def test_a_template_that_draws_at_random_draws_the_same_whatever_is_rendered_with_it(chance: str):
    words = make_bases.tokenizer()
    words.chat_template = chance + TEMPLATE
    alone, several = ([question("q")], [question("p", "B", "Kamo is here."), question("q")])
    texts = []
    for asked in (alone, several):
        chat_templates._render.cache_clear()
        built = prompts.build(
            asked, words, mode="chat one-shot", pool=[question("s", "C", "Belu is there.")]
        )
        texts.append(words.decode(built[-1].prefix))
    assert texts[0] == texts[1]


def test_windows_are_where_the_tokenizer_says_that_tokens_stand(tokenizer: PreTrainedTokenizerFast):
    text = "Kämo lives in 你好 Tiru. 👩‍👩‍👧 Belu\tsaid “Sado”. " * 20
    places = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)[
        "offset_mapping"
    ]
    spans = prompts.windows(text, tokenizer, lambda part: len(part) <= 90)
    assert len(spans) > 5 and {begin for begin, _ in spans} <= {begin for begin, _ in places}
    assert {end for _, end in spans} <= {end for _, end in places} and (
        spans[0][0],
        spans[-1][1],
    ) == (0, len(text))
    assert prompts.windows("", tokenizer, lambda part: True) == []


def test_windows_of_a_long_text_are_the_same_where_larger_ones_are_not_tried(
    tokenizer: PreTrainedTokenizerFast,
):
    text, tried = "Kämo lives in 你好 Tiru. Belu said “Sado”. " * 50, []

    def fits(part: str) -> bool:
        tried.append(len(tokenizer(part, add_special_tokens=False)["input_ids"]))
        return tried[-1] <= 30

    every = prompts.windows(text, tokenizer, fits)
    largest, tried[:] = max(tried), []
    assert prompts.windows(text, tokenizer, fits, 60) == every
    assert max(tried) <= 60 < largest


@pytest.mark.slow
def test_memory_for_a_context_grows_by_a_few_bytes_a_character(tokenizer: PreTrainedTokenizerFast):
    """Windows of 512 positions, in each of which a character stands twice; rows of them are counted
    one by one."""
    rng, peaks = Random(0), []
    for size in (10_000, 30_000):
        text = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz  ") for _ in range(size))
        asked = [Question("q", "t", f"Tiru {text}", "Where?", (("Tiru", 0),))]
        tracemalloc.start()
        built = prompts.build(asked, tokenizer, mode="zero-shot", longest=512)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(built) > size / 400
    assert (peaks[1] - peaks[0]) / 20_000 < 80, "170 before"
