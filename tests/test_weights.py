"""A stored model's parameters are counted from the headers of its weights, and are those that its size was planned with."""

from pathlib import Path

import pytest
from miniatures import FAMILIES, model, tokenizer

from studylib import cutting, models
from studylib.work import Shape


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_are_counted_without_reading_weights(family: str, tied: bool, tmp_path: Path):
    whole = model(family, tie_word_embeddings=tied)
    for name, kept in (("whole", whole), ("cut", cutting.cut(whole, [0, 2]))):
        models.save(kept, tokenizer(), tmp_path / name)
        counted = models.counted(tmp_path / name)
        shape = Shape.of(cutting.hollow(whole.config, kept.config.num_hidden_layers, None))
        assert counted == models.parameters(kept) == {"total": shape.total, "nonembedding": shape.nonembedding}
