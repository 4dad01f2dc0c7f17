"""The two small base models that `tiny` starts from: made here, shipped with the package.

Real teachers are not born on the task they are fine-tuned for, and models of this size need many
steps before they match a question to its fact. So each is trained once on documents of facts
followed by loose question-and-answer lines (not the study's prompt), and stored in half precision.

Make one again (about a quarter of an hour on two cores): python tests/make_bases.py gpt_neox
studylib/models/base_models
"""

import argparse
import math
import re
import time
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch.nn.functional import cross_entropy
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from studylib.data import synthetic, template

END = "<|endoftext|>"
COPYING = 400  # first steps, on repeated random tokens
SHAPE: dict[str, Any] = dict(
    hidden_size=128,
    num_hidden_layers=6,
    num_attention_heads=4,
    max_position_embeddings=1024,
    tie_word_embeddings=True,
)
WORD = Regex(r" ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+")


def _template_words() -> list[str]:
    """The words and wide punctuation marks of the prompt and the generator's sentences, those of
    the out-of-domain test left out."""
    texts = [template.INSTRUCTIONS, template.CONTEXT, template.QUESTION]
    texts += [
        text
        for language in synthetic.LANGUAGES.values()
        for relation in language.in_domain
        for text in relation
    ]
    bare = [re.sub(r"{\w+}", " ", text) for text in texts]
    words = {
        word
        for text in bare
        for word in "".join(c if unicodedata.category(c)[0] in "LM" else " " for c in text).split()
    }
    return sorted(
        words
        | {c for text in bare for c in text if ord(c) > 127 and unicodedata.category(c)[0] == "P"}
    )


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE whose merges are the generator's syllables and the words of its templates, in
    all its languages."""
    vocabulary, merges = _vocabulary()
    fast = Tokenizer(BPE(vocabulary, merges))
    split = pre_tokenizers.Split(WORD, behavior="isolated")
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    fast.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=fast, eos_token=END, pad_token=END)


@cache
def _vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The tokens with their ids, and the merges in their order."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges: dict[tuple[str, str], None] = {}  # in the order in which they are applied

    def add(text: str) -> None:
        whole, *parts = _merged(list(_bytes(text)), merges)
        for part in parts:
            merges[whole, part] = None
            whole += part

    for language in synthetic.LANGUAGES.values():
        for character in sorted(
            {c for syllable in language.syllables for c in syllable + syllable.capitalize()}
        ):
            add(character)
        for syllable in language.syllables:
            add(syllable)
            add(syllable.capitalize())
            if language.blank:
                add(" " + syllable.capitalize())
    for word in _template_words():
        add(word)
        add(" " + word)
    tokens = dict.fromkeys([*symbols, *(a + b for a, b in merges), END])
    return {token: number for number, token in enumerate(tokens)}, list(merges)


def _bytes(text: str) -> str:
    """The text's bytes as byte-level BPE writes them, a character each."""
    ((written, _),) = pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    ).pre_tokenize_str(text)
    return written


def _merged(parts: list[str], merges: Iterable[tuple[str, str]]) -> list[str]:
    for pair in merges:
        for at in range(len(parts) - 2, -1, -1):
            if at + 1 < len(parts) and (parts[at], parts[at + 1]) == pair:
                parts[at : at + 2] = ["".join(pair)]
    return parts


def architecture(family: str, vocabulary: int) -> PreTrainedModel:
    """A freshly initialised model of `family`: about 1.3 million parameters in six layers."""
    if family == "gpt_neox":
        return GPTNeoXForCausalLM(
            GPTNeoXConfig(
                vocab_size=vocabulary, intermediate_size=512, **SHAPE | {"rotary_pct": 1.0}
            )
        )
    if family == "qwen2":
        return Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=vocabulary, intermediate_size=384, num_key_value_heads=2, **SHAPE
            )
        )
    raise ValueError(f"unknown family {family!r}: gpt_neox or qwen2")


def documents(seed: int, asked: float) -> Iterator[tuple[str, str]]:
    """Endless (context, recall) texts: two to eight facts, then each fact again, in another order:
    said once more word for word, or, with probability `asked`, as a question and its answer."""
    rng, languages = Random(seed), list(synthetic.LANGUAGES)
    while True:
        count, number, language = rng.randint(2, 8), rng.getrandbits(40), rng.choice(languages)
        (paragraph,) = synthetic.paragraphs(
            "train", contexts=1, facts=count, seed=number, languages=[language]
        )
        questions = [f"{qa['question']} {qa['answers'][0]['text']}" for qa in paragraph["qas"]]
        recall = [question for question in questions if rng.random() < asked]
        recall += [statement for statement in paragraph["statements"] if rng.random() > asked]
        rng.shuffle(recall)
        yield paragraph["context"] + "\n", "\n".join(recall) + END


def rows(
    tokenize: PreTrainedTokenizerFast, seed: int, asked: float, *, count: int, length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Documents laid end to end and cut into ids and loss weights (count, length): what is recalled
    weighs ten times the rest."""
    ids: list[int] = []
    weights: list[float] = []
    source = documents(seed, asked)
    while len(ids) < count * length:
        for text, weight in zip(next(source), (0.1, 1.0), strict=True):
            tokens = tokenize(text)["input_ids"]
            ids += tokens
            weights += [weight] * len(tokens)
    return torch.tensor(ids[: count * length]).view(count, length), torch.tensor(
        weights[: count * length]
    ).view(count, length)


def repeats(vocabulary: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Six chunks of four random tokens, then the same chunks in another order: ids and loss weights
    (64, 48); only what follows from the first time counts.

    Nothing but looking up what came after the same token helps here, and matching a question to its
    fact grows from that: on documents alone it had not formed after five hundred steps, here it
    takes three to four hundred short ones.
    """
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(vocabulary, (64, 6, 4), generator=generator)
    order = torch.rand(64, 6, generator=generator).argsort(1)
    again = first.gather(1, order[:, :, None].expand_as(first))
    weights = torch.tensor([0.0] * 24 + [0.0, 1.0, 1.0, 1.0] * 6)
    return torch.cat([first, again], 1).flatten(1), weights.expand(64, 48)


def pretrain(
    family: str,
    folder: Path,
    *,
    steps: int,
    batch: int = 24,
    length: int = 192,
    rate: float = 2e-3,
    seed: int = 0,
) -> None:
    """Train one base with next-token loss on `steps` batches and save it, in half precision, under
    `folder`/`family`."""
    torch.manual_seed(seed)
    tokenize = tokenizer()
    model = architecture(family, len(tokenize))
    print(
        f"{family}: {model.num_parameters():,} parameters, vocabulary {len(tokenize)}", flush=True
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    start = time.time()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = _rate(rate, step, steps)
        if step < COPYING:
            ids, weights = repeats(len(tokenize), step)
        else:
            asked = min(0.8, 0.2 + step / steps)
            ids, weights = rows(tokenize, step, asked, count=batch, length=length)
        loss = _loss(model, ids, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 100 == 99:
            print(
                f"step {step + 1}/{steps}  loss {loss.item():.3f}  {time.time() - start:.0f} s "
                " recall",
                *(f"{language} {share:.2f}" for language, share in recall(model, tokenize).items()),
                flush=True,
            )
            save(model, tokenize, folder / family)


def _rate(peak: float, step: int, steps: int) -> float:
    """The learning rate of a step: 100 steps up to the peak, and down by a cosine in the last
    two fifths."""
    share = step / steps
    decay = 1 if share < 0.6 else 0.5 * (1 + math.cos(math.pi * (share - 0.6) / 0.4))
    return peak * min(1, (step + 1) / 100) * decay


def _loss(model: PreTrainedModel, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The weighted mean of the next-token losses of rows (count, length)."""
    logits = model(input_ids=ids[:, :-1]).logits
    losses = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return (losses @ weights[:, 1:].flatten()) / weights[:, 1:].sum()


@torch.no_grad()
def recall(
    model: PreTrainedModel, tokenize: PreTrainedTokenizerFast, count: int = 8
) -> dict[str, float]:
    """Per language, the share of answers' first telling tokens named rightly, on `count` held-out
    documents of five facts."""
    shares = {}
    for language in synthetic.LANGUAGES:
        right = total = 0
        for paragraph in synthetic.paragraphs(
            "dev", contexts=count, facts=5, seed=7, languages=[language]
        ):
            text, ends = paragraph["context"] + "\n", []
            for qa in paragraph["qas"]:
                text += qa["question"]
                ends.append(len(text) + 1)  # where the answer's own first character stands
                text += f" {qa['answers'][0]['text']}\n"
            coded = tokenize(text, return_offsets_mapping=True)
            best = model(input_ids=torch.tensor([coded["input_ids"]])).logits[0].argmax(-1)
            for end in ends:
                at = next(i for i, (_, stop) in enumerate(coded["offset_mapping"]) if stop > end)
                right += int(best[at - 1] == coded["input_ids"][at])
                total += 1
        shares[language] = right / total
    return shares


def save(model: PreTrainedModel, tokenize: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write safetensors in half precision, configuration and tokenizer."""
    model.half().save_pretrained(folder)
    model.float()
    tokenize.save_pretrained(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=["gpt_neox", "qwen2"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=1300)
    options = parser.parse_args()
    pretrain(options.family, options.folder, steps=options.steps)
