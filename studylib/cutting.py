"""Students cut in depth and width: which layers and neurons can go, and how the rest makes good for them.

order = removal_order(model, batch, objectives.cross_entropy, count=10, vocabulary=vocabulary.size(tokenizer), report=print)
keep = sorted(set(range(30)) - {block for block, _ in order})
student = cut(model, keep)
heal(student, model, keep, batches, neurons=768, report=print)
"""

import copy
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from studylib import names
from studylib.errors import StudyError
from studylib.models import final_norm, head, layers
from studylib.packing import Batch

GROUP = 8  # neurons taken out at a time: fewer at a time take longer
RIDGE = 0.05  # SmolLM2 cut to 20 layers, 64 contexts: a KL of 0.25 to the teacher with 0.1, of 0.31 with 0.01


@dataclass(frozen=True)
class Size:
    """A student's number of layers, of neurons in each one's feed-forward part unless these are all kept, and the size (as
    it is written) of the trained student that it is cut from, if it is not cut from the uncut model; or the name of the
    `sibling` that it is, a smaller model that was pretrained by itself."""

    layers: int = 0
    neurons: int | None = None
    cut_from: str = ""
    sibling: str = ""

    @property
    def way(self) -> str:
        """What is cut: sizes of one way can be put in a row."""
        if self.sibling:
            return "siblings"
        return "layers" + (" and neurons" if self.neurons else "") + (", in stages" if self.cut_from else "")

    @property
    def stages(self) -> int:
        """How many students are trained one after the other to get there."""
        return 1 + (size(self.cut_from).stages if self.cut_from else 0)

    @property
    def title(self) -> str:
        """The size in words."""
        if self.sibling:
            return self.sibling
        neurons, before = f" of {self.neurons} neurons" if self.neurons else "", f", cut from {self.cut_from}" if self.cut_from else ""
        return f"{self.layers} layers{neurons}{before}"

    def holds(self, smaller: "Size") -> bool:
        """Whether the other can be cut from this one."""
        return smaller.layers <= self.layers and (self.neurons is None or (smaller.neurons or math.inf) <= self.neurons)


def size(written: int | str) -> Size:
    """A size as a YAML has it: 20 is 20 layers, 24x768 is 24 layers of 768 neurons, 20>15 is 15 layers cut from the student of 20;
    a name, which begins with a letter, is a sibling's.

    Raises StudyError for anything else.
    """
    if isinstance(written, str) and names.is_sibling(written):
        return Size(sibling=written)
    before, _, last = str(written).rpartition(">")
    found = re.fullmatch(r"([1-9][0-9]*)(?:x([1-9][0-9]*))?", last)
    if isinstance(written, bool) or not found:
        raise StudyError(
            f"{written!r} is no size of a student: write 20 for 20 layers, 24x768 for 24 layers of 768 neurons each, "
            "20>15 for 15 layers cut from the student of 20, or the name of a sibling, of letters, digits, dots and blanks."
        )
    smaller = Size(int(found[1]), int(found[2]) if found[2] else None, before)
    if before and not size(before).holds(smaller):
        raise StudyError(f"{written!r}: {last} cannot be cut from {before}, which has fewer layers or neurons.")
    return smaller


def name(family: str, written: int | str) -> str:
    """What a student of this size is called, as in `gpt_neox-4`."""
    return f"{family}-{written}"


def written(student: str) -> str:
    """The size that a student's name ends with, as it was written."""
    return student.rpartition("-")[2]


def named(student: str) -> Size:
    """The size that a student's name ends with."""
    return size(written(student))


def check_size(config: PretrainedConfig, depth: int, neurons: int | None, label: str) -> None:
    """Raise StudyError if a model of this configuration cannot be cut to so many layers and neurons."""
    for wanted, there, part in ((depth, config.num_hidden_layers, "layers"), (neurons or 0, config.intermediate_size, "neurons a layer")):
        if wanted > there:
            raise StudyError(f"{label}: the model has {there} {part} only: lower its size.")


def hollow(config: PretrainedConfig, depth: int, neurons: int | None, device: str | torch.device = "meta") -> PreTrainedModel:
    """A model of this configuration with so many layers and neurons, unless told otherwise without its weights."""
    smaller = copy.deepcopy(config)
    smaller.num_hidden_layers, smaller.intermediate_size = depth, neurons or config.intermediate_size
    if getattr(smaller, "layer_types", None):
        smaller.layer_types = smaller.layer_types[:depth]
    with torch.device(device):
        return AutoModelForCausalLM.from_config(smaller, dtype=torch.float32)


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
        module: Any
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
    begun: Iterable[Sequence] = (),
    report: Callable[[list[tuple[int, float]]], None],
) -> list[tuple[int, float]]:
    """Which `count` blocks to take out, one after the other: always the one whose loss of answers is least.

    Returns (block, mean answer loss in nats without it and all before it), and goes on from those that were found before, `begun`;
    `report` is given those found so far. `loss` takes logits (N, vocabulary) and targets (N,) and gives (N,). Blocks before the one
    tried are computed once and shared by all tries.
    """
    batch = batch.to(model.device)
    walk, order = _Walk(model, batch), [(block, value) for block, value in begun]
    kept = [block for block in range(len(layers(model))) if block not in dict(order)]
    for _ in range(count - len(order)):
        losses, hidden = {}, walk.start
        for place, block in enumerate(kept):
            tried = hidden
            for later in kept[place + 1 :]:
                tried = walk.through(layers(model)[later], tried, later)
            logits = head(model, final_norm(model)(tried).flatten(0, 1)[batch.answers.at], vocabulary)
            losses[block] = loss(logits, batch.answers.targets).mean().item()
            hidden = walk.through(layers(model)[block], hidden, block)
        least = min(kept, key=losses.__getitem__)
        kept.remove(least)
        order.append((least, losses[least]))
        report(order)
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
    neurons: int | None = None,
    report: Callable[[int, float], None],
) -> None:
    """Fit `student`, cut to `keep` from `model` or from a student of it, to the hidden states of `model`, in closed form and in place.

    Block after block on the student's own stream: the linear map by which the feed-forward part writes is moved by the
    ridge regression that brings the block's output nearest to what the next kept block was used to read; where blocks
    are missing in between, first the map by which attention writes, in a regression on what both maps read. Then, if so
    many are wanted, only the `neurons` of the feed-forward part stay that serve this best, the others made good for by
    them. Tokens weigh by 1 / |their hidden state|², as in `features.hidden_mse`. Needs no labels and adds no parameters.
    `report` is given the number of blocks done and the mean squared gap that the last one's regression leaves, before neurons go.

    After ReplaceMe (Shopkhoev et al., 2025, arXiv:2505.02819), which fits one linear map per contiguous gap and merges it
    into the feed-forward map before it; here every block from the first gap on is fitted anew, errors before it included.
    """
    batches = [batch.to(model.device) for batch in batches]
    walks = [_Walk(model, batch) for batch in batches]
    streams = [_Walk(student, batch).start for batch in batches]  # its embeddings are others than the model's if it was trained
    wanted, reached = [walk.start for walk in walks], 0
    for place, (block, number, reader) in enumerate(zip(layers(student), keep, readers(keep, model), strict=True)):
        for passed in range(reached, reader):
            wanted = [walk.through(layers(model)[passed], hidden, passed) for walk, hidden in zip(walks, wanted, strict=True)]
        reached, rows = reader, list(zip(walks, streams, wanted, batches, strict=True))
        attention, forward = _writers(block)
        if reader > number + 1:
            moved, _, _ = ridge(_gap(block, number, (attention, forward), *row) for row in rows)
            attention.weight += moved[: attention.in_features].T
            torch.clear_autocast_cache()  # or autocast goes on with the weights as they were
        moved, curvature, left = ridge(_gap(block, number, (forward,), *row) for row in rows)
        forward.weight += moved.T
        if neurons is not None:
            _narrow(block, *surgery(forward.weight.T, curvature, neurons))
        torch.clear_autocast_cache()
        streams = [walk.through(block, stream, number) for walk, stream in zip(walks, streams, strict=True)]
        report(place + 1, left)
    if neurons is not None:
        student.config.intermediate_size = neurons


def ridge(pairs: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, float]:
    """The D (n, d) of least Σ |y − x D|² + λ |D|² over pairs x (M, n) and y (M, d), the curvature Σ xᵀx + λ (n, n) there,
    and the mean |y − x D|² that is left.

    λ is RIDGE times the mean |x_i|² of a column. The sums are in float32 whatever autocast says, the rest in float64.
    """
    gram: Any = 0
    cross: Any = 0
    size, rows = 0.0, 0
    for x, y in pairs:
        with torch.autocast(x.device.type, enabled=False):
            x, y = x.float(), y.float()
            gram, cross, size, rows = gram + x.T @ x, cross + x.T @ y, size + y.square().sum().item(), rows + len(x)
    gram, cross = gram.double(), cross.double()
    curvature = gram + torch.eye(len(gram), dtype=gram.dtype, device=gram.device) * (
        RIDGE * gram.diagonal().mean() + torch.finfo(torch.float32).tiny
    )
    found = torch.cholesky_solve(cross, torch.linalg.cholesky(curvature))
    left = size - 2 * (found * cross).sum().item() + (found * (gram @ found)).sum().item()
    return found.float(), curvature, max(0.0, left) / rows


def surgery(weights: Tensor, curvature: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Which `count` of a linear map's inputs stay, and the map from them: (count,) indices and (count, d) weights.

    `weights` (n, d) are at the least of a quadratic loss with this curvature (n, n). Inputs go GROUP at a time, those
    whose loss without them rises least, |w_j|² / [H⁻¹]_jj, and the others are moved to where it is least again.

    After the optimal brain surgeon (Hassibi and Stork, 1993) and its use on whole neurons in ZipLM (Kurtic et al., 2023),
    both from memory. Raises StudyError for a count of more inputs than there are.
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
    kept, lost = stays.nonzero().flatten(), (~stays).nonzero().flatten()
    solved = torch.cholesky_solve(curvature[kept][:, lost] @ weights[lost].double(), torch.linalg.cholesky(curvature[kept][:, kept]))
    return kept, (weights[kept].double() + solved).float()


def _narrow(block: Any, kept: Tensor, weights: Tensor) -> None:
    """Leave these neurons (n,) in a block's feed-forward part, writing by `weights` (n, d)."""
    _, forward = _writers(block)
    for reading in (module for module in block.mlp.children() if isinstance(module, nn.Linear) and module is not forward):
        reading.weight, reading.out_features = nn.Parameter(reading.weight[kept].clone()), len(kept)
        if reading.bias is not None:
            reading.bias = nn.Parameter(reading.bias[kept].clone())
    forward.weight, forward.in_features = nn.Parameter(weights.T.contiguous()), len(kept)


def _writers(block: Any) -> tuple[nn.Linear, nn.Linear]:
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
        self.start: Tensor
        self.calls: list[tuple[tuple, dict]] = []
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
