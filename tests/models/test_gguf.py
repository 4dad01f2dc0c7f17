"""GGUF files: embeddings tied as published, and no bar."""

import pytest
import torch
from miniatures import model, tokenizer
from transformers import modeling_gguf_pytorch_utils

from studylib.core.errors import StudyError
from studylib.models import gguf, loading, parts


def test_embeddings_that_a_file_holds_apart_are_tied_by_the_outputs(tmp_path):
    """Of a GGUF file's two copies the output's is the finer; the number of parameters must be the
    published one."""
    apart = model("qwen2", tie_word_embeddings=False)
    output = apart.get_output_embeddings().weight
    tied = parts.parameters(apart)["total"] - output.numel()
    gguf.tie(apart, tied, "archive:toy")
    assert apart.get_input_embeddings().weight is output is apart.get_output_embeddings().weight
    loading.save(apart, tokenizer(), tmp_path)
    again, _ = loading.load_folder(tmp_path)
    assert parts.parameters(again)["total"] == tied
    assert torch.equal(again.get_input_embeddings().weight, output)
    with pytest.raises(
        StudyError, match=rf"archive:toy has {tied:,} parameters where 7 were published"
    ):
        gguf.tie(apart, 7, "archive:toy")


def test_reading_quantised_weights_draws_no_bar(capsys, monkeypatch, tmp_path):
    def read(*_, **__):
        list(modeling_gguf_pytorch_utils.tqdm(range(3), desc="weights"))
        raise StudyError("read")

    monkeypatch.setattr(loading, "locate", lambda _: ("archive", tmp_path / "toy.gguf"))
    monkeypatch.setattr(loading.transformers.AutoModelForCausalLM, "from_pretrained", read)
    with pytest.raises(StudyError, match="read"):
        loading.load("archive:toy==1.0/toy.gguf")
    assert capsys.readouterr().err == ""
