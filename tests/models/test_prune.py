"""Cutting, layer choice and reconstruction."""

import pytest
import torch
from miniatures import FAMILIES, model, packs, tokenizer

from studylib.core.errors import StudyError
from studylib.data import packing
from studylib.methods import features, objective
from studylib.models import loading, parts, prune, reconstruct
from studylib.models.precision import products_in

VOCABULARY = len(tokenizer())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_model_computes_only_the_blocks_that_were_kept(family):
    net, batch = model(family), packing.collate(packs()[:4])
    student = prune.cut(net, [0, 2])
    with torch.no_grad():
        # The uncut model gives the same when the other blocks pass their input on.
        for gone in (1, 3):
            layer = parts.layers(net)[gone]
            layer.forward = lambda hidden, *_, **__: hidden
        expected, states = parts.hidden_states(net, batch), parts.hidden_states(student, batch)
    torch.testing.assert_close(states[batch.real], expected[batch.real])
    assert student.config.num_hidden_layers == 2 and len(parts.layers(student)) == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_cutting_leaves_the_teacher_as_it_was(family):
    net = model(family)
    before = {name: p.clone() for name, p in net.named_parameters()}
    student = prune.cut(net, [1, 3])
    with torch.no_grad():
        for p in student.parameters():
            p.zero_()
    assert net.config.num_hidden_layers == 4 and len(parts.layers(net)) == 4
    assert all(torch.equal(before[name], p) for name, p in net.named_parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_model_is_saved_and_loaded_and_generates(tmp_path, family):
    student = prune.cut(model(family), [0, 1, 3])
    loading.save(student, tokenizer(), tmp_path)
    loaded, words = loading.load_folder(tmp_path)
    ids = torch.tensor([packs()[0].ids[:20]])
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, student(input_ids=ids).logits)
    generated = loaded.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=4,
        do_sample=False,
        pad_token_id=words.pad_token_id,
    )
    assert generated.shape[1] <= 24
    assert loading.vocabulary_digest(words) == loading.vocabulary_digest(tokenizer())


@pytest.mark.parametrize("keep", [[], [1, 0], [0, 0], [0, 4], [-1]])
def test_what_is_no_selection_of_layers_is_refused(keep):
    with pytest.raises(StudyError, match="no rising selection"):
        prune.cut(model("llama"), keep)


def inner_states(net, batch):
    """What enters each block, and the last block's output, by plain hooks."""
    seen = []
    hooks = [
        block.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        for block in parts.layers(net)
    ]
    hooks.append(
        parts.final_norm(net).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    )
    with torch.no_grad():
        parts.hidden_states(net, batch)
    for hook in hooks:
        hook.remove()
    return seen


def gap(student, net, batch):
    """Mean |s − t|² / |t|² per token of what leaves the last block."""
    states, targets = (
        inner_states(student, batch)[-1][batch.real],
        inner_states(net, batch)[-1][batch.real],
    )
    return features.hidden_mse(states, targets).mean().item()


def reconstructed(net, keep, batches):
    student = prune.cut(net, keep)
    reconstruct.blocks(student, net, keep, batches, report=lambda *_: None)
    return student


def test_ridge_is_least_squares_with_rows_for_the_penalty():
    x, y = torch.randn(50, 6), torch.randn(50, 3)
    penalty = (reconstruct.RIDGE * (x.T @ x).diagonal().mean()) ** 0.5
    expected = torch.linalg.lstsq(
        torch.cat([x, penalty * torch.eye(6)]), torch.cat([y, torch.zeros(6, 3)])
    ).solution
    solution, curvature, left = reconstruct.ridge([(x[:20], y[:20]), (x[20:], y[20:])])
    torch.testing.assert_close(solution, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        curvature.float(), x.T @ x + penalty**2 * torch.eye(6), rtol=1e-4, atol=1e-4
    )
    assert left == pytest.approx((y - x @ expected).square().sum(-1).mean().item(), rel=1e-4)


@pytest.mark.parametrize("count", [6, 5, 3, 1])
def test_surgery_takes_out_what_a_search_over_single_inputs_would(monkeypatch, count):
    """One at a time, each time trying every input and solving anew: the same inputs stay, with the
    same weights."""
    monkeypatch.setattr(prune, "GROUP", 1)
    x, y = (
        torch.randn(60, width, generator=torch.Generator().manual_seed(width), dtype=torch.float64)
        for width in (6, 3)
    )
    curvature = x.T @ x + 0.1 * torch.eye(6)
    cross = x.T @ y
    weights = torch.linalg.solve(curvature, cross)

    def least(inputs):
        """The loss at its least with these inputs only, and where that is."""
        solved = torch.linalg.solve(curvature[inputs][:, inputs], cross[inputs])
        return -(solved * cross[inputs]).sum().item(), solved

    stays = list(range(6))
    while len(stays) > count:
        stays.remove(
            min(
                stays,
                key=lambda candidate: least([other for other in stays if other != candidate])[0],
            )
        )
    kept, solution = prune.surgery(weights.float(), curvature, count)
    assert kept.tolist() == stays
    torch.testing.assert_close(solution, least(stays)[1].float(), rtol=1e-4, atol=1e-5)


def test_surgery_is_the_same_within_autocast():
    x = torch.randn(200, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights, curvature = torch.randn(24, 5, generator=torch.Generator().manual_seed(1)), x.T @ x
    expected = prune.surgery(weights, curvature, 9)
    with torch.autocast("cpu", torch.bfloat16):
        result = prune.surgery(weights, curvature, 9)
    assert all(torch.equal(a, b) for a, b in zip(result, expected, strict=True))


def test_more_neurons_than_there_are_are_refused():
    with pytest.raises(StudyError, match="7 neurons are more than the 6"):
        prune.surgery(torch.randn(6, 3), torch.eye(6).double(), 7)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_narrower_student_keeps_what_its_neurons_can_give_and_is_saved_whole(tmp_path, family):
    net, rows = model(family), packs()
    seen, unseen = (
        [packing.collate(rows[i : i + 2]) for i in range(0, len(rows) - 4, 2)],
        packing.collate(rows[-4:]),
    )
    gaps = {}
    for neurons in (48, 36, 12):
        student = prune.cut(net, [0, 1, 3])
        reconstruct.blocks(student, net, [0, 1, 3], seen, neurons=neurons, report=lambda *_: None)
        gaps[neurons] = gap(student, net, unseen)
        loading.save(student, tokenizer(), tmp_path / str(neurons))
        again = loading.load_folder(tmp_path / str(neurons))[0]
        assert parts.parameters(again) == parts.parameters(student)
        assert again.config.intermediate_size == neurons
        assert gap(again, net, unseen) == pytest.approx(gaps[neurons], rel=1e-5)
    assert gaps[48] == pytest.approx(
        gap(reconstructed(net, [0, 1, 3], seen), net, unseen), rel=1e-4
    )
    assert gaps[48] < gaps[36] < gaps[12]


def test_the_chosen_neurons_do_better_than_as_many_others(monkeypatch):
    net, rows = model("llama"), packs()
    seen, unseen = (
        [packing.collate(rows[i : i + 2]) for i in range(0, len(rows) - 4, 2)],
        packing.collate(rows[-4:]),
    )

    def first(weights, curvature, count):
        kept, lost = slice(count), slice(count, None)
        moved = torch.linalg.solve(
            curvature[kept, kept], curvature[kept, lost] @ weights[lost].double()
        )
        return torch.arange(count), (weights[kept].double() + moved).float()

    gaps = []
    for choose in (prune.surgery, first):
        monkeypatch.setattr(reconstruct, "surgery", choose)
        student = prune.cut(net, [0, 1, 3])
        reconstruct.blocks(student, net, [0, 1, 3], seen, neurons=24, report=lambda *_: None)
        gaps.append(gap(student, net, unseen))
    assert gaps[0] < 0.9 * gaps[1]


def masked_loss(net, batch, masks):
    """The mean loss of a batch's answers with these masks on what neurons give, by hooks of their
    own."""
    hooks = [
        prune.writers(block)[1].register_forward_pre_hook(lambda _, args, mask=mask: args[0] * mask)
        for block, mask in zip(parts.layers(net), masks, strict=True)
    ]
    states = parts.hidden_states(net, batch).flatten(0, 1)[batch.answers.at]
    for hook in hooks:
        hook.remove()
    logits = parts.head(net, states, VOCABULARY)
    return objective.cross_entropy(logits, batch.answers.targets).mean()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_neurons_importance_is_how_far_the_loss_moves_with_its_mask(family):
    """Against differences, whose sizes are averaged over batches, whatever their signs."""
    net, rows = model(family), packs()
    batches = [packing.collate(rows[:3]), packing.collate(rows[7:9])]
    importance = prune.neuron_importance(
        net, batches, objective.cross_entropy, vocabulary=VOCABULARY
    )
    assert [tuple(scores.shape) for scores in importance] == [(48,)] * 4
    for block, neuron in ((0, 5), (2, 0), (3, 47)):
        slopes = []
        for batch in batches:
            losses = []
            for change in (0.05, -0.05):
                masks = torch.ones(4, 48)
                masks[block, neuron] += change
                with torch.no_grad():
                    losses.append(masked_loss(net, batch, masks).item())
            slopes.append(abs(losses[0] - losses[1]) / 0.1)
        expected = sum(slopes) / len(slopes)
        assert importance[block][neuron].item() == pytest.approx(expected, rel=2e-2, abs=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_importance_leaves_the_model_as_it_was(family):
    net, batch = model(family), packing.collate(packs()[:2])
    with torch.no_grad():
        before = parts.hidden_states(net, batch)
    scores = prune.neuron_importance(net, [batch], objective.cross_entropy, vocabulary=VOCABULARY)
    assert all((block >= 0).all() and block.any() for block in scores)
    assert all(weight.grad is None for weight in net.parameters())
    with torch.no_grad():
        assert torch.equal(parts.hidden_states(net, batch), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_neurons_of_most_importance_stay_and_make_good_for_the_others(family):
    """What they read stays as it was; what they write is the best that they can."""
    net, keep = model(family), [0, 1, 3]
    batches = [packing.collate(packs()[i : i + 2]) for i in range(0, 12, 2)]
    importance = [torch.rand(48, generator=torch.Generator().manual_seed(n)) for n in keep]
    student = prune.cut(net, keep)
    reconstruct.blocks(
        student, net, keep, batches, neurons=20, importance=importance, report=lambda *_: None
    )
    for number, block, scores in zip(keep, parts.layers(student), importance, strict=True):
        chosen = sorted(range(48), key=lambda neuron: -scores[neuron])[:20]
        for name, part in block.mlp.named_children():
            if isinstance(part, torch.nn.Linear) and part is not prune.writers(block)[1]:
                whole = getattr(parts.layers(net)[number].mlp, name)
                assert torch.equal(part.weight, whole.weight[sorted(chosen)])
    plain = prune.cut(net, keep)
    reconstruct.blocks(plain, net, keep, batches, report=lambda *_: None)
    for block, scores in zip(parts.layers(plain), importance, strict=True):
        kept = scores.topk(20).indices.sort().values
        prune.narrow(block, kept, prune.writers(block)[1].weight.detach().T[kept].contiguous())
    unseen = packing.collate(packs()[-3:])
    assert gap(student, net, unseen) < gap(plain, net, unseen)


@pytest.mark.parametrize("count", [1, 4, 6])
def test_what_stays_is_moved_to_where_the_loss_is_least(count):
    """As solving anew with the inputs that stay."""
    generator = torch.Generator().manual_seed(3)
    x, y = (torch.randn(60, width, generator=generator).double() for width in (6, 3))
    curvature, cross = x.T @ x + 0.1 * torch.eye(6), x.T @ y
    weights = torch.linalg.solve(curvature, cross)
    kept = torch.tensor([0, 2, 3, 5, 1, 4])[:count].sort().values
    expected = torch.linalg.solve(curvature[kept][:, kept], cross[kept])
    moved = prune.refitted(weights.float(), curvature, kept)
    torch.testing.assert_close(moved, expected.float(), rtol=1e-4, atol=1e-5)


def gap_regression(net, student, place, following, maps, batch):
    """The ridge solution for what `maps` of the student's block `place` read, by hooks on whole
    models."""
    read = []
    hooks = [
        linear.register_forward_pre_hook(lambda _, args: read.append(args[0][batch.real]))
        for linear in maps
    ]
    state = inner_states(student, batch)[place + 1][batch.real]
    for hook in hooks:
        hook.remove()
    target = inner_states(net, batch)[following][batch.real]
    size = target.norm(dim=-1, keepdim=True)
    return reconstruct.ridge([(torch.cat(read, -1) / size, (target - state) / size)])[0].T


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_are_moved_by_the_ridge_solutions(family):
    """Against states of whole models; the block before the gap stays as it was, to the bit."""
    net, batch, keep = model(family), packing.collate(packs()[:6]), [0, 1, 3]
    student, expected = reconstructed(net, keep, [batch]), prune.cut(net, keep)
    attention, forward = prune.writers(parts.layers(expected)[1])
    with torch.no_grad():
        attention.weight += gap_regression(net, expected, 1, 3, (attention, forward), batch)[
            :, : attention.in_features
        ]
        forward.weight += gap_regression(net, expected, 1, 3, (forward,), batch)
        last = prune.writers(parts.layers(expected)[2])[1]
        last.weight += gap_regression(net, expected, 2, 4, (last,), batch)
    for (name, weight), reference in zip(
        student.named_parameters(), expected.parameters(), strict=True
    ):
        torch.testing.assert_close(weight, reference, rtol=1e-2, atol=1e-3, msg=name)
    for (name, before), after in zip(
        parts.layers(net)[0].named_parameters(), parts.layers(student)[0].parameters(), strict=True
    ):
        assert torch.equal(before, after), name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("keep", [[0, 3], [1, 2], [0, 1, 2]])
def test_reconstruction_closes_a_part_of_the_gap_on_rows_it_has_not_seen(family, keep):
    net, rows = model(family), packs()
    seen, unseen = (
        [packing.collate(rows[i : i + 2]) for i in range(0, len(rows) - 4, 2)],
        packing.collate(rows[-4:]),
    )
    before = {name: p.clone() for name, p in net.named_parameters()}
    student = reconstructed(net, keep, seen)
    assert gap(student, net, unseen) < 0.9 * gap(prune.cut(net, keep), net, unseen)
    assert parts.parameters(student) == parts.parameters(prune.cut(net, keep))
    assert all(torch.equal(before[name], p) for name, p in net.named_parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_reconstruction_in_bf16_is_like_fp32(family):
    """Autocast keeps casts of the weights that reconstruction changes."""
    net, batches = model(family), [packing.collate(packs()[i : i + 3]) for i in range(0, 12, 3)]
    plain = reconstructed(net, [0, 3], batches)
    with products_in(net, "bf16"):
        cast = reconstructed(net, [0, 3], batches)
    for (name, a), b in zip(plain.named_parameters(), cast.parameters(), strict=True):
        assert (a - b).norm() <= 0.05 * a.norm(), name


def test_a_kept_block_is_read_by_the_next_one_kept():
    assert prune.readers([0, 2, 3], model("llama")) == [2, 3, 4]
    assert prune.readers([1], model("llama")) == [4]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("trained", [False, True])
def test_what_is_reported_is_the_gap_that_is_left(family, trained):
    """On the student's own stream, from its embeddings on, which a student that was trained before
    has changed."""
    net, batch, left = model(family), packing.collate(packs()[:6]), []
    student = prune.cut(net, [0, 3])
    if trained:
        words = student.get_input_embeddings().weight
        with torch.no_grad():
            words += (
                0.3
                * words.std()
                * torch.randn(words.shape, generator=torch.Generator().manual_seed(0))
            )
    reconstruct.blocks(student, net, [0, 3], [batch], report=lambda _, gap: left.append(gap))
    assert left[-1] == pytest.approx(gap(student, net, batch), rel=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_where_nothing_is_missing_nothing_is_moved(family):
    """A block that writes nothing into the stream leaves no gap."""
    net, batch = model(family), packing.collate(packs()[:4])
    with torch.no_grad():
        for name, p in parts.layers(net)[2].named_parameters():
            if any(
                part in name for part in ("o_proj", "down_proj", "attention.dense", "dense_4h_to_h")
            ):
                p.zero_()
    for p, q in zip(
        prune.cut(net, [0, 1, 3]).parameters(),
        reconstructed(net, [0, 1, 3], [batch]).parameters(),
        strict=True,
    ):
        assert torch.equal(p, q)


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_go_in_the_order_of_a_plain_greedy_search(family):
    net, batch = model(family, padding=37), packing.collate(packs()[:5])

    def loss_with(keep):
        with torch.no_grad():
            hidden = parts.hidden_states(prune.cut(net, keep), batch).flatten(0, 1)[
                batch.answers.at
            ]
        return (
            objective.cross_entropy(parts.head(net, hidden, VOCABULARY), batch.answers.targets)
            .mean()
            .item()
        )

    kept, expected = [0, 1, 2, 3], []
    for _ in range(3):
        tried = {block: loss_with([other for other in kept if other != block]) for block in kept}
        block = min(kept, key=tried.get)
        expected.append((block, pytest.approx(tried[block], rel=1e-4)))
        kept.remove(block)
    seen = []
    how = dict(count=3, vocabulary=VOCABULARY, report=lambda order: seen.append(list(order)))
    removed = prune.removal_order(net, batch, objective.cross_entropy, **how)
    assert removed == expected and seen == [removed[:1], removed[:2], removed]
    assert (
        prune.removal_order(
            net,
            batch,
            objective.cross_entropy,
            begun=[list(removal) for removal in removed[:1]],
            **how,
        )
        == removed
    ), "goes on"
