"""Answers equal transformers' own greedy generation, whatever the batch."""

import math
from dataclasses import replace

import pytest
import torch
from miniatures import FAMILIES, built, model, tokenizer, unpack
from same_answers import assert_same_answers

from studylib.app import notebooks, time_budget
from studylib.data import archives, prompts, squad
from studylib.evaluation import generate
from studylib.evaluation.answers import clean
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
        not tuned and time_budget.download(plan)
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
