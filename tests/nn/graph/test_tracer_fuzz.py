"""Nets that nobody has thought of: random ones, pruned at random, are right or refused."""

import random

import pytest
import torch
from torch import nn
from torch.nn import functional

from skcompress.nn.graph import trace
from skcompress.nn.surgery.proof import ProofError, provable, prove
from skcompress.nn.surgery.shrinking import masked

ACTIVATIONS = [torch.relu, torch.tanh, torch.sigmoid, functional.gelu]


class RandomNet(nn.Module):
    """A net whose forward is drawn by a seed; what it does depends on no width but its own."""

    def __init__(self, seed):
        super().__init__()
        self.seed, self.layers, self.widths = seed, nn.ModuleDict(), {}
        self.is_new = True
        self(torch.randn(4, 6))
        self.is_new = False

    def forward(self, X):
        draw, values = random.Random(self.seed), [X]
        for step in range(draw.randint(3, 9)):
            a, b = (values[draw.randrange(len(values))] for _ in range(2))
            operation = getattr(self, "do_" + draw.choice(OPERATIONS))
            values.append(operation(draw, f"step{step}", a, b))
        both = torch.cat(values[-2:], 1)
        return self.layer("out", nn.Linear, self.width("out", both), 3)(both)

    def layer(self, key, kind, *args, **kwargs):
        if self.is_new:
            self.layers[key] = kind(*args, **kwargs)
        return self.layers[key]

    def width(self, key, value):
        """Width of a value when the net was made."""
        return self.widths.setdefault(key, value.shape[1])

    def dense(self, draw, key, value, width=None):
        width = draw.choice([4, 6, 8]) if width is None else width
        return self.layer(key, nn.Linear, self.width(key, value), width)(value)

    def do_dense(self, draw, key, a, b):
        return self.dense(draw, key, a)

    def do_act(self, draw, key, a, b):
        return draw.choice(ACTIVATIONS)(a)

    def do_cat(self, draw, key, a, b):
        return torch.cat([a, b], 1)

    def do_add(self, draw, key, a, b):
        return a + self.dense(draw, key, b, self.width(key + "a", a))

    def do_gate(self, draw, key, a, b):
        return a * torch.sigmoid(self.dense(draw, key, b, self.width(key + "a", a)))

    def do_where(self, draw, key, a, b):
        other = self.dense(draw, key, b, self.width(key + "a", a))
        return torch.where(other > 0, a, other)

    def do_norm(self, draw, key, a, b):
        kind = draw.choice([nn.BatchNorm1d, nn.LayerNorm])
        return self.layer(key, kind, self.width(key, a))(a)

    def do_glu(self, draw, key, a, b):
        return functional.glu(self.dense(draw, key, a, 2 * draw.choice([4, 6, 8])), -1)

    def do_half(self, draw, key, a, b):
        return a[:, a.shape[1] // 2 :] if draw.random() < 0.5 else a[:, ::2]

    def do_recurrent(self, draw, key, a, b):
        kind = draw.choice([nn.GRU, nn.LSTM])
        layer = self.layer(key, kind, self.width(key, a), 5, batch_first=True)
        return layer(torch.stack([a, a * 2], 1))[0][:, -1]

    def do_conv(self, draw, key, a, b):
        layer = self.layer(key, nn.Conv1d, self.width(key, a), 6, 2)
        return layer(torch.stack([a, a.abs(), a * a], -1)).flatten(1)

    def do_center(self, draw, key, a, b):
        return a - a.mean(1, keepdim=True) / 2

    def do_softmax(self, draw, key, a, b):
        return a.softmax(1)

    def do_twice(self, draw, key, a, b):
        width = self.width(key, a)
        layer = self.layer(key, nn.Linear, width, width)
        return layer(torch.relu(layer(a)))

    def do_interleave(self, draw, key, a, b):
        return torch.stack([a, a.abs()], 2).flatten(1)


OPERATIONS = sorted(name[3:] for name in vars(RandomNet) if name.startswith("do_"))
OPERATIONS += ["dense"] * 3  # or there would be little to prune


def make(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return RandomNet(seed), [((torch.randn(n, 6),), {}) for n in (1, 2, 9)]


@pytest.mark.parametrize(
    ("first", "n"), [(0, 12), *(pytest.param(k, 100, marks=pytest.mark.slow) for k in (100, 200))]
)
def test_random_nets(first, n):
    n_groups = n_proven = 0
    for seed in range(first, first + n):
        net, calls = make(seed)
        graph = provable(net, trace(net, calls), calls)
        n_groups += len(graph.groups)
        draw = random.Random(seed)
        for _ in range(2):
            removed = [
                unit
                for group in graph.groups
                for unit in draw.sample(group.units, draw.randint(0, group.n_units - 1))
            ]
            try:
                pruned = prove(net, graph, removed, calls)
            except ProofError:
                continue  # refused: a width that only some choices fit
            n_proven += 1
            X = 3 * torch.randn(50, 6, generator=torch.Generator().manual_seed(seed)).double()
            expected = masked(net, graph, removed).double().eval()(X)
            error = (pruned.double().eval()(X) - expected).abs().max()
            assert error <= 1e-9 * expected.abs().max(), (seed, graph)
    assert n_groups >= n  # one group for each net, on average
    assert n_proven >= 1.9 * n
