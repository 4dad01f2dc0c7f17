"""Matrix products in bfloat16, by instructions for float32 where the processor has no others."""

from contextlib import nullcontext

import pytest
import torch
from miniatures import FAMILIES, built, model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from studylib.data import packing
from studylib.models import parts, precision, rounding
from studylib.models.precision import products_in, round_frozen


@pytest.fixture
def without_instructions(monkeypatch):
    monkeypatch.setattr(precision, "is_native", lambda name: name == "fp32")


def native(function, *given):
    """What torch itself makes of a product in bfloat16, and the gradients of what is given."""
    with torch.autocast("cpu", torch.bfloat16):
        out = function(*given)
    out.float().square().sum().backward()
    gradients = [tensor.grad for tensor in given]
    for tensor in given:
        tensor.grad = None
    return out, gradients


def rounded(function, *given):
    with torch.autocast("cpu", torch.bfloat16), rounding.Rounding():
        out = function(*given)
    out.float().square().sum().backward()
    return out, [tensor.grad for tensor in given]


def drawn(*shapes):
    torch.manual_seed(0)
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


def close(ours, torch_own):
    """Equal but for the last of bfloat16's 8 bits, and equal bits nearly everywhere."""
    torch.testing.assert_close(ours, torch_own, rtol=2**-7, atol=2**-8)
    assert (ours == torch_own).float().mean() > 0.9


@pytest.mark.parametrize("bias", [True, False])
def test_linear_maps_and_their_gradients_are_those_of_torch(bias):
    given = drawn((3, 50, 64), (40, 64), (40,))[: 2 + bias]
    expected, gradients = native(nn.functional.linear, *given)
    out, ours = rounded(nn.functional.linear, *given)
    assert out.dtype == torch.bfloat16 and [each.dtype for each in ours] == [torch.float32] * len(
        given
    )
    close(out, expected)
    for gradient, reference in zip(ours, gradients, strict=True):
        assert torch.equal(gradient, gradient.bfloat16().float())
        torch.testing.assert_close(gradient, reference, rtol=2**-6, atol=2**-6 * reference.std())


@pytest.mark.parametrize("within", [True, False], ids=["within autocast", "outside"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_map_in_float32_has_the_gradients_that_autocast_computes(bias, within):
    """As the logits: autocast is off around the map, and on while gradients are computed."""

    def computed(mode):
        given = drawn((30, 64), (40, 64), (40,))[: 2 + bias]
        with torch.autocast("cpu", torch.bfloat16), mode:
            with torch.autocast("cpu", enabled=False):
                out = nn.functional.linear(*given)
            if within:
                out.square().sum().backward()
        if not within:
            out.square().sum().backward()
        return out, [tensor.grad for tensor in given]

    expected, references = computed(nullcontext())
    out, gradients = computed(rounding.Rounding())
    assert torch.equal(out, expected) and out.dtype == torch.float32
    for gradient, reference in zip(gradients, references, strict=True):
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(
            gradient, reference, rtol=2**-7 if within else 1e-5, atol=0.25 if within else 1e-4
        )
    if within:
        assert all(torch.equal(each, each.bfloat16().float()) for each in gradients[:2])


def test_attention_and_its_gradients_are_those_of_torch():
    given = drawn(*[(2, 4, 30, 16)] * 3)
    mask = torch.ones(30, 30, dtype=torch.bool).tril()

    def attention(*of):
        return nn.functional.scaled_dot_product_attention(*of, attn_mask=mask)

    expected, gradients = native(attention, *given)
    out, ours = rounded(attention, *given)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, expected, rtol=2**-6, atol=2**-7)
    for gradient, reference in zip(ours, gradients, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=2**-4, atol=2**-5 * reference.std())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_models_states_and_gradients_are_as_near_to_float32_as_those_of_torch(
    family, monkeypatch
):
    batch = packing.collate([packing.pack(prompt) for prompt in built("zero-shot", 2)])

    def computed(name, is_native):
        monkeypatch.setattr(precision, "is_native", lambda _: is_native)
        net = model(family)
        with products_in(net, name):
            states = parts.hidden_states(net, batch)[batch.real]
        states.float().square().mean().backward()
        gradients = [
            weight.grad.flatten() for weight in net.parameters() if weight.grad is not None
        ]
        return states.detach().float().flatten(), torch.cat(gradients)

    exact, torch_own, ours = computed("fp32", True), computed("bf16", True), computed("bf16", False)
    for reference, *others in zip(exact, torch_own, ours, strict=True):
        first, second = ((other - reference).norm() / reference.norm() for other in others)
        assert 0 < second < 1.3 * first < 0.1


def test_a_frozen_weight_is_rounded_once_and_anew_when_it_changes(without_instructions):
    net = model("llama").requires_grad_(False)
    weight = parts.layers(net)[0].mlp.up_proj.weight
    x = torch.randn(4, weight.shape[1])
    with products_in(net, "bf16"):
        first = nn.functional.linear(x, weight)
        with products_in(net, "bf16"):
            kept = rounding.ROUNDING._kept(weight)
        assert kept is rounding.ROUNDING._kept(weight) and not torch.equal(kept, weight)
        weight *= 2
        assert torch.equal(nn.functional.linear(x, weight), 2 * first)
    assert not rounding.ROUNDING.rounded
    round_frozen(net, "bf16")
    weight = parts.layers(net)[0].mlp.up_proj.weight
    assert weight.dtype == torch.float32 and torch.equal(weight, weight.bfloat16().float())
    with products_in(net, "bf16"):
        nn.functional.linear(x, weight)
        assert rounding.ROUNDING._kept(weight).data_ptr() == weight.data_ptr()


class _Operands(TorchDispatchMode):
    """Notes the operands' types of all matrix products."""

    def __init__(self):
        super().__init__()
        self.dtypes = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in PRODUCTS:
            self.dtypes |= {arg.dtype for arg in args if isinstance(arg, torch.Tensor)}
        return func(*args, **(kwargs or {}))


PRODUCTS = {torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm}


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_multiplied_in_bfloat16_without_instructions_for_it(
    family, without_instructions
):
    net, operands = model(family), _Operands()
    batch = packing.collate([packing.pack(prompt) for prompt in built("zero-shot", 2)])
    with operands, products_in(net, "bf16"):
        states = parts.hidden_states(net, batch)[batch.real]
        parts.head(net, states, 50).square().mean().backward()
    assert operands.dtypes == {torch.float32}
