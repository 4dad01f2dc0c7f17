"""A vocabulary trimmed to the tokens that texts use: a byte-level BPE tokenizer with fewer tokens,
and a model with their embeddings alone.

trimmed = trimming.trim(tokenizer, texts, 24_576)
student = trimming.cut(model, trimmed.ids)

A teacher that is cut in the same way reads what its student reads, and its probabilities are those
of the tokens that are left, given that the next is one of them. To give the probability of a token
that is gone to the first of its pieces is no better: so the fine-tuned SmolLM2 gives gold dev
answers 3.40 nats a question with 24,576 tokens, 3.47 with 16,384 and 3.73 with 8,192; the way taken
3.39, 3.42 and 3.74; the whole vocabulary 3.48.

BPE applies, of all merges that a word allows, the first in its list, again and again. Merges inside
a token do not depend on what stands beside it. So a token in any text is the result of the same
merges as in its text alone. While their results all stay, the token does: what BPE applied first
among all merges is still first among fewer. A merge stays if its parts and its result stay. Bytes
always stay, so every text is still encoded, in more tokens.

Words with a token that is gone are split anew, and not always into the most frequent tokens that
are left: the order of merges decides. `added` counts what that takes.

Try it: python -m pytest tests/models/test_trimming.py
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from tokenizers import Tokenizer, pre_tokenizers

from studylib.core.errors import StudyError
from studylib.core.libraries import torch, transformers, without_gradients
from studylib.data import vocabulary

FILES = {  # where a tokenizer was read from, and its numbering of tokens there
    "vocab",
    "merges",
    "vocab_file",
    "merges_file",
    "tokenizer_file",
    "tokenizer_object",
    "gguf_file",
    "added_tokens_decoder",
}
SETTINGS = (
    "chat_template",
    "model_max_length",
    "padding_side",
    "truncation_side",
    "model_input_names",
    "clean_up_tokenization_spaces",
)


class Trimmed(NamedTuple):
    """A trimmed tokenizer, and the old id of each of its tokens: int64 (V',), rising."""

    tokenizer: transformers.PreTrainedTokenizerBase
    ids: torch.Tensor


def trim(
    tokenizer: transformers.PreTrainedTokenizerBase, texts: Iterable[str], size: int
) -> Trimmed:
    """A tokenizer with `size` of a byte-level BPE tokenizer's tokens, numbered in their old order.

    Bytes and special and other added tokens stay, then the tokens that are most frequent in
    `texts`, each with those that it is merged from; equally frequent ones by their old id. Where
    fewer occur, the rest is filled up by old id. Text is decoded as the old tokenizer decodes it:
    exactly, unless that has a normalizer or lacks bytes. Roles of special tokens, chat template and
    settings stay.

    Raises StudyError for another kind of tokenizer, and for a size that is smaller than what must
    stay or larger than the vocabulary.
    """
    check(tokenizer, size)
    state, old = _state(tokenizer), tokenizer.get_vocab()
    ranks = _ranks(state)
    kept = _required(state, old, ranks)
    counts = Counter(token for ids in vocabulary.text_ids(tokenizer, list(texts)) for token in ids)
    for token in sorted(old, key=lambda token: (-counts[old[token]], old[token])):
        missing = [part for part in _built(token, ranks) if part not in kept]
        kept.update(missing[: size - len(kept)])
        if len(kept) == size:
            break
    ordered = sorted(kept, key=old.__getitem__)
    ids = torch.tensor([old[token] for token in ordered])
    return Trimmed(_rebuilt(tokenizer, state, ordered), ids)


def check(tokenizer: transformers.PreTrainedTokenizerBase, size: int) -> None:
    """Raise StudyError for a tokenizer that cannot be trimmed, or not to this size."""
    state, old = _state(tokenizer), tokenizer.get_vocab()
    least = len(_required(state, old, _ranks(state)))
    if size < least:
        raise StudyError(
            f"a vocabulary of {size:,} tokens is too small: {least:,} byte and special tokens must"
            " stay."
        )
    if size > len(old):
        raise StudyError(
            f"a vocabulary cannot be trimmed to {size:,} tokens: the tokenizer has {len(old):,}."
        )


def added(
    tokenizer: transformers.PreTrainedTokenizerBase,
    trimmed: transformers.PreTrainedTokenizerBase,
    texts: Iterable[str],
) -> float:
    """The share of tokens that texts take more in a trimmed vocabulary: 0.04 is 4 % more.

    Raises StudyError for texts without a token.
    """
    texts = list(texts)
    before, after = (
        sum(map(len, vocabulary.text_ids(words, texts))) for words in (tokenizer, trimmed)
    )
    if not before:
        raise StudyError("texts without a token do not show what a trimmed vocabulary adds.")
    return after / before - 1


@without_gradients()
def cut(model: transformers.PreTrainedModel, ids: torch.Tensor) -> transformers.PreTrainedModel:
    """`model` itself, of whose input and output embeddings only the rows `ids` (V',) are left.

    Its configuration and generation configuration name the same tokens by their new ids; a token
    that is gone is named no more. Raises StudyError unless `ids` rise and are rows of the model.
    """
    source: Any = model.get_input_embeddings()
    output: Any = model.get_output_embeddings()
    rows = source.weight.shape[0]
    if not len(ids) or ids[0] < 0 or ids[-1] >= rows or not (ids.diff() > 0).all():
        raise StudyError(f"token ids of a cut model must rise within its {rows:,} rows.")
    new = {token: number for number, token in enumerate(ids.tolist())}
    tied = output.weight is source.weight
    source.weight, source.num_embeddings = _rows(source.weight, ids), len(ids)
    source.padding_idx = new.get(source.padding_idx)
    output.weight = source.weight if tied else _rows(output.weight, ids)
    output.out_features = len(ids)
    if output.bias is not None:
        output.bias = _rows(output.bias, ids)
    module: Any
    for module in (model, model.base_model):
        if hasattr(module, "vocab_size"):
            module.vocab_size = len(ids)
        if hasattr(module, "padding_idx"):
            module.padding_idx = source.padding_idx
    model.config.vocab_size = len(ids)
    for settings in (model.config, model.generation_config):
        _rename(settings, new)
    return model


def _state(tokenizer: transformers.PreTrainedTokenizerBase) -> dict[str, Any]:
    """What tokenizer.json says of a tokenizer. Raises StudyError if it is no byte-level BPE."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state = json.loads(backend.to_str()) if backend is not None else {"model": {}}
    model = state["model"]
    if (
        model.get("type") != "BPE"
        or any(model[mark] for mark in ("continuing_subword_prefix", "end_of_word_suffix"))
        or not all(
            "ByteLevel" in [step["type"] for step in _steps(state[name])]
            for name in ("pre_tokenizer", "decoder")
        )
    ):
        raise StudyError("only a byte-level BPE tokenizer can be trimmed: take another model.")
    return state


def _steps(part: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """A part of tokenizer.json and, in a sequence, the steps in it."""
    if part is not None:
        yield part
        for name in ("pretokenizers", "decoders", "processors"):
            for step in part.get(name, ()):
                yield from _steps(step)


def _ranks(state: Mapping[str, Any]) -> dict[tuple, int]:
    """The places of merges in their order."""
    return {pair: rank for rank, pair in enumerate(map(tuple, state["model"]["merges"]))}


def _required(
    state: Mapping[str, Any], old: Mapping[str, int], ranks: Mapping[tuple, int]
) -> set[str]:
    """Tokens that stay whatever the texts: bytes, those of which tokenizer.json says what they do,
    and what these are merged from."""
    named = {token["content"] for token in state["added_tokens"]} | {state["model"]["unk_token"]}
    named |= {*pre_tokenizers.ByteLevel.alphabet()}  # some tokenizers lack bytes of no valid text
    return {part for token in named & old.keys() for part in _built(token, ranks)}


def _built(token: str, ranks: Mapping[tuple, int]) -> list[str]:
    """What BPE makes of a token's text, in its order: the results of merges up to the token. The
    token alone, where no merges lead there.

    `ranks` are the merges' places in their order, the smaller the sooner.
    """
    parts, results = list(token), list[str]()
    while len(parts) > 1:
        rank, at = min(
            (ranks.get(pair, len(ranks)), place) for place, pair in enumerate(pairwise(parts))
        )
        if rank == len(ranks):
            return [token]
        parts[at : at + 2] = ["".join(parts[at : at + 2])]
        results.append(parts[at])
    return results or [token]


def _rebuilt(
    tokenizer: transformers.PreTrainedTokenizerBase, state: dict[str, Any], kept: Sequence[str]
) -> transformers.PreTrainedTokenizerFast:
    """A tokenizer of the `kept` tokens, numbered from 0, with all else as in another's `state`."""
    new = {token: number for number, token in enumerate(kept)}
    # An added token gets the id that the model's vocabulary has for it, and without it the next.
    model = state["model"] | {"vocab": new, "dropout": None}
    model["merges"] = [
        (left, right)
        for left, right in model["merges"]
        if left in new and right in new and left + right in new
    ]
    state = copy.deepcopy(state | {"model": {}}) | {"model": model}
    for token in state["added_tokens"]:
        token["id"] = new[token["content"]]
    if state["padding"]:
        state["padding"]["pad_id"] = new[state["padding"]["pad_token"]]
    for step in _steps(state["post_processor"]):
        _renumber(step, new)
    named = {name: value for name, value in tokenizer.init_kwargs.items() if name not in FILES}
    trimmed = transformers.PreTrainedTokenizerFast(
        **named
        | tokenizer.special_tokens_map
        | {"extra_special_tokens": list(tokenizer.extra_special_tokens)},
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
    )
    for name in SETTINGS:
        setattr(trimmed, name, getattr(tokenizer, name))
    return trimmed


def _renumber(step: dict[str, Any], new: Mapping[str, int]) -> None:
    """Give the tokens that a post-processor adds their new ids, in place."""
    if step["type"] == "TemplateProcessing":
        for special in step["special_tokens"].values():
            special["ids"] = [new[token] for token in special["tokens"]]
    for name in ("cls", "sep"):
        if name in step:
            step[name] = [step[name][0], new[step[name][0]]]


def _rows(weight: torch.Tensor, ids: torch.Tensor) -> torch.nn.Parameter:
    """The rows `ids` (V',) of a parameter (V, ...)."""
    return torch.nn.Parameter(weight[ids.to(weight.device)].clone(), weight.requires_grad)


def _rename(settings: Any, new: Mapping[int, int]) -> None:
    """Give the special tokens in a configuration their new ids, in place."""
    for name, value in settings.to_dict().items():
        if name.endswith("_token_id") and isinstance(value, list):
            setattr(settings, name, [new[token] for token in value if token in new] or None)
        elif name.endswith("_token_id") and value is not None:
            setattr(settings, name, new.get(value))
