"""Packing is exact: a packed row gives what one question per row gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from miniatures import FAMILIES, built, model, packs, tokenizer, unpack

from studylib.data import packing
from studylib.methods import objective
from studylib.methods.objective import Objective
from studylib.models import parts
from studylib.training import loop


@pytest.fixture(params=["zero-shot", "one-shot"])
def mode(request):
    return request.param


GOLD = Objective(losses={"cross_entropy": 1.0})


def rows_of(mode):
    """All prompts packed, and the same questions one per row, in the same order of questions."""
    prompts = built(mode, 2)
    return [packing.pack(p) for p in prompts], [row for p in prompts for row in unpack(p)]


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_hidden_states_equal_one_question_per_row(family, mode):
    packed, single = (packing.collate(rows) for rows in rows_of(mode))
    net = model(family)
    with torch.no_grad():
        packed_states, single_states = (
            parts.hidden_states(net, b).flatten(0, 1)[b.answers.at] for b in (packed, single)
        )
    assert torch.equal(packed.answers.targets, single.answers.targets)
    torch.testing.assert_close(packed_states, single_states, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_of_its_own_equals_the_models_plain_causal_forward(family):
    net = model(family)
    for row in rows_of("zero-shot")[1][:6]:
        batch = packing.collate([row])
        with torch.no_grad():
            plain = net(input_ids=batch.ids).logits[0, batch.answers.at]
            ours = parts.head(
                net, parts.hidden_states(net, batch)[0, batch.answers.at], len(tokenizer())
            )
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_gradients_equal_one_question_per_row(family, mode):
    gradients = []
    for rows in rows_of(mode):
        net = model(family)
        loop.backward(net, rows, GOLD, (), len(tokenizer()))
        gradients.append({name: p.grad for name, p in net.named_parameters()})
    for name, expected in gradients[1].items():
        torch.testing.assert_close(
            gradients[0][name],
            expected,
            rtol=1e-3,
            atol=1e-5,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def test_the_loss_is_that_of_the_next_token_right_after_the_question():
    """Against transformers' own shifted loss with everything but the answer masked by -100."""
    net = model("gpt_neox")
    (row,) = unpack(built()[0])[:1]
    ids = torch.tensor([[*row.ids, row.answers.targets[-1]]])
    labels = torch.full_like(ids, -100)
    labels[0, -len(row.answers.targets) :] = torch.tensor(row.answers.targets)
    with torch.no_grad():
        expected = net(input_ids=ids, labels=labels).loss
        ours = loop.losses(net, [row], GOLD, (), len(tokenizer()))["cross_entropy"] / len(
            row.answers.targets
        )
    torch.testing.assert_close(ours, expected)


def test_shifting_the_gather_by_one_would_be_seen():
    net, row = model("gpt_neox"), packs()[0]
    batch = packing.collate([row])
    with torch.no_grad():
        hidden = parts.hidden_states(net, batch).flatten(0, 1)
        right, late, early = (
            objective.cross_entropy(
                parts.head(
                    net,
                    hidden[(batch.answers.at + shift).clamp(max=len(row.ids) - 1)],
                    len(tokenizer()),
                ),
                batch.answers.targets,
            )
            for shift in (0, 1, -1)
        )
    assert not torch.allclose(right, late) and not torch.allclose(right, early)
    assert (
        row.ids[row.answers.at[0]] == tokenizer()(":", add_special_tokens=False)["input_ids"][0]
    ), "the first answer token is predicted from 'Answer:'"


def test_eos_is_learnt_even_where_it_is_the_padding_token():
    assert tokenizer().pad_token == tokenizer().eos_token
    for prompt, row in zip(built(), packs(), strict=True):
        assert row.answers.targets.count(tokenizer().eos_token_id) == len(prompt.branches)


def test_every_answer_token_is_a_target_of_the_token_before_it():
    for prompt, row in zip(built("one-shot"), packs("one-shot"), strict=True):
        assert row.answers.targets == [
            token for branch in prompt.branches for token in branch.target
        ]
        for place, target in zip(row.answers.at, row.answers.targets, strict=True):
            last = target == tokenizer().eos_token_id
            assert last or (
                row.ids[place + 1] == target and row.branches[place + 1] == row.branches[place]
            )


def test_every_next_token_is_learnt_once_a_branch_and_that_of_the_prefix_once():
    """Against each question written out as one sequence: its tokens after the prefix, each a target
    of the one before it."""
    for prompt, row in zip(built("one-shot"), packs("one-shot"), strict=True):
        start, pairs = len(prompt.prefix), list(zip(row.all.at, row.all.targets, strict=True))
        assert pairs[: start - 1] == list(enumerate(prompt.prefix[1:]))
        del pairs[: start - 1]
        for number, branch in enumerate(prompt.branches, start=1):
            places = [place for place, of in enumerate(row.branches) if of == number]
            alone = branch.given + branch.target
            assert pairs[: len(alone)] == list(zip([start - 1, *places], alone, strict=True))
            assert [row.ids[place] for place in places] == alone[:-1]
            del pairs[: len(alone)]
        assert not pairs


def test_a_row_is_named_by_its_questions_inputs_and_targets():
    row = packs()[0]
    named = replace(row.asked[0].question, id="another")
    assert row.question_ids == tuple(branch.question.id for branch in built()[0].branches)
    others = [
        replace(row, asked=(replace(row.asked[0], question=named), *row.asked[1:])),
        replace(row, ids=[row.ids[0] + 1, *row.ids[1:]]),
        replace(row, branches=[*row.branches[:-1], 0]),
        replace(row, answers=packing.Places(row.answers.at, row.answers.targets[::-1])),
        replace(row, answers=packing.Places([0, *row.answers.at[1:]], row.answers.targets)),
    ]
    assert (
        replace(row).digest == row.digest
        and len({variant.digest for variant in [row, *others]}) == 6
    )


def test_rows_are_filled_up_on_the_right_and_places_count_through_them():
    def row(ids, branches, at, targets):
        return packing.Pack(
            ids,
            [*range(len(ids))],
            branches,
            packing.Places(at, targets),
            packing.Places(targets, at),
            (),
        )

    batch = packing.collate(
        [row([5, 6], [0, 1], [1], [9]), row([7, 8, 9], [0, 1, 2], [1, 2], [3, 4])]
    )
    assert batch.ids.tolist() == [[5, 6, 0], [7, 8, 9]] and batch.positions.tolist() == [
        [0, 1, 0],
        [0, 1, 2],
    ]
    assert batch.branches.tolist() == [[0, 1, -1], [0, 1, 2]] and batch.real.tolist() == [
        [True, True, False],
        [True] * 3,
    ]
    assert (batch.answers.at.tolist(), batch.answers.targets.tolist()) == ([1, 4, 5], [9, 3, 4])
    assert (batch.all.at.tolist(), batch.all.targets.tolist()) == ([9, 6, 7], [1, 1, 2])
    assert batch.lengths == (2, 3) and batch.to(torch.device("cpu")) is batch
    assert packing.padded([[1], [2, 3, 4], []], 7).tolist() == [[1, 7, 7], [2, 3, 4], [7, 7, 7]]


def test_what_fills_the_padding_changes_nothing():
    net, rows, seen = model("qwen2"), sorted(packs()[:8], key=lambda row: len(row.ids)), []
    with torch.no_grad():
        for beside, padding in (([], 0), ([], 5), (rows[-1:], tokenizer().pad_token_id)):
            batch = packing.collate(rows[:-1] + beside)
            batch.ids[~batch.real] = padding
            here = batch.answers.at < len(rows[:-1]) * batch.ids.shape[1]
            seen.append(parts.hidden_states(net, batch).flatten(0, 1)[batch.answers.at[here]])
    assert len(rows[-1].ids) > len(rows[-2].ids) and not torch.equal(
        batch.real, torch.ones_like(batch.real)
    )
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
            positions = [
                position
                for position, branch in zip(row.positions, row.branches, strict=True)
                if branch == number
            ]
            assert positions == list(range(len(prompt.prefix), len(prompt.prefix) + len(positions)))


def test_a_schedule_goes_over_everything_once_an_epoch_and_depends_on_its_seed():
    lengths = [7, 3, 9, 1, 4, 8, 2, 6]
    batches = packing.schedule(lengths, size=2, steps=8, seed=1)
    for epoch in (batches[:4], batches[4:]):
        assert sorted(i for batch in epoch for i in batch) == list(range(8))
    assert batches == packing.schedule(lengths, size=2, steps=8, seed=1)
    assert batches != packing.schedule(lengths, size=2, steps=8, seed=2)
    assert batches[:3] == packing.schedule(lengths, size=2, steps=3, seed=1), (
        "a longer training begins like a shorter one"
    )


@pytest.mark.parametrize("window", [1, 2, 3, 16])
def test_an_epoch_goes_through_all_windows(window):
    batches = packing.schedule(range(20), size=2, steps=10, seed=0, window=window)
    assert sorted(index for batch in batches for index in batch) == list(range(20))


def test_rows_are_sorted_within_sixteen_batches_and_no_further():
    for batches, sorted_through in ((16, True), (17, False)):
        schedule = packing.schedule(range(4 * batches), size=4, steps=batches, seed=0)
        assert all(max(batch) - min(batch) == 3 for batch in schedule) == sorted_through


def test_rows_of_one_length_keep_to_their_order_within_a_window():
    for batch in packing.schedule([5] * 12, size=4, steps=3, seed=3):
        assert batch == list(range(batch[0], batch[0] + 4))


def test_a_batch_is_no_larger_than_what_there_is():
    assert [sorted(batch) for batch in packing.schedule([3, 1, 2], size=8, steps=2, seed=0)] == [
        [0, 1, 2],
        [0, 1, 2],
    ]


def test_batches_do_not_come_in_the_order_of_their_lengths():
    """Nor twice in the same: an epoch's ten batches, each of rows of about one length, are shuffled
    anew."""
    epochs = [
        packing.schedule(range(40), size=4, steps=20, seed=0)[part]
        for part in (slice(10), slice(10, 20))
    ]
    orders = [[batch[0] for batch in epoch] for epoch in epochs]
    assert (
        sorted(orders[0]) == sorted(orders[1])
        and orders[0] != orders[1]
        and sorted(orders[0]) not in orders
    )


def test_batches_are_alike_in_length():
    lengths = np.random.default_rng(0).permutation(100)
    for batch in packing.schedule(lengths, size=4, steps=25, seed=0, window=25):
        assert max(lengths[batch]) - min(lengths[batch]) == 3


def test_what_fills_no_batch_is_left_out_by_chance_and_not_by_length():
    """Ten rows in batches of four: two are left out of each epoch, the longest no more often than
    the shortest."""
    left_out = np.zeros(10)
    for seed in range(400):
        first, second = (
            packing.schedule(range(10), size=4, steps=4, seed=seed)[part]
            for part in (slice(2), slice(2, 4))
        )
        for epoch in (first, second):
            seen = {i for batch in epoch for i in batch}
            assert len(seen) == 8
            left_out[[i for i in range(10) if i not in seen]] += 1
    np.testing.assert_allclose(left_out / 800, 0.2, atol=0.06)  # four standard errors


def test_a_row_with_some_of_its_branches_is_the_row_of_these_questions():
    prompt = next(prompt for prompt in built() if len(prompt.branches) > 2)
    row, chosen = packing.pack(prompt), [0, 2]
    expected = packing.pack(replace(prompt, branches=[prompt.branches[n] for n in chosen]))
    assert packing.select(row, chosen) == expected
    assert packing.select(row, range(len(row.asked))) == row


def test_a_context_alone_asks_nothing_and_learns_its_own_tokens():
    row = packs()[0]
    context = packing.select(row, ())
    prefix = row.branches.count(0)
    assert context.ids == row.ids[:prefix] and context.asked == ()
    assert context.all.targets == context.ids[1:]
    batch = packing.collate([context, context])
    assert batch.answers.at.shape == (0,)
    assert batch.answers.at.dtype == batch.answers.targets.dtype == torch.long
