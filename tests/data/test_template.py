"""The text around context, question and answer, in plain form and in chat templates."""

import unicodedata
from datetime import datetime
from functools import partial
from types import SimpleNamespace

import make_bases
import pytest
from toy_data import library, question, text
from transformers import PreTrainedTokenizerFast

from studylib.core.errors import StudyError
from studylib.data import chat_templates, prompts, template


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
