"""That the systems which are timed against each other do the same work."""

import pytest
import torch
from miniatures import built, model, tokenizer
from torch.utils.flop_counter import FlopCounterMode

from studylib import bench, contestants, packing, teaching
from studylib.contestants import Match, Packed, PlainLoop


@pytest.fixture
def match() -> Match:
    teacher = model("llama", initializer_range=0.3)
    return Match(teacher.requires_grad_(False), tokenizer(), 2, "fp32")


def test_ours_and_the_plain_loop_have_the_same_loss(match: Match, tmp_path, monkeypatch):
    chosen = built()[:4]
    monkeypatch.setattr(contestants, "QUESTIONS", sum(len(prompt.branches) for prompt in chosen))
    ours = Packed(match, tmp_path)
    ours.store(chosen)
    (packed,), (plain,) = ours.distil(chosen), PlainLoop(match).distil(chosen)
    assert packed > 0.001 and plain == pytest.approx(packed, rel=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_ours_and_trls_have_the_same_loss(match: Match, tmp_path, monkeypatch):
    pytest.importorskip("trl", reason="pip install -e '.[bench]' brings TRL")
    chosen = built()[:4]
    monkeypatch.setattr(contestants, "QUESTIONS", sum(len(prompt.branches) for prompt in chosen))
    ours, trl = Packed(match, tmp_path), contestants.Gkd(match, tmp_path / "trl")
    ours.store(chosen)
    assert trl.distil(chosen) > 0
    assert trl.loss == pytest.approx(ours.distil(chosen)[0], rel=1e-3)


def test_rows_of_one_question_hold_what_packs_hold():
    chosen = built()[:3]
    ids, real, labels = contestants.padded(contestants.alone(chosen))
    for row, pack in enumerate(pack for prompt in chosen for pack in packing.unpack(prompt)):
        assert ids[row][real[row].bool()].tolist()[:-1] == pack.ids
        learnt = (labels[row] != -100).nonzero().flatten()
        assert (learnt - 1).tolist() == pack.answers.at and labels[row][learnt].tolist() == pack.answers.targets
        assert torch.equal(ids[row][learnt], labels[row][learnt])


def test_steps_have_about_as_many_questions_as_rows():
    chosen = built()
    groups = contestants.by_questions(chosen, 6)
    assert [prompt for group in groups for prompt in group] == chosen
    assert all(3 <= sum(len(prompt.branches) for prompt in group) <= 12 for group in groups)


def test_generate_gives_our_answers(match: Match):
    chosen = built()[:3]
    expected = contestants.answer(match, chosen)
    assert contestants.generate(match, chosen, 2) == contestants.generate(match, chosen, 8) == expected


def test_counted_flops_are_those_of_the_matrix_products(match: Match):
    """Against torch's counter on the forward pass of plain attention, which takes the products of masked pairs, too."""
    pack, net = packing.pack(built()[0]), match.student()
    net.set_attn_implementation("eager")
    batch = packing.collate([pack])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        hidden = teaching.hidden_states(net, batch)
        net.get_output_embeddings()(hidden[0, pack.answers.at])[:, : len(tokenizer())]
    visible, pairs = int(batch.mask.sum()), len(pack.ids) ** 2
    attention = 4 * 32 * 2 * (pairs - visible)
    assert bench.flops(net, [pack], len(tokenizer())) == 3 * (counter.get_total_flops() - attention)
