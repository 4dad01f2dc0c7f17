"""What a student learns from its teacher: hidden states at answer positions, computed once, stored, served.

A state is post final norm, so logits are one product away and a small fraction of their size. Each row is
stored under a digest of its questions, inputs and targets: a row that the teacher did not see is refused.
Always computed one row at a time, so that states from disk equal those of a teacher at hand to the bit.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from studylib.errors import StudyError
from studylib.packing import Batch, Pack, collate

RECIPE = 1
SHARD = 256  # rows per file


def hidden_states(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Post-final-norm hidden states of all tokens, (B, T, d)."""
    return layer_states(model, batch, False)[-1]


def layer_states(model: PreTrainedModel, batch: Batch, every_layer: bool = True) -> tuple[Tensor, ...]:
    """Hidden states (B, T, d): embeddings, each block's output, the last one after the final norm; or that one alone."""
    out = model.base_model(
        input_ids=batch.ids,
        position_ids=batch.positions,
        attention_mask=batch.mask,
        use_cache=False,
        output_hidden_states=every_layer,
    )
    return out.hidden_states if every_layer else (out.last_hidden_state,)


@torch.no_grad()
def row_states(model: PreTrainedModel, pack: Pack) -> Tensor:
    """The teacher's states at all tokens of a row, (T, d)."""
    with torch.autocast(model.device.type, enabled=False):  # the same bits beside a student in lower precision
        return hidden_states(model, collate([pack]))[0]


def answer_states(model: PreTrainedModel, pack: Pack) -> Tensor:
    """The teacher's states where the row's answer tokens are predicted, (N, d)."""
    return row_states(model, pack)[pack.answers.at]


STATES = {"answers": answer_states, "all": row_states}


def store(
    model: PreTrainedModel, packs: Sequence[Pack], folder: Path, progress: Callable[[Iterable], Iterable], tokens: str = "answers"
) -> None:
    """Write the states of all packs, at answers or at `all` tokens, into `folder` as safetensors; files already there are
    kept, so it can go on."""
    model.eval()
    for start in progress(range(0, len(packs), SHARD)):
        target = folder / f"states-{start // SHARD:05d}.safetensors"
        if target.exists():
            continue
        shard = {pack.digest: STATES[tokens](model, pack) for pack in packs[start : start + SHARD]}
        draft = target.with_suffix(".draft")
        save_file(shard, draft)
        draft.replace(target)


class StoredStates:
    """Serves stored states of a pack: (N, d) at answers, or (T, d) if they were stored at `all` tokens."""

    def __init__(self, files: Iterable[Path], tokens: str = "answers"):
        self.tokens = tokens
        self.shards = [safe_open(file, "pt") for file in sorted(files)]
        self.where = {name: shard for shard in self.shards for name in shard.offset_keys()}

    def __call__(self, pack: Pack) -> Tensor:
        if pack.digest not in self.where:
            raise StudyError(f"question {pack.question_ids[0]!r}: its row is not the one the teacher's states were computed on.")
        return self.where[pack.digest].get_tensor(pack.digest)


class LiveStates:
    """Computes the same states with the teacher in memory."""

    def __init__(self, teacher: PreTrainedModel, tokens: str = "answers"):
        self.teacher, self.tokens = teacher.eval(), tokens

    def __call__(self, pack: Pack) -> Tensor:
        return STATES[self.tokens](self.teacher, pack)
