"""Parts of a model: another attention for a while."""

import pytest
import torch
from miniatures import FAMILIES, built, model

from studylib.data import packing
from studylib.models import parts


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_attends_by_a_function_within_and_as_usual_afterwards(family):
    net, seen = model(family).eval(), []
    usual = net.config._attn_implementation
    batch = packing.collate([packing.pack(prompt) for prompt in built("zero-shot", 2)])

    def attend(module, query, key, value, mask, **how):
        seen.append(module.layer_idx)
        return torch.zeros_like(query).transpose(1, 2), None

    with torch.no_grad():
        before = parts.hidden_states(net, batch)
        with pytest.raises(ZeroDivisionError), parts.attention_by(net, attend):
            within = parts.hidden_states(net, batch)
            raise ZeroDivisionError
        after = parts.hidden_states(net, batch)
    assert seen == list(range(net.config.num_hidden_layers))
    assert net.config._attn_implementation == usual
    assert torch.equal(before, after) and not torch.allclose(before, within)
