"""Products in bfloat16 by instructions for float32: operands are rounded, multiplied, and the
result is rounded, forward and backward.

Within `ROUNDING` and autocast, linear maps and attention on the processor are computed so. A map
that is kept in float32 there (autocast is off around it) has its gradients computed so, since
autocast rounds every product of the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode


class Rounding(TorchFunctionMode):
    """Linear maps and attention that autocast would have in bfloat16, of rounded operands in
    float32, the result rounded, forward and backward. Within the outermost context, weights that
    are not trained are rounded once."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0  # of contexts within each other, which share what is rounded
        self.rounded: dict[int, tuple[Tensor, int, Tensor]] = {}  # weight, its version, rounded
        self.products = {linear: self._linear, scaled_dot_product_attention: _attention}

    def __enter__(self) -> Rounding:
        self.depth += 1
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self.depth -= 1
        if not self.depth:
            self.rounded.clear()
        super().__exit__(*error)

    def __torch_function__(
        self,
        func: Callable,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        is_cast = torch.is_autocast_enabled("cpu")
        product = (self.products if is_cast else {linear: _wide_linear}).get(func)
        if product is None or next(iter((*args, *kwargs.values()))).device.type != "cpu":
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            return product(*args, **kwargs)

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return _Linear.apply(x, weight, bias, None if weight.requires_grad else self._kept(weight))

    def _kept(self, weight: Tensor) -> Tensor:
        """A weight, rounded; itself where it is round."""
        known, version, rounded = self.rounded.get(id(weight), (None, -1, weight))
        if known is not weight or version != weight._version:
            rounded = _round(weight)
            if isinstance(weight, FakeTensor) or torch.equal(rounded, weight):
                rounded = weight.detach()  # a fake one has no values, and no memory either
            self.rounded[id(weight)] = weight, weight._version, rounded
        return rounded


class _Linear(torch.autograd.Function):
    """x (..., n), weight (m, n), bias (m) or None, the weight as it is rounded or None, which
    rounds it here and in the backward pass -> bfloat16 (..., m)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, rounded: Tensor | None
    ) -> Tensor:
        half = x.bfloat16()
        ctx.is_rounded = rounded is not None
        ctx.save_for_backward(half, weight if rounded is None else rounded)
        ctx.dtypes = [tensor is not None and tensor.dtype for tensor in (x, weight, bias)]
        rounded = _round(weight) if rounded is None else rounded
        bias = None if bias is None else _round(bias)
        return linear(half.float(), rounded, bias).bfloat16()

    @staticmethod
    @torch.autocast("cpu", enabled=False)  # it may run within the context
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        half, weight = ctx.saved_tensors
        weight = weight if ctx.is_rounded else _round(weight)
        gradient = gradients[0].float()
        products = _gradients(gradient, half.float(), weight, ctx.needs_input_grad)
        of_bias = gradient.flatten(0, -2).sum(0) if ctx.needs_input_grad[2] else None
        return *(
            None if each is None else each.bfloat16().to(dtype)
            for each, dtype in zip((*products, of_bias), ctx.dtypes, strict=True)
        ), None


class _WideLinear(torch.autograd.Function):
    """A linear map in float32: x (..., n), weight (m, n), bias (m) or None -> (..., m). Gradients
    that are computed within autocast are those of rounded operands."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        cast = _round if torch.is_autocast_enabled("cpu") else Tensor.detach
        with torch.autocast("cpu", enabled=False):
            gradient, x, weight = map(cast, (*gradients, *ctx.saved_tensors))
            products = _gradients(gradient, x, weight, ctx.needs_input_grad)
            of_bias = gradients[0].flatten(0, -2).sum(0) if ctx.needs_input_grad[2] else None
            return *(None if each is None else cast(each) for each in products), of_bias


def _gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Of a linear map's gradient (..., m), x (..., n) and weight (m, n): the gradients of x and of
    the weight, where they are needed."""
    return (
        gradient @ weight if needed[0] else None,
        gradient.flatten(0, -2).T @ x.flatten(0, -2) if needed[1] else None,
    )


def _wide_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _WideLinear.apply(x, weight, bias)


def _round(tensor: Tensor) -> Tensor:
    """Numbers of bfloat16, held in float32."""
    return tensor.detach().bfloat16().float()


def _attention(*given: Any, **how: Any) -> Tensor:
    """Attention of rounded queries, keys and values, in float32 up to its rounded result."""
    rounded = {name: _operand(value) for name, value in how.items()}
    return scaled_dot_product_attention(*map(_operand, given), **rounded).bfloat16()


def _operand(value: Any) -> Any:
    is_number = isinstance(value, Tensor) and value.is_floating_point()
    return value.bfloat16().float() if is_number else value


ROUNDING = Rounding()
