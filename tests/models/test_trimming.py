"""Trimmed vocabularies: tokenizers, models cut to them, and distributions over them."""

import json
import random
import unicodedata
from copy import deepcopy
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from miniatures import FAMILIES, model
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import GenerationConfig, PreTrainedTokenizerFast

from studylib.core.errors import StudyError
from studylib.data import vocabulary as words
from studylib.models import loading, trimming

SCRIPTS = {
    "Latin": "The quick brown fox jumps over the lazy dog; naïve façade, Łódź, Straße.\n\n  ok ",
    "Cyrillic": "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Greek": "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "Arabic": "نص حكيم له سر قاطع وذو شأن عظيم",
    "Hebrew": "דג סקרן שט בים מאוכזב ולפתע מצא חברה",
    "Devanagari": "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा",
    "Han": "天地玄黃，宇宙洪荒。日月盈昃",
    "Kana": "いろはにほへと ちりぬるを カタカナ",
    "Hangul": "키스의 고유조건은 입술끼리 만나야 한다",
    "Thai": "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า",
    "emoji": "👩‍👩‍👧‍👦 🏴󠁧󠁢󠁥󠁮󠁧󠁿 👍🏽 ❤️ 🇩🇪",
    "combining marks": "e\u0301 n\u0303 a\u030a\u0323 Z\u0351\u036b\u0343 \u0301",
    "control characters": "a\x00b\x01\x04\x1b[0m\x7f\u0085\u200b\u202e\ufeff\r\n\t\v\f",
    "last planes": "\U000e0041\U000f1234\U0010ffff\ufffd\ufdd0",
}
TEXTS = [*SCRIPTS.values(), "the lazy dog and the quick fox of the north " * 3] * 2
SPLIT = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+")
ROLES = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
SMALLEST = 256 + 5  # bytes, roles and two other added tokens
CHAT = "{{ messages[0].content }}</s>"


def wrapped(backend: Tokenizer) -> PreTrainedTokenizerFast:
    """With roles, an extra special token and an added token that is none."""
    backend.add_tokens([AddedToken("<tool>", special=False, normalized=False)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        extra_special_tokens=["<extra>"],
        model_max_length=77,
        padding_side="left",
        **ROLES,
    )
    tokenizer.chat_template = CHAT
    return tokenizer


@cache
def trained(kind: str = "gpt2") -> PreTrainedTokenizerFast:
    """A tokenizer of about 700 tokens: special ones first as SmolLM2's, or last as Qwen2's."""
    backend = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "gpt2")
    backend.pre_tokenizer = level
    if kind == "qwen2":
        split = pre_tokenizers.Split(SPLIT, behavior="isolated")
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, level])
        backend.normalizer = normalizers.NFC()
    backend.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=700,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(ROLES.values()) if kind == "gpt2" else [],
    )
    backend.train_from_iterator(TEXTS, trainer)
    return wrapped(backend)


def built(merges: list[tuple[str, str]], gone: str = "", **options: str) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes, but those `gone`, and of these merges."""
    symbols = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - set(gone))
    tokens = dict.fromkeys([*symbols, *map("".join, merges)])
    numbered = {token: number for number, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(numbered, merges, **options))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return wrapped(backend)


@cache
def trimmed(kind: str, size: int) -> trimming.Trimmed:
    return trimming.trim(trained(kind), TEXTS[-1:], size)


def again(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    return words.text(tokenizer, words.text_ids(tokenizer, [text])[0])


def merges(tokenizer: PreTrainedTokenizerFast) -> list[tuple[str, str]]:
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    return [tuple(merge) for merge in state["model"]["merges"]]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("size", [SMALLEST, 300, 500])
def test_every_script_is_encoded_and_decoded_exactly(script, size):
    text = SCRIPTS[script]
    assert again(trimmed("gpt2", size).tokenizer, text) == text
    composed = unicodedata.normalize("NFC", text)
    assert again(trimmed("qwen2", size).tokenizer, text) == composed
    assert again(trained("qwen2"), text) == composed


@settings(max_examples=50, deadline=None)
@given(text=st.text() | st.text("<s>/tolexra pd theqz "), size=st.sampled_from([SMALLEST, 350]))
def test_any_text_is_encoded_and_decoded_exactly(text, size):
    assert again(trimmed("gpt2", size).tokenizer, text) == text


@pytest.mark.parametrize("kind", ["gpt2", "qwen2"])
def test_a_vocabulary_that_is_not_trimmed_gives_the_same_ids(kind):
    full = trained(kind)
    tokenizer, ids = trimming.trim(full, [], len(full))
    assert ids.dtype == torch.int64 and ids.tolist() == list(range(len(full)))
    assert tokenizer.get_vocab() == full.get_vocab() and merges(tokenizer) == merges(full)
    assert words.text_ids(tokenizer, TEXTS) == words.text_ids(full, TEXTS)
    assert tokenizer("a<tool></s>b").input_ids == full("a<tool></s>b").input_ids


@pytest.mark.parametrize("kind", ["gpt2", "qwen2"])
@pytest.mark.parametrize("size", [SMALLEST, 262, 280, 333, 600])
def test_tokens_keep_their_order_and_are_reached_by_merges_of_kept_tokens(kind, size):
    full, (tokenizer, ids) = trained(kind), trimmed(kind, size)
    tokens = tokenizer.convert_ids_to_tokens(range(size))
    assert len(tokenizer) == len(ids) == size and ids.tolist() == sorted(ids.tolist())
    assert tokens == full.convert_ids_to_tokens(ids.tolist())
    assert {*pre_tokenizers.ByteLevel.alphabet(), *full.added_tokens_encoder} <= {*tokens}
    pairs = merges(tokenizer)
    assert (
        pairs == [pair for pair in merges(full) if {*pair, "".join(pair)} <= {*tokens}]
        and len(pairs) == size - SMALLEST
    )
    assert unreachable(full, tokenizer) == []


def unreachable(full, fewer) -> list[str]:
    """Tokens of a trimmed tokenizer that are never merged from bytes any more, though they were in
    the full one."""
    before, after = (
        lambda token, model=words.backend_tokenizer.model: [
            piece.value for piece in model.tokenize(token)
        ]
        for words in (full, fewer)
    )
    return [t for t in sorted(fewer.get_vocab()) if before(t) == [t] != after(t)]


def test_a_token_that_no_merge_reaches_is_named():
    full = built([("a", "b"), ("ab", "c")])
    tokens = full.backend_tokenizer.get_vocab(with_added_tokens=False)
    backend = Tokenizer(models.BPE(tokens, [("a", "b")]))
    assert unreachable(full, wrapped(backend)) == ["abc"]


@pytest.mark.parametrize("seed", range(20))
def test_tokens_of_random_merges_are_reached(seed):
    """Of several merges to a token, only those that its text alone takes lead to it."""
    draw = random.Random(seed)
    pairs: dict[tuple[str, str], None] = {}
    for _ in range(40):
        parts = ["a", "b", "c", *map("".join, pairs)]
        pair = draw.choice(parts), draw.choice(parts)
        if len("".join(pair)) < 9:
            pairs[pair] = None
    full = built(list(pairs))
    texts = ["".join(draw.choices("abc", k=30)) for _ in range(20)]
    for size in range(SMALLEST, len(full), 3):
        tokenizer, _ = trimming.trim(full, texts, size)
        assert unreachable(full, tokenizer) == []
        assert [again(tokenizer, text) for text in texts] == texts


def test_a_token_keeps_the_merges_that_its_text_takes_and_no_others():
    full = built([("b", "c"), ("a", "b"), ("ab", "c"), ("a", "bc")])
    tokenizer, _ = trimming.trim(full, ["abc"], SMALLEST + 2)
    assert merges(tokenizer) == [("b", "c"), ("a", "bc")]
    assert tokenizer.tokenize("abc") == ["abc"]


def test_frequent_tokens_stay_and_of_equally_frequent_ones_the_older():
    full = built([("a", "b"), ("c", "d"), ("e", "f")])
    kept = [
        merges(trimming.trim(full, texts, SMALLEST + 1).tokenizer)
        for texts in (["ef cd ef"], ["ef ab cd"], ["cd", "ef"], ["xyz"])
    ]
    assert kept == [[("e", "f")], [("a", "b")], [("c", "d")], [("a", "b")]]


def test_the_order_of_texts_does_not_matter():
    full = trained()
    first, second = (trimming.trim(full, texts, 400) for texts in (TEXTS, reversed(TEXTS)))
    assert torch.equal(first.ids, second.ids)
    states = [each.tokenizer.backend_tokenizer.to_str() for each in (first, second)]
    assert states[0] == states[1]


def test_texts_whose_tokens_all_stay_are_split_as_before():
    full = trained()
    text = TEXTS[-1:]
    tokenizer, ids = trimming.trim(full, text, 380)
    (before,), (after,) = words.text_ids(full, text), words.text_ids(tokenizer, text)
    assert set(before) <= set(ids.tolist()) and len(set(before)) > 8
    assert ids[after].tolist() == before
    assert trimming.added(full, tokenizer, text) == 0


def test_the_share_of_added_tokens_is_counted_on_what_the_merges_left_make():
    """Without `cd` its `c` goes to `bc`, which comes before `ab` in the list: three tokens."""
    full = built([("c", "d"), ("b", "c"), ("a", "b")])
    tokenizer, _ = trimming.trim(full, ["ab", "bc"], SMALLEST + 2)
    assert full.tokenize("abcd") == ["ab", "cd"]
    assert tokenizer.tokenize("abcd") == ["a", "bc", "d"]
    assert trimming.added(full, tokenizer, ["abcd", "ab"]) == pytest.approx(1 / 3)


@pytest.mark.parametrize("kind", ["gpt2", "qwen2"])
def test_roles_chat_template_and_settings_stay(kind, tmp_path):
    full, tokenizer = trained(kind), trimmed(kind, 300).tokenizer
    for role, token in ROLES.items():
        assert getattr(tokenizer, role) == token
        assert getattr(tokenizer, f"{role}_id") == tokenizer.get_vocab()[token] < 300
    assert tokenizer.all_special_tokens == full.all_special_tokens
    assert {token.content: token.special for token in tokenizer.added_tokens_decoder.values()} == {
        token.content: token.special for token in full.added_tokens_decoder.values()
    }
    assert (tokenizer.model_max_length, tokenizer.padding_side) == (77, "left")
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == (
        "hi</s>"
    )
    assert tokenizer("a<tool></s>").input_ids[1:] == [
        tokenizer.get_vocab()[token] for token in ("<tool>", "</s>")
    ]
    tokenizer.save_pretrained(tmp_path)
    loaded = loading.tokenizer_of(tmp_path)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert words.text_ids(loaded, TEXTS) == words.text_ids(tokenizer, TEXTS)
    assert loaded.eos_token == "</s>" and loaded.chat_template == CHAT


def test_tokens_that_a_tokenizer_puts_around_text_get_their_new_ids():
    backend = Tokenizer.from_str(trained("qwen2").backend_tokenizer.to_str())
    ends = [(token, backend.token_to_id(token)) for token in ("<s>", "</s>")]
    backend.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    backend.enable_padding(pad_id=backend.token_to_id("<pad>"), pad_token="<pad>", length=9)
    tokenizer, ids = trimming.trim(wrapped(backend), [], SMALLEST)
    assert min(ids[-3:].tolist()) > SMALLEST
    padded = tokenizer.convert_ids_to_tokens(tokenizer.backend_tokenizer.encode("a").ids)
    assert sorted(padded) == sorted(["<s>", "a", "</s>", *["<pad>"] * 6])
    assert tokenizer.convert_ids_to_tokens(tokenizer("a").input_ids) == ["<s>", "a", "</s>"]


def test_a_tokenizer_that_lacks_bytes_loses_the_same_characters():
    gone = "".join(
        symbol for symbol, _ in pre_tokenizers.ByteLevel(False).pre_tokenize_str("\x04\x1d")
    )
    full = built([("a", "b"), ("c", "d")], gone=gone)
    assert len(full) == SMALLEST
    tokenizer, _ = trimming.trim(full, [], SMALLEST - 1)
    assert again(tokenizer, "ab\x04cd\x1dé") == again(full, "ab\x04cd\x1dé") == "abcdé"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_is_not_cut_has_the_same_loss(family):
    full = trained()
    tokenizer, ids = trimming.trim(full, TEXTS, len(full))
    net = model(family, vocab_size=len(full))
    tokens = torch.tensor(words.text_ids(tokenizer, TEXTS[:1]))
    with torch.no_grad():
        losses = [
            each(input_ids=tokens, labels=tokens).loss
            for each in (net, trimming.cut(deepcopy(net), ids))
        ]
    assert torch.equal(*losses)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_model_has_the_rows_of_its_tokens(family, tied, tmp_path):
    full, (tokenizer, ids) = trained(), trimmed("gpt2", 300)
    net = model(family, vocab_size=len(full) + 5, tie_word_embeddings=tied)
    student = trimming.cut(deepcopy(net), ids)
    ends = student.get_input_embeddings(), student.get_output_embeddings()
    assert torch.equal(ends[0].weight, net.get_input_embeddings().weight[ids])
    assert torch.equal(ends[1].weight, net.get_output_embeddings().weight[ids])
    assert (ends[0].weight is ends[1].weight) == tied
    assert (ends[0].num_embeddings, ends[1].out_features) == (300, 300)
    tokens = torch.tensor(words.text_ids(tokenizer, ["the lazy dog"]))
    with torch.no_grad():
        logits = student(input_ids=tokens).logits
        torch.testing.assert_close(logits, net(input_ids=ids[tokens]).logits[..., ids])
    loading.save(student, tokenizer, tmp_path)
    loaded, _ = loading.load_folder(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=tokens).logits, logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_configurations_name_the_same_tokens(family):
    full, (tokenizer, ids) = trained("qwen2"), trimmed("qwen2", 300)
    gone = next(number for number in range(len(full)) if number not in ids.tolist())
    roles = {f"{role}_id": full.get_vocab()[token] for role, token in ROLES.items()}
    net = model(family, vocab_size=len(full) + 5, **roles)
    net.generation_config = GenerationConfig(
        eos_token_id=[full.eos_token_id, gone, full.pad_token_id], bos_token_id=gone
    )
    student = trimming.cut(deepcopy(net), ids)
    assert student.config.vocab_size == 300
    for role in ROLES:
        assert getattr(student.config, f"{role}_id") == getattr(tokenizer, f"{role}_id")
    generation = student.generation_config
    assert generation.eos_token_id == [tokenizer.eos_token_id, tokenizer.pad_token_id]
    assert (generation.bos_token_id, generation.pad_token_id) == (None, None)
    padding = student.get_input_embeddings().padding_idx
    assert padding == (None if family == "gpt_neox" else tokenizer.pad_token_id)


def test_a_frozen_embedding_stays_frozen_and_others_learn():
    net = model("llama", vocab_size=len(trained()), tie_word_embeddings=False)
    net.get_input_embeddings().weight.requires_grad_(False)
    student = trimming.cut(deepcopy(net), trimmed("gpt2", 300).ids)
    assert not student.get_input_embeddings().weight.requires_grad
    assert student.get_output_embeddings().weight.requires_grad


def test_a_bias_of_the_output_is_cut():
    net = model("llama", vocab_size=len(trained()))
    head = torch.nn.Linear(32, len(trained()))
    net.set_output_embeddings(head)
    ids = trimmed("gpt2", 300).ids
    assert torch.equal(
        trimming.cut(deepcopy(net), ids).get_output_embeddings().bias, head.bias[ids]
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_teacher_says_how_likely_a_kept_token_is_among_those_that_are_kept(family):
    net, ids = model(family, vocab_size=len(trained())), trimmed("gpt2", 300).ids
    tokens = torch.randint(300, [2, 9], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = net(ids[tokens]).logits.softmax(-1)[..., ids]
        kept = trimming.cut(net, ids)(tokens).logits.softmax(-1)
    torch.testing.assert_close(kept, whole / whole.sum(-1, keepdim=True))


def other_kinds() -> dict[str, PreTrainedTokenizerFast]:
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0))
    unigram.pre_tokenizer, unigram.decoder = level, decoders.ByteLevel()
    spelled = Tokenizer(models.BPE({"<0x00>": 0, "a": 1}, [], byte_fallback=True))
    spelled.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    ending = built([], end_of_word_suffix="</w>")
    return {
        "unigram": PreTrainedTokenizerFast(tokenizer_object=unigram),
        "byte fallback": PreTrainedTokenizerFast(tokenizer_object=spelled),
        "word ends": ending,
    }


@pytest.mark.parametrize("kind", ["unigram", "byte fallback", "word ends"])
def test_other_tokenizers_are_refused(kind):
    with pytest.raises(StudyError, match="only a byte-level BPE tokenizer can be trimmed"):
        trimming.trim(other_kinds()[kind], ["a"], 2)


def test_impossible_sizes_are_refused():
    full = trained()
    with pytest.raises(StudyError, match="260 tokens is too small: 261 byte and special tokens"):
        trimming.trim(full, TEXTS, 260)
    with pytest.raises(StudyError, match=f"{len(full) + 1} tokens: the tokenizer has {len(full)}"):
        trimming.trim(full, TEXTS, len(full) + 1)


def test_texts_without_tokens_add_none_that_can_be_counted():
    with pytest.raises(StudyError, match="texts without a token"):
        trimming.added(trained(), trained(), [""])


@pytest.mark.parametrize("ids", [[], [-1, 2], [3, 2], [2, 2], [5, 700]], ids=str)
def test_ids_that_are_no_rising_rows_are_refused(ids):
    net = model("llama", vocab_size=700)
    with pytest.raises(StudyError, match="must rise within its 700 rows"):
        trimming.cut(deepcopy(net), torch.tensor(ids, dtype=torch.long))
