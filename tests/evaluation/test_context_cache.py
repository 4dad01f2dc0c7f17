"""The cache of contexts whose answers go on, against lists of what each token sees."""

from random import Random
from types import SimpleNamespace

import pytest
import torch

from studylib.evaluation import context_cache
from studylib.evaluation.context_cache import HIDDEN, ContextCache

SIZE, LAYERS = 8, 2


def turned(*given, attend=torch.nn.functional.scaled_dot_product_attention, **how):
    """Attention whose result lies in memory as on some GPUs, heads after tokens."""
    return attend(*given, **how).transpose(1, 2).contiguous().transpose(1, 2)


class Lists:
    """Every context as a list of its tokens: the branch, keys and values (groups, d) of each."""

    def __init__(self, layers, branches):
        self.contexts = [
            [
                [int(branch), *((keys[row, :, at], values[row, :, at]) for keys, values in layers)]
                for at, branch in enumerate(branches[row])
            ]
            for row in range(len(branches))
        ]

    def attention(self, row, branch, layer, query):
        """What a token of a branch with queries (heads, d) takes from those before it."""
        seen = [token for token in self.contexts[row] if token[0] in (0, branch)]
        keys, values = (torch.stack([token[1 + layer][i] for token in seen]) for i in (0, 1))
        share = len(query) // keys.shape[1]
        keys, values = (x.repeat_interleave(share, dim=1) for x in (keys, values))  # (S, heads, d)
        weights = torch.einsum("hd,shd->hs", query, keys).mul(0.5).softmax(-1)
        return torch.einsum("hs,shd->hd", weights, values)


def check_layer(lists, layer, rows, tokens, query, given, mixed):
    """Let tokens follow in their contexts one after the other, and each attend in this layer."""
    for at, (row, token) in enumerate(zip(rows, tokens, strict=True)):
        token.append((given[0, :, at], given[1, :, at]))
        lists.contexts[row].append(token)
        expected = lists.attention(row, token[0], layer, query[:, at])
        torch.testing.assert_close(mixed[at], expected)


@pytest.mark.parametrize("heads, groups", [(6, 2), (4, 4), (3, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_each_token_attends_to_its_context_and_its_branch_before_it(
    heads, groups, seed, monkeypatch
):
    monkeypatch.setattr(context_cache, "ROOM", 3)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", turned)
    torch.manual_seed(seed)
    random = Random(seed)
    layers = [tuple(torch.randn(2, 4, groups, 7, SIZE)) for _ in range(LAYERS)]
    branches = torch.tensor([[0] * 4 + [1, 2, 2], [0] * 5 + [HIDDEN] * 2] * 2)
    lists = Lists(layers, branches)
    prefix = SimpleNamespace(layers=[SimpleNamespace(keys=k, values=v) for k, v in layers])
    cache = ContextCache(prefix, branches.clone())
    assert not prefix.layers, "keys and values are held once"
    for step in range(12):
        if step == 6:
            cache.keep([3, 1])
            lists.contexts = [lists.contexts[3], lists.contexts[1]]
        count = len(lists.contexts)
        rows = sorted(random.choices(range(count), k=random.randint(1, 6)))
        asked = [random.randint(1, 3) for _ in rows]
        hidden = torch.tensor([random.random() < 0.3 for _ in rows])
        mask = cache.extend(rows, asked)
        tokens = [[branch] for branch in asked]
        for layer in range(LAYERS):
            before = [list(context) for context in lists.contexts]
            query = torch.randn(1, heads, len(rows), SIZE)
            given = torch.randn(2, 1, groups, len(rows), SIZE)
            keys, values = cache.update(*given, layer)
            mixed, weights = cache.attend(None, query, keys, values, mask, scaling=0.5)
            assert weights is None and mixed.shape == (1, len(rows), heads, SIZE)
            check_layer(lists, layer, rows, tokens, query[0], given[:, 0], mixed[0])
            if layer < LAYERS - 1:  # the next layer meets the same tokens
                lists.contexts = before
        cache.hide(hidden)
        for is_hidden, token in zip(hidden, tokens, strict=True):
            token[0] = HIDDEN if is_hidden else token[0]
