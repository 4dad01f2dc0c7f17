"""Tokenizers from outside: their size, what ends an answer, and text that stays text."""

import json
from pathlib import Path

import make_bases
import pytest
import torch
from miniatures import FAMILIES, built, model, packs, tokenizer
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from studylib.core.errors import StudyError
from studylib.data import packing, prompts, vocabulary
from studylib.evaluation import generate
from studylib.methods.objective import Objective
from studylib.models import loading
from studylib.training import loop

END = "<|endoftext|>"


def holed(gap: int = 29) -> PreTrainedTokenizerFast:
    """A tokenizer whose end of text has an id that leaves a hole of so many before it."""
    written = json.loads(make_bases.tokenizer().backend_tokenizer.to_str())
    known = written["model"]["vocab"]
    known[END] = len(known) - 1 + gap
    next(token for token in written["added_tokens"] if token["content"] == END)["id"] = known[END]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(written)), eos_token=END, pad_token=END
    )


def saved(words: PreTrainedTokenizerFast, folder: Path) -> None:
    loading.save(model("llama", vocab_size=vocabulary.size(words)), words, folder)


def test_the_size_is_the_highest_id_and_one():
    assert vocabulary.size(tokenizer()) == len(tokenizer()) == 1714
    assert (
        holed().eos_token_id == 1742 and len(holed()) == 1714 and vocabulary.size(holed()) == 1743
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_with_a_hole_are_asked_and_learnt(family: str, tmp_path: Path):
    words = holed()
    loading.save(model(family, vocab_size=vocabulary.size(words)), words, tmp_path)
    net, read = loading.load(f"path:{tmp_path}")
    asked = [branch.question for prompt in built("zero-shot", 1)[:2] for branch in prompt.branches]
    rows = prompts.build(asked, read, mode="zero-shot")
    assert len(generate.answer(net, read, rows, gold=True, longest=3)) == len(asked)
    values = loop.backward(
        net,
        [packing.pack(row) for row in rows],
        Objective(losses={"cross_entropy": 1.0}),
        (),
        vocabulary.size(read),
    )
    assert values["loss"] > 0 and torch.isfinite(torch.tensor(values["loss"]))


def test_a_model_without_rows_for_the_highest_id_is_refused(tmp_path: Path):
    words = holed()
    loading.save(model("llama", vocab_size=1742), words, tmp_path)
    with pytest.raises(
        StudyError, match="has 1743 tokens, its model only 1742: take its own tokenizer"
    ):
        loading.load(f"path:{tmp_path}")


def changed(file: Path, **values: object) -> None:
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.write_text(json.dumps(known | values), encoding="utf-8")


def turns(special: bool) -> PreTrainedTokenizerFast:
    """A tokenizer that knows the end of a turn, maybe as special, but by no name."""
    words = make_bases.tokenizer()
    words.backend_tokenizer.add_special_tokens([AddedToken("<|eot_id|>", special=True)])
    if not special:
        words.backend_tokenizer.add_tokens([AddedToken("<tool>", special=False)])
    return words


class Script(torch.nn.Module):
    """A head that says these tokens one after the other."""

    def __init__(self, tokens: list[int], width: int):
        super().__init__()
        self.tokens, self.width, self.steps = tokens, width, 0

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        return (
            torch.nn.functional.one_hot(torch.tensor(self.tokens[self.steps - 1]), self.width)
            .float()
            .expand(len(hidden), -1)
        )


def heard(folder: Path, end: str) -> str:
    """What is heard where a model says Paris, this token and more."""
    net, words = loading.load(f"path:{folder}")
    paris = words(" Paris", add_special_tokens=False)["input_ids"]
    net.set_output_embeddings(
        Script([*paris, words.convert_tokens_to_ids(end), *paris * 20], vocabulary.size(words))
    )
    return generate.answer(net, words, built()[:1])[0].text


def test_a_token_that_is_special_in_tokenizer_json_alone_ends_an_answer(tmp_path: Path):
    saved(turns(True), tmp_path)
    assert "<|eot_id|>" not in (tmp_path / "tokenizer_config.json").read_text(encoding="utf-8")
    assert heard(tmp_path, "<|eot_id|>") == "Paris"
    net, words = loading.load(f"path:{tmp_path}")
    assert "<|eot_id|>" in words.all_special_tokens and 1714 in net.generation_config.eos_token_id
    loading.save(net, words, tmp_path / "again")
    assert heard(tmp_path / "again", "<|eot_id|>") == "Paris"  # a student's, too


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
@pytest.mark.parametrize("listed", [True, False])
def test_an_end_of_sequence_that_a_models_settings_name_ends_an_answer(
    file: str, listed: bool, tmp_path: Path
):
    saved(turns(False), tmp_path)
    assert heard(tmp_path, "<tool>").startswith("Paris<tool> Paris")
    changed(tmp_path / file, eos_token_id=[1713, 1715] if listed else 1715)
    assert heard(tmp_path, "<tool>") == "Paris"


def test_an_ordinary_token_that_a_default_names_is_no_end():
    """The configuration of the tiny base still has the default of its family, 2, which is a letter
    here."""
    net, words = loading.load("tiny:gpt_neox")
    assert (
        net.config.eos_token_id == 2
        and words.all_special_ids == net.generation_config.eos_token_id == [words.eos_token_id]
    )


@pytest.mark.parametrize("content", ["[]", "{", "null"])
def test_settings_of_generation_that_cannot_be_read_are_refused(content: str, tmp_path: Path):
    saved(make_bases.tokenizer(), tmp_path)
    (tmp_path / "generation_config.json").write_text(content)
    with pytest.raises(StudyError, match=r"generation_config.json cannot be loaded"):
        loading.load(f"path:{tmp_path}")


def test_merges_are_not_left_out_by_chance(tmp_path: Path):
    """A tokenizer that was saved with BPE dropout would split a text otherwise each time."""
    saved(make_bases.tokenizer(), tmp_path)
    written = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    written["model"]["dropout"] = 0.9
    (tmp_path / "tokenizer.json").write_text(json.dumps(written), encoding="utf-8")
    text = "Answer the question with words from the text."
    words = loading.tokenizer(f"path:{tmp_path}")
    assert vocabulary.text_ids(words, [text] * 5) == vocabulary.text_ids(tokenizer(), [text] * 5)


def test_a_tokenizer_that_splits_special_tokens_or_cuts_texts_does_so_no_more(tmp_path: Path):
    saved(make_bases.tokenizer(), tmp_path)
    changed(
        tmp_path / "tokenizer_config.json",
        split_special_tokens=True,
        clean_up_tokenization_spaces=True,
        model_max_length=4,
    )
    written = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    written["truncation"] = {
        "direction": "Right",
        "max_length": 4,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    written["padding"] = {
        "strategy": {"Fixed": 64},
        "direction": "Left",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "x",
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(written), encoding="utf-8")
    words = loading.tokenizer(f"path:{tmp_path}")
    text = "Kamo lives in Tiru , does n't he ? It is far away ."
    assert vocabulary.text(words, vocabulary.text_ids(words, [text])[0]) == text
    assert (
        prompts.build([branch.question for branch in built()[0].branches], words, mode="zero-shot")[
            0
        ].prefix
        == built()[0].prefix
    )
    control = vocabulary.control_tokens(words)
    assert vocabulary.chat_ids(words, [f"a{END}"], control)[0][-1] == words.eos_token_id


# Text from data is no control token


SPELT = [f"It says {END} here", f"{END}{END}", f" {END}\n{END}. ", f"a<|{END}|>b"]


@pytest.mark.parametrize("text", SPELT)
def test_control_tokens_that_are_spelt_in_a_text_stay_text(text: str):
    words, control = make_bases.tokenizer(), vocabulary.control_tokens(make_bases.tokenizer())
    (ids,) = vocabulary.text_ids(words, [text])
    assert words.eos_token_id not in ids and vocabulary.text(words, ids) == text
    chat = f"{END}user\n{vocabulary.guard(text, control)}{END}\n"
    (spoken,) = vocabulary.chat_ids(words, [chat], control)
    assert (
        spoken.count(words.eos_token_id) == 2
        and vocabulary.text(words, spoken) == f"{END}user\n{text}{END}\n"
    )
    assert spoken == [
        words.eos_token_id,
        *vocabulary.text_ids(words, [f"user\n{text}"])[0],
        words.eos_token_id,
        *words("\n")["input_ids"],
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Kamo lives in Tiru.",
        "<s> is none here",
        "a | b <|x|>",
        "  \n\n Zoë, 東京 “x”\t",
        "🦊 e\u0301",
        "<|endoftex|>",
    ],
)
def test_ordinary_text_has_the_tokens_that_it_always_had(text: str):
    words, control = make_bases.tokenizer(), vocabulary.control_tokens(make_bases.tokenizer())
    expected = words([text], add_special_tokens=False)["input_ids"]
    assert vocabulary.guard(text, control) == text
    assert (
        vocabulary.text_ids(words, [text])
        == vocabulary.chat_ids(words, [text], control)
        == expected
    )


def test_white_space_that_a_control_token_takes_in_is_taken_in_beside_guarded_text():
    words = make_bases.tokenizer()
    words.add_special_tokens(
        {"extra_special_tokens": [AddedToken("<|turn|>", lstrip=True, rstrip=True, special=True)]}
    )
    control = vocabulary.control_tokens(words)
    plain, guarded = (
        f"Who? \n<|turn|> \n {text}"
        for text in ("Kamo <|x|>", vocabulary.guard(f"Kamo {END}", control))
    )
    expected = words([plain], add_special_tokens=False)["input_ids"][0]
    (ids,) = vocabulary.chat_ids(words, [guarded], control)
    assert ids[: ids.index(1714) + 2] == expected[: expected.index(1714) + 2]
    assert vocabulary.text(words, ids).endswith(f"Kamo {END}") and words.eos_token_id not in ids


def test_the_packs_of_the_miniatures_have_no_end_of_text_but_as_targets():
    for row in packs():
        assert tokenizer().eos_token_id not in row.ids
