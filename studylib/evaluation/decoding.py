"""The decoder: a model says the answers to all questions of some contexts, a token of each at a
time, or several.

Contexts are read beside others of their length, since padding costs like text. The keys and values
of a fixed demonstration serve all contexts after it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import chain, groupby, islice
from random import Random
from typing import Any

from studylib.core.libraries import torch, transformers
from studylib.data import vocabulary
from studylib.data.packing import collate, pack
from studylib.data.prompts import Prompt
from studylib.evaluation.answers import Answer, clean
from studylib.evaluation.context_cache import HIDDEN, ContextCache
from studylib.models import parts

LENGTH_RATIO = 1.05  # times the shortest of the contexts that are read together
EMPTY = 0.25  # share of a batch's contexts that are answered before they leave it
PAST, LAST, MASK = range(3)  # kinds of tokens that are read; from the first of them nothing follows


@dataclass(frozen=True)
class Sampling:
    """Answers that are drawn from the model's distribution, softened by a temperature; those of
    each question by random numbers of its own, whatever else is asked beside it."""

    temperature: float
    seed: int
    number: int = 0

    def random(self, question_id: str) -> Random:
        """The random numbers of a question."""
        return Random(f"{self.seed} {self.number} {question_id}")

    def draw(
        self, logits: torch.Tensor, questions: Sequence[_Asked]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A token of each question (R,) by its logits (R, V), its logit, and the best other's."""
        up_to = (logits.double() / self.temperature).softmax(-1).cumsum(-1)
        draws = up_to.new_tensor([question.random.random() for question in questions])[:, None]
        tokens = torch.searchsorted(up_to, draws * up_to[:, -1:], right=True)
        tokens = tokens.clamp_max(logits.shape[1] - 1)
        others = logits.scatter(1, tokens, -torch.inf).max(-1).values
        return tokens[:, 0], logits.gather(1, tokens)[:, 0], others


def _likeliest(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The likeliest tokens (R,) of logits (R, V), their logits, and the next best ones'."""
    leading = logits.topk(2)
    return leading.indices[:, 0], leading.values[:, 0], leading.values[:, 1]


def length(prompt: Prompt) -> int:
    """The tokens of a prompt with all its questions."""
    return len(prompt.prefix) + sum(len(b.given) + len(b.target) for b in prompt.branches)


def _alike(prompts: Sequence[Prompt]) -> list[list[int]]:
    """The numbers of prompts in the order of their lengths, in groups that are read together."""
    lengths, groups = [length(prompt) for prompt in prompts], list[list[int]]()
    for number in sorted(range(len(prompts)), key=lengths.__getitem__):
        if not groups or lengths[number] > LENGTH_RATIO * lengths[groups[-1][0]]:
            groups.append([])
        groups[-1].append(number)
    return groups


def _merged(
    caches: Sequence[transformers.DynamicCache], config: transformers.PretrainedConfig
) -> transformers.DynamicCache:
    """The keys and values of all rows of some caches, which are emptied, padded at their end."""

    if len(caches) == 1:
        return caches[0]
    pad = torch.nn.functional.pad
    merged = transformers.DynamicCache(config=config)
    longest = max(cache.get_seq_length() for cache in caches)
    for number in range(len(caches[0].layers)):
        layers: list[Any] = [cache.layers.pop(0) for cache in caches]
        keys, values = (
            torch.cat([pad(states, (0, 0, 0, longest - states.shape[2])) for states in given])
            for given in ([layer.keys for layer in layers], [layer.values for layer in layers])
        )
        merged.update(keys, values, number)
    return merged


@dataclass
class _Asked:
    """A question while it is answered: its context's row, its branch there, the position of its
    answer; and the tokens of that, so many of which are `read`. The next step says up to `width`
    more."""

    question_id: str
    row: int
    branch: int
    position: int
    gold: torch.Tensor
    random: Random
    tokens: list[int] = field(default_factory=list)
    read: int = 0
    width: int = 1
    steps: int = 0
    count: int = 0
    margin: float = math.inf
    log_probability: float = 0.0

    def answer(self, tokenizer: transformers.PreTrainedTokenizerBase) -> Answer:
        """The answer as it ended."""
        return Answer(
            self.question_id,
            clean(vocabulary.text(tokenizer, self.tokens)),
            self.margin,
            self.log_probability,
            self.count,
            self.gold.to("cpu", copy=True),  # no view: else all of its group's states stay
            self.steps,
            tuple(self.tokens),
        )


class Decoder:
    """Says the answers of a model, a token of every open question at a time, or several."""

    def __init__(
        self,
        model: transformers.PreTrainedModel,
        tokenizer: transformers.PreTrainedTokenizerBase,
        longest: int,
        sampling: Sampling | None,
        masks: Sequence[int],
        entropy: float,
    ):
        self.model, self.tokenizer = model, tokenizer
        self.longest, self.sampling = longest, sampling
        self.masks, self.entropy = list(masks), entropy
        self.size, self.ends = vocabulary.size(tokenizer), frozenset(tokenizer.all_special_ids)
        self.begun: dict[tuple[int, ...], transformers.DynamicCache] = {}

    def answers(self, prompts: Sequence[Prompt]) -> list[list[Answer]]:
        """The answers to each of some prompts that begin with the same tokens."""
        groups, read, rows = _alike(prompts), [], 0
        for group in groups:
            read.append(self._read([prompts[number] for number in group], rows))
            rows += len(group)
        caches, keys, last, questions = zip(*read, strict=True)
        branches = torch.nn.utils.rnn.pad_sequence(
            [row for part in keys for row in part], batch_first=True, padding_value=HIDDEN
        )
        asked = [question for part in questions for question in part]
        self._decode(_merged(caches, self.model.config), asked, torch.cat(last), branches)
        answers = (question.answer(self.tokenizer) for question in asked)
        by_prompt = {
            number: list(islice(answers, len(prompts[number].branches)))
            for number in chain(*groups)
        }
        return [by_prompt[number] for number in range(len(prompts))]

    def _read(
        self, prompts: Sequence[Prompt], start: int
    ) -> tuple[transformers.DynamicCache, torch.Tensor, torch.Tensor, list[_Asked]]:
        """Read the packs of prompts at once, where no question sees the gold answers: keys and
        values, their branches (G, T), the hidden states (R, d) that first tokens come from, and the
        questions that these belong to, whose rows are counted from `start`."""
        model, (cache, begun) = self.model, self._begin(prompts[0])
        given = collate([pack(prompt) for prompt in prompts]).to(model.device)
        first = torch.zeros(len(prompts), dtype=torch.long, device=model.device)
        cache.reorder_cache(first)  # type: ignore[arg-type]  # is a LongTensor
        hidden = _forward(
            model, cache, given.ids[:, begun:], given.positions[:, begun:], given.mask[:, :, begun:]
        )  # (G, T, d)
        columns = given.ids.shape[1]
        rows, places = given.answers.at // columns, given.answers.at % columns  # (N,)
        named = [
            (b.question.id, row, number, len(p.prefix) + len(b.given))
            for row, p in enumerate(prompts, start)
            for number, b in enumerate(p.branches, start=1)
        ]
        counts = [max(1, len(b.target)) for p in prompts for b in p.branches]
        ends = torch.tensor(counts, device=model.device)
        first = ends.cumsum(0) - ends  # (R,): each question's last token, among the places
        states = hidden[rows, places - begun]
        random = self.sampling.random if self.sampling else Random
        questions = [
            _Asked(*name, gold, random(name[0]))
            for name, gold in zip(named, states.split(counts), strict=True)
        ]
        keys = given.branches.clone()
        keys[rows, places] = HIDDEN
        keys[rows[first], places[first]] = given.branches[rows[first], places[first]]
        return cache, keys, states[first], questions

    def _begin(self, prompt: Prompt) -> tuple[transformers.DynamicCache, int]:
        """The keys and values of the tokens that many prompts begin with, computed once for all
        that follow one another, and the number of these tokens."""

        beginning = tuple(prompt.prefix[: prompt.shared])
        if beginning not in self.begun:
            self.begun = {beginning: transformers.DynamicCache(config=self.model.config)}
            if beginning:
                row = collate([pack(Prompt(list(beginning), []))]).to(self.model.device)
                _forward(self.model, self.begun[beginning], row.ids, row.positions, row.mask)
        return deepcopy(self.begun[beginning]), len(beginning)

    def _decode(
        self,
        cache: transformers.DynamicCache,
        questions: Sequence[_Asked],
        last: torch.Tensor,
        keys: torch.Tensor,
    ) -> None:
        """Say the answers to the end. `last` (R, d) are the hidden states that the first tokens
        come from, `keys` (G, T) the branches of the tokens in the cache. Contexts leave it when
        enough of them are answered."""
        going, held, device = questions, list(range(len(keys))), self.model.device
        contexts = ContextCache(cache, keys)
        while going := self._say(going, last):
            asked = {row: list(group) for row, group in groupby(going, key=lambda q: q.row)}
            if len(asked) <= (1 - EMPTY) * len(held):
                contexts.keep([held.index(row) for row in asked])
                held = list(asked)
            tokens = [
                (row, *token)
                for row, context in enumerate(held)
                for question in asked.get(context, [])
                for token in self._next(question)
            ]
            rows, branches, *places = map(list, zip(*tokens, strict=True))
            mask = contexts.extend(rows, branches)
            positions, ids, kinds = torch.tensor(places, device=device)  # (N,)
            with parts.attention_by(self.model, contexts.attend):
                states = _forward(self.model, contexts, ids[None], positions[None], mask)
            last = states[0, kinds != PAST]
            contexts.hide(kinds == MASK)

    def _next(self, question: _Asked) -> list[tuple[int, int, int, int]]:
        """What is read for a question in the next step, the tokens of its answer that were not read
        and masks: branch, position, token and kind of each."""
        masks = self.masks[: self.longest - question.count - 1]
        tokens = question.tokens[question.read :]
        kinds = [PAST] * (len(tokens) - 1) + [LAST] + [MASK] * len(masks)
        first, question.read = question.position + question.read, len(question.tokens)
        question.width = 1 + len(masks)
        return [
            (question.branch, place, *part)
            for place, part in enumerate(zip(tokens + masks, kinds, strict=True), start=first)
        ]

    def _say(self, questions: Sequence[_Asked], last: torch.Tensor) -> list[_Asked]:
        """Say the next tokens of each question by hidden states, of so many as are its width, and
        return the questions whose answers go on."""
        with torch.autocast(
            last.device.type, enabled=False
        ):  # of all matrix products the head's alone stays in float32
            logits = self.model.get_output_embeddings()(last.float())[:, : self.size]
        choice = self.sampling.draw(logits, questions) if self.sampling else _likeliest(logits)
        certain = self._certain(logits) if self.masks else torch.zeros(len(logits))
        columns = (certain, *choice, logits.logsumexp(-1))  # (R,) each
        noted = zip(*(column.tolist() for column in columns), strict=True)
        return [
            question
            for question in questions
            if self._hear_all(question, list(islice(noted, question.width)))
        ]

    def _certain(self, logits: torch.Tensor) -> torch.Tensor:
        """(R,) True on distributions, by their logits (R, V), of little entropy."""
        logs = logits.log_softmax(-1)
        return -(logs.exp() * logs).sum(-1) <= self.entropy

    def _hear_all(self, question: _Asked, noted: Sequence[Sequence]) -> bool:
        """Note the first of some tokens, and those after it as long as they are certain; say
        whether the answer goes on."""
        question.steps += 1
        for number, (certain, *token) in enumerate(noted):
            if number and not certain:
                break
            if not self._hear(question, *token):
                return False
        return True

    def _hear(
        self, question: _Asked, token: int, value: float, next_best: float, over: float
    ) -> bool:
        """Note a token with its logit, the next best one and the log of the sum over all; say
        whether the answer goes on."""
        question.margin = min(question.margin, value - next_best)
        question.log_probability += value - over
        question.count += 1
        if token in self.ends:  # a chat's turn may end in another one than EOS
            return False
        question.tokens.append(token)
        text = vocabulary.text(self.tokenizer, question.tokens).lstrip()
        return "\n" not in text and question.count < self.longest


def _forward(
    model: transformers.PreTrainedModel,
    cache: transformers.DynamicCache | ContextCache,
    ids: torch.Tensor,
    positions: torch.Tensor,
    mask: torch.Tensor,
) -> torch.Tensor:
    return parts.following(model, cache, input_ids=ids, position_ids=positions, attention_mask=mask)
