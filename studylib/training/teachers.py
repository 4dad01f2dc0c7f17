"""What a student learns from its teacher: hidden states at answer positions, computed once, stored,
served.

A state is post final norm, so logits are one product away and a small fraction of their size. Each
row is stored under a digest of its questions, inputs and targets: a row that the teacher did not
see is refused. Always computed one row at a time, so that states from disk equal those of a teacher
at hand to the bit. In bf16 (the precision of matrix products) they are a KL of some 1e-4 from those
in fp32, and take about half the time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from safetensors import safe_open

from studylib.core import parallel
from studylib.core.errors import StudyError
from studylib.core.filesystem import file_digest, write_json
from studylib.core.libraries import save_file, torch, transformers, without_gradients
from studylib.data.packing import Pack, collate
from studylib.methods.views import Served
from studylib.models import parts
from studylib.models.precision import products_in

SHARD = 256  # rows per file


@without_gradients()
def row_states(
    model: transformers.PreTrainedModel, pack: Pack, precision: str = "fp32"
) -> torch.Tensor:
    """The teacher's states at all tokens of a row, (T, d), in fp32; its matrix products in
    `precision`."""
    with products_in(model, precision):  # whatever that of a student beside it is
        return parts.hidden_states(model, collate([pack]))[0].float()


def answer_states(
    model: transformers.PreTrainedModel, pack: Pack, precision: str = "fp32"
) -> torch.Tensor:
    """The teacher's states where the row's answer tokens are predicted, (N, d)."""
    return row_states(model, pack, precision)[pack.answers.at]


STATES = {"answers": answer_states, "all": row_states}


def store(
    model: transformers.PreTrainedModel,
    packs: Sequence[Pack],
    folder: Path,
    progress: Callable[[Sequence], Iterable],
    tokens: str = "answers",
    precision: str = "fp32",
) -> None:
    """Write the states of all packs, at answers or at `all` tokens, into `folder` as safetensors;
    files already there are kept, so it can go on, if they are what their digests in `folder/work`
    say. Several processes write some of the files each."""
    model.eval()
    targets = [
        folder / f"states-{number:05d}.safetensors"
        for number in range(math.ceil(len(packs) / SHARD))
    ]
    missing = [
        number for number in parallel.shard(range(len(targets))) if not _is_sound(targets[number])
    ]
    for number in progress(missing):
        target, shared = targets[number], packs[number * SHARD : (number + 1) * SHARD]
        with products_in(model, precision):  # around all, so that weights are rounded once
            shard = {pack.digest: STATES[tokens](model, pack, precision).cpu() for pack in shared}
        draft = target.with_suffix(".draft")
        save_file(shard, draft)
        write_json(_noted(target), file_digest(draft))
        draft.replace(target)
    parallel.all_gather(None)  # no process goes on before all is there


def _noted(target: Path) -> Path:
    """Where the digest of a file of states is kept until the run is finished."""
    return target.parent / "work" / f"{target.name}.json"


def _is_sound(target: Path) -> bool:
    """Whether the file is there, as it was written."""
    noted = _noted(target)
    return (
        target.exists()
        and noted.exists()
        and noted.read_text(encoding="utf-8") == json.dumps(file_digest(target))
    )


class CachedStates:
    """Serves cached states of a pack: (N, d) at answers, or (T, d) if they were stored at `all`
    tokens."""

    def __init__(self, files: Iterable[Path], tokens: str = "answers"):
        self.tokens = tokens
        self.shards = [safe_open(file, "pt") for file in sorted(files)]
        self.where = {name: shard for shard in self.shards for name in shard.offset_keys()}

    def __call__(self, pack: Pack) -> torch.Tensor:
        if pack.digest not in self.where:
            raise StudyError(
                f"question {pack.question_ids[0]!r}: its row is not the one the teacher's states"
                " were computed on."
            )
        return self.where[pack.digest].get_tensor(pack.digest)


class Reprompted:
    """Serves a pack's states (N, d) at answers from rows in which the same questions are prompted
    otherwise, with a demonstration, say, or together with others.

    Raises StudyError for a question that those rows do not have, or whose answer is split into
    other tokens there.
    """

    tokens = "answers"

    def __init__(self, states: Served, rows: Iterable[Pack]):
        self.states = states
        self.where: dict[str, tuple[Pack, slice]] = {}
        for row in rows:
            start = 0
            for question, length in zip(row.question_ids, row.target_lengths, strict=True):
                self.where[question] = (row, slice(start, start := start + length))

    def __call__(self, pack: Pack) -> torch.Tensor:
        matches = [self.where[question] for question in pack.question_ids if question in self.where]
        if (
            len(matches) < len(pack.question_ids)
            or [token for row, part in matches for token in row.answers.targets[part]]
            != pack.answers.targets
        ):
            raise StudyError(
                f"question {pack.question_ids[0]!r}: the teacher was not asked it and its context's"
                " others for the same answers."
            )
        return torch.cat([self.states(row)[part] for row, part in matches])


class ComputedStates:
    """Serves the same states of some rows, computed at once, so that the teacher need not stay; no
    others."""

    def __init__(
        self,
        teacher: transformers.PreTrainedModel,
        packs: Iterable[Pack],
        tokens: str = "answers",
        precision: str = "fp32",
    ):
        self.tokens = tokens
        teacher.eval()
        self.kept = {pack.digest: STATES[tokens](teacher, pack, precision).cpu() for pack in packs}

    def __call__(self, pack: Pack) -> torch.Tensor:
        return self.kept[pack.digest]
