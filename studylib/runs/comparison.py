"""A teacher beside its student, in the vocabulary of the student."""

from __future__ import annotations

from studylib.core.libraries import transformers
from studylib.models import loading, trimming
from studylib.runs import inputs, plan_parts
from studylib.store.run import Input, Run
from studylib.store.store import Store


def teacher(
    run: Run,
    store: Store,
    tokenizer: transformers.PreTrainedTokenizerBase,
    source: Run | Input,
) -> transformers.PreTrainedModel:
    """The teacher of a run's student, whose tokenizer is given; where the student's vocabulary was
    trimmed, it is cut to the same tokens.

    Raises StudyError for vocabularies of other origin.
    """
    model, words = inputs.load(store, source)
    if (trimmed := _trimmed(run, store, source)) is None:
        inputs.check_vocabularies(run, tokenizer, words)
        return model
    whole, _ = loading.reading(plan_parts.base_of(run).value)
    inputs.check_vocabularies(run, whole, words)
    inputs.check_vocabularies(run, tokenizer, trimmed.tokenizer)
    return trimming.cut(model, trimmed.ids)


def split_alike(run: Run, store: Store, source: Run | Input) -> set[str] | None:
    """The questions that a student was asked whose gold answers are the same tokens for it and for
    its teacher, by their ids; None where all are."""
    if (trimmed := _trimmed(run, store, source)) is None:
        return None
    words, config = loading.reading(plan_parts.base_of(run).value)
    fewer, whole = (
        {
            branch.question.id: branch.target
            for prompt in inputs.prompted(run, "test", tokenizer, config)
            for branch in prompt.branches
        }
        for tokenizer in (trimmed.tokenizer, words)
    )
    return {q for q, target in fewer.items() if trimmed.ids[target].tolist() == whole[q]}


def _trimmed(run: Run, store: Store, source: Run | Input) -> trimming.Trimmed | None:
    """The vocabulary of a run's student, where it was trimmed and its teacher's was not."""
    trimmed = plan_parts.vocabulary_of(run)
    if trimmed is None or plan_parts.vocabulary_of(source) is not None:
        return None
    return inputs.trimmed(store, trimmed)
