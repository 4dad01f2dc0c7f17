"""What a training changes, and its checkpoints: a run that is stopped goes on from the last one and
ends with the same bits."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

from studylib.core import filesystem, parallel, sharding
from studylib.core.errors import StudyError
from studylib.core.filesystem import DRAFT, file_digest, read_sealed, settle, write_sealed
from studylib.core.libraries import save_file, torch, transformers
from studylib.methods.base import Method
from studylib.methods.stages import Curriculum
from studylib.models import parts
from studylib.training.config import BETAS, WEIGHT_DECAY, Recipe


class Diverged(StudyError):
    """The loss is no number any more."""


class Learner:
    """Weights, optimiser, the method's state, random numbers.

    `data` names the rows and their order: a checkpoint of others is refused.
    """

    def __init__(
        self,
        model: transformers.PreTrainedModel,
        method: Method | Curriculum,
        recipe: Recipe,
        data: str,
    ):
        self.sharded = sharding.sharded(parts.layers(model), model=model, method=method.state)
        self.state, self.data, self.saved = method.state.to(model.device), data, time.monotonic()
        self.names = list(self._trained())
        self.optimizer = torch.optim.AdamW(
            self._trained().values(),
            lr=recipe.lr,
            betas=BETAS,
            weight_decay=WEIGHT_DECAY,
            fused=True,
        )

    def step(self, rate: float) -> None:
        """One optimiser step at this learning rate, the gradient's norm clipped to 1. Raises
        Diverged when that is no number."""
        self.optimizer.param_groups[0]["lr"] = rate
        norm = torch.nn.utils.clip_grad_norm_(self.sharded.parameters(), 1.0)
        norm = getattr(norm, "full_tensor", lambda: norm)()  # shared by several processes
        if not norm.isfinite():
            raise Diverged(
                f"the gradient's norm is {norm.item()} at a learning rate of {rate:g}: lower it."
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def keep(self, curve: list[dict], work: Path) -> None:
        """Write a checkpoint from time to time: all processes do once one of them is due."""
        if any(parallel.all_gather(time.monotonic() - self.saved > filesystem.CHECKPOINT_SECONDS)):
            self.checkpoint(curve, work)
            self.saved = time.monotonic()

    def checkpoint(self, curve: list[dict], work: Path) -> None:
        """Write everything into `work`, replacing the last checkpoint only when complete; of
        several processes each its own part."""
        parallel.give_back()  # the files are put together in memory
        state = self.optimizer.state_dict()["state"]
        tensors = self._tensors({self.names[number]: values for number, values in state.items()})
        final = work / f"step-{curve[-1]['step']}"
        draft = final.with_suffix(DRAFT)
        draft.mkdir(parents=True, exist_ok=True)
        if parallel.count() == 1:
            save_file(tensors, draft / "state.safetensors")
        else:
            _save_shards(tensors, draft)
        if parallel.first():
            files = _digests(draft)
            settle(*(draft / name for name in files))
            write_sealed(draft / "curve.json", {"data": self.data, "curve": curve, "files": files})
            shutil.rmtree(final, ignore_errors=True)
            draft.rename(final)
            for old in {*work.glob("step-*")} - {final}:
                shutil.rmtree(old)
        parallel.all_gather(None)  # no process goes on before it is there

    def resume(self, work: Path) -> list[dict]:
        """Go back to the last checkpoint in `work`, if there is one, and return its curve; by
        however many processes it was written. Raises StudyError for one of other data."""
        if (place := latest(work)) is None:
            return []
        kept = sound(place)
        if kept["data"] != self.data:
            raise StudyError(
                f"{place} is a checkpoint of other rows or of another order: delete {work} and"
                " train anew."
            )
        state = {name: _empty_state(value.detach()) for name, value in self._trained().items()}
        tensors = self._tensors(state)
        _load(tensors, place)
        numbered = {"state": dict(enumerate(state.values()))}
        self.optimizer.load_state_dict(self.optimizer.state_dict() | numbered)
        torch.set_rng_state(tensors["random"])
        return kept["curve"]

    def _tensors(self, state: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Trained parameters, the method's buffers, random numbers, and the optimiser's `state` by
        parameter; by their names in files."""
        values = (*self._trained().items(), *self.state.named_buffers("method"))
        return {
            **{f"parts.{name}": value.detach() for name, value in values},
            "random": torch.get_rng_state(),
            **{f"optimizer.{name}.{k}": v for name, kept in state.items() for k, v in kept.items()},
        }

    def _trained(self) -> dict[str, torch.nn.Parameter]:
        """The parameters that are trained, each once even where embeddings are tied: of an adapted
        model its adapters."""
        return {
            name: value for name, value in self.sharded.named_parameters() if value.requires_grad
        }


def _save_shards(tensors: dict[str, torch.Tensor], draft: Path) -> None:
    """Write this process's part of tensors that several share."""
    from torch.distributed import checkpoint  # seconds, and a plan writes and reads none
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    checkpoint.save(
        tensors, storage_writer=HuggingFaceStorageWriter(str(draft), save_distributed=True)
    )


def _load(tensors: dict[str, torch.Tensor], place: Path) -> None:
    """Read tensors in place, by however many processes they were written."""
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    with warnings.catch_warnings():  # which is meant, of one process
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        checkpoint.load(tensors, storage_reader=HuggingFaceStorageReader(str(place)))


def _empty_state(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """Room for what AdamW keeps of a weight."""
    return {
        "step": torch.zeros((), device=weight.device),
        "exp_avg": torch.zeros_like(weight),
        "exp_avg_sq": torch.zeros_like(weight),
    }


def _digests(checkpoint: Path) -> dict[str, str]:
    """The digests of its tensors' files, by name."""
    return {file.name: file_digest(file) for file in checkpoint.glob("*.safetensors")}


def latest(work: Path) -> Path | None:
    """The checkpoint to go on from, if there is one."""
    folders = (folder for folder in work.glob("step-*") if folder.suffix != DRAFT)
    return max(folders, key=lambda folder: int(folder.name.partition("-")[2]), default=None)


def sound(checkpoint: Path) -> dict:
    """What a checkpoint says of itself. Raises StudyError unless it is all there as it was
    written."""
    kept = read_sealed(checkpoint / "curve.json") or {}
    if kept.get("files") != _digests(checkpoint):
        raise StudyError(
            f"{checkpoint} is not what was written (digest differs): delete it, and the run begins"
            " anew."
        )
    return kept
