"""Low-rank adapters against a dense model with the same product added, and a training's checkpoints
with them."""

import json

import pytest
import torch
from miniatures import planned
from torch import nn

from studylib.core import versions
from studylib.core.progress import Progress
from studylib.data import packing, prompts
from studylib.data.squad import load as load_questions
from studylib.methods import stages as method_stages
from studylib.models import loading, lora, parts, precision
from studylib.models.precision import products_in
from studylib.runs import kinds, plan_parts
from studylib.store.store import Store
from studylib.training import loop
from studylib.training.checkpoint import Learner
from studylib.training.config import Recipe

RANK = 4
SET = {"source": "facts:train", "paragraphs": 8, "facts": 3}


@pytest.fixture(params=["gpt_neox", "qwen2"])
def base(request) -> str:
    return f"tiny:{request.param}"


def rows(tokenizer) -> list[packing.Pack]:
    built = prompts.build(load_questions(SET).questions, tokenizer, mode="zero-shot", training=True)
    return [packing.pack(prompt) for prompt in built]


def trained(base: str, work, steps: int = 3, rank: int = RANK, precision: str = "fp32"):
    """A model whose adapters were trained for some steps, and the curve."""
    model, tokenizer = loading.load(base)
    lora.attach(model, rank, precision, 0)
    recipe = Recipe(4, 1e-2, 0, 2, precision)
    stages = method_stages.parse(method_stages.gold(steps))
    curve = loop.train(
        model, rows(tokenizer), stages=stages, recipe=recipe, vocabulary=len(tokenizer), work=work
    )
    return model, curve


def states(model, base: str) -> torch.Tensor:
    batch = packing.collate(rows(loading.tokenizer(base))[:2])
    with torch.no_grad():
        return parts.hidden_states(model, batch)[batch.real]


def test_fresh_adapters_change_nothing_and_are_all_that_is_trained(base: str):
    model, _ = loading.load(base)
    before = states(model, base)
    linear = [module for module in parts.layers(model).modules() if isinstance(module, nn.Linear)]
    lora.attach(model, RANK, "fp32", 0)
    assert torch.equal(states(model, base), before)
    count = sum(weight.numel() for weight in lora.adapters(model).values())
    assert count == RANK * sum(sum(module.weight.shape) for module in linear)


def test_merged_adapters_give_the_hidden_states_of_the_adapted_model(base: str, tmp_path):
    adapted, _ = trained(base, tmp_path)
    merged, _ = loading.load(base)
    untrained = states(merged, base)
    lora.merge(merged, lora.adapters(adapted))
    moved = (states(merged, base) - untrained).abs().max()
    same = [states(model.double(), base) for model in (merged, adapted)]  # sums without rounding
    assert torch.allclose(*same, atol=1e-5) and moved > 1e-2


def test_merging_adds_twice_the_product_of_both_factors(base: str):
    model, _ = loading.load(base)
    plain, _ = loading.load(base)
    lora.attach(model, RANK, "fp32", 0)
    for number, weight in enumerate(lora.adapters(model).values()):
        weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(number)))
    factors = lora.adapters(model)
    down = next(name for name in factors if ".lora_A." in name)
    name = down.partition(".lora_A.")[0] + ".weight"
    before = dict(plain.named_parameters())[name].detach().clone()
    lora.merge(plain, factors)
    change = dict(plain.named_parameters())[name].detach() - before
    assert torch.allclose(
        change, 2 * factors[down.replace("lora_A", "lora_B")] @ factors[down], atol=1e-5
    )


def test_frozen_maps_in_bf16_give_the_bits_of_autocast(base: str):
    whole, _ = loading.load(base)
    halved, _ = loading.load(base)
    lora.attach(whole, RANK, "fp32", 0)
    lora.attach(halved, RANK, "bf16", 0)
    frozen = [
        module
        for module in parts.layers(halved).modules()
        if type(module) is nn.Linear and not module.weight.requires_grad
    ]
    held = torch.bfloat16 if precision.is_native("bf16") else torch.float32
    assert {module.weight.dtype for module in frozen} == {held}
    assert all(torch.equal(each.weight, each.weight.bfloat16()) for each in frozen)
    assert {weight.dtype for weight in lora.adapters(halved).values()} == {torch.float32}
    with products_in(whole, "bf16"):
        assert torch.equal(states(whole, base), states(halved, base))


def test_a_stopped_training_of_adapters_goes_on_to_the_same_bits(
    base: str, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    straight, curve = trained(base, tmp_path / "straight")
    monkeypatch.setattr("studylib.core.filesystem.CHECKPOINT_SECONDS", 0)
    step = Learner.step

    def stop(self: Learner, rate: float, taken: list[float] = []) -> None:  # noqa: B006
        if len(taken) == 2:
            raise KeyboardInterrupt
        taken.append(rate)
        step(self, rate)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Learner, "step", stop)
        trained(base, tmp_path / "stopped")
    (checkpoint,) = (tmp_path / "stopped").glob("step-2/*.safetensors")
    full = sum(weight.nbytes for weight in straight.parameters())
    assert checkpoint.stat().st_size < full / 2
    again, resumed = trained(base, tmp_path / "stopped")
    assert resumed == curve
    assert all(
        torch.equal(weight, lora.adapters(straight)[name])
        for name, weight in lora.adapters(again).items()
    )


def test_the_rank_is_part_of_the_key_only_where_adapters_are_trained():
    data = plan_parts.dataset("train", SET)
    setting = plan_parts.Setting(data, data, "zero-shot", 0, 4, 0, "fp32", 1)
    raw = plan_parts.base_model("tiny:qwen2")
    full, low, lower = (
        kinds.teacher.plan(raw, setting, steps=2, lr=1e-3, rank=rank, label="")
        for rank in (0, 8, 4)
    )
    assert "lora" not in full.parameters and "lora" not in full.recipe
    assert len({full.planned, low.planned, lower.planned}) == 3
    assert low.recipe["lora"] == versions.VERSIONS["lora"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_teacher_that_was_tuned_by_adapters_is_kept_as_a_plain_model(
    precision: str, raw, tmp_path
):
    run = planned(
        raw, teacher_lora=RANK, precision={"training": precision, "answers": "fp32"}
    ).trained[0][0]
    store = Store(tmp_path)
    result = store.complete(run, kinds.make(store, Progress()))
    tuned, _ = loading.load_folder(store.path(run, "model"))
    base, _ = loading.load(raw)
    moved = {
        name
        for name, weight in tuned.named_parameters()
        if not torch.equal(weight, dict(base.named_parameters())[name])
    }
    linear = {
        f"{name}.weight"
        for name, module in base.named_modules()
        if isinstance(module, nn.Linear) and ".layers." in f".{name}"
    }
    assert moved == linear and {weight.dtype for weight in tuned.parameters()} == {torch.float32}
    assert result["facts"]["parameters"] == parts.parameters(base)
    assert "dev_f1" in json.loads(store.path(run, "curve.json").read_text())[-1]
