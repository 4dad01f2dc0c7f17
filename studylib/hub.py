"""A model on the Hugging Face hub: its pinned commit, its configuration without the network, its folder once fetched.

hub:EleutherAI/pythia-410m     # its commit is pinned in hub.json
hub:OWNER/NAME@COMMIT          # any other
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from transformers import AutoConfig, PretrainedConfig

from studylib.errors import StudyError

SMALL = ["*.json", "*.txt", "*.model"]
PUBLISHED = 2  # bytes a parameter: half precision


@cache
def known() -> dict[str, dict]:
    """What is known of models beforehand, by name: commit, licence, parameters in all, configuration."""
    return json.loads(Path(__file__).with_name("hub.json").read_text(encoding="utf-8"))


def pinned(rest: str, commits: Mapping[str, str], what: str) -> tuple[str, str]:
    """A reference's repository and commit: the one named, or the one of `commits`. Raises StudyError where there is neither.

    `what` it is, models or datasets, says where commits are found.
    """
    name, _, commit = rest.partition("@")
    commit = commit or commits.get(name, "")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or not re.fullmatch("[0-9a-f]{40}", commit):
        address = f"https://huggingface.co/{'datasets/' if what == 'datasets' else ''}OWNER/NAME"
        raise StudyError(
            f"hub:{rest} is not pinned: write hub:OWNER/NAME@ and the 40 digits of a commit (`git ls-remote {address}` lists them"
            + ("; a data set of scripts has parquet files in refs/convert/parquet)." if what == "datasets" else ").")
        )
    return name, commit


def model(rest: str) -> tuple[str, str]:
    """A model's repository and commit. Raises StudyError for one that is not pinned."""
    return pinned(rest, {name: about["commit"] for name, about in known().items()}, "models")


def folder(rest: str, weights: bool = True) -> Path:
    """Where the model lies, in the hub's own cache (HF_HOME); fetched if need be, without its `weights` if these are not wanted.

    Raises StudyError where it cannot be fetched.
    """
    from huggingface_hub import snapshot_download  # slow to import

    if (there := at_hand(rest, weights)) is not None:
        return there
    name, commit = model(rest)
    try:
        return Path(snapshot_download(name, revision=commit, allow_patterns=SMALL + ["*.safetensors"] * weights))
    except Exception as error:  # whatever the hub, the network or the disk may do
        reason = " ".join(str(error).split()).rstrip(".")
        raise StudyError(f"hub:{rest} could not be fetched ({type(error).__name__}: {reason}): check the network, or HF_HOME.") from error


def at_hand(rest: str, weights: bool = True) -> Path | None:
    """Its folder if everything that is wanted of it was fetched before, or None."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    name, commit = model(rest)
    try:
        place = Path(snapshot_download(name, revision=commit, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    wanted = ["config.json", "tokenizer.json"]
    if weights:
        index = place / "model.safetensors.index.json"
        wanted += sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else ["model.safetensors"]
    return place if all((place / file).exists() for file in wanted) else None


def missing(rest: str) -> int:
    """Megabytes to download before the model is at hand; as published in half precision (0 where its size is not known)."""
    name, _ = model(rest)
    return 0 if name not in known() or at_hand(rest) is not None else known()[name]["parameters"] * PUBLISHED // 10**6


def config(rest: str) -> PretrainedConfig:
    """Its configuration, nothing fetched. Raises StudyError where it is neither at hand nor known."""
    if (place := at_hand(rest, weights=False)) is not None:
        return AutoConfig.from_pretrained(place, local_files_only=True, trust_remote_code=False)
    name, _ = model(rest)
    if name not in known():
        raise StudyError(f"hub:{rest} is not at hand and its size is not known: fetch it first, or take one of {', '.join(known())}.")
    return known_config(name)


def known_config(name: str) -> PretrainedConfig:
    """The configuration of a known model, whatever is at hand."""
    values = dict(known()[name]["config"])
    return AutoConfig.for_model(values.pop("model_type"), **values)
