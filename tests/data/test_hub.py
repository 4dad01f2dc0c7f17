"""Models of the hub: pinned, known before they are fetched, found where the hub's library keeps
them."""

import os
from pathlib import Path

import pytest
from miniatures import model, tokenizer

from studylib.core.errors import StudyError
from studylib.data import hub
from studylib.models import loading, parts, prune

# Counted by others (EleutherAI/pythia: README.md; Qwen's and HuggingFaceTB's model cards round to
# these).
TOTALS = {
    "EleutherAI/pythia-70m": (70_426_624, 18_915_328),
    "EleutherAI/pythia-160m": (162_322_944, 85_056_000),
    "EleutherAI/pythia-410m": (405_334_016, 302_311_424),
    "EleutherAI/pythia-1b": (1_011_781_632, 805_736_448),
    "EleutherAI/pythia-1.4b": (1_414_647_808, 1_208_602_624),
    "EleutherAI/pythia-2.8b": (2_775_208_960, 2_517_652_480),
    "EleutherAI/pythia-6.9b": (6_857_302_016, 6_444_163_072),
    "Qwen/Qwen2.5-0.5B": (494_032_768, 357_898_112),
    "Qwen/Qwen2.5-1.5B": (1_543_714_304, 1_310_340_608),
    "Qwen/Qwen2.5-3B": (3_085_938_688, 2_774_773_760),
    "Qwen/Qwen2.5-7B": (7_615_616_512, 6_525_621_760),
}


@pytest.mark.parametrize("name", TOTALS)
def test_a_known_configuration_has_the_published_number_of_parameters(name):
    config = hub.config(name)
    counted = parts.parameters(prune.hollow(config, config.num_hidden_layers, None))
    assert (counted["total"], counted["nonembedding"]) == TOTALS[name] and hub.known()[name][
        "parameters"
    ] == TOTALS[name][0]


def test_what_is_not_pinned_is_refused():
    for reference in ("someone/something", "someone/something@main", "pythia-410m", ""):
        with pytest.raises(
            StudyError,
            match=(
                r"is not pinned: write hub:OWNER/NAME@ and the 40 digits of a commit"
                r" .*huggingface.co/OWNER"
            ),
        ):
            hub.model(reference)
    assert hub.model(f"someone/something@{'a1' * 20}") == ("someone/something", "a1" * 20)
    assert all(len(bytes.fromhex(entry["commit"])) == 20 for entry in hub.known().values())


def test_a_commit_names_what_is_learnt_from():
    """Another commit is another model; the pinned one may be left out."""
    fingerprint = loading.fingerprint("hub:Qwen/Qwen2.5-0.5B")
    assert fingerprint == loading.fingerprint(
        f"hub:Qwen/Qwen2.5-0.5B@{hub.known()['Qwen/Qwen2.5-0.5B']['commit']}"
    )
    assert (
        fingerprint
        != loading.fingerprint(f"hub:Qwen/Qwen2.5-0.5B@{'0' * 40}")
        != loading.fingerprint("hub:Qwen/Qwen2.5-1.5B")
    )


def test_a_fetched_model_is_found_and_half_of_one_is_not(monkeypatch):
    name, commit = "someone/fetched", "1" * 40
    folder = Path(os.environ["HF_HOME"]) / "hub" / "models--someone--fetched" / "snapshots" / commit
    assert hub.at_hand(f"{name}@{commit}") is None
    with pytest.raises(
        StudyError, match=r"hub:someone/fetched@1+ could not be fetched .*check the network"
    ):
        loading.load(f"hub:{name}@{commit}")
    loading.save(model("llama"), tokenizer(), folder)
    assert hub.at_hand(f"{name}@{commit}") == folder and hub.missing(f"{name}@{commit}") == 0
    net, words = loading.load(f"hub:{name}@{commit}")
    assert net.config.hidden_size == 32 and len(words) == len(tokenizer())
    (folder / "model.safetensors").rename(folder / "other")
    assert (
        hub.at_hand(f"{name}@{commit}") is None
        and hub.at_hand(f"{name}@{commit}", weights=False) == folder
    )


def test_megabytes_are_those_of_half_precision():
    assert hub.missing("Qwen/Qwen2.5-7B-Instruct") == 15231
