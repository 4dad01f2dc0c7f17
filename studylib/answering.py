"""Greedy answers, batched: each context goes through the model once, its keys and values serve all its questions.

So do those of a fixed demonstration for all contexts after it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from studylib.prompts import Branch, Prompt, longest_answer

RECIPE = 2


@dataclass(frozen=True)
class Answer:
    """A question's answer, and the log-probability (nats) of its tokens, what ended it included, over their number `tokens`.

    `margin` is the smallest lead, in logits, of a chosen token over the next best.
    """

    question_id: str
    text: str
    margin: float
    log_probability: float
    tokens: int

    @property
    def probability(self) -> float:
        """The model's probability of just this answer."""
        return math.exp(self.log_probability)


def best(answers: Iterable[Answer]) -> dict[str, Answer]:
    """Per question the answer of the highest mean log-probability a token: one, where a context was asked in windows."""
    found: dict[str, Answer] = {}
    for one in answers:
        held = found.setdefault(one.question_id, one)
        if one.log_probability / one.tokens > held.log_probability / held.tokens:
            found[one.question_id] = one
    return found


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
    longest: int | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[Answer]:
    """Answer all questions of all prompts, `batch` contexts at a time; in the order of the prompts.

    An answer has at most `longest` tokens, by default as many as `prompts.longest_answer` says.
    """
    model.eval()
    longest = longest or longest_answer(branch.target for prompt in prompts for branch in prompt.branches)
    beginnings = {i: tuple(prompts[i].prefix[: prompts[i].shared]) for i in range(len(prompts))}
    order = sorted(beginnings, key=lambda i: (beginnings[i], len(prompts[i].prefix)))
    groups = [list(alike) for _, alike in groupby(order, key=beginnings.get)]
    batches = [alike[start : start + batch] for alike in groups for start in range(0, len(alike), batch)]
    found: dict[int, list[Answer]] = {}
    begun: dict[tuple[int, ...], DynamicCache] = {}
    for chosen in progress(batches):
        beginning = beginnings[chosen[0]]
        if beginning not in begun:
            begun = {beginning: _begin(model, beginning)}
        answers = iter(_group(model, tokenizer, [prompts[i] for i in chosen], deepcopy(begun[beginning]), len(beginning), longest))
        for i in chosen:
            found[i] = [next(answers) for _ in prompts[i].branches]
    return [a for i in range(len(prompts)) for a in found[i]]


def _begin(model: PreTrainedModel, beginning: Sequence[int]) -> DynamicCache:
    """The keys and values of tokens that many prompts begin with."""
    cache = DynamicCache(config=model.config)
    if beginning:
        ids = torch.tensor([list(beginning)])
        _forward(model, cache, ids, torch.arange(ids.shape[1])[None], _causal(torch.ones_like(ids, dtype=torch.bool)))
    return cache


def _group(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], cache: DynamicCache, begun: int, longest: int
) -> list[Answer]:
    cache.reorder_cache(torch.zeros(len(prompts), dtype=torch.long))
    prefix, new = _padded([p.prefix[begun:] for p in prompts])  # (G, P)
    seen = torch.cat([new.new_ones(len(prompts), begun), new], 1)  # (G, S + P): which stored places hold a token
    positions = begun + torch.arange(prefix.shape[1]).expand_as(prefix)
    mask = torch.cat([new.new_ones(len(prompts), 1, prefix.shape[1], begun), _causal(new)], -1)
    _forward(model, cache, prefix, positions, mask)

    owner = torch.tensor([i for i, p in enumerate(prompts) for _ in p.branches])  # (R,) context of each question
    branches: list[Branch] = [b for p in prompts for b in p.branches]
    cache.reorder_cache(owner)
    given, real = _padded([b.given for b in branches])  # (R, Q)
    positions = seen.sum(1)[owner, None] + torch.arange(given.shape[1])
    keys = torch.cat([seen[owner], real], 1)  # (R, S + P + Q)
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
    margins, certain, counts = [float("inf")] * len(branches), [0.0] * len(branches), [0] * len(branches)
    open_rows, ends = list(range(len(branches))), set(tokenizer.all_special_ids)  # a chat's turn may end in another one than EOS
    for _ in range(longest):
        logits = model.get_output_embeddings()(last)[:, : len(tokenizer)]
        leading, total = logits.topk(2), logits.logsumexp(-1)  # values and indices (R, 2); (R,)
        going = []
        for row, question in enumerate(open_rows):
            token = int(leading.indices[row, 0])
            margins[question] = min(margins[question], float(leading.values[row, 0] - leading.values[row, 1]))
            certain[question] += float(leading.values[row, 0] - total[row])
            counts[question] += 1
            if token in ends:
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
    texts = [clean(tokenizer.decode(ids)) for ids in said]
    return [Answer(b.question.id, *found) for b, *found in zip(branches, texts, margins, certain, counts, strict=True)]


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
