"""A GGUF file: 4-bit weights, dequantised on loading, with their configuration and tokenizer.

Configuration and tokenizer are read once: they stand in one file with a vocabulary, which takes
seconds.
"""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from studylib.core.errors import StudyError
from studylib.core.libraries import transformers
from studylib.data import vocabulary
from studylib.models.configurations import COMPUTED, LOCAL
from studylib.models.parts import parameters

PLAIN = {"hf_quantizer": None, "is_quantized": False, "quantization_method": None}


def load(file: Path) -> transformers.PreTrainedModel:
    """The model in float32."""
    from transformers import modeling_gguf_pytorch_utils as gguf  # most of a second

    # The bar of this module has no switch: a log would hold each of its steps.
    gguf.tqdm = partial(tqdm, disable=True)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, **COMPUTED, **LOCAL
    )
    # The weights are plain now; save_pretrained refuses a model that still carries these marks.
    del model.config.quantization_config
    for mark, value in PLAIN.items():
        setattr(model, mark, value)
    return model


def tie(model: transformers.PreTrainedModel, count: int, reference: str) -> None:
    """Share one matrix between input and output embeddings, as the published configuration does.

    The file holds both, quantised apart: the output's, which is finer, serves both. Raises
    StudyError unless the model then has the published number of parameters.
    """
    model.get_input_embeddings().weight = model.get_output_embeddings().weight
    model.config.tie_word_embeddings = True
    if (total := parameters(model)["total"]) != count:
        raise StudyError(
            f"{reference} has {total:,} parameters where {count:,} were published: delete the file"
            " and run again."
        )


@lru_cache(maxsize=4)
def config(file: Path) -> transformers.PretrainedConfig:
    """The configuration in the file."""
    return transformers.AutoConfig.from_pretrained(file.parent, gguf_file=file.name, **LOCAL)


@lru_cache(maxsize=4)
def tokenizer(file: Path) -> transformers.PreTrainedTokenizerBase:
    """The tokenizer in the file."""
    return vocabulary.complete(
        transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, **LOCAL)
    )
