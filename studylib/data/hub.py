"""A model on the Hugging Face hub: its pinned commit, its configuration without the network, its
folder once fetched.

hub:EleutherAI/pythia-410m     # its commit is pinned in hub.json
hub:OWNER/NAME@COMMIT          # any other
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub.utils import logging as hub_logging
from huggingface_hub.utils.sha import git_hash

from studylib.core.errors import StudyError, redacted, sentence_of
from studylib.core.filesystem import file_digest
from studylib.core.libraries import transformers
from studylib.data import model_files

SMALL = ["*.json", "*.txt", "*.model", "*.jinja"]
PUBLISHED = 2  # bytes a parameter: half precision
GIT = 40  # digits of the digest that names a file in git; larger files are named by their sha256


def _hide(record: logging.LogRecord) -> bool:
    """Let a message through without secrets: the hub's library tells what a server warns of,
    whatever that is."""
    record.msg, record.args = redacted(record.getMessage()), ()
    return True


for handler in hub_logging.get_logger("huggingface_hub").handlers:  # there once it is imported
    handler.addFilter(_hide)


@cache
def known() -> dict[str, dict]:
    """What is known of models beforehand, by name: commit, licence, parameters in all,
    configuration."""
    return json.loads(Path(__file__).with_name("hub.json").read_text(encoding="utf-8"))


def pinned(rest: str, commits: Mapping[str, str], what: str) -> tuple[str, str]:
    """A reference's repository and commit: the one named, or the one of `commits`. Raises
    StudyError where there is neither.

    `what` it is, models or datasets, says where commits are found.
    """
    name, _, commit = rest.partition("@")
    commit = commit or commits.get(name, "")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or not re.fullmatch("[0-9a-f]{40}", commit):
        raise StudyError(
            f"hub:{rest} is not pinned: write hub:OWNER/NAME@ and the 40 digits of a commit (`git"
            " ls-remote https://huggingface.co/"
            f"{'datasets/' if what == 'datasets' else ''}OWNER/NAME` lists them"
            + (
                "; a data set of scripts has parquet files in refs/convert/parquet)."
                if what == "datasets"
                else ")."
            )
        )
    return name, commit


def model(rest: str) -> tuple[str, str]:
    """A model's repository and commit. Raises StudyError for one that is not pinned."""
    return pinned(rest, {name: entry["commit"] for name, entry in known().items()}, "models")


def folder(rest: str, weights: bool = True) -> Path:
    """Where the model lies, in the hub's own cache (HF_HOME); fetched if need be, without its
    `weights` if these are not wanted.

    Raises StudyError where it cannot be fetched, and where what lies there is not what was
    published.
    """
    from huggingface_hub import snapshot_download  # slow to import

    there, patterns = at_hand(rest, weights), SMALL + ["*.safetensors"] * weights
    if there is None:
        name, commit = model(rest)
        try:
            there = Path(snapshot_download(name, revision=commit, allow_patterns=patterns))
        # whatever the hub, the network or the disk may do; what it says of requests may hold a
        # token
        except Exception as error:
            raise StudyError(
                f"hub:{rest} could not be fetched ({type(error).__name__}: {sentence_of(error)}):"
                " check the network, or HF_HOME."
            ) from None
    check(file for pattern in patterns for file in sorted(there.glob(pattern)))
    return there


def cache_of(name: str, kind: str) -> Path:
    """Where the hub's library keeps a repository of this kind (model, dataset)."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=kind)


def check(files: Iterable[Path]) -> None:
    """Raise StudyError, naming it, for a file in the hub's cache that is not what its name there
    says: the digest that the hub gave.

    Its library checks no more than sizes. A file that is no link into the cache was put there by
    someone else.
    """
    for file in files:
        if (
            file.is_symlink()
            and (blob := file.parent / file.readlink()).parent.name == "blobs"
            and _digest(blob) != blob.name
        ):
            raise StudyError(
                f"{file} is not what the hub published (its digest differs): delete"
                f" {blob.resolve()} and run again."
            )


def _digest(blob: Path) -> str:
    """A file's digest as the hub names files by it: git's, or sha256."""
    return git_hash(blob.read_bytes()) if len(blob.name) == GIT else file_digest(blob)


def at_hand(rest: str, weights: bool = True) -> Path | None:
    """Its folder if everything that is wanted of it was fetched before, or None."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    name, commit = model(rest)
    try:
        place = Path(snapshot_download(name, revision=commit, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    files = ["config.json", "tokenizer.json", *(shards(place) if weights else ())]
    return place if all((place / file).exists() for file in files) else None


def shards(folder: Path) -> list[str]:
    """The names of a transformers folder's files of weights. Raises StudyError for an index that
    names anything but safetensors in it."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return ["model.safetensors"]
    content: Any = model_files.read_json(index)
    try:
        names = sorted({str(name) for name in content["weight_map"].values()})
    except (KeyError, TypeError, AttributeError) as error:
        raise StudyError(
            f"{index} is no index of weights ({type(error).__name__}: {error}): mend or replace it."
        ) from error
    if others := [
        name for name in names if Path(name).name != name or not name.endswith(".safetensors")
    ]:
        raise StudyError(
            f"{index} names {others[0]!r}, which is no safetensors file of its folder: nothing else"
            " is loaded."
        )
    return names


def missing(rest: str) -> int:
    """Megabytes to download before the model is at hand; as published in half precision (0 where
    its size is not known)."""
    name, _ = model(rest)
    return (
        0
        if name not in known() or at_hand(rest) is not None
        else known()[name]["parameters"] * PUBLISHED // 10**6
    )


def config(rest: str) -> transformers.PretrainedConfig:
    """Its configuration, nothing fetched. Raises StudyError where it is neither at hand nor
    known."""
    if (place := at_hand(rest, weights=False)) is not None:
        return read_config(place)
    name, _ = model(rest)
    if name not in known():
        raise StudyError(
            f"hub:{rest} is not at hand and its size is not known: fetch it first, or take one of"
            f" {', '.join(known())}."
        )
    return known_config(name)


def read_config(folder: Path) -> transformers.PretrainedConfig:
    """The configuration in a folder.

    Raises StudyError naming the folder when it is damaged, of a kind that only code in it knows, or
    sends for more: an attention that is code of the hub's, weights of another name, an adapter, all
    of which transformers would load.
    """

    model_files.check_files(folder)
    model_files.check_numbers(folder)
    try:
        configuration = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # whatever transformers makes of a file from outside
        raise damaged(folder, error) from error
    sent_for = {
        "an attention of the hub's": "/" in (configuration._attn_implementation or ""),
        "transformers_weights": hasattr(configuration, "transformers_weights"),
        "an adapter": (folder / "adapter_config.json").exists(),
    }
    if others := [what for what, there in sent_for.items() if there]:
        raise StudyError(
            f"{folder} sends for {others[0]}, which is not loaded here: take that out of its"
            " configuration."
        )
    return configuration


def damaged(folder: Path, error: Exception) -> StudyError:
    """What to say of a model's folder that cannot be loaded."""
    return StudyError(
        f"{folder} cannot be loaded ({sentence_of(error)[:200]}): mend or replace it."
    )


def known_config(name: str) -> transformers.PretrainedConfig:
    """The configuration of a known model, whatever is at hand."""
    return transformers.AutoConfig.for_model(**known()[name]["config"])
