"""What nets do with hidden units between two layers, one deed each."""

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tests.nn.zoo.cases import case, vectors

WIDTH = 8


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(10, WIDTH), nn.Linear(WIDTH, 6), nn.Linear(6, 3)

    def forward(self, X):
        return self.c(functional.relu(self.b(self.deed(functional.relu(self.a(X))))))


DEEDS = {}


class Doing(Net):
    """A net that does with its hidden units what is registered under a name."""

    def __init__(self, name, parts):
        super().__init__()
        self.name = name
        for attr, made in parts.items():
            if isinstance(made, torch.Tensor):
                self.register_buffer(attr, made)
            else:
                setattr(self, attr, made)

    def deed(self, hidden):
        return DEEDS[self.name](self, hidden)


def deed(name, *, groups, stays=None, parts=dict):
    """Register what a net does with its first hidden units: it is given the net and them."""

    def register(function):
        DEEDS[name] = function
        case(name, vectors, groups=groups, stays=stays)(lambda: Doing(name, parts()))
        return function

    return register


@deed("uneven split", groups=1, stays="without some of them")
def uneven(_, hidden):
    first, second, third = hidden.split([3, 3, 2], 1)
    return torch.cat([first * second, third, first], 1)


@deed("padded units", groups=2, stays="no layer was seen")
def padded(_, hidden):
    return functional.pad(hidden, (1, -1), value=2.0)


@deed("padded and cut units", groups=1, stays="without some of them")
def padded_and_cut(_, hidden):
    return functional.pad(hidden, (2, 2))[:, 2:10]


@deed("every second unit in place", groups=2)
def in_place(_, hidden):
    hidden = hidden.clone()
    hidden[:, ::2].mul_(2)
    hidden[:, 1::2].add_(hidden[:, ::2])
    return hidden.relu_()


@deed("units added by number", groups=1, stays="flows into index_add")
def index_add(_, hidden):
    return torch.zeros_like(hidden).index_add_(1, torch.arange(WIDTH).flip(0), hidden)


@deed("torch.where on units", groups=2)
def where(_, hidden):
    return torch.where(hidden > 0.5, hidden, torch.zeros(()))


@deed("a mask of units", groups=2, parts=lambda: {"mask": torch.arange(WIDTH) % 3 > 0})
def mask(net, hidden):
    return torch.where(net.mask, hidden, hidden * 2)


@deed("a running mean, written in training", groups=2, parts=lambda: {"mean": torch.rand(WIDTH)})
def running(net, hidden):
    if net.training:
        net.mean.mul_(0.9).add_(0.1 * hidden.detach().mean(0))
    return hidden - net.mean


@deed("a running mean, replaced in training", groups=2, parts=lambda: {"mean": torch.rand(WIDTH)})
def replaced(net, hidden):
    if net.training:
        net.mean = net.mean * 0.9 + 0.1 * hidden.detach().mean(0)
    return hidden - net.mean


@deed("another way for odd widths", groups=2)
def odd_widths(_, hidden):
    return hidden if hidden.shape[1] % 2 == 0 else -hidden


@deed("fails for other widths", groups=1, stays="without some of them")
def fails(_, hidden):
    if hidden.shape[1] != WIDTH:
        raise KeyError(hidden.shape[1])
    return hidden


@deed("a layer called twice", groups=2, parts=lambda: {"d": nn.Linear(WIDTH, WIDTH)})
def twice(net, hidden):
    return net.d(functional.relu(net.d(hidden))) + hidden


@deed("dropout always", groups=1, stays="without some of them")
def dropout(_, hidden):
    return functional.dropout(hidden, 0.5, training=True)


@deed("feature alpha dropout", groups=2, parts=lambda: {"d": nn.FeatureAlphaDropout(0.5)})
def alpha_dropout(net, hidden):
    return net.d(hidden)


@deed("noise in training alone", groups=2)
def noise(net, hidden):
    return hidden + torch.randn(hidden.shape[1]) if net.training else hidden


@deed("pairs as complex numbers", groups=1, stays="another dtype")
def pairs(_, hidden):
    numbers = torch.view_as_complex(hidden.view(-1, WIDTH // 2, 2).contiguous())
    return torch.view_as_real(numbers * (1 + 2j)).flatten(1)


@deed("rotary positions", groups=1, stays="meets values that stay")
def rotary(_, hidden):
    a, b = hidden[:, ::2], hidden[:, 1::2]
    turn = torch.arange(a.shape[1])
    cos, sin = turn.cos(), turn.sin()
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(1)


@deed("units interleaved", groups=1, stays="without some of them")
def interleaved(_, hidden):
    return torch.stack([hidden[:, ::2], hidden[:, 1::2]], 1).flatten(1)


@deed("units in another order", groups=1, stays="without some of them")
def reversed_units(_, hidden):
    return torch.stack(hidden.unbind(1)[::-1], 1).roll(1, 1)


@deed("units looked up by the data", groups=1, stays="mixes it")
def gathered(_, hidden):
    return torch.take_along_dim(hidden, hidden.argsort(1), 1)


@deed("a gate by the mean", groups=1, stays="mean mixes it")
def gate(_, hidden):
    return hidden * torch.sigmoid(hidden.mean(1, keepdim=True))


@deed("running sums of units", groups=1, stays="cumsum mixes it")
def sums(_, hidden):
    return hidden.cumsum(1)


@deed("differences of units", groups=1, stays="all of it is one unit")
def differences(_, hidden):
    return torch.diff(hidden, dim=1, prepend=hidden[:, :1])


@deed("pooled over units", groups=1, stays="several places")
def pooled(_, hidden):
    return functional.max_pool1d(hidden[:, None], 3, 1, 1)[:, 0]


@deed(
    "a convolution over units", groups=1, stays="several", parts=lambda: {"k": nn.Conv1d(1, 1, 1)}
)
def convolved(net, hidden):
    return net.k(hidden[:, None])[:, 0]


@deed("a matrix product of units", groups=1)
def squared(_, hidden):
    return ((hidden[:, :, None] @ hidden[:, None, :]) @ hidden[:, :, None])[..., 0]


@deed("memory laid out anew", groups=1, stays="without some of them")
def strided(_, hidden):
    return hidden.contiguous().as_strided((len(hidden), WIDTH), (WIDTH, 1))


@deed("checkpointed", groups=2)
def checkpointed(_, hidden):
    return checkpoint(lambda t: torch.tanh(t) * 2, hidden, use_reentrant=False)


@deed("sparse rows", groups=1, stays="flows into")
def sparse(_, hidden):
    return torch.sparse.mm(torch.eye(len(hidden)).to(hidden.dtype).to_sparse(), hidden)


@deed("sparse units", groups=1, stays="to_sparse")
def sparse_units(_, hidden):
    return hidden.to_sparse().to_dense()


@deed("as many times as rows", groups=2, parts=lambda: {"d": nn.Linear(WIDTH, WIDTH)})
def loop(net, hidden):
    for _ in range(len(hidden)):
        hidden = torch.tanh(net.d(hidden))
    return hidden
