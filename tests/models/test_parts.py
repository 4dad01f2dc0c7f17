"""Parts of a model: its attention, computed otherwise."""

import pytest
import torch
from miniatures import FAMILIES, built, model
from torch.nn.functional import scaled_dot_product_attention

from studylib.data import packing
from studylib.models import parts


@pytest.mark.parametrize("heads, groups", [(6, 2), (4, 4), (3, 1)])
def test_heads_that_share_keys_attend_as_if_each_had_a_copy(heads, groups):
    torch.manual_seed(0)
    query, key, value = (
        torch.randn(2, count, length, 8) for count, length in ((heads, 3), (groups, 7), (groups, 7))
    )
    mask = torch.rand(2, 1, 3, 7) > 0.3
    mask[..., 0] = True
    mixed, weights = parts._grouped(None, query, key, value, mask, scaling=0.5, dropout=0.0)
    copies = (states.repeat_interleave(heads // groups, dim=1) for states in (key, value))
    expected = scaled_dot_product_attention(query, *copies, attn_mask=mask, scale=0.5)
    torch.testing.assert_close(mixed, expected.transpose(1, 2))
    assert weights is None and mixed.is_contiguous()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_attends_so_has_its_usual_states_and_its_usual_attention_afterwards(family):
    net = model(family).eval()
    usual = net.config._attn_implementation
    batch = packing.collate([packing.pack(prompt) for prompt in built("zero-shot", 2)])
    with torch.no_grad():
        expected = parts.hidden_states(net, batch)
        with parts.grouped_attention(net), parts.grouped_attention(net):
            assert net.config._attn_implementation != usual
            states = parts.hidden_states(net, batch)
    assert net.config._attn_implementation == usual
    torch.testing.assert_close(states[batch.real], expected[batch.real], rtol=1e-4, atol=1e-5)
