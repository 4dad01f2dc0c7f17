"""Greedy answers, batched: each context goes through the model once, its keys and values serve all its questions."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from studylib.prompts import Branch, Prompt

RECIPE = 1


@dataclass(frozen=True)
class Answer:
    """A question's answer; `margin` is the smallest lead, in logits, of a chosen token over the next best."""

    question_id: str
    text: str
    margin: float


def clean(text: str) -> str:
    """The first line that says something: some models open with a newline (Pythia), or go on after the answer."""
    return text.strip().split("\n")[0].strip()


@torch.no_grad()
def answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    batch: int = 8,
    longest: int = 32,
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[Answer]:
    """Answer all questions of all prompts, `batch` contexts at a time, at most `longest` tokens each; in the order of the prompts."""
    model.eval()
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i].prefix))
    found: dict[int, list[Answer]] = {}
    for start in progress(range(0, len(by_length), batch)):
        chosen = by_length[start : start + batch]
        answers = iter(_group(model, tokenizer, [prompts[i] for i in chosen], longest))
        for i in chosen:
            found[i] = [next(answers) for _ in prompts[i].branches]
    return [a for i in range(len(prompts)) for a in found[i]]


def _group(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], longest: int) -> list[Answer]:
    cache = DynamicCache(config=model.config)
    prefix, seen = _padded([p.prefix for p in prompts])  # (G, P)
    _forward(model, cache, prefix, torch.arange(prefix.shape[1]).expand_as(prefix), _causal(seen))

    owner = torch.tensor([i for i, p in enumerate(prompts) for _ in p.branches])  # (R,) context of each question
    branches: list[Branch] = [b for p in prompts for b in p.branches]
    cache.reorder_cache(owner)
    given, real = _padded([b.given for b in branches])  # (R, Q)
    positions = seen.sum(1)[owner, None] + torch.arange(given.shape[1])
    keys = torch.cat([seen[owner], real], 1)  # (R, P + Q): which stored places hold a token
    mask = torch.cat([seen[owner][:, None, None].expand(-1, 1, given.shape[1], -1), _causal(real)], -1)
    hidden = _forward(model, cache, given, positions, mask)
    last = hidden[torch.arange(len(branches)), real.sum(1) - 1]  # (R, d)
    return _decode(model, tokenizer, cache, branches, last, keys, longest)


def _decode(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    cache: DynamicCache,
    branches: list[Branch],
    last: Tensor,
    keys: Tensor,
    longest: int,
) -> list[Answer]:
    said: list[list[int]] = [[] for _ in branches]
    margins = [float("inf")] * len(branches)
    open_rows = list(range(len(branches)))
    for _ in range(longest):
        best = model.get_output_embeddings()(last)[:, : len(tokenizer)].topk(2)  # values and indices (R, 2)
        going = []
        for row, question in enumerate(open_rows):
            token = int(best.indices[row, 0])
            margins[question] = min(margins[question], float(best.values[row, 0] - best.values[row, 1]))
            if token == tokenizer.eos_token_id:
                continue
            said[question].append(token)
            if "\n" not in tokenizer.decode(said[question]).lstrip():
                going.append(row)
        if not going:
            break
        if len(going) < len(open_rows):
            cache.reorder_cache(torch.tensor(going))
            open_rows, keys = [open_rows[row] for row in going], keys[going]
        positions = keys.sum(1, keepdim=True)
        keys = torch.cat([keys, keys.new_ones(len(keys), 1)], 1)
        tokens = torch.tensor([[said[question][-1]] for question in open_rows])
        last = _forward(model, cache, tokens, positions, keys[:, None, None])[:, -1]
    return [Answer(b.question.id, clean(tokenizer.decode(ids)), m) for b, ids, m in zip(branches, said, margins, strict=True)]


def _forward(model: PreTrainedModel, cache: DynamicCache, ids: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
    return model.base_model(
        input_ids=ids, position_ids=positions, attention_mask=mask, past_key_values=cache, use_cache=True
    ).last_hidden_state


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token rows -> ids (R, T) padded on the right, and True on tokens (R, T)."""
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
    return ids, torch.arange(ids.shape[1]) < lengths[:, None]


def _causal(real: Tensor) -> Tensor:
    """(R, T) True on tokens -> (R, 1, T, T): earlier tokens may be seen, and padding sees itself."""
    square = torch.ones(real.shape[1], real.shape[1], dtype=torch.bool)
    return ((square.tril() & real[:, None]) | torch.eye(real.shape[1], dtype=torch.bool))[:, None]
