"""What a pruned model lost, made good in closed form: its maps are fitted to the hidden states of
the whole model by ridge regression.

After ReplaceMe (Shopkhoev et al., 2025, arXiv:2505.02819), which fits one linear map per contiguous
gap and merges it into the feed-forward map before it; here every block from the first gap on is
fitted anew, errors before it included.

blocks(student, model, keep, batches, neurons=768, report=print)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from studylib.core.libraries import torch, transformers, without_gradients
from studylib.data.packing import Batch
from studylib.models.parts import layers
from studylib.models.prune import Walk, narrow, readers, refitted, surgery, writers

# SmolLM2 cut to 20 layers, 64 contexts: a KL of 0.25 to the teacher with 0.1, of 0.31 with 0.01
RIDGE = 0.05


@without_gradients()
def blocks(
    student: transformers.PreTrainedModel,
    model: transformers.PreTrainedModel,
    keep: Sequence[int],
    batches: Sequence[Batch],
    *,
    neurons: int | None = None,
    importance: Sequence[torch.Tensor] = (),
    report: Callable[[int, float], None],
) -> None:
    """Fit `student`, cut to `keep` from `model` or from a student of it, to the hidden states of
    `model`, in closed form and in place.

    Block after block on the student's own stream: the linear map by which the feed-forward part
    writes is moved by the ridge regression that brings the block's output nearest to what the next
    kept block was used to read; where blocks are missing in between, first the map by which
    attention writes, in a regression on what both maps read. Then, if so many are wanted, only the
    `neurons` of the feed-forward part stay that serve this best, or are of most `importance` (n,)
    where each block's is given, the others made good for by them. Tokens weigh by 1 / |their hidden
    state|², as in `features.hidden_mse`. Needs no labels and adds no parameters. `report` is given
    the blocks done and the mean squared gap that the last regression leaves, before neurons go.
    """
    batches = [batch.to(model.device) for batch in batches]
    walks = [Walk(model, batch) for batch in batches]
    # its embeddings are others than the model's if it was trained
    streams = [Walk(student, batch).start for batch in batches]
    targets, reached = [walk.start for walk in walks], 0
    blocks = zip(layers(student), keep, readers(keep, model), strict=True)
    for done, (block, number, reader) in enumerate(blocks, start=1):
        for passed in range(reached, reader):
            targets = _through(layers(model)[passed], passed, walks, targets)
        reached, rows = reader, list(zip(walks, streams, targets, batches, strict=True))
        given = importance[done - 1] if importance else None
        left = _fit(
            block, number, rows, missing=reader > number + 1, neurons=neurons, importance=given
        )
        streams = _through(block, number, walks, streams)
        report(done, left)
    if neurons is not None:
        student.config.intermediate_size = neurons


def _through(
    block: torch.nn.Module, number: int, walks: Sequence[Walk], streams: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """The hidden states of all batches after a block."""
    return [
        walk.through(block, hidden, number) for walk, hidden in zip(walks, streams, strict=True)
    ]


def _fit(
    block: torch.nn.Module,
    number: int,
    rows: Sequence[tuple[Walk, torch.Tensor, torch.Tensor, Batch]],
    *,
    missing: bool,
    neurons: int | None,
    importance: torch.Tensor | None,
) -> float:
    """Fit the maps by which a block writes to what the next one is to read of these rows, and
    return the mean squared gap that is left. `missing`: blocks were cut out between the two."""
    attention, forward = writers(block)
    if missing:
        moved, _, _ = ridge(_gap(block, number, (attention, forward), *row) for row in rows)
        attention.weight += moved[: attention.in_features].T
        torch.clear_autocast_cache()  # or autocast goes on with the weights as they were
    moved, curvature, left = ridge(_gap(block, number, (forward,), *row) for row in rows)
    forward.weight += moved.T
    if neurons is not None and importance is not None:
        kept = importance.topk(neurons).indices.sort().values
        narrow(block, kept, refitted(forward.weight.T, curvature, kept))
    elif neurons is not None:
        narrow(block, *surgery(forward.weight.T, curvature, neurons))
    torch.clear_autocast_cache()
    return left


def ridge(
    pairs: Iterable[tuple[torch.Tensor, torch.Tensor]],
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """The D (n, d) of least Σ |y − x D|² + λ |D|² over pairs x (M, n) and y (M, d), the curvature Σ
    xᵀx + λ (n, n) there, and the mean |y − x D|² that is left.

    λ is RIDGE times the mean |x_i|² of a column. The sums are in float32 whatever autocast says,
    the rest in float64.
    """
    gram: Any = 0
    cross: Any = 0
    size, rows = 0.0, 0
    for x, y in pairs:
        with torch.autocast(x.device.type, enabled=False):
            x, y = x.float(), y.float()
            gram, cross, size, rows = (
                gram + x.T @ x,
                cross + x.T @ y,
                size + y.square().sum().item(),
                rows + len(x),
            )
    gram, cross = gram.double(), cross.double()
    curvature = gram + torch.eye(len(gram), dtype=gram.dtype, device=gram.device) * (
        RIDGE * gram.diagonal().mean() + torch.finfo(torch.float32).tiny
    )
    solution = torch.cholesky_solve(cross, torch.linalg.cholesky(curvature))
    left = size - 2 * (solution * cross).sum().item() + (solution * (gram @ solution)).sum().item()
    return solution.float(), curvature, max(0.0, left) / rows


def _gap(
    block: torch.nn.Module,
    number: int,
    maps: Sequence[torch.nn.Linear],
    walk: Walk,
    stream: torch.Tensor,
    target: torch.Tensor,
    batch: Batch,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What `maps` of `block` read (M, n) and what its output lacks (M, d), for all tokens, over the
    size of what is wanted."""
    read: list[torch.Tensor] = []
    hooks = [
        linear.register_forward_pre_hook(lambda _, args: read.append(args[0][batch.real]))
        for linear in maps
    ]
    lacking = (target - walk.through(block, stream, number))[batch.real]
    for hook in hooks:
        hook.remove()
    size = target[batch.real].norm(dim=-1, keepdim=True).clamp_min(1e-3)
    return torch.cat(read, -1) / size, lacking / size
