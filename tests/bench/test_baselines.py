"""That the systems which are timed against each other do the same work."""

import pytest
import torch
from miniatures import built, model, tokenizer, unpack
from torch.utils.flop_counter import FlopCounterMode

from studylib.bench import baselines, speed
from studylib.bench.baselines import Answering, Generate, Gkd, Match, Packed, PlainLoop, Setting
from studylib.core.errors import StudyError
from studylib.data import packing
from studylib.models import parts as model_parts


@pytest.fixture
def match() -> Match:
    return Match(model("llama", initializer_range=0.3), tokenizer(), 2)


@pytest.mark.parametrize("rows", Packed.rows)
def test_all_have_the_same_loss(match: Match, rows, tmp_path):
    chosen, ours = built()[:4], Packed(match, tmp_path)
    ours.setting = Setting(rows=rows)
    expected = ours.run(chosen).result
    assert expected > 0.001
    assert PlainLoop(match, tmp_path).run(chosen).result == pytest.approx(expected, rel=1e-3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("rows", [0, 4])
def test_trls_loss_is_ours_and_the_teacher_is_left_as_it_was(
    match: Match, tmp_path, precision, rows
):
    chosen, ours, trl = built()[:4], Packed(match, tmp_path), Gkd(match, tmp_path)
    ours.setting, trl.setting = Setting(precision), Setting(precision, rows)
    before = match.teacher.forward
    took = trl.run(chosen)
    assert took.result == pytest.approx(
        ours.run(chosen).result, rel=0.02 if precision == "bf16" else 1e-3
    )
    assert took.seconds > 0 and match.teacher.forward == before
    assert "forward" not in vars(match.teacher)


def test_states_are_stored_anew_each_time(match: Match, tmp_path):
    ours = Packed(match, tmp_path)
    ours.run(built()[:4])
    size = ours.stored_bytes()
    ours.run(built()[:2])
    assert 0 < ours.stored_bytes() < size


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


@pytest.mark.parametrize("rows", [2, 8])
def test_generate_gives_our_answers(match: Match, rows, tmp_path):
    chosen, baseline = built()[:3], Generate(match, tmp_path)
    baseline.setting = Setting(rows=rows)
    assert baseline.run(chosen).result == Answering(match, tmp_path).run(chosen).result


def test_without_trl_the_bench_says_how_to_get_it(match: Match, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "trl.experimental.gkd", None)
    with pytest.raises(StudyError, match=r"\[bench\]"):
        Gkd(match, tmp_path)


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
