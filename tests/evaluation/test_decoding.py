"""Which contexts are read together and what is read once; where an answer ends."""

from dataclasses import replace

import make_bases
import pytest
import torch
from miniatures import FAMILIES, built, model, tokenizer
from same_answers import assert_same_answers

from studylib.evaluation import decoding, generate


def test_contexts_that_are_read_together_are_alike_in_length(monkeypatch):
    monkeypatch.setattr(decoding, "length", lambda length: length)
    assert decoding._alike([302, 104, 100, 105, 300, 106, 301]) == [[2, 1, 3], [5], [4, 6, 0]]


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_contexts_that_are_answered_together_are_answered_as_each_alone(family):
    """Of unlike lengths and numbers of questions, whose answers end at unlike times."""
    net, prompts = model(family, tie_word_embeddings=False), built("zero-shot", 3)
    with torch.no_grad():
        net.get_output_embeddings().weight[tokenizer().eos_token_id] *= 8
    assert len(decoding._alike(prompts)) > 3 and len({len(p.branches) for p in prompts}) > 1
    together, alone = (
        generate.answer(net, tokenizer(), prompts, batch=batch, longest=12, gold=True)
        for batch in (len(prompts), 1)
    )
    assert len({answer.tokens for answer in alone}) > 2
    assert_same_answers(together, alone)
    for first, second in zip(together, alone, strict=True):
        torch.testing.assert_close(first.gold, second.gold, atol=1e-4, rtol=1e-4)


def test_a_demonstration_is_read_once(monkeypatch):
    net, prompts, seen = model("llama"), built("one-shot", 3), []
    forward = decoding._forward
    monkeypatch.setattr(
        decoding, "_forward", lambda *given: seen.append(given[2].shape) or forward(*given)
    )
    generate.answer(net, tokenizer(), prompts, batch=1, longest=1)
    starts = {tuple(p.prefix[: p.shared]) for p in prompts}
    lengths = [
        len(p.prefix) - p.shared + sum(len(branch.given) for branch in p.branches) for p in prompts
    ]
    assert len(starts) > 1 and sum(shape.numel() for shape in seen) == sum(lengths) + sum(
        map(len, starts)
    )


def test_an_answer_ends_at_eos():
    """A head that knows only EOS says nothing; one that never says it stops at the limit."""
    net = model("llama")
    prompt = built()[:1]
    with torch.no_grad():
        net.model.norm.weight.zero_()  # all logits equal: the first token wins
    answers = generate.answer(net, tokenizer(), prompt, longest=7)
    assert all(len(tokenizer()(a.text)["input_ids"]) <= 7 for a in answers) and all(
        a.margin == 0 for a in answers
    )
    net.lm_head = torch.nn.Linear(32, len(tokenizer()))
    with torch.no_grad():
        net.lm_head.weight.zero_()
        net.lm_head.bias.zero_()[tokenizer().eos_token_id] = 5.0
    assert [a.text for a in generate.answer(net, tokenizer(), prompt)] == [""] * len(
        prompt[0].branches
    )


def test_a_long_answer_is_said_whole():
    """As many tokens as the longest answer to learn, not a number made for English."""
    short = built()[:1]
    branch = short[0].branches[0]
    wide = replace(short[0], branches=[replace(branch, target=[5] * 50)])
    net = model("llama", tie_word_embeddings=False)
    for prompts_asked, tokens in ((short, 32), ([wide], 50)):
        net.set_output_embeddings(Script(" ba" * 100, end=False))
        assert generate.answer(net, tokenizer(), prompts_asked)[0].tokens == tokens
    assert generate.answer(net, tokenizer(), []) == []


class Script(torch.nn.Module):
    """A head that says the tokens of a text one after the other, whatever the model thinks."""

    def __init__(self, text, end=True):
        super().__init__()
        self.tokens, self.steps = (
            tokenizer()(text)["input_ids"] + [tokenizer().eos_token_id] * end,
            0,
        )
        self.width = len(tokenizer())

    def forward(self, hidden):
        self.steps += 1
        return (
            torch.nn.functional.one_hot(torch.tensor(self.tokens[self.steps - 1]), self.width)
            .float()
            .expand(len(hidden), -1)
        )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("text", "end", "expected", "read"),
    [
        (" Paris", True, "Paris", " Paris"),
        ("\nParis", True, "Paris", "\nParis"),
        ("\n\n Paris", True, "Paris", "\n\n Paris"),
        (" Paris\nQuestion: Who?", False, "Paris", " Paris\n"),
        ("\nParis\n\nQuestion: Who?", False, "Paris", "\nParis\n"),
        ("", True, "", ""),
        ("\n", True, "", "\n"),
        (" ", True, "", " "),
    ],
)
def test_leading_newlines_stops_and_empty_answers_in_every_family(
    family, text, end, expected, read
):
    net, script = model(family, tie_word_embeddings=False), Script(text, end)
    net.set_output_embeddings(script)
    first, *_ = answers = generate.answer(net, tokenizer(), built()[:1])
    assert {answer.text for answer in answers} == {expected} and first.tokens == script.steps
    heard = tokenizer().decode(script.tokens[: script.steps], skip_special_tokens=True)
    assert heard.startswith(read) and len(heard) <= len(read) + 1  # two newlines may be one token


@pytest.mark.parametrize("family", FAMILIES)
def test_a_turn_that_ends_in_another_special_token_than_eos_ends_the_answer(family):
    """As in a chat template whose turns end in a token of their own."""
    words = make_bases.tokenizer()
    words.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    net = model(family, tie_word_embeddings=False, vocab_size=len(words))
    script = Script(" Paris", end=False)
    script.tokens = [*script.tokens, words.convert_tokens_to_ids("<|im_end|>"), *script.tokens]
    script.width = len(words)
    net.set_output_embeddings(script)
    answer, *_ = generate.answer(net, words, built()[:1])
    assert (
        answer.text == "Paris"
        and answer.tokens == script.tokens.index(words.convert_tokens_to_ids("<|im_end|>")) + 1
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_the_head_that_are_no_tokens_are_never_said(family):
    """A head with rows beyond the tokenizer's length that would win every time gives the answers of
    one without."""
    plain, padded = (
        model(family, tie_word_embeddings=False),
        model(family, tie_word_embeddings=False, padding=64),
    )
    padded.load_state_dict(
        {k: v for k, v in plain.state_dict().items() if v.shape[0] != len(tokenizer())},
        strict=False,
    )
    with torch.no_grad():
        for wide, narrow in (
            (padded.get_input_embeddings(), plain.get_input_embeddings()),
            (padded.get_output_embeddings(), plain.get_output_embeddings()),
        ):
            wide.weight[: len(tokenizer())] = narrow.weight
        padded.get_output_embeddings().weight[len(tokenizer()) :] = (
            50.0 * plain.get_output_embeddings().weight[:64]
        )
    texts = [
        [a.text for a in generate.answer(net, tokenizer(), built("zero-shot", 2), longest=4)]
        for net in (plain, padded)
    ]
    assert texts[0] == texts[1]
