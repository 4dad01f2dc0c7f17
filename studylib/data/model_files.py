"""Bounds on a model's folder, which may be a stranger's: kind and size of its files, numbers of its
configuration, before any is used.

check_files(folder); check_numbers(folder); check_weights(folder)
"""

import json
import math
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from studylib.core.errors import StudyError, sentence_of

ENTRIES = 10_000  # of a folder; models of 400 billion parameters have 200
LARGEST = 256 << 20  # bytes of any file but weights; tokenizers of a million words have 40 MB
CONFIGURATION = 4 << 20  # bytes of config.json
TEMPLATES = "additional_chat_templates"  # the one folder within, of which transformers reads files
# The largest numbers that a configuration may say: several times those of the largest models that
# are published.
BOUNDS = {
    "num_hidden_layers": 1_000,
    "hidden_size": 1 << 17,
    "intermediate_size": 1 << 20,
    "num_attention_heads": 1 << 12,
    "num_key_value_heads": 1 << 12,
    "head_dim": 1 << 13,
    "vocab_size": 1 << 23,
    "max_position_embeddings": 1 << 30,
}
# parameters, a gigabyte: what is built by mistake at most before the weights are missed
SPARE = 250_000_000
GROWTH = 1_000  # times that the replacements of a tokenizer may lengthen a text


def check_files(folder: Path) -> None:
    """Raise StudyError for a folder of too many entries, and for one that is neither file nor
    folder, or too large to be read."""
    inside = list(islice(folder.iterdir(), ENTRIES + 1))
    if len(inside) > ENTRIES:
        raise StudyError(f"{folder} holds more than {ENTRIES} files: name the folder of one model.")
    templates = folder / TEMPLATES
    for path in (*inside, *(islice(templates.iterdir(), ENTRIES) if templates.is_dir() else ())):
        try:
            info = path.stat()
        except FileNotFoundError:  # a link to nothing
            continue
        if not stat.S_ISREG(info.st_mode) and not stat.S_ISDIR(info.st_mode):
            raise StudyError(
                f"{path} is neither a file nor a folder: take it out of the model's folder."
            )
        bound = CONFIGURATION if path.name == "config.json" else LARGEST
        if path.suffix in (".json", ".txt", ".model", ".jinja") and info.st_size > bound:
            raise StudyError(
                f"{path} has {info.st_size / 1e6:.0f} MB: files beside the weights are read up to"
                f" {bound / 1e6:.0f} MB."
            )


def read_json(path: Path) -> object:
    """What a file says. Raises StudyError, naming it, for one that is no JSON, or nested so deep
    that it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StudyError(
            f"{path.parent} cannot be loaded ({path.name}: {sentence_of(error)[:200]}): mend or"
            " replace it."
        ) from error


def check_numbers(folder: Path) -> None:
    """Raise StudyError for a configuration that says a number which no model has: whoever builds by
    it would not end."""
    for name, value in _pairs(read_json(folder / "config.json")):
        if isinstance(value, float) and not math.isfinite(value):
            raise StudyError(f"{folder}: config.json says {name} {value}: it must be a number.")
        if (
            name in BOUNDS
            and value is not None
            and (type(value) is not int or not 1 <= value <= BOUNDS[name])
        ):
            raise StudyError(
                f"{folder}: config.json says {name} {str(value)[:100]}: it must be a whole number"
                f" from 1 to {BOUNDS[name]}."
            )


def _pairs(value: object) -> Iterator[tuple[str, object]]:
    """Every name and its value, of mappings within, too."""
    for name, inner in value.items() if isinstance(value, dict) else ():
        yield name, inner
        yield from _pairs(inner)


def check_weights(folder: Path, vocabulary: int, hidden: int, inner: int, layers: int) -> None:
    """Raise StudyError for a configuration of far more parameters than the weights have bytes:
    building it would take memory without end."""
    there = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    least = vocabulary * hidden + layers * 2 * hidden * inner
    if least > there + SPARE:
        raise StudyError(
            f"{folder}: config.json describes a model of more than {least:.1e} parameters, its"
            f" weights have {there:.1e} bytes: take the configuration that belongs to them."
        )


def check_tokenizer(folder: Path) -> None:
    """Raise StudyError for a tokenizer whose replacements, one after the other, make a long text of
    a short one."""
    file = folder / "tokenizer.json"
    content = read_json(file) if file.is_file() else {}
    for part in ("normalizer", "decoder"):
        growth = math.prod(
            _growth(replacement)
            for replacement in _replacements(
                content.get(part) if isinstance(content, dict) else None
            )
        )
        if growth > GROWTH:
            raise StudyError(
                f"{file}: its {part} makes texts {growth:.0e} times as long: take a tokenizer that"
                " keeps their length."
            )


def _replacements(part: object) -> Iterator[dict]:
    for inner in (
        part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    ):
        yield from _replacements(inner)
    if isinstance(part, dict) and part.get("type") == "Replace":
        yield part


def _growth(replacement: dict) -> float:
    """How many times as long a replacement makes what it replaces; a regular expression may stand
    for a single character."""
    pattern = replacement.get("pattern")
    replaced = pattern.get("String") if isinstance(pattern, dict) else None
    return max(
        1.0,
        len(str(replacement.get("content")))
        / max(1, len(replaced) if isinstance(replaced, str) else 1),
    )


@contextmanager
def panics(name: str) -> Iterator[None]:
    """Within, a tokenizer that fails on a text raises StudyError: what its library raises then is
    no Exception."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise StudyError(
            f"the tokenizer of {name} fails on a text ({sentence_of(error)[:200]}): take another."
        ) from error
