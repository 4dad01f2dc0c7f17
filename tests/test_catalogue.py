"""What `study data` says of a profile's sets, and the prompts it shows."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from studylib import archives, bases, catalogue, data, prompts, sources
from studylib.errors import StudyError


@pytest.fixture
def mine(squad: dict, save: Callable, tmp_path: Path) -> str:
    """A YAML of its own: a SQuAD file of one article for training, the same file and facts as tests."""
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
                            "answers": [{"text": "Belu", "answer_start": 0}, {"text": "Belu", "answer_start": 1}],
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
        "tests": {"same": {"source": f"path:{path}"}, "far": {"source": "archive:toy==1.0/dev.json"}},
    }
    return str(save(values, "capacity_gap.yaml"))


def test_every_set_is_counted_and_compared_with_training(mine: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archives, "PINNED", {"toy==1.0": archives.Archive("0" * 64, {"dev.json": "0" * 64}, 7)})
    train, dev, same, far = catalogue.overview(mine)
    assert train["set"] == f"{mine}/train" and train["language"] == "es" and train["source"].startswith("path:")
    assert (train["questions"], train["contexts"], train["articles"]) == (3, 2, 2)
    assert (dev["questions"], dev["contexts"], dev["language"]) == (6, 2, "zh,de")
    assert dev["shared with train"] == {"articles": 0, "contexts": 0, "questions": 0}
    assert same["shared with train"] == {"articles": 2, "contexts": 2, "questions": 3}
    assert far["missing"] == "not fetched yet: 7 MB with its archive" and "questions" not in far
    described, _ = catalogue.sets(mine)
    assert train["fingerprint"] == sources.fingerprint(described["train"])[:12]


def test_answer_tokens_are_those_that_are_learnt(mine: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archives, "PINNED", {"toy==1.0": archives.Archive("0" * 64, {"dev.json": "0" * 64}, 7)})
    dev = list(catalogue.overview(mine))[1]
    built = prompts.build(data.load(catalogue.sets(mine)[0]["dev"]).questions, bases.tokenizer(), mode="zero-shot")
    lengths = [len(branch.target) for prompt in built for branch in prompt.branches]
    assert dev["answer tokens"] == {"one": sum(lengths) / 6, "two": sum(lengths) / 6}


def test_nothing_is_said_of_leaks_where_the_training_set_is_not_there(mine: str, save: Callable, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archives, "PINNED", {"toy==1.0": archives.Archive("0" * 64, {"dev.json": "0" * 64}, 7)})
    values = json.loads(Path(mine).read_text()) | {"train": {"source": "archive:toy==1.0/dev.json"}}
    train, dev, same, _ = catalogue.overview(str(save(values, "capacity_gap.yaml")))
    assert "missing" in train and dev["shared with train"] == same["shared with train"] == ""


@pytest.mark.parametrize("mode", ["zero-shot", "one-shot", "one-shot retrieved"])
def test_prompts_are_shown_as_they_are_built(mode: str, mine: str):
    shown = "\n".join(catalogue.shown(f"{mine}/dev", 2, mode))
    described, _ = catalogue.sets(mine)
    words, pool = bases.tokenizer(), data.load(described["train"]).questions
    built = prompts.build(data.load(described["dev"]).questions, words, mode=mode, pool=pool)
    assert shown.count("═══") == len(built) == 2
    bare = shown
    for marked in [line for line in shown.split("\n") if line.startswith(("═══", "───"))]:
        bare = bare.replace(f"{marked}\n", "", 1)
    for prompt in built:
        assert words.decode(prompt.prefix).split("\n\nText: ")[-1] in bare
        assert f"({len(prompt.branches[0].given)} tokens)" in shown and f"({len(prompt.branches[0].target)} tokens)" in shown
    assert ("demonstration q" in shown) == (mode != "zero-shot")
    assert shown.rstrip().endswith("<|endoftext|>")


def test_an_unknown_set_is_refused_and_the_known_are_named():
    with pytest.raises(StudyError, match="There is no data set 'nope' in tiny: known are train, dev, near, far"):
        list(catalogue.shown("nope", 1, "zero-shot"))


def test_the_sets_of_the_committed_profiles_can_be_described():
    for profile in ("tiny", "small"):
        described, families = catalogue.sets(profile)
        assert {"train", "dev"} < set(described) and families
        assert all(sources.fingerprint(dataset) for dataset in described.values())
        assert json.dumps(described)
