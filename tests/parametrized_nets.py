"""Nets whose weights are computed at each use, importable by worker processes."""

import warnings

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from tests.sample_nets import MLP, Attention, Convolution, Recurrent


class MaxNorm(nn.Module):
    """Bounds the norm of each row, as nets for EEG do."""

    def __init__(self, most=1.0):
        super().__init__()
        self.most = most

    def forward(self, weight):
        return torch.renorm(weight, 2, 0, self.most)


class WeightNormed(MLP):
    def __init__(self, **sizes):
        super().__init__(**sizes)
        parametrizations.weight_norm(self.hidden)
        parametrizations.weight_norm(self.out)


class SpectralNormed(Convolution):
    def __init__(self):
        super().__init__()
        parametrizations.spectral_norm(self.conv)
        parametrizations.spectral_norm(self.out)

    def forward(self, X):
        return super().forward(X.view(-1, 1, 8, 8))


class Orthogonal(MLP):
    def __init__(self):
        super().__init__(n_hidden=16)
        parametrizations.orthogonal(self.hidden)


class MaxNormed(Convolution):
    """As in EEGNet: a norm layer behind a bounded convolution, and a bounded classifier."""

    def __init__(self):
        super().__init__()
        parametrize.register_parametrization(self.conv, "weight", MaxNorm())
        parametrize.register_parametrization(self.out, "weight", MaxNorm(0.25))

    def forward(self, X):
        return super().forward(X.view(-1, 1, 8, 8))


class NormedLSTM(Recurrent):
    def __init__(self):
        super().__init__()
        parametrizations.weight_norm(self.rnn, "weight_hh_l0")

    def forward(self, X):
        return super().forward(X.view(-1, 8, 8))


class NormedAttention(Attention):
    def __init__(self):
        super().__init__()
        parametrizations.spectral_norm(self.encode.self_attn, "in_proj_weight")
        parametrizations.weight_norm(self.encode.linear1)

    def forward(self, X):
        return super().forward(X.view(-1, 8, 8))


class Stacked(nn.Module):
    """A parameter of the net itself with two parametrizations, a layer with two, one frozen."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(64))
        self.hidden, self.out = nn.Linear(64, 16), nn.Linear(16, 10)
        parametrize.register_parametrization(self, "scale", nn.Softplus())
        parametrize.register_parametrization(self, "scale", nn.Tanh())
        parametrizations.weight_norm(self.hidden)
        parametrize.register_parametrization(self.hidden, "bias", nn.Tanh())
        parametrizations.weight_norm(self.out)
        self.out.parametrizations.weight.requires_grad_(False)

    def forward(self, X):
        return self.out(torch.relu(self.hidden(X * self.scale)))


class Hooked(MLP):
    """The older forms, which are hooks."""

    def __init__(self):
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated
            nn.utils.weight_norm(self.hidden)
            nn.utils.spectral_norm(self.out)


class NormedNorm(Convolution):
    """A parametrized batch norm, which can be folded once it is plain."""

    def __init__(self):
        super().__init__()
        parametrize.register_parametrization(self.norm, "weight", nn.Softplus())

    def forward(self, X):
        return super().forward(X.view(-1, 1, 8, 8))


NETS = [
    WeightNormed,
    SpectralNormed,
    Orthogonal,
    MaxNormed,
    NormedLSTM,
    NormedAttention,
    Stacked,
    Hooked,
    NormedNorm,
]


class Noise(nn.Module):
    def forward(self, weight):
        return weight + torch.randn_like(weight)


class Noisy(MLP):
    """Has another weight at each use."""

    def __init__(self):
        super().__init__()
        parametrize.register_parametrization(self.hidden, "weight", Noise())
