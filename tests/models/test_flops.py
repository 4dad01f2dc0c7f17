"""Counted FLOPs of passes: against closed forms written out here, and against torch's count of a
whole model."""

from dataclasses import astuple

import pytest
import torch
from miniatures import FAMILIES, SHAPE, model
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, MixtralConfig, PretrainedConfig, Qwen2MoeConfig

from studylib.data import hub
from studylib.data.packing import collate, pack
from studylib.data.prompts import Prompt
from studylib.models import flops, lora, parts, prune

RANK = 3


def maps(config: PretrainedConfig) -> list[tuple[int, int, bool]]:
    """The linear maps of a block: inputs, outputs, and whether they read the block's input (through
    a norm alone)."""
    wide, inner, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    if config.model_type == "gpt_neox":  # attention and feed-forward part side by side
        reading = [(wide, 3 * wide, True), (wide, inner, True)]
        return [*reading, (wide, wide, False), (inner, wide, False)]
    kept = wide // heads * config.num_key_value_heads
    attention = [(wide, wide, True), (wide, kept, True), (wide, kept, True), (wide, wide, False)]
    return [*attention, (wide, inner, False), (wide, inner, False), (inner, wide, False)]


def forward(config: PretrainedConfig) -> tuple[int, int, int]:
    """By hand: two FLOPs for a weight of a linear map and a token; two products of all heads'
    width for a pair of tokens, scores and values, in each layer; the output head."""
    weights = sum(inputs * outputs for inputs, outputs, _ in maps(config))
    wide, depth = config.hidden_size, config.num_hidden_layers
    return 2 * depth * weights, 4 * depth * wide, 2 * wide * config.vocab_size


def on_meta(config: PretrainedConfig) -> torch.nn.Module:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def row(tokens: int):
    return collate([pack(Prompt([0] * tokens, []))])


@pytest.mark.parametrize("name", ["EleutherAI/pythia-410m", "Qwen/Qwen2.5-7B", "small"])
def test_plain_training_takes_three_times_the_closed_form_of_a_forward_pass(name: str):
    """For GPT-NeoX, Qwen2 (grouped queries, biases) and Llama (tied embeddings) in real sizes."""
    config = hub.known_config({"small": "HuggingFaceTB/SmolLM2-135M-Instruct"}.get(name, name))
    passes = flops.counted(prune.hollow(config, config.num_hidden_layers, None))
    assert astuple(passes.forward) == forward(config)
    assert astuple(passes.training) == tuple(3 * value for value in forward(config))
    token, pair, logit = forward(config)
    assert passes.training.flops(200, 9000, 30) == 3 * (200 * token + 9000 * pair + 30 * logit)


@pytest.mark.parametrize("family", FAMILIES)
def test_fewer_layers_and_neurons_take_their_share(family: str):
    config = model(family).config
    smaller = prune.hollow(config, 3, 8)
    assert astuple(flops.counted(smaller).forward) == forward(smaller.config)
    assert smaller.config.intermediate_size == 8 and smaller.config.num_hidden_layers == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_weights_take_no_gradient(family: str):
    """Adapters A and B of each map take their products, and gradients of weights and inputs; frozen
    maps and the head take those of their inputs. What reads the embeddings takes none of inputs in
    the first block: these are frozen."""
    hollow = prune.hollow(model(family).config, 4, None)
    lora.attach(hollow, RANK, "fp32", 0)
    token, pair, logit = forward(hollow.config)
    adapters = 2 * RANK * 4 * sum(ins + outs for ins, outs, _ in maps(hollow.config))
    unread = sum(2 * ins * (outs + RANK) for ins, outs, reads in maps(hollow.config) if reads)
    passes = flops.counted(hollow)
    assert astuple(passes.forward) == (token + adapters, pair, logit)
    assert astuple(passes.training) == (2 * token + 3 * adapters - unread, 3 * pair, 2 * logit)


def test_a_mixture_takes_the_experts_that_a_token_goes_to():
    config = MixtralConfig(
        **SHAPE, num_key_value_heads=2, num_local_experts=8, num_experts_per_tok=2, vocab_size=64
    )
    attention, expert = 2 * 32 * 32 + 2 * 32 * 16, 3 * 32 * 48
    token = 2 * 4 * (attention + 2 * expert + 32 * 8)  # two experts, and the router's eight
    passes = flops.counted(on_meta(config))
    assert astuple(passes.forward) == (token, 4 * 4 * 32, 2 * 32 * 64)
    assert astuple(passes.training) == (3 * token, 3 * 4 * 4 * 32, 3 * 2 * 32 * 64)


@pytest.mark.parametrize("rank", [0, RANK])
def test_blocks_that_differ_are_each_counted(rank: int):
    """Mixtures in some blocks, plain ones in others, against torch's count of the whole model."""
    shape = {"moe_intermediate_size": 16, "shared_expert_intermediate_size": 8, "num_experts": 4}
    config = Qwen2MoeConfig(**SHAPE, **shape, num_key_value_heads=2, mlp_only_layers=[0, 2])
    net = on_meta(config)
    net.set_experts_implementation("batched_mm")
    if rank:
        lora.attach(net, rank, "fp32", 0)
    passes = flops.counted(net)
    with FlopCounterMode(display=False) as counter:
        hidden = parts.hidden_states(net, row(24))
        assert passes.forward.flops(24, 24**2, 0) == counter.get_total_flops()
        hidden.sum().backward()
    assert passes.training.flops(24, 24**2, 0) == counter.get_total_flops()
    kinds = {len(list(block.parameters())) for block in parts.layers(net)}
    assert len(kinds) == 2
