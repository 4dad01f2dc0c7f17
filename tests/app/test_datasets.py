"""What `study data` says of a profile's sets, and the prompts it shows."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import make_bases
import pytest
from miniatures import grouped, model, tokenizer
from tokenizers import normalizers

from studylib.app import datasets
from studylib.core.errors import StudyError
from studylib.data import archives, prompts, sources
from studylib.data import squad as data_squad
from studylib.models import loading


@pytest.fixture
def mine(squad: dict, save: Callable, tmp_path: Path) -> str:
    """A YAML of its own: a SQuAD file of one article for training, the same file and facts as
    tests."""
    squad["data"].append(
        {
            "title": "Else",
            "paragraphs": [
                {
                    "context": "Belu is here.",
                    "qas": [
                        {
                            "id": "q3",
                            "question": "Who is here?",
                            "answers": [
                                {"text": "Belu", "answer_start": 0},
                                {"text": "Belu", "answer_start": 1},
                            ],
                        }
                    ],
                }
            ],
        }
    )
    squad["data"][1]["paragraphs"][0]["qas"][0]["answers"].pop()
    path = save(squad)
    values = {
        "profile": "catalogued",
        "families": {"one": "tiny:gpt_neox", "two": "tiny:qwen2"},
        "train": {"source": f"path:{path}", "language": "es"},
        "dev": {"source": "facts:dev", "paragraphs": 2, "facts": 3, "languages": ["zh", "de"]},
        "tests": {
            "same": {"source": f"path:{path}", "seen_paragraphs": 2},
            "far": {"source": "archive:toy==1.0/dev.json"},
        },
    }
    return str(save(grouped(values), "capacity_gap.yaml"))


def test_every_set_is_counted_and_compared_with_training(
    mine: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        archives, "PINNED", {"toy==1.0": archives.Archive("0" * 64, {"dev.json": "0" * 64}, 7)}
    )
    train, dev, same, far = datasets.overview(mine)
    assert (
        train["set"] == f"{mine}/train"
        and train["language"] == "es"
        and train["source"].startswith("path:")
    )
    assert (train["questions"], train["contexts"], train["articles"]) == (3, 2, 2)
    assert (dev["questions"], dev["contexts"], dev["language"]) == (6, 2, "zh,de")
    assert dev["shared with train"] == {"articles": 0, "contexts": 0, "questions": 0}
    assert same["shared with train"] == {"articles": 2, "contexts": 2, "questions": 3}
    assert far["missing"] == "not fetched yet: 7 MB with its archive" and "questions" not in far
    assert [dataset["repeated questions"] for dataset in (train, dev, same)] == [0, 0, 0]
    assert (
        same["questions seen while choices were made"] == 3
        and "questions seen while choices were made" not in train
    )
    described = datasets.sets(datasets.settings(mine))
    assert train["fingerprint"] == sources.fingerprint(described["train"])[:12]


def test_answer_tokens_are_those_that_are_learnt(mine: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        archives, "PINNED", {"toy==1.0": archives.Archive("0" * 64, {"dev.json": "0" * 64}, 7)}
    )
    dev = list(datasets.overview(mine))[1]
    built = prompts.build(
        data_squad.load(datasets.sets(datasets.settings(mine))["dev"]).questions,
        make_bases.tokenizer(),
        mode="zero-shot",
    )
    lengths = [len(branch.target) for prompt in built for branch in prompt.branches]
    assert dev["answer tokens"] == {"one": sum(lengths) / 6, "two": sum(lengths) / 6}


def test_nothing_is_said_of_leaks_where_the_training_set_is_not_there(
    mine: str, save: Callable, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        archives, "PINNED", {"toy==1.0": archives.Archive("0" * 64, {"dev.json": "0" * 64}, 7)}
    )
    values = json.loads(Path(mine).read_text())
    values["data"]["train"] = {"source": "archive:toy==1.0/dev.json"}
    train, dev, same, _ = datasets.overview(str(save(values, "capacity_gap.yaml")))
    assert "missing" in train and dev["shared with train"] == same["shared with train"] == ""


def test_what_is_unlabelled_is_counted_named_and_looked_through_for_leaks(
    mine: str, save: Callable, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        archives, "PINNED", {"toy==1.0": archives.Archive("0" * 64, {"dev.json": "0" * 64}, 7)}
    )
    values = json.loads(Path(mine).read_text())
    values["data"]["train"]["unlabelled"] = [values["data"]["dev"]]
    values.setdefault("training", {})["targets"] = "gold, sequence_kd where withheld"
    train, dev, *_ = datasets.overview(str(save(values, "capacity_gap.yaml")))
    assert train["questions"] == 3 + 6 and train["gold answers withheld in training"] == 6
    assert train["source"].endswith(f" + {values['data']['dev']['source']}")
    assert dev["shared with train"]["questions"] == dev["questions"] == 6
    values["data"]["train"]["unlabelled"] = [{"source": "archive:toy==1.0/dev.json"}]
    train, *_ = datasets.overview(str(save(values, "capacity_gap.yaml")))
    assert train["missing"] == "not fetched yet: 7 MB with its archive"


@pytest.mark.parametrize("mode", ["zero-shot", "one-shot", "one-shot retrieved"])
def test_prompts_are_shown_as_they_are_built(mode: str, mine: str):
    shown = "\n".join(datasets.shown(f"{mine}/dev", 2, mode))
    described = datasets.sets(datasets.settings(mine))
    words, pool = make_bases.tokenizer(), data_squad.load(described["train"]).questions
    built = prompts.build(data_squad.load(described["dev"]).questions, words, mode=mode, pool=pool)
    assert shown.count("═══") == len(built) == 2
    bare = shown
    for marked in [line for line in shown.split("\n") if line.startswith(("═══", "───"))]:
        bare = bare.replace(f"{marked}\n", "", 1)
    for prompt in built:
        assert "Text: " + words.decode(prompt.prefix).split("\n\nText: ")[-1] in bare
        assert (
            f"({len(prompt.branches[0].given)} tokens)" in shown
            and f"({len(prompt.branches[0].target)} tokens)" in shown
        )
    assert (
        ("demonstration q" in shown)
        == ("─── demonstration\nText: " in shown)
        == (mode != "zero-shot")
    )
    assert shown.rstrip().endswith("<|endoftext|>")


def test_a_set_whose_name_holds_a_slash_is_shown(mine: str, save: Callable):
    values = json.loads(Path(mine).read_text(encoding="utf-8"))
    values["data"]["tests"] = {"in/out": values["data"]["dev"]}
    path = save(values, "capacity_gap.yaml")
    assert [*datasets.shown(f"{path}/in/out", 1, "zero-shot")] == [
        *datasets.shown(f"{path}/dev", 1, "zero-shot")
    ]


def test_an_unknown_set_is_refused_and_the_known_are_named():
    with pytest.raises(
        StudyError,
        match="There is no data set 'nope' in tiny: known are train, dev, in-domain, out-of-domain",
    ):
        list(datasets.shown("nope", 1, "zero-shot"))


def test_the_sets_of_the_committed_profiles_can_be_described():
    for profile in ("tiny", "small"):
        described = datasets.sets(datasets.settings(profile))
        assert {"train", "dev"} < set(described)
        assert all(sources.fingerprint(dataset) for dataset in described.values())
        assert json.dumps(described)


def test_a_long_context_is_shown_in_the_windows_that_the_model_reads(
    mine: str, save: Callable, tmp_path: Path
):
    loading.save(model("llama", max_position_embeddings=100), tokenizer(), tmp_path / "narrow")
    values = json.loads(Path(mine).read_text()) | {
        "families": {"narrow": f"path:{tmp_path / 'narrow'}"}
    }
    values["data"]["tests"] = {"long": {"source": "facts:test", "paragraphs": 1, "facts": 10}}
    shown = list(datasets.shown(f"{save(values, 'capacity_gap.yaml')}/long", 1, "zero-shot"))
    assert sum(part.startswith("═══") for part in shown) > 1


def test_a_hub_that_cannot_be_reached_hides_no_other_set(mine: str, save: Callable):
    values = json.loads(Path(mine).read_text())
    values["data"]["tests"] = {
        "far": {"source": f"hub:me/mine@{'a' * 40}", "split": "test"},
        "near": {"source": "facts:test", "paragraphs": 2},
    }
    *_, far, near = datasets.overview(str(save(values, "capacity_gap.yaml")))
    assert "could not be read" in far["missing"] and near["contexts"] == 2


@pytest.mark.parametrize("name", ["families", "seeds"])
def test_prompts_need_a_family_and_a_seed(name: str, mine: str, save: Callable):
    values = json.loads(Path(mine).read_text())
    path = save(values | {name: type(values.get(name, []))()}, "capacity_gap.yaml")
    with pytest.raises(StudyError, match=f"{name} is empty: name at least one"):
        list(datasets.shown(f"{path}/dev", 1, "zero-shot"))


def composing(folder: Path) -> str:
    """A reference to a model whose tokenizer writes NFC only, as Qwen2's does."""
    words = make_bases.tokenizer()
    words.backend_tokenizer.normalizer = normalizers.NFC()
    loading.save(model("qwen2"), words, folder)
    return f"path:{folder}"


def test_answers_that_a_tokenizer_cannot_write_are_counted_per_family(
    squad: dict, save: Callable, tmp_path: Path
):
    """One of two gold answers is not in NFC: it is never said as it stands."""
    (paragraph,) = squad["data"][0]["paragraphs"]
    paragraph["context"] = unicodedata.normalize("NFD", "Kamo lives in Tirū. Belu wrote Sado.")
    paragraph["qas"][0]["answers"] = [
        {"text": unicodedata.normalize("NFD", "Tirū"), "answer_start": 14}
    ]
    paragraph["qas"][1]["answers"] = [
        {"text": "Sado", "answer_start": paragraph["context"].index("Sado")}
    ]
    values = {
        "profile": "counted",
        "families": {"plain": "tiny:gpt_neox", "composing": composing(tmp_path / "model")},
        "train": {"source": f"path:{save(squad)}"},
        "dev": {"source": "facts:dev", "paragraphs": 1, "facts": 3, "languages": ["hi"]},
        "tests": {"other": {"source": "facts:test", "paragraphs": 1, "facts": 3}},
    }
    train, dev, _ = datasets.overview(str(save(grouped(values), "capacity_gap.yaml")))
    # a tokenizer that does not compose is shown the composed text, too: all families read the same
    assert train["gold answers not reproduced"] == {"plain": 1, "composing": 1}
    assert train["EM of a perfect reader"] == {"plain": 50.0, "composing": 50.0}
    assert (
        dev["gold answers not reproduced"] == {"plain": 0, "composing": 0}
        and "EM of a perfect reader" not in dev
    )
