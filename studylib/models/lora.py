"""Low-rank adapters: fine-tuning a model whose gradients and optimiser states would not fit into
memory.

Each linear map W of a block becomes W + (2r/r) B A, with A (r, d_in) and B (d_out, r) trained in
float32 and W frozen (Hu et al., 2022, arXiv:2106.09685), by `peft`. Frozen maps are kept in the
precision in which they are multiplied: autocast would round them there anyway, so the bits are the
same and the memory is half.

Try it: python -m pytest tests/models/test_lora.py
"""

from __future__ import annotations

from collections.abc import Mapping

from studylib.core.libraries import torch, transformers, without_gradients
from studylib.models import parts
from studylib.models.precision import round_frozen

SCALE = 2  # lora_alpha over the rank, as in peft's own examples


def attach(model: transformers.PreTrainedModel, rank: int, precision: str, seed: int) -> None:
    """Freeze a model in place and give each linear map of its blocks adapters of this rank.

    B starts at zero, so nothing changes before the first step; A is drawn by the seed.
    Frozen maps are kept in `precision` (`models.round_frozen`).
    """
    from peft import LoraConfig, inject_adapter_in_model  # slow to import, and plans attach nothing

    linear = {
        name.rpartition(".")[2]
        for name, module in parts.layers(model).named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LoraConfig(r=rank, lora_alpha=SCALE * rank, target_modules=sorted(linear))
        inject_adapter_in_model(config, model)
    round_frozen(model, precision)


def adapters(model: transformers.PreTrainedModel) -> dict[str, torch.Tensor]:
    """The trained tensors of an adapted model, by name."""
    return {
        name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad
    }


@without_gradients()
def merge(model: transformers.PreTrainedModel, trained: Mapping[str, torch.Tensor]) -> None:
    """Add adapters, in float32, to the linear maps of a plain model that is the one that they were
    attached to."""
    weights = dict(model.named_parameters())
    for name, down in trained.items():
        if ".lora_A." in name:
            place = name.partition(".lora_A.")[0]
            up = trained[name.replace(".lora_A.", ".lora_B.")]
            weights[f"{place}.weight"].add_(SCALE * (up.float() @ down.float()))
