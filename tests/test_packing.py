"""Packing is exact: a packed row gives what one question per row gives."""

import numpy as np
import pytest
import torch
from miniatures import FAMILIES, built, model, packs, tokenizer

from studylib import models, objectives, packing, training


@pytest.fixture(params=["zero-shot", "one-shot"])
def mode(request):
    return request.param


GOLD = objectives.Mixture(objectives.parse(objectives.gold(1)))


def rows_of(mode):
    """All prompts packed, and the same questions one per row, in the same order of questions."""
    prompts = built(mode, 2)
    return [packing.pack(p) for p in prompts], [row for p in prompts for row in packing.unpack(p)]


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_hidden_states_equal_one_question_per_row(family, mode):
    packed, single = (packing.collate(rows) for rows in rows_of(mode))
    net = model(family)
    with torch.no_grad():
        ours, theirs = (models.hidden_states(net, b).flatten(0, 1)[b.answers.at] for b in (packed, single))
    assert torch.equal(packed.answers.targets, single.answers.targets)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_of_its_own_equals_the_models_plain_causal_forward(family):
    net = model(family)
    for row in rows_of("zero-shot")[1][:6]:
        batch = packing.collate([row])
        with torch.no_grad():
            plain = net(input_ids=batch.ids).logits[0, batch.answers.at]
            ours = models.head(net, models.hidden_states(net, batch)[0, batch.answers.at], len(tokenizer()))
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_gradients_equal_one_question_per_row(family, mode):
    gradients = []
    for rows in rows_of(mode):
        net = model(family)
        training.backward(net, rows, GOLD, 0, None, len(tokenizer()))
        gradients.append({name: p.grad for name, p in net.named_parameters()})
    for name, expected in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], expected, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_the_loss_is_that_of_the_next_token_right_after_the_question():
    """Against transformers' own shifted loss with everything but the answer masked by -100."""
    net = model("gpt_neox")
    (row,) = packing.unpack(built()[0])[:1]
    ids = torch.tensor([[*row.ids, row.answers.targets[-1]]])
    labels = torch.full_like(ids, -100)
    labels[0, -len(row.answers.targets) :] = torch.tensor(row.answers.targets)
    with torch.no_grad():
        expected = net(input_ids=ids, labels=labels).loss
        ours = training.losses(net, [row], GOLD, 0, None, len(tokenizer()))["cross_entropy"] / len(row.answers.targets)
    torch.testing.assert_close(ours, expected)


def test_shifting_the_gather_by_one_would_be_seen():
    net, row = model("gpt_neox"), packs()[0]
    batch = packing.collate([row])
    with torch.no_grad():
        hidden = models.hidden_states(net, batch).flatten(0, 1)
        right, late, early = (
            objectives.cross_entropy(
                models.head(net, hidden[(batch.answers.at + shift).clamp(max=len(row.ids) - 1)], len(tokenizer())),
                batch.answers.targets,
            )
            for shift in (0, 1, -1)
        )
    assert not torch.allclose(right, late) and not torch.allclose(right, early)
    assert row.ids[row.answers.at[0]] == tokenizer()(":", add_special_tokens=False)["input_ids"][0], (
        "the first answer token is predicted from 'Answer:'"
    )


def test_eos_is_learnt_even_where_it_is_the_padding_token():
    assert tokenizer().pad_token == tokenizer().eos_token
    for prompt, row in zip(built(), packs(), strict=True):
        assert row.answers.targets.count(tokenizer().eos_token_id) == len(prompt.branches)


def test_every_answer_token_is_a_target_of_the_token_before_it():
    for prompt, row in zip(built("one-shot"), packs("one-shot"), strict=True):
        assert row.answers.targets == [token for branch in prompt.branches for token in branch.target]
        for place, target in zip(row.answers.at, row.answers.targets, strict=True):
            last = target == tokenizer().eos_token_id
            assert last or (row.ids[place + 1] == target and row.branches[place + 1] == row.branches[place])


def test_what_fills_the_padding_changes_nothing():
    net, rows, seen = model("qwen2"), sorted(packs()[:8], key=lambda row: len(row.ids)), []
    with torch.no_grad():
        for beside, padding in (([], 0), ([], 5), (rows[-1:], tokenizer().pad_token_id)):
            batch = packing.collate(rows[:-1] + beside)
            batch.ids[~batch.real] = padding
            here = batch.answers.at < len(rows[:-1]) * batch.ids.shape[1]
            seen.append(models.hidden_states(net, batch).flatten(0, 1)[batch.answers.at[here]])
    assert len(rows[-1].ids) > len(rows[-2].ids) and not torch.equal(batch.real, torch.ones_like(batch.real))
    assert torch.equal(seen[0], seen[1])
    torch.testing.assert_close(seen[0], seen[2], rtol=1e-4, atol=1e-5)


def test_branch_mask_by_hand():
    mask = packing.branch_mask(torch.tensor([[0, 0, 1, 1, 2, -1]]))[0, 0].int().tolist()
    assert mask == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 1],
    ]


def test_positions_go_on_from_the_prefix_in_every_branch():
    for prompt, row in zip(built(), packs(), strict=True):
        for number in range(1, len(prompt.branches) + 1):
            own = [position for position, branch in zip(row.positions, row.branches, strict=True) if branch == number]
            assert own == list(range(len(prompt.prefix), len(prompt.prefix) + len(own)))


def test_a_schedule_goes_over_everything_once_an_epoch_and_depends_on_its_seed():
    lengths = [7, 3, 9, 1, 4, 8, 2, 6]
    batches = packing.schedule(lengths, size=2, steps=8, seed=1)
    for epoch in (batches[:4], batches[4:]):
        assert sorted(i for batch in epoch for i in batch) == list(range(8))
    assert batches == packing.schedule(lengths, size=2, steps=8, seed=1)
    assert batches != packing.schedule(lengths, size=2, steps=8, seed=2)
    assert batches[:3] == packing.schedule(lengths, size=2, steps=3, seed=1), "a longer training begins like a shorter one"


def test_batches_are_alike_in_length():
    lengths = list(range(100))
    for batch in packing.schedule(lengths, size=4, steps=25, seed=0, window=25):
        assert max(batch) - min(batch) == 3


def test_what_fills_no_batch_is_left_out_by_chance_and_not_by_length():
    """Ten rows in batches of four: two are left out of each epoch, the longest no more often than the shortest."""
    left_out = np.zeros(10)
    for seed in range(400):
        first, second = (packing.schedule(range(10), size=4, steps=4, seed=seed)[part] for part in (slice(2), slice(2, 4)))
        for epoch in (first, second):
            seen = {i for batch in epoch for i in batch}
            assert len(seen) == 8
            left_out[[i for i in range(10) if i not in seen]] += 1
    np.testing.assert_allclose(left_out / 800, 0.2, atol=0.06)  # four standard errors
