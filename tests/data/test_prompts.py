"""Prompts: what a model is shown, token by token, and in which windows."""

import tracemalloc
import unicodedata
from functools import partial
from random import Random

import pytest
from toy_data import library, question
from transformers import PreTrainedTokenizerFast

from studylib.core.errors import StudyError
from studylib.data import demonstrations, prompts, targets
from studylib.data.squad import Question


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


# What stands in data stays text, in one spelling


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
