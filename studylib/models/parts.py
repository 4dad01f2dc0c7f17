"""A model's parts, by the same names in every architecture: blocks, final norm, hidden states,
output head; counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

from studylib.core.errors import StudyError
from studylib.core.libraries import torch, transformers, without_gradients
from studylib.data.packing import Batch


def parameters(model: transformers.PreTrainedModel) -> dict[str, int]:
    """Counted parameters: all, and those outside input and output embeddings (shared ones once)."""
    ends: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    embeddings = {id(end.weight): end.weight.numel() for end in ends}
    total = sum(p.numel() for p in model.parameters())
    return {"total": total, "nonembedding": total - sum(embeddings.values())}


@without_gradients()
def memory(model: transformers.PreTrainedModel, tokens: int) -> int:
    """Bytes of a model's weights and of the keys and values of so many tokens."""
    kept: Any = transformers.DynamicCache(
        config=model.config
    )  # whose layers differ in what they hold
    ids = torch.zeros(1, tokens, dtype=torch.long, device=model.device)
    following(model, kept, input_ids=ids)
    return sum(weight.nbytes for weight in model.parameters()) + sum(
        layer.keys.nbytes + layer.values.nbytes for layer in kept.layers
    )


def following(
    model: transformers.PreTrainedModel, cache: Any, **given: torch.Tensor
) -> torch.Tensor:
    """Post-final-norm hidden states (B, T, d) of tokens that follow those whose keys and values are
    in the cache, which takes theirs, too."""
    has_cache = "cache" in signature(model.base_model.forward).parameters
    name = "cache" if has_cache else "past_key_values"  # until transformers 5.24
    return model.base_model(**given, **{name: cache}, use_cache=True).last_hidden_state


def device(name: str) -> torch.device:
    """The device of this name; `auto` is a GPU where there is one. Raises StudyError for one that
    is not there."""
    if name not in ("auto", "cpu", "cuda"):
        raise StudyError(f"device {name!r} is unknown: use auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise StudyError("device cuda: torch sees no GPU here: take `device: auto` or cpu.")
    return (
        torch.device("cuda", torch.cuda.current_device())
        if name != "cpu" and torch.cuda.is_available()
        else torch.device("cpu")
    )


def layers(model: transformers.PreTrainedModel) -> torch.nn.ModuleList:
    """The decoder's blocks, in order."""
    base: Any = model.base_model
    return base.layers


def final_norm(model: transformers.PreTrainedModel) -> torch.nn.Module:
    """The norm after the last block."""
    base: Any = model.base_model
    return base.final_layer_norm if hasattr(base, "final_layer_norm") else base.norm


@without_gradients()
def add_token(model: transformers.PreTrainedModel) -> None:
    """Add a token to a model's vocabulary, after the others; it begins as their mean."""
    rows = model.config.vocab_size
    with torch.random.fork_rng(devices=[]):  # the new row is drawn before it is set
        model.resize_token_embeddings(rows + 1, mean_resizing=False)
    ends: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    for end in ends:
        end.weight[rows] = end.weight[:rows].mean(0)


def hidden_states(model: transformers.PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Post-final-norm hidden states of all tokens, (B, T, d)."""
    return layer_states(model, batch, False)[-1]


def layer_states(
    model: transformers.PreTrainedModel, batch: Batch, every_layer: bool = True
) -> tuple[torch.Tensor, ...]:
    """Hidden states (B, T, d): embeddings, each block's output, the last one after the final norm;
    or that one alone."""
    batch = batch.to(model.device)
    out = model.base_model(
        input_ids=batch.ids,
        position_ids=batch.positions,
        attention_mask=batch.mask,
        use_cache=False,
        output_hidden_states=every_layer,
    )
    return out.hidden_states if every_layer else (out.last_hidden_state,)


def attended_states(
    model: transformers.PreTrainedModel, batch: Batch
) -> tuple[tuple[torch.Tensor, ...], Callable[[], torch.Tensor]]:
    """Hidden states as `layer_states` returns them, and what makes the attention maps of the last
    block in the same pass, (B, heads, T, T): of each token the shares of those that it attends to.

    The usual attention keeps no maps: they are made of its queries and keys.
    """
    batch = batch.to(model.device)
    with _noted_attention(model) as noted:
        states = layer_states(model, batch)

    def maps() -> torch.Tensor:
        query, key, scaling = noted
        key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)  # heads share keys
        with torch.autocast(query.device.type, enabled=False):
            scores = query.float() @ key.float().transpose(2, 3) * scaling
        return scores.masked_fill(~batch.mask, -torch.inf).softmax(-1)

    return states, maps


@contextmanager
def _noted_attention(model: transformers.PreTrainedModel) -> Iterator[list[Any]]:
    """Within, a forward pass notes queries (B, heads, T, d), keys and scaling of the last block's
    attention, as they come to the function that the configuration names."""
    usual = transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS[model.config._attn_implementation]
    last, noted = len(layers(model)) - 1, list[Any]()

    def attend(module: Any, query: torch.Tensor, key: torch.Tensor, *given: Any, **how: Any) -> Any:
        if module.layer_idx == last:
            noted.extend((query, key, how["scaling"]))
        return usual(module, query, key, *given, **how)

    with attention_by(model, attend):
        yield noted


@contextmanager
def attention_by(model: transformers.PreTrainedModel, function: Callable) -> Iterator[None]:
    """Within, the model attends by a function as transformers' `AttentionInterface` has them."""
    functions, config = transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS, model.config
    usual, name = config._attn_implementation, f"{model.config._attn_implementation} within"
    functions[name], config._attn_implementation = function, name
    try:
        yield
    finally:
        config._attn_implementation = usual
        del functions[name]


@contextmanager
def shortened(model: transformers.PreTrainedModel, blocks: int) -> Iterator[None]:
    """Within, the model has its first blocks alone."""
    base: Any = model.base_model
    every, depth = base.layers, model.config.num_hidden_layers
    base.layers, model.config.num_hidden_layers = every[:blocks], blocks
    try:
        yield
    finally:
        base.layers, model.config.num_hidden_layers = every, depth


def head(
    model: transformers.PreTrainedModel, hidden: torch.Tensor, vocabulary: int
) -> torch.Tensor:
    """Post-final-norm hidden states (N, d) -> logits (N, vocabulary), cut to the tokenizer's size;
    in float32 even within autocast."""
    return output_of(model, vocabulary)(hidden)


def output_of(
    model: transformers.PreTrainedModel, vocabulary: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    """What maps hidden states (N, d), wherever they lie, to logits (N, vocabulary) as `head` does,
    and keeps no more of the model alive."""
    output = model.get_output_embeddings()
    weight, bias = (
        output.weight[:vocabulary],
        None if output.bias is None else output.bias[:vocabulary],
    )

    def apply(hidden: torch.Tensor) -> torch.Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            return torch.nn.functional.linear(hidden.to(weight.device).float(), weight, bias)

    return apply
