"""Students pruned in depth and width: which layers and neurons can go.

order = removal_order(model, batch, objective.cross_entropy, count=10,
vocabulary=vocabulary.size(tokenizer), report=print) student = cut(model, sorted(set(range(30)) -
{block for block, _ in order}))
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from studylib.core.errors import StudyError
from studylib.core.libraries import torch, transformers, without_gradients
from studylib.data.packing import Batch
from studylib.models.parts import final_norm, head, hidden_states, layers

Criterion = Literal["reconstruction", "gradient"]  # by which neurons are chosen
GROUP = 8  # neurons taken out at a time: fewer at a time take longer


def check_size(
    config: transformers.PretrainedConfig,
    depth: int,
    neurons: int | None,
    label: str,
) -> None:
    """Raise StudyError if a model of this configuration cannot be cut to so many layers and
    neurons."""
    for requested, available, part in (
        (depth, config.num_hidden_layers, "layers"),
        (neurons or 0, config.intermediate_size, "neurons a layer"),
    ):
        if requested > available:
            raise StudyError(f"{label}: the model has {available} {part} only: lower its size.")


def hollow(
    config: transformers.PretrainedConfig,
    depth: int,
    neurons: int | None,
    tokens: int | None = None,
    device: str | torch.device = "meta",
) -> transformers.PreTrainedModel:
    """A model of this configuration with so many layers, neurons and tokens, unless told otherwise
    without its weights."""

    smaller = copy.deepcopy(config)
    smaller.num_hidden_layers = depth
    smaller.intermediate_size = neurons or config.intermediate_size
    if tokens:
        smaller.vocab_size, smaller.pad_token_id = tokens, None  # which may be none of these
    if getattr(smaller, "layer_types", None):
        smaller.layer_types = smaller.layer_types[:depth]
    with torch.device(device):
        return transformers.AutoModelForCausalLM.from_config(smaller, dtype=torch.float32)


def cut(model: transformers.PreTrainedModel, keep: Iterable[int]) -> transformers.PreTrainedModel:
    """A copy of `model` with only the blocks `keep` (indices), in their order.

    Raises StudyError unless `keep` is a rising selection of the model's blocks.
    """
    keep, depth = list(keep), len(layers(model))
    if not keep or keep != sorted(set(keep)) or keep[0] < 0 or keep[-1] >= depth:
        raise StudyError(f"layers {keep} are no rising selection of 0 to {depth - 1}.")
    student = copy.deepcopy(model)
    blocks = torch.nn.ModuleList(layers(student)[i] for i in keep)
    for number, block in enumerate(blocks):
        module: Any
        for module in block.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = number
    student.base_model.layers = blocks
    student.config.num_hidden_layers = len(keep)
    if getattr(student.config, "layer_types", None):
        student.config.layer_types = [student.config.layer_types[i] for i in keep]
    return student


@without_gradients()
def removal_order(
    model: transformers.PreTrainedModel,
    batch: Batch,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    count: int,
    vocabulary: int,
    begun: Iterable[Sequence] = (),
    report: Callable[[list[tuple[int, float]]], None],
) -> list[tuple[int, float]]:
    """Which `count` blocks to take out, one after the other: always the one whose loss of answers
    is least.

    Returns (block, mean answer loss in nats without it and all before it), and goes on from those
    that were found before, `begun`; `report` is given those found so far. `loss` takes logits (N,
    vocabulary) and targets (N,) and gives (N,). Blocks before the one tried are computed once and
    shared by all tries.
    """
    batch = batch.to(model.device)
    walk, order = Walk(model, batch), [(block, value) for block, value in begun]
    kept = [block for block in range(len(layers(model))) if block not in dict(order)]
    for _ in range(count - len(order)):
        losses, hidden = {}, walk.start
        for place, block in enumerate(kept):
            tried = hidden
            for later in kept[place + 1 :]:
                tried = walk.through(layers(model)[later], tried, later)
            logits = head(
                model, final_norm(model)(tried).flatten(0, 1)[batch.answers.at], vocabulary
            )
            losses[block] = loss(logits, batch.answers.targets).mean().item()
            hidden = walk.through(layers(model)[block], hidden, block)
        least = min(kept, key=losses.__getitem__)
        kept.remove(least)
        order.append((least, losses[least]))
        report(order)
    return order


def readers(keep: Sequence[int], model: transformers.PreTrainedModel) -> list[int]:
    """For each kept block, the block that read its output, or that of the blocks missing after it:
    the next one kept.

    After the last it is the number of blocks, the final norm's place.
    """
    return [*keep[1:], len(layers(model))]


def surgery(
    weights: torch.Tensor, curvature: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which `count` of a linear map's inputs stay, and the map from them: (count,) indices and
    (count, d) weights.

    `weights` (n, d) are at the least of a quadratic loss with this curvature (n, n). Inputs go
    GROUP at a time, those whose loss without them rises least, |w_j|² / [H⁻¹]_jj, and the others
    are moved to where it is least again.

    After the optimal brain surgeon (Hassibi and Stork, 1993) and its use on whole neurons in ZipLM
    (Kurtic et al., 2023), both from memory. Raises StudyError for a count of more inputs than there
    are.
    """
    if count > len(weights):
        raise StudyError(f"{count} neurons are more than the {len(weights)} that a layer has.")
    inverse, moved = torch.linalg.inv(curvature).float(), weights.float().clone()
    stays = torch.ones(len(weights), dtype=torch.bool, device=weights.device)
    with torch.autocast(weights.device.type, enabled=False):
        while (surplus := int(stays.sum()) - count) > 0:
            harm = (moved.square().sum(-1) / inverse.diagonal()).masked_fill(~stays, torch.inf)
            gone = harm.topk(min(GROUP, surplus), largest=False).indices
            stays[gone] = False
            share = inverse[:, gone] @ torch.linalg.inv(inverse[gone][:, gone])
            moved -= share @ moved[gone]
            inverse -= share @ inverse[gone]
            inverse.diagonal()[~stays] = 1.0  # of what is gone nothing is left but rounding
    kept = stays.nonzero().flatten()
    return kept, refitted(weights, curvature, kept)


def refitted(weights: torch.Tensor, curvature: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """The map (count, d) from the inputs `kept` (count,), indices that rise, with which a quadratic
    loss is least. `weights` (n, d) are at its least with all inputs, its curvature is (n, n)."""
    stays = torch.zeros(len(weights), dtype=torch.bool, device=weights.device)
    stays[kept] = True
    lost = (~stays).nonzero().flatten()
    solved = torch.cholesky_solve(
        curvature[kept][:, lost] @ weights[lost].double(),
        torch.linalg.cholesky(curvature[kept][:, kept]),
    )
    return (weights[kept].double() + solved).float()


def neuron_importance(
    model: transformers.PreTrainedModel,
    batches: Sequence[Batch],
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    vocabulary: int,
) -> list[torch.Tensor]:
    """How much answers depend on the neurons (n,) of each block's feed-forward part: the mean over
    batches of |∂L/∂m|, where L is a batch's mean loss of answer tokens and m a mask of ones on
    what the neurons give.

    To first order that is how far L moves when a neuron goes. `loss` takes logits (N, vocabulary)
    and targets (N,) and gives (N,), in nats. After GeneZC/MiniMA
    (minima/run_sparsification_llama.py), which masks heads and hidden dimensions, too.
    """
    maps = [writers(block)[1] for block in layers(model)]
    masks = [torch.ones(linear.in_features, device=model.device) for linear in maps]
    hooks = [
        linear.register_forward_pre_hook(lambda _, args, mask=mask: args[0] * mask)
        for linear, mask in zip(maps, masks, strict=True)
    ]
    importance = [torch.zeros_like(mask) for mask in masks]
    for mask in masks:
        mask.requires_grad_()
    for batch in batches:
        batch = batch.to(model.device)
        hidden = hidden_states(model, batch).flatten(0, 1)[batch.answers.at]
        mean = loss(head(model, hidden, vocabulary), batch.answers.targets).mean()
        for total, slope in zip(importance, torch.autograd.grad(mean, masks), strict=True):
            total += slope.abs() / len(batches)
    for hook in hooks:
        hook.remove()
    return importance


def narrow(block: Any, kept: torch.Tensor, weights: torch.Tensor) -> None:
    """Leave these neurons (n,) in a block's feed-forward part, writing by `weights` (n, d)."""
    _, forward = writers(block)
    for reading in (
        module
        for module in block.mlp.children()
        if isinstance(module, torch.nn.Linear) and module is not forward
    ):
        reading.weight, reading.out_features = (
            torch.nn.Parameter(reading.weight[kept].clone()),
            len(kept),
        )
        if reading.bias is not None:
            reading.bias = torch.nn.Parameter(reading.bias[kept].clone())
    forward.weight, forward.in_features = torch.nn.Parameter(weights.T.contiguous()), len(kept)


def writers(block: Any) -> tuple[torch.nn.Linear, torch.nn.Linear]:
    """The linear maps by which a block's attention and its feed-forward part write into the
    stream."""
    if hasattr(block, "attention"):
        return block.attention.dense, block.mlp.dense_4h_to_h
    return block.self_attn.o_proj, block.mlp.down_proj


class Walk:
    """Takes hidden states (B, T, d) through single blocks, with the arguments the model itself
    passes on one batch."""

    def __init__(self, model: transformers.PreTrainedModel, batch: Batch):
        self.start: torch.Tensor
        self.calls: list[tuple[tuple, dict]] = []
        blocks = layers(model)
        for block in blocks:
            block.forward = (
                self._note
            )  # stands in for the blocks, so that nothing is computed but their arguments
        try:
            model.base_model(
                input_ids=batch.ids,
                position_ids=batch.positions,
                attention_mask=batch.mask,
                use_cache=False,
            )
        finally:
            for block in blocks:
                del block.forward

    def _note(self, hidden: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        self.start = hidden
        self.calls.append((args, kwargs))
        return hidden

    def through(self, block: torch.nn.Module, hidden: torch.Tensor, number: int) -> torch.Tensor:
        """The output of `block`, called as the model's block `number` is."""
        args, kwargs = self.calls[number]
        return block(hidden, *args, **kwargs)
