"""One plain loop for tuning a teacher and distilling a student.

The loss of a step is a sum over the whole step's tokens divided by their number, so that it does
not depend on how the step is divided into micro-batches. A run that is stopped goes on from its
last checkpoint and ends with the same bits.
"""

import math
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from studylib.core import filesystem, parallel
from studylib.core.errors import StudyError
from studylib.core.filesystem import digest, file_digest, read_sealed, settle, write_sealed
from studylib.core.parallel import Whole
from studylib.data.packing import Batch, Pack, collate, schedule
from studylib.methods import objectives
from studylib.methods.objectives import Mixture, Stage, Term
from studylib.models import parts
from studylib.training.teachers import Served

WARMUP, WEIGHT_DECAY, BETAS = 0.1, 0.01, (0.9, 0.98)


class Diverged(StudyError):
    """The loss is no number any more."""


@dataclass(frozen=True)
class Teacher:
    """What a student is compared with.

    `states` serves a pack's states where a stage compares logits only, (N, d) at answers or (T, d)
    at `all` tokens, and `head` maps them to logits (N, V). Where a stage compares hidden states,
    `model` runs beside the student instead; `aligned` names the teacher's block whose output each
    of the student's blocks should give.
    """

    head: Callable[[Tensor], Tensor]
    states: Served | None = None
    model: PreTrainedModel | None = None
    aligned: Sequence[int] = ()

    def logits(self, packs: Sequence[Pack], tokens: str) -> Tensor:
        """Its logits where losses on logits look, (N, V)."""
        served = self.states
        assert served is not None, "where a stage compares logits only, it has states"
        each = [(served(pack), getattr(pack, tokens).at) for pack in packs]
        return self.head(
            torch.cat([states if served.tokens == "answers" else states[at] for states, at in each])
        )


@dataclass(frozen=True)
class Mean:
    """Several teachers as one whose probabilities are the mean of theirs; for losses on logits."""

    teachers: Sequence[Teacher]

    def logits(self, packs: Sequence[Pack], tokens: str) -> Tensor:
        """The log of the mean probability up to a constant, (N, V)."""
        return torch.stack(
            [one.logits(packs, tokens).log_softmax(-1) for one in self.teachers]
        ).logsumexp(0)


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: steps of `packs` rows in micro-batches of `micro`, peak learning
    rate, seed of the order, and the precision of the model's matrix products (weights, optimiser,
    norms, logits and losses are in fp32 always)."""

    packs: int
    rate: float
    seed: int
    micro: int = 0
    precision: str = "fp32"

    def __post_init__(self) -> None:
        numbers = (self.packs, self.rate, self.seed, self.micro)
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in numbers):
            raise StudyError(f"{self}: packs, rate, seed and micro must be numbers.")
        if self.seed < 0 or any(
            not isinstance(value, int) for value in (self.packs, self.seed, self.micro)
        ):
            raise StudyError(
                f"{self}: packs, seed and micro must be whole numbers, and the seed not negative."
            )
        if self.packs < 1 or not 0 < self.rate < 1 or self.micro < 0:
            raise StudyError(
                f"{self}: packs must be at least 1, micro not negative, the rate between 0 and 1."
            )
        if self.precision not in parts.PRECISIONS:
            raise StudyError(f"precision {self.precision!r} is unknown: use fp32 or bf16.")

    def rate_at(self, step: int, steps: int) -> float:
        """Learning rate of a step (from 0) among `steps`: linear warm-up, then a cosine down to a
        tenth."""
        ramp = max(1, round(WARMUP * steps))
        if step < ramp:
            return self.rate * (step + 1) / ramp
        share = (step - ramp) / max(1, steps - ramp)
        return self.rate * (0.1 + 0.45 * (1 + math.cos(math.pi * share)))


def _living(teacher: Teacher | Mean | None) -> tuple[Teacher, PreTrainedModel]:
    """The teacher that runs beside the student, and its model. Raises StudyError where none does,
    as of several."""
    if not isinstance(teacher, Teacher) or teacher.model is None:
        raise StudyError(
            "Losses on hidden states need one teacher whose model runs beside the student: leave"
            " them out of `stages`."
        )
    return teacher, teacher.model


def losses(
    model: PreTrainedModel,
    packs: Sequence[Pack],
    mixture: Mixture,
    number: int,
    teacher: Teacher | Mean | None,
    vocabulary: int,
) -> dict[str, Tensor]:
    """Each loss of the mixture's stage `number`, summed over the tokens it looks at; those on
    hidden states are averaged over layers."""
    batch, stage = collate(packs).to(model.device), mixture.stages[number]
    own = parts.layer_states(model, batch, stage.beside)
    beside = _living(teacher) if stage.beside else None
    with torch.no_grad():
        theirs = parts.layer_states(beside[1], batch) if beside else ()
    found: dict[str, Tensor] = {}
    on_logits = [term for term in stage.terms if term.name not in objectives.FEATURES]
    for tokens in dict.fromkeys(term.tokens for term in on_logits):
        places, terms = (
            getattr(batch, tokens),
            [term for term in on_logits if term.tokens == tokens],
        )
        logits, taught = (
            parts.head(model, own[-1].flatten(0, 1)[places.at], vocabulary),
            None,
        )  # (N, V)
        if teacher and any(term.name in objectives.DIVERGENCES for term in terms):
            with torch.no_grad():
                taught = (
                    beside[0].head(theirs[-1].flatten(0, 1)[places.at])
                    if beside
                    else teacher.logits(packs, tokens)
                )
        found |= {
            term.name: mixture.on_logits(number, term, logits, taught, places.targets).sum()
            for term in terms
        }
    if beside:
        aims = [theirs[block + 1] for block in beside[0].aligned]
        for term in (term for term in stage.terms if term.name in objectives.FEATURES):
            found[term.name] = _on_states(mixture, term, batch, own[1:], aims)
    return found


def _on_states(
    mixture: Mixture, term: Term, batch: Batch, own: Sequence[Tensor], theirs: Sequence[Tensor]
) -> Tensor:
    """A loss on hidden states, row by row, summed over tokens and averaged over layers."""
    width, at = batch.ids.shape[1], batch.answers.at
    rows = [
        at[at // width == row] % width if term.tokens == "answers" else slice(length)
        for row, length in enumerate(batch.lengths)
    ]
    per_layer: list[Any] = [
        sum(
            mixture.on_states(term, layer, ours[row][tokens], aim[row][tokens]).sum()
            for row, tokens in enumerate(rows)
        )
        for layer, (ours, aim) in enumerate(zip(own, theirs, strict=True))
    ]
    return torch.stack(per_layer).mean()


def backward(
    model: PreTrainedModel,
    packs: Sequence[Pack],
    mixture: Mixture,
    number: int,
    teacher: Teacher | Mean | None,
    vocabulary: int,
    micro: int = 0,
    whole: Whole | None = None,
) -> dict[str, float]:
    """Add one step's gradient, unless gradients are off; return each loss of stage `number` and
    their weighted sum `loss`.

    Each is a mean over the tokens it looks at in the whole step: nats for losses on logits. Several
    processes have a part of the step's rows each, and `whole` of the weights.
    """
    terms = mixture.stages[number].terms
    over = {term.name: sum(_count(pack, term) for pack in packs) for term in terms}
    own = packs if whole is None else parallel.share(packs)
    logged, size = dict.fromkeys(over, 0.0), micro or len(own)
    for start in range(0, len(own), size):
        given = (model, own[start : start + size], mixture, number, teacher, vocabulary)
        found = losses(*given) if whole is None else whole(losses, *given)
        if torch.is_grad_enabled():
            times = (
                parallel.count() if whole is not None else 1
            )  # gradients are averaged over processes
            loss: Any = sum(term.weight * found[term.name] / over[term.name] for term in terms)
            (times * loss).backward()
        for name, value in found.items():
            logged[name] += value.item() / over[name]
    if whole is not None:
        logged = dict(
            zip(logged, parallel.summed(list(logged.values()), model.device), strict=True)
        )
    return {"loss": sum(term.weight * logged[term.name] for term in terms), **logged}


def _count(pack: Pack, term: Term) -> int:
    """The tokens of a row that a loss looks at."""
    whole_row = term.name in objectives.FEATURES and term.tokens == "all"
    return len(pack.ids) if whole_row else len(getattr(pack, term.tokens).at)


@dataclass(frozen=True)
class Dev:
    """What a training is watched by, before it and at `times` even points: its own losses on other
    rows, and a score of the model."""

    packs: Sequence[Pack]
    teacher: Teacher | Mean | None
    score: Callable[[PreTrainedModel], dict[str, float]]
    times: int

    def marks(self, steps: int) -> set[int]:
        """The steps after which to measure."""
        return {round(steps * (i + 1) / self.times) for i in range(self.times)}

    def measure(
        self, model: PreTrainedModel, mixture: Mixture, number: int, vocabulary: int, recipe: Recipe
    ) -> dict[str, float]:
        """`dev_loss`, each loss as `dev_<its name>`, and the scores."""
        with torch.no_grad(), parts.precision(model, recipe.precision):
            found = backward(
                model,
                self.packs,
                mixture,
                number,
                self.teacher,
                vocabulary,
                recipe.micro or recipe.packs,
            )
        return {f"dev_{name}": value for name, value in found.items()} | self.score(model)


def train(
    model: PreTrainedModel,
    packs: Sequence[Pack],
    *,
    stages: Sequence[Stage],
    recipe: Recipe,
    vocabulary: int,
    work: Path,
    teacher: Teacher | Mean | None = None,
    dev: Dev | None = None,
    report: Callable[[int, dict], None] = lambda step, values: None,
    last: Callable[[], None] = lambda: None,
) -> list[dict]:
    """Train in place and return the curve: a mapping per step, at some with what `dev` measured; at
    step 0 with that alone.

    `work` keeps the checkpoint; `last` is called when all is done, while the weights are at hand.
    Raises Diverged when the loss is no longer a number, StudyError for a checkpoint of other data.
    """
    if teacher is None and any(stage.uses_teacher for stage in stages):
        raise StudyError(f"objective {objectives.title(stages)} needs a teacher.")
    steps, mixture = objectives.steps(stages), _mixture(stages, model, teacher)
    order = schedule(
        [len(pack.ids) for pack in packs], size=recipe.packs, steps=steps, seed=recipe.seed
    )
    parallel.divides(len(order[0]))
    learner = Learner(model, mixture, recipe, digest([order, [pack.digest for pack in packs]]))
    curve = learner.resume(work)
    marks, saved = dev.marks(steps) if dev else set(), time.monotonic()
    model.eval()  # dropout would make a student and its twin differ by more than their targets
    if dev and not curve:
        curve.append(
            {"step": 0, **learner.whole(dev.measure, model, mixture, 0, vocabulary, recipe)}
        )
    for step in range(curve[-1]["step"] if curve else 0, steps):
        number, _ = mixture.at(step)
        with parts.precision(model, recipe.precision):
            rows = [packs[i] for i in order[step]]
            values = backward(
                model, rows, mixture, number, teacher, vocabulary, recipe.micro, learner.whole
            )
        if not math.isfinite(values["loss"]):
            raise Diverged(
                f"the loss is {values['loss']} at step {step + 1}: lower the learning rate of"
                f" {recipe.rate:g}."
            )
        learner.step(recipe.rate_at(step, steps))
        mixture.advance(step)
        if dev and step + 1 in marks:
            values |= learner.whole(dev.measure, model, mixture, number, vocabulary, recipe)
        curve.append({"step": step + 1, **values})
        report(step + 1, values)
        if any(parallel.joined(time.monotonic() - saved > filesystem.CHECKPOINT_SECONDS)):
            learner.checkpoint(curve, work)
            saved = time.monotonic()
    learner.whole(last)
    return curve


def _mixture(
    stages: Sequence[Stage], model: PreTrainedModel, teacher: Teacher | Mean | None
) -> Mixture:
    """The losses; with projections where student and teacher that run beside each other have unlike
    widths."""
    if not any(stage.beside for stage in stages):
        return Mixture(stages).to(model.device)
    _, beside = _living(teacher)
    return Mixture(
        stages, (model.config.hidden_size, beside.config.hidden_size), len(parts.layers(model))
    ).to(model.device)


class Learner:
    """What a training changes, with its checkpoints: weights, optimiser, the mixture's state,
    random numbers.

    `data` names the rows and their order: a checkpoint of others is refused.
    """

    def __init__(self, model: PreTrainedModel, mixture: Mixture, recipe: Recipe, data: str):
        self.whole, self.mixture, self.data = (
            Whole(parts.layers(model), model=model, mixture=mixture),
            mixture,
            data,
        )
        self.names = list(self._trained())
        self.optimizer = torch.optim.AdamW(
            self._trained().values(),
            lr=recipe.rate,
            betas=BETAS,
            weight_decay=WEIGHT_DECAY,
            fused=True,
        )

    def step(self, rate: float) -> None:
        """One optimiser step at this learning rate, the gradient's norm clipped to 1. Raises
        Diverged when that is no number."""
        self.optimizer.param_groups[0]["lr"] = rate
        norm = torch.nn.utils.clip_grad_norm_(self.whole.parameters(), 1.0)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        if not norm.isfinite():
            raise Diverged(
                f"the gradient's norm is {norm.item()} at a learning rate of {rate:g}: lower it."
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def checkpoint(self, curve: list[dict], work: Path) -> None:
        """Write everything into `work`, replacing the last checkpoint only when complete; of
        several processes each its own part."""
        parallel.give_back()  # the files are put together in memory
        tensors = {f"parts.{name}": value for name, value in self._state().items()} | {
            "random": torch.get_rng_state()
        }
        for number, values in self.optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer.{self.names[number]}.{key}": value for key, value in values.items()
            }
        draft = work / f"step-{curve[-1]['step']}.draft"
        draft.mkdir(parents=True, exist_ok=True)
        if parallel.count() == 1:
            save_file(tensors, draft / "state.safetensors")
        else:
            dcp.save(
                tensors, storage_writer=HuggingFaceStorageWriter(str(draft), save_distributed=True)
            )
        if parallel.first():
            self._finish(draft, curve, work)
        parallel.joined(None)  # nobody goes on before it is there

    def _finish(self, draft: Path, curve: list[dict], work: Path) -> None:
        files = {file.name: file_digest(file) for file in draft.glob("*.safetensors")}
        settle(*(draft / name for name in files))
        write_sealed(draft / "curve.json", {"data": self.data, "curve": curve, "files": files})
        final = draft.with_suffix("")
        shutil.rmtree(final, ignore_errors=True)
        draft.rename(final)
        for old in work.glob("step-*"):
            if old != final:
                shutil.rmtree(old)

    def resume(self, work: Path) -> list[dict]:
        """Go back to the last checkpoint in `work`, if there is one, and return its curve; by
        however many processes it was written."""
        place = latest(work)
        if place is None:
            return []
        kept = sound(place)
        if kept["data"] != self.data:
            raise StudyError(
                f"{place} is a checkpoint of other rows or of another order: delete {work} and"
                " train anew."
            )
        weights = {name: value.detach() for name, value in self._trained().items()}
        state = {
            name: {key: torch.zeros_like(value) for key in ("exp_avg", "exp_avg_sq")}
            for name, value in weights.items()
        }
        state = {
            name: {"step": torch.zeros((), device=values["exp_avg"].device), **values}
            for name, values in state.items()
        }
        tensors = {f"parts.{name}": value for name, value in self._state().items()} | {
            "random": torch.get_rng_state()
        }
        tensors |= {
            f"optimizer.{name}.{key}": value
            for name, values in state.items()
            for key, value in values.items()
        }
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "torch.distributed is disabled", UserWarning
            )  # which is meant, of one process
            dcp.load(tensors, storage_reader=HuggingFaceStorageReader(str(place)))
        ordered = {number: state[name] for number, name in enumerate(self.names)}
        self.optimizer.load_state_dict(
            {"state": ordered, "param_groups": self.optimizer.state_dict()["param_groups"]}
        )
        torch.set_rng_state(tensors["random"])
        return kept["curve"]

    def _trained(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, each once even where embeddings are tied: of an adapted
        model its adapters."""
        return {name: value for name, value in self.whole.named_parameters() if value.requires_grad}

    def _state(self) -> Mapping[str, Tensor]:
        """Trained parameters and the mixture's state."""
        return {
            name: value.detach()
            for name, value in (*self._trained().items(), *self.mixture.named_buffers("mixture"))
        }


def latest(work: Path) -> Path | None:
    """The checkpoint to go on from, if there is one."""
    found = [folder for folder in work.glob("step-*") if folder.suffix != ".draft"]
    return max(found, key=lambda folder: int(folder.name.partition("-")[2]), default=None)


def sound(checkpoint: Path) -> dict:
    """What a checkpoint says of itself. Raises StudyError unless it is all there as it was
    written."""
    kept = read_sealed(checkpoint / "curve.json") or {}
    files = {file.name: file_digest(file) for file in checkpoint.glob("*.safetensors")}
    if kept.get("files") != files:
        raise StudyError(
            f"{checkpoint} is not what was written (digest differs): delete it, and the run begins"
            " anew."
        )
    return kept
