"""The precision of matrix products: float32, or bfloat16 as autocast has them.

bfloat16 means that the operands are rounded to it, products are summed up in float32, and the
result is rounded. Where torch has no fast product of this kind, it would multiply element by
element, some 100 times as slowly; instead the same is done by float32's (`rounding`). Linear maps
then differ by the order of sums alone, as between any two processors. Attention keeps its
probabilities in float32, which other processors round.

Try it: python -m pytest tests/models/test_precision.py
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal, get_args

from studylib.core.libraries import torch, transformers
from studylib.models.parts import layers

Precision = Literal["fp32", "bf16"]
PRECISIONS = get_args(Precision)


@cache
def is_native(precision: str) -> bool:
    """Whether torch has a fast product of this precision for this processor."""
    fast = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported
    return precision == "fp32" or bool(fast and fast())


@contextmanager
def products_in(model: transformers.PreTrainedModel, precision: str) -> Iterator[None]:
    """Within, the model's matrix products are in `bf16`, or in `fp32` as they are."""
    device = model.device.type
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
        if device == "cpu" and not is_native(precision):
            from studylib.models.rounding import ROUNDING  # loads torch

            with ROUNDING:
                yield
        else:
            yield


def round_frozen(model: transformers.PreTrainedModel, precision: str) -> None:
    """Keep the linear maps of a model's blocks that are not trained as they are multiplied.

    Within `products_in` they would be rounded there anyway: the bits are the same. The memory is
    half, unless bfloat16 is multiplied by instructions for float32.
    """
    if precision == "bf16":
        for module in layers(model).modules():
            if type(module) is torch.nn.Linear and not module.weight.requires_grad:
                module.to(torch.bfloat16)
                if model.device.type == "cpu" and not is_native(precision):
                    module.to(torch.float32)
