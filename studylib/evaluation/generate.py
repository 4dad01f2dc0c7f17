"""Greedy answers, batched: each context goes through the model once with all its questions, packed
as for training, and is kept once while they are answered (`decoding`).

Many contexts are answered together, since each token that is said reads all weights. The hidden
states at the gold answers, by which models are compared, come with the same pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import reduce
from itertools import groupby
from operator import or_
from pathlib import Path

from studylib.core import parallel
from studylib.core.libraries import transformers, without_gradients
from studylib.data.prompts import Prompt, longest_answer
from studylib.evaluation.answers import Answer, Kept
from studylib.evaluation.decoding import Decoder, Sampling, length

BATCH = 32  # contexts that are answered together, at most


@without_gradients()
def answer(
    model: transformers.PreTrainedModel,
    tokenizer: transformers.PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    batch: int = BATCH,
    longest: int | None = None,
    gold: bool = False,
    shared: bool = False,
    sampling: Sampling | None = None,
    masks: Sequence[int] = (),
    entropy: float = 0.0,
    progress: Callable[[Sequence], Iterable] = iter,
    work: Path | None = None,
) -> list[Answer]:
    """Answer all questions of all prompts, up to `batch` contexts at a time; in the order of the
    prompts.

    An answer has at most `longest` tokens, by default as many as `prompts.longest_answer` says.
    `gold` asks for the states at gold answers, too. Answers are greedy, or drawn by `sampling`.
    Greedy ones take several tokens a step where `masks` are read after the last: another one from
    each, as long as its distribution has at most `entropy` nats. `shared`: several processes answer
    some of the batches each. From time to time what was said is kept in `work`, from where it goes
    on.
    """
    model.eval()
    longest = longest or longest_answer(b.target for p in prompts for b in p.branches)
    if not gold:
        prompts = [
            replace(p, branches=[replace(b, target=[]) for b in p.branches]) for p in prompts
        ]
    decoder, kept = Decoder(model, tokenizer, longest, sampling, masks, entropy), Kept(work)
    if shared:
        batch = min(batch, max(1, -(-len(prompts) // parallel.count())))
    batches = _batched(prompts, batch)
    local = parallel.shard(batches) if shared else batches
    for chosen in progress([batch for batch in local if not kept.answers.keys() >= set(batch)]):
        kept.add(dict(zip(chosen, decoder.answers([prompts[i] for i in chosen]), strict=True)))
    every = reduce(or_, parallel.all_gather(kept.answers) if shared else [kept.answers])
    return [a for i in range(len(prompts)) for a in every[i]]


def _batched(prompts: Sequence[Prompt], most: int) -> list[list[int]]:
    """The numbers of prompts that are answered together: they share a beginning and have about as
    many questions."""
    keys = [(tuple(p.prefix[: p.shared]), len(p.branches), length(p)) for p in prompts]
    order = sorted(range(len(prompts)), key=keys.__getitem__)
    groups = (list(group) for _, group in groupby(order, key=lambda i: keys[i][0]))
    return [group[at : at + most] for group in groups for at in range(0, len(group), most)]
