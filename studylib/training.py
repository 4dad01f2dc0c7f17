"""One plain loop for tuning a teacher and distilling a student.

The loss of a step is a sum over the whole step's answer tokens divided by their number, so that it does
not depend on how the step is divided into micro-batches. A run that is stopped goes on from its last
checkpoint and ends with the same bits.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from studylib import models, objectives
from studylib.errors import StudyError
from studylib.packing import Batch, Pack, collate, schedule
from studylib.runs import write_json

RECIPE = 1
CHECKPOINT_SECONDS = 120


@dataclass(frozen=True)
class Teacher:
    """What a student is compared with.

    `states` serves a pack's answer states (N, d) and `head` maps them to logits (N, V). Where an objective
    compares hidden states, `model` runs beside the student and gives the answer states too, and `aligned`
    names the teacher's block whose output each of the student's blocks should give.
    """

    head: Callable[[Tensor], Tensor]
    states: Callable[[Pack], Tensor] | None = None
    model: PreTrainedModel | None = None
    aligned: Sequence[int] = ()


@dataclass(frozen=True)
class Recipe:
    """How long and how fast: steps of `packs` rows in micro-batches of `micro`, peak learning rate, seed of the order,
    and the precision of matrix products, logits among them (weights, optimiser, norms and the losses' arithmetic are in fp32 always)."""

    steps: int
    packs: int
    rate: float
    seed: int
    micro: int = 0
    precision: str = "fp32"
    warmup: float = 0.1
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        numbers = (self.steps, self.packs, self.rate, self.seed, self.micro)
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in numbers):
            raise StudyError(f"{self}: steps, packs, rate, seed and micro must be numbers.")
        if self.seed < 0 or any(not isinstance(value, int) for value in (self.steps, self.packs, self.seed, self.micro)):
            raise StudyError(f"{self}: steps, packs, seed and micro must be whole numbers, and the seed not negative.")
        if self.steps < 1 or self.packs < 1 or not 0 < self.rate < 1 or not 0 <= self.warmup < 1 or self.micro < 0:
            raise StudyError(f"{self}: steps and packs must be at least 1, rate between 0 and 1, warmup in [0, 1).")
        if self.precision not in ("fp32", "bf16"):
            raise StudyError(f"precision {self.precision!r} is unknown: use fp32 or bf16.")

    def rate_at(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then a cosine down to a tenth."""
        ramp = max(1, round(self.warmup * self.steps))
        if step < ramp:
            return self.rate * (step + 1) / ramp
        share = (step - ramp) / max(1, self.steps - ramp)
        return self.rate * (0.1 + 0.45 * (1 + math.cos(math.pi * share)))


def precision(model: PreTrainedModel, name: str) -> torch.autocast:
    """A context in which the model's matrix products are in bf16, or in fp32 as they are."""
    return torch.autocast(model.device.type, torch.bfloat16, enabled=name == "bf16")


def losses(
    model: PreTrainedModel,
    packs: Sequence[Pack],
    weights: Mapping[str, float],
    teacher: Teacher | None,
    vocabulary: int,
) -> dict[str, Tensor]:
    """Each loss of the mixture, summed over the rows' answer tokens; feature losses, averaged over layers, over all their tokens."""
    batch = collate(packs)
    beside = objectives.beside(weights)
    states = _states(model, batch, beside)
    at_answers = states[-1].flatten(0, 1)[batch.at]  # (N, d)
    logits = models.head(model, at_answers, vocabulary)  # (N, V)
    with torch.no_grad():
        if beside:
            taught = _states(teacher.model, batch, beside)
            taught_at_answers = taught[-1].flatten(0, 1)[batch.at]
        elif objectives.uses_teacher(weights):
            taught_at_answers = torch.cat([teacher.states(pack) for pack in packs])
    found: dict[str, Tensor] = {}
    for name in weights:
        if name in objectives.GOLD:
            found[name] = objectives.GOLD[name](logits, batch.targets).sum()
        elif name in objectives.DIVERGENCES:
            found[name] = objectives.DIVERGENCES[name](logits, teacher.head(taught_at_answers)).sum()
        else:
            pairs = zip(states[1:], (taught[block + 1] for block in teacher.aligned), strict=True)
            per_layer = [objectives.FEATURES[name](own[batch.real], theirs[batch.real]).sum() for own, theirs in pairs]
            found[name] = torch.stack(per_layer).mean()
    return found


def _states(model: PreTrainedModel, batch: Batch, every_layer: bool) -> tuple[Tensor, ...]:
    """Hidden states (B, T, d): embeddings, each block's output, the last one after the final norm; or that one alone."""
    out = model.base_model(
        input_ids=batch.ids,
        position_ids=batch.positions,
        attention_mask=batch.mask,
        use_cache=False,
        output_hidden_states=every_layer,
    )
    return out.hidden_states if every_layer else (out.last_hidden_state,)


def backward(
    model: PreTrainedModel,
    packs: Sequence[Pack],
    weights: Mapping[str, float],
    teacher: Teacher | None,
    vocabulary: int,
    micro: int = 0,
) -> dict[str, float]:
    """Add one step's gradient to the model's; return each loss of the mixture and their weighted sum `loss`.

    Losses at answer positions (nats) are means over the step's answer tokens, feature losses over all its tokens.
    """
    answers, tokens = sum(len(pack.targets) for pack in packs), sum(len(pack.ids) for pack in packs)
    over = {name: tokens if name in objectives.FEATURES else answers for name in weights}
    logged = dict.fromkeys(weights, 0.0)
    for start in range(0, len(packs), micro or len(packs)):
        found = losses(model, packs[start : start + (micro or len(packs))], weights, teacher, vocabulary)
        sum(weights[name] * value / over[name] for name, value in found.items()).backward()
        for name, value in found.items():
            logged[name] += value.item() / over[name]
    return {"loss": sum(weights[name] * value for name, value in logged.items()), **logged}


def train(
    model: PreTrainedModel,
    packs: Sequence[Pack],
    *,
    weights: Mapping[str, float],
    recipe: Recipe,
    vocabulary: int,
    work: Path,
    teacher: Teacher | None = None,
    evaluate: Callable[[PreTrainedModel], dict[str, float]] | None = None,
    evaluations: int = 0,
    report: Callable[[int, dict], None] = lambda step, values: None,
) -> list[dict]:
    """Train in place and return the curve: a mapping per step, with what `evaluate` gave at `evaluations` even points.

    `work` keeps the checkpoint. Raises StudyError when the loss is no longer a number.
    """
    objectives.check(weights)
    if objectives.uses_teacher(weights) and teacher is None:
        raise StudyError(f"objective {objectives.title(weights)} needs a teacher.")
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay)
    order = schedule([len(pack.ids) for pack in packs], size=recipe.packs, steps=recipe.steps, seed=recipe.seed)
    curve = _resume(model, optimizer, work)
    marks = {round(recipe.steps * (i + 1) / evaluations) for i in range(evaluations)} if evaluate else set()
    saved = time.monotonic()
    model.eval()  # dropout would draw random numbers that no key and no checkpoint holds
    for step in range(len(curve), recipe.steps):
        optimizer.param_groups[0]["lr"] = recipe.rate_at(step)
        with precision(model, recipe.precision):
            values = backward(model, [packs[i] for i in order[step]], weights, teacher, vocabulary, recipe.micro)
        if not math.isfinite(values["loss"]):
            raise StudyError(f"the loss is {values['loss']} at step {step + 1}: lower the learning rate of {recipe.rate:g}.")
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step + 1 in marks:
            values |= evaluate(model)
        curve.append({"step": step + 1, **values})
        report(step + 1, values)
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            checkpoint(model, optimizer, curve, work)
            saved = time.monotonic()
    return curve


def checkpoint(model: PreTrainedModel, optimizer: torch.optim.Optimizer, curve: list[dict], work: Path) -> None:
    """Write model, optimiser and curve into `work`, replacing the last checkpoint only when complete.

    The order of data depends on step and seed alone and nothing else draws random numbers, so this is all there is.
    """
    names = [name for name, _ in model.named_parameters()]
    tensors = {f"model.{name}": p.detach() for name, p in model.named_parameters()}
    for number, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{names[number]}.{key}": value for key, value in values.items()}
    draft = work / f"step-{len(curve)}.draft"
    draft.mkdir(parents=True, exist_ok=True)
    save_file(tensors, draft / "state.safetensors")
    write_json(draft / "curve.json", curve)
    final = draft.with_suffix("")
    shutil.rmtree(final, ignore_errors=True)
    draft.rename(final)
    for old in work.glob("step-*"):
        if old != final:
            shutil.rmtree(old)


def _resume(model: PreTrainedModel, optimizer: torch.optim.Optimizer, work: Path) -> list[dict]:
    found = [folder for folder in work.glob("step-*") if folder.suffix != ".draft"]
    if not found:
        return []
    latest = max(found, key=lambda folder: int(folder.name.partition("-")[2]))
    tensors = load_file(latest / "state.safetensors")
    state = {}
    with torch.no_grad():
        for number, (name, parameter) in enumerate(model.named_parameters()):
            parameter.copy_(tensors[f"model.{name}"])
            prefix = f"optimizer.{name}."
            state[number] = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return json.loads((latest / "curve.json").read_text())
