"""A stored model's parameters are counted from the headers of its weights, and are those that its
size was planned with."""

from pathlib import Path

import pytest
from miniatures import FAMILIES, model, tokenizer

from studylib.models import loading, parts, prune
from studylib.runs.budget import Shape


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_are_counted_without_reading_weights(family: str, tied: bool, tmp_path: Path):
    whole = model(family, tie_word_embeddings=tied)
    for name, kept in (("whole", whole), ("cut", prune.cut(whole, [0, 2]))):
        loading.save(kept, tokenizer(), tmp_path / name)
        counted = loading.counted(tmp_path / name)
        shape = Shape.of(prune.hollow(whole.config, kept.config.num_hidden_layers, None))
        assert (
            counted
            == parts.parameters(kept)
            == {
                "total": shape.total,
                "nonembedding": shape.nonembedding,
            }
        )
