"""That the systems which are timed against each other do the same work."""

from dataclasses import replace

import pytest
import torch
from miniatures import built, model, tokenizer, unpack
from torch.utils.flop_counter import FlopCounterMode

from studylib.bench import baselines, speed
from studylib.bench.baselines import Gkd, Match, Packed, PlainLoop
from studylib.data import packing
from studylib.models import parts as model_parts


@pytest.fixture
def match() -> Match:
    teacher = model("llama", initializer_range=0.3)
    return Match(teacher, tokenizer(), 2, "fp32")


def test_all_have_the_same_loss(match: Match, tmp_path):
    chosen = built()[:4]
    ours = Packed(match, tmp_path / "states")
    ours.store(chosen)
    expected = ours.distil(chosen)
    assert expected > 0.001 and PlainLoop(match, tmp_path).distil(chosen) == pytest.approx(
        expected, rel=1e-3
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("parts", [1, 2])
def test_trls_loss_is_ours_and_the_teacher_is_left_as_it_was(
    match: Match, tmp_path, precision, parts
):
    chosen, match = built()[:4], replace(match, precision=precision)
    ours, trl = Packed(match, tmp_path / "states"), Gkd(match, tmp_path, parts)
    ours.store(chosen)
    before = match.teacher.forward
    assert trl.distil(chosen) == pytest.approx(
        ours.distil(chosen), rel=0.02 if precision == "bf16" else 1e-3
    )
    assert (
        trl.seconds > 0 and match.teacher.forward == before and "forward" not in vars(match.teacher)
    )


def test_rows_of_one_question_hold_what_packs_hold():
    chosen = built()[:3]
    ids, real, labels = baselines.padded(baselines.alone(chosen))
    for row, pack in enumerate(pack for prompt in chosen for pack in unpack(prompt)):
        assert ids[row][real[row].bool()].tolist()[:-1] == pack.ids
        learnt = (labels[row] != -100).nonzero().flatten()
        assert (learnt - 1).tolist() == pack.answers.at and labels[row][
            learnt
        ].tolist() == pack.answers.targets
        assert torch.equal(ids[row][learnt], labels[row][learnt])


def test_generate_gives_our_answers(match: Match):
    chosen = built()[:3]
    expected = baselines.answer(match, chosen)
    assert baselines.generate(match, chosen, 2) == baselines.generate(match, chosen, 8) == expected


def test_counted_flops_are_those_of_the_matrix_products(match: Match):
    """Against torch's counter on the forward pass of plain attention, which takes the products of
    masked pairs, too."""
    pack, net = packing.pack(built()[0]), match.student()
    net.set_attn_implementation("eager")
    batch = packing.collate([pack])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        hidden = model_parts.hidden_states(net, batch)
        net.get_output_embeddings()(hidden[0, pack.answers.at])[:, : len(tokenizer())]
    visible, pairs = int(batch.mask.sum()), len(pack.ids) ** 2
    attention = 4 * 32 * 2 * (pairs - visible)
    assert speed.step_flops(net, [pack]) == 3 * (counter.get_total_flops() - attention)
