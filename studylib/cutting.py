"""Students cut in depth: which layers can go, and how the rest makes good for them.

order = removal_order(model, batch, objectives.cross_entropy, count=10, vocabulary=len(tokenizer), report=print)
keep = sorted(set(range(30)) - {block for block, _ in order})
student = cut(model, keep)
heal(student, model, keep, batches, report=print)
"""

import copy
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from studylib.errors import StudyError
from studylib.models import final_norm, head, layers
from studylib.packing import Batch

RECIPE = 1
RIDGE = 0.05  # SmolLM2 cut to 20 layers, 64 contexts: a KL of 0.25 to the teacher with 0.1, of 0.31 with 0.01


def cut(model: PreTrainedModel, keep: Iterable[int]) -> PreTrainedModel:
    """A copy of `model` with only the blocks `keep` (indices), in their order.

    Raises StudyError unless `keep` is a rising selection of the model's blocks.
    """
    keep, depth = list(keep), len(layers(model))
    if not keep or keep != sorted(set(keep)) or keep[0] < 0 or keep[-1] >= depth:
        raise StudyError(f"layers {keep} are no rising selection of 0 to {depth - 1}.")
    student = copy.deepcopy(model)
    blocks = nn.ModuleList(layers(student)[i] for i in keep)
    for number, block in enumerate(blocks):
        for module in block.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = number
    student.base_model.layers = blocks
    student.config.num_hidden_layers = len(keep)
    if getattr(student.config, "layer_types", None):
        student.config.layer_types = [student.config.layer_types[i] for i in keep]
    return student


@torch.no_grad()
def removal_order(
    model: PreTrainedModel,
    batch: Batch,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    count: int,
    vocabulary: int,
    report: Callable[[int, float], None],
) -> list[tuple[int, float]]:
    """Which `count` blocks to take out, one after the other: always the one whose loss of answers is least.

    Returns (block, mean answer loss in nats without it and all before it). `loss` takes logits (N, vocabulary) and
    targets (N,) and gives (N,). Blocks before the one tried are computed once and shared by all tries.
    """
    walk, order, kept = _Walk(model, batch), [], list(range(len(layers(model))))
    for _ in range(count):
        losses, hidden = {}, walk.start
        for place, block in enumerate(kept):
            tried = hidden
            for later in kept[place + 1 :]:
                tried = walk.through(layers(model)[later], tried, later)
            logits = head(model, final_norm(model)(tried).flatten(0, 1)[batch.at], vocabulary)
            losses[block] = loss(logits, batch.targets).mean().item()
            hidden = walk.through(layers(model)[block], hidden, block)
        least = min(kept, key=losses.__getitem__)
        kept.remove(least)
        order.append((least, losses[least]))
        report(len(order), losses[least])
    return order


def readers(keep: Sequence[int], model: PreTrainedModel) -> list[int]:
    """For each kept block, the block that read its output, or that of the blocks missing after it: the next one kept.

    After the last it is the number of blocks, the final norm's place.
    """
    return [*keep[1:], len(layers(model))]


@torch.no_grad()
def heal(
    student: PreTrainedModel,
    model: PreTrainedModel,
    keep: Sequence[int],
    batches: Sequence[Batch],
    *,
    report: Callable[[int, float], None],
) -> None:
    """Fit `student` (`model` cut to `keep`) to the hidden states of `model`, in closed form and in place.

    Block after block on the student's own stream: the linear map by which the feed-forward part writes is moved by the
    ridge regression that brings the block's output nearest to what the next kept block was used to read; where blocks
    are missing in between, first the map by which attention writes, in a regression on what both maps read. Tokens
    weigh by 1 / |their hidden state|², as in `objectives.hidden_mse`. Needs no labels and adds no parameters.
    `report` is given the number of blocks done and the mean squared gap that the last one's final map had to close.

    After ReplaceMe (Shopkhoev et al., 2025, arXiv:2505.02819), which fits one linear map per contiguous gap and merges it
    into the feed-forward map before it; here every block from the first gap on is fitted anew, errors before it included.
    """
    walks = [_Walk(model, batch) for batch in batches]
    streams = [walk.start for walk in walks]
    wanted, reached = streams, 0
    for place, (block, number, reader) in enumerate(zip(layers(student), keep, readers(keep, model), strict=True)):
        for passed in range(reached, reader):
            wanted = [walk.through(layers(model)[passed], hidden, passed) for walk, hidden in zip(walks, wanted, strict=True)]
        reached, rows = reader, list(zip(walks, streams, wanted, batches, strict=True))
        attention, forward = _writers(block)
        if reader > number + 1:
            moved, _ = ridge(_gap(block, number, (attention, forward), *row) for row in rows)
            attention.weight += moved[: attention.in_features].T
            torch.clear_autocast_cache()  # or autocast goes on with the weights as they were
        moved, left = ridge(_gap(block, number, (forward,), *row) for row in rows)
        forward.weight += moved.T
        torch.clear_autocast_cache()
        streams = [walk.through(block, stream, number) for walk, stream in zip(walks, streams, strict=True)]
        report(place + 1, left)


def ridge(pairs: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, float]:
    """The D (n, d) of least Σ |y − x D|² + λ |D|² over pairs x (M, n) and y (M, d), and the mean |y − x D|² it leaves.

    λ is RIDGE times the mean |x_i|² of a column. The sums are in float32 whatever autocast says, the rest in float64.
    """
    gram = cross = size = rows = 0
    for x, y in pairs:
        with torch.autocast(x.device.type, enabled=False):
            x, y = x.float(), y.float()
            gram, cross, size, rows = gram + x.T @ x, cross + x.T @ y, size + y.square().sum().item(), rows + len(x)
    gram, cross = gram.double(), cross.double()
    penalised = gram + torch.eye(len(gram), dtype=gram.dtype) * (RIDGE * gram.diagonal().mean() + torch.finfo(torch.float32).tiny)
    found = torch.cholesky_solve(cross, torch.linalg.cholesky(penalised))
    left = size - 2 * (found * cross).sum().item() + (found * (gram @ found)).sum().item()
    return found.float(), max(0.0, left) / rows


def _writers(block: nn.Module) -> tuple[nn.Linear, nn.Linear]:
    """The linear maps by which a block's attention and its feed-forward part write into the stream."""
    if hasattr(block, "attention"):
        return block.attention.dense, block.mlp.dense_4h_to_h
    return block.self_attn.o_proj, block.mlp.down_proj


def _gap(
    block: nn.Module, number: int, maps: Sequence[nn.Linear], walk: "_Walk", stream: Tensor, target: Tensor, batch: Batch
) -> tuple[Tensor, Tensor]:
    """What `maps` of `block` read (M, n) and what its output lacks (M, d), for all tokens, over the size of what is wanted."""
    read: list[Tensor] = []
    hooks = [one.register_forward_pre_hook(lambda _, args: read.append(args[0][batch.real])) for one in maps]
    lacking = (target - walk.through(block, stream, number))[batch.real]
    for hook in hooks:
        hook.remove()
    size = target[batch.real].norm(dim=-1, keepdim=True).clamp_min(1e-3)
    return torch.cat(read, -1) / size, lacking / size


class _Walk:
    """Takes hidden states (B, T, d) through single blocks, with the arguments the model itself passes on one batch."""

    def __init__(self, model: PreTrainedModel, batch: Batch):
        self.start, self.calls = None, []
        blocks = layers(model)
        for block in blocks:
            block.forward = self._note  # stands in for the blocks, so that nothing is computed but their arguments
        try:
            model.base_model(input_ids=batch.ids, position_ids=batch.positions, attention_mask=batch.mask, use_cache=False)
        finally:
            for block in blocks:
                del block.forward

    def _note(self, hidden: Tensor, *args: object, **kwargs: object) -> Tensor:
        self.start = hidden
        self.calls.append((args, kwargs))
        return hidden

    def through(self, block: nn.Module, hidden: Tensor, number: int) -> Tensor:
        """The output of `block`, called as the model's block `number` is."""
        args, kwargs = self.calls[number]
        return block(hidden, *args, **kwargs)
