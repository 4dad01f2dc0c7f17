"""What the configuration of a model from outside may decide: its shape, never how the study
computes it.

The mask of a packed row is the study's own, so attention is always that of `sdpa`, which applies it
(`eager` adds it, and masks nothing). A configuration is made anew from the fields that describe the
weights and their arithmetic. What else it says (dtype, dropout, caches, outputs, generation) is
left out. What would need another mask or other weights than those read here (sliding windows,
chunks, two-way attention, quantisation) is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from studylib.core.errors import StudyError
from studylib.core.libraries import transformers

ARCHITECTURES = ("gpt_neox", "llama", "qwen2")
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
COMPUTED: dict[str, Any] = {"dtype": "float32", "attn_implementation": "sdpa"}
SHAPE = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *(
        "num_key_value_heads",
        "head_dim",
        "max_position_embeddings",
        "hidden_act",
        "rope_parameters",
    ),
    *("rms_norm_eps", "layer_norm_eps", "attention_bias", "mlp_bias", "use_parallel_residual"),
    *("tie_word_embeddings", "initializer_range", "bos_token_id", "eos_token_id"),
)
ROTARY = (
    "default",
    "linear",
    "dynamic",
    "llama3",
    "yarn",
)  # `longrope` depends on the longest row of a batch


def plain(config: transformers.PretrainedConfig, name: object) -> transformers.PretrainedConfig:
    """The same model's configuration with nothing in it but its shape.

    Raises StudyError, calling the model by its `name`, for one of an unknown architecture or that
    cannot be computed exactly here.
    """
    if config.model_type not in ARCHITECTURES:
        raise StudyError(
            f"{name} holds a {config.model_type} model: known architectures are"
            f" {', '.join(ARCHITECTURES)}."
        )
    values = vars(config)
    if reason := _refused(values):
        raise StudyError(
            f"{name}: its configuration says {reason}, which the study does not compute: take"
            " another model."
        )
    shape = {key: copy.deepcopy(values[key]) for key in SHAPE if key in values}
    return transformers.AutoConfig.for_model(config.model_type, **shape)


def _refused(values: Mapping[str, Any]) -> str:
    """The first entry that would need another mask or other weights, or nothing."""
    rotary = (values.get("rope_parameters") or {}).get("rope_type", "default")
    refused = {
        "that its weights are quantised": (
            values.get("quantization_config") or values.get("compression_config")
        ),
        "`per_layer_config`": values.get("_heterogeneity_spec"),
        "`is_causal: false`": not values.get("is_causal", True),
        f"`rope_type: {rotary}`": rotary not in ROTARY,
    }
    return next((entry for entry, is_there in refused.items() if is_there), _windowed(values))


def _windowed(values: Mapping[str, Any]) -> str:
    """The entry by which a token would not see all before it, or nothing. A window as long as the
    longest row changes nothing."""
    windows = {key: values.get(key) for key in ("sliding_window", "attention_chunk_size")}
    short = [
        f"`{key}: {size}`"
        for key, size in windows.items()
        if size is not None and (type(size) is not int or size < values["max_position_embeddings"])
    ]
    kinds = values.get("layer_types")
    if kinds is None:
        return short[0] if short else ""
    others = sorted({str(kind) for kind in kinds} - {"full_attention"})
    if others and not (others == ["sliding_attention"] and windows["sliding_window"] and not short):
        return f"`layer_types: {others[0]}`"
    return ""
