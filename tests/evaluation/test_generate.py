"""Answers equal transformers' own greedy generation, whatever the batch."""

import math
from dataclasses import replace

import make_bases
import pytest
import torch
from miniatures import FAMILIES, built, model, tokenizer, unpack

from studylib.app import forecast, notebooks
from studylib.data import archives, prompts, squad
from studylib.evaluation import decoding, generate
from studylib.evaluation.answers import Answer, best, clean
from studylib.models.precision import products_in, round_frozen
from studylib.runs import inputs
from studylib.store.store import Store
from studylib.training import teachers


def generated(net, prompt, branch, longest):
    ids = torch.tensor([[*prompt.prefix, *branch.given]])
    out = net.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=longest,
        do_sample=False,
        eos_token_id=tokenizer().eos_token_id,
        pad_token_id=tokenizer().pad_token_id,
    )
    return clean(tokenizer().decode(out[0, ids.shape[1] :], skip_special_tokens=True))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", ["zero-shot", "one-shot"])
def test_answers_are_those_of_generate(family, mode):
    net, prompts = model(family), built(mode, 2)
    expected = [
        generated(net, prompt, branch, 6) for prompt in prompts for branch in prompt.branches
    ]
    answers = generate.answer(net, tokenizer(), prompts, batch=3, longest=6)
    close = [a.margin < 1e-3 for a in answers]
    assert sum(close) < len(close) / 4
    assert [a.text for a, skip in zip(answers, close, strict=True) if not skip] == [
        e for e, skip in zip(expected, close, strict=True) if not skip
    ]


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_answers_that_end_at_unlike_times_are_those_of_generate(family):
    """A head that likes to end: within a context and between contexts some questions are answered
    long before others."""
    net, prompts = model(family, tie_word_embeddings=False), built("zero-shot", 4)
    with torch.no_grad():
        net.get_output_embeddings().weight[tokenizer().eos_token_id] *= 16
    answers = generate.answer(net, tokenizer(), prompts, batch=4, longest=12)
    remaining = iter(answers)
    counts = [[next(remaining).tokens for _ in prompt.branches] for prompt in prompts]
    assert any(min(lengths) < 3 and max(lengths) > 5 for lengths in counts) and any(
        max(lengths) < 3 for lengths in counts
    )
    for answer, (prompt, branch) in zip(
        answers, ((p, b) for p in prompts for b in p.branches), strict=True
    ):
        assert answer.text == generated(net, prompt, branch, 12) or answer.margin < 1e-3


def assert_same_answers(answers, others):
    """The same texts but where the two best tokens are close, with the same probability."""
    for first, second in zip(answers, others, strict=True):
        assert first.question_id == second.question_id
        assert first.text == second.text or min(first.margin, second.margin) < 1e-3
        assert first.text != second.text or first.log_probability == pytest.approx(
            second.log_probability, abs=1e-3
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_demonstration_computed_once_changes_no_answer(family):
    """The same prompts with their common beginning read anew for every context."""
    net, prompts = model(family), built("one-shot", 3)
    assert (
        sorted(prompt.shared for prompt in prompts)[1] > 20
    )  # all but the one of the demonstration's own article
    apart = [replace(prompt, shared=0) for prompt in prompts]
    once, anew = (
        generate.answer(net, tokenizer(), variant, batch=4, longest=6)
        for variant in (prompts, apart)
    )
    assert_same_answers(once, anew)


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_maps_that_are_rounded_beforehand_give_the_answers_of_autocast_near_those_in_float32(
    family,
):
    net, rounded, prompts = model(family), model(family).requires_grad_(False), built("one-shot", 3)
    exact = generate.answer(net, tokenizer(), prompts, batch=4, longest=6, gold=True)
    round_frozen(rounded, "bf16")
    rounded_answers = []
    for variant in (net, rounded):
        with products_in(variant, "bf16"):
            rounded_answers.append(
                generate.answer(variant, tokenizer(), prompts, batch=4, longest=6, gold=True)
            )
    assert rounded_answers[0] == rounded_answers[1] != exact
    assert all(
        torch.equal(first.gold, second.gold) and first.gold.dtype == torch.float32
        for first, second in zip(*rounded_answers, strict=True)
    )
    for first, second in zip(exact, rounded_answers[1], strict=True):
        assert first.text == second.text or first.margin < 0.1
        assert (
            first.text != second.text
            or abs(first.log_probability - second.log_probability) < 0.05 * first.tokens
        )
        assert torch.nn.functional.cosine_similarity(first.gold, second.gold).min() > 0.99


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", ["zero-shot", "one-shot"])
def test_gold_answers_in_the_pack_change_no_answer_and_have_the_states_of_rows_of_their_own(
    family, mode
):
    net, prompts = model(family), built(mode, 3)
    without, beside = (
        generate.answer(net, tokenizer(), prompts, batch=4, longest=6, gold=gold)
        for gold in (False, True)
    )
    assert_same_answers(without, beside)
    rows = [row for prompt in prompts for row in unpack(prompt)]
    for answer, row in zip(beside, rows, strict=True):
        torch.testing.assert_close(
            answer.gold, teachers.answer_states(net, row), atol=1e-4, rtol=1e-4
        )


def test_contexts_that_are_answered_together_begin_alike_and_have_about_as_many_questions():
    prompts = built("one-shot", 4)
    batches = generate._batched(prompts, 5)
    assert sorted(number for batch in batches for number in batch) == list(range(len(prompts)))
    assert max(map(len, batches)) == 5
    groups: dict[tuple, list[int]] = {}
    for batch in batches:
        (beginning,) = {tuple(prompts[n].prefix[: prompts[n].shared]) for n in batch}
        groups.setdefault(beginning, []).extend(len(prompts[n].branches) for n in batch)
    assert len(groups) > 1 and all(counts == sorted(counts) for counts in groups.values())


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


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_the_log_probability_is_that_of_the_answer_said_whole(family):
    """Against one forward pass over prompt and answer; three tokens of a random model, which never
    ends."""
    net, prompts = model(family), built("zero-shot", 2)
    answers = iter(generate.answer(net, tokenizer(), prompts, longest=3))
    for prompt in prompts:
        for branch in prompt.branches:
            given, answer = [*prompt.prefix, *branch.given], next(answers)
            tokens: list[int] = []
            total = 0.0
            for _ in range(answer.tokens):
                logits = net(input_ids=torch.tensor([given + tokens])).logits[0, -1].log_softmax(-1)
                tokens.append(int(logits.argmax()))
                total += float(logits.max())
            if answer.margin > 1e-3:
                assert answer.log_probability == pytest.approx(total, abs=1e-3)
                assert answer.probability == pytest.approx(math.exp(total), rel=1e-2)


def test_of_several_windows_the_surest_answer_a_token_counts():
    answers = [
        Answer("q", "long", 1.0, -2.0, 4),
        Answer("q", "short", 1.0, -1.5, 1),
        Answer("p", "only", 1.0, -9.0, 1),
    ]
    assert {name: answer.text for name, answer in best(answers).items()} == {
        "q": "long",
        "p": "only",
    }


@pytest.mark.parametrize("size", [4, 16])
def test_the_batch_changes_no_answer(size):
    net, prompts = model("qwen2"), built("zero-shot", 4)
    alone, together = (
        generate.answer(net, tokenizer(), prompts, batch=contexts, longest=5)
        for contexts in (1, size)
    )
    assert (
        [a.question_id for a in alone]
        == [a.question_id for a in together]
        == [b.question.id for p in prompts for b in p.branches]
    )
    for first, second in zip(alone, together, strict=True):
        assert first.text == second.text or min(first.margin, second.margin) < 1e-3


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Paris", "Paris"),
        ("\nParis\n\nQuestion: Who", "Paris"),
        ("\n\n Paris ", "Paris"),
        ("", ""),
        ("\n\n", ""),
        ("Paris\nLyon", "Paris"),
    ],
)
def test_a_leading_newline_is_no_empty_answer(text, expected):
    assert clean(text) == expected


@pytest.mark.small
def test_answers_of_the_real_model_at_batch_1_4_and_16(capsys):
    """300 SQuAD questions: answers may differ only where the two best logits are within 1e-3.
    Prints the counts.

    Asks the tuned teacher of the `small` profile where there is one, else the raw model.
    """
    plan, store = notebooks.jobs("small")[0].plan, Store()
    test_set, teacher = plan.tests[0], plan.trained[0][0]
    tuned = store.result(teacher) is not None
    if archives.missing(test_set.value["source"].removeprefix("archive:")) or (
        not tuned and forecast.download(plan)
    ):
        pytest.skip("needs the archives of the small profile: `study run small` fetches them")
    net, words = inputs.load(store, teacher if tuned else teacher.needs["raw"])
    questions = squad.load({"source": test_set.value["source"], "paragraphs": 60}).questions
    built_prompts = prompts.build(questions, words, mode="zero-shot")
    answers = {size: generate.answer(net, words, built_prompts, batch=size) for size in (1, 4, 16)}
    for size in (4, 16):
        pairs = list(zip(answers[1], answers[size], strict=True))
        differ = [(a, b) for a, b in pairs if a.text != b.text]
        margins = [round(min(a.margin, b.margin), 6) for a, b in differ]
        with capsys.disabled():
            print(
                f"\n{'tuned' if tuned else 'raw'} model, batch {size} against 1: {len(pairs)}"
                f" questions, {len(differ)} answers differ, margins {margins}"
            )
        assert len(pairs) >= 300 and all(margin < 1e-3 for margin in margins)


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
