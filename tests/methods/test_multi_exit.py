"""Multi-exit: exits and weights by hand, and answers by an exit."""

import pytest
import torch
from miniatures import FAMILIES, built, model, packs, tokenizer
from short_training import VOCABULARY
from torch.nn.functional import cross_entropy

from studylib.evaluation import generate
from studylib.methods.multi_exit import MultiExit, blocks
from studylib.models import parts, prune
from studylib.training import loop


@pytest.mark.parametrize("family", FAMILIES)
def test_each_exit_is_the_model_cut_after_its_blocks(family):
    """Four blocks, so an exit after each; weights are shares of the depth."""
    net, rows = model(family), packs()[:3]
    values = loop.backward(net, rows, MultiExit(), (), VOCABULARY, 1)
    total = 0.0
    for quarter in (1, 2, 3, 4):
        short = prune.cut(model(family), range(quarter))
        losses = []
        for row in rows:
            with torch.no_grad():
                states = parts.hidden_states(short, loop.student_view(short, [row], 9, False).batch)
                logits = parts.head(short, states[0, row.answers.at], VOCABULARY)
            losses.append(
                cross_entropy(logits, torch.tensor(row.answers.targets), reduction="none")
            )
        expected = torch.cat(losses).mean().item()
        assert values[f"exit_{quarter}"] == pytest.approx(expected, rel=1e-4)
        total += quarter / 4 * expected
    assert values["loss"] == pytest.approx(total, rel=1e-4)


def test_the_last_exit_answers_as_the_plain_model_and_an_earlier_one_as_the_cut_model():
    net, prompts = model("qwen2"), built()[:4]

    def plain(current):
        return [
            (answer.question_id, answer.text, answer.log_probability)
            for answer in generate.answer(current, tokenizer(), prompts, longest=4)
        ]

    method = MultiExit()
    assert method.answer(net, "", plain) == plain(net)
    assert method.answer(net, "exit 2/4", plain) == plain(prune.cut(model("qwen2"), [0, 1]))
    assert len(parts.layers(net)) == net.config.num_hidden_layers == 4


def test_exits_are_after_quarters_and_after_one_block_at_least():
    assert [blocks(36, quarter) for quarter in (1, 2, 3, 4)] == [9, 18, 27, 36]
    assert [blocks(2, quarter) for quarter in (1, 2, 3, 4)] == [1, 1, 2, 2]
