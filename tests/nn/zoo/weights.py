"""Weights that are more than one layer's matrix: parts, sums, products, other numbers."""

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

from tests.nn.zoo.cases import case, images, series, tokens, vectors
from tests.nn.zoo.hidden import Net


class Plain(Net):
    def deed(self, hidden):
        return hidden


@case("einsum, named axes", vectors, groups=1)
class Einsum(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.v = nn.Parameter(torch.randn(8, 10)), nn.Parameter(torch.randn(8, 3))

    def forward(self, X):
        hidden = torch.relu(torch.einsum("bi,hi->bh", X, self.w))
        return torch.einsum("bh,ho->bo", hidden, self.v)


@case("weight norm", vectors, stays="weight_norm_interface")
class WeightNorm(Plain):
    def __init__(self):
        super().__init__()
        self.a = parametrizations.weight_norm(self.a)
        self.b = parametrizations.weight_norm(self.b, dim=1)


@case("spectral norm", vectors, stays="it flows into mv")
class SpectralNorm(Plain):
    def __init__(self):
        super().__init__()
        self.a, self.b = map(parametrizations.spectral_norm, (self.a, self.b))


@case("masks of torch.nn.utils.prune", vectors, groups=2)
class Masked(Plain):
    def __init__(self):
        super().__init__()
        prune.random_unstructured(self.b, "weight", 0.3)


@case("standardized weights", images, stays="a weight is used in mean")
class Standardized(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Linear(6, 2)

    def forward(self, X):
        for layer in (self.a, self.b):
            w = layer.weight
            X = functional.relu(functional.conv2d(X, w - w.mean((1, 2, 3), keepdim=True)))
        return self.out(X.mean((2, 3)))


@case("signs of weights", vectors, groups=2)
class Signs(Net):
    def forward(self, X):
        hidden = functional.relu(functional.linear(X, self.a.weight.sign()))
        return self.c(functional.relu(functional.linear(hidden, self.b.weight.sign())))


@case("a slice of a weight", vectors, stays="without some of them")
class Slice(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.v = nn.Parameter(torch.randn(14, 10)), nn.Parameter(torch.randn(3, 14))

    def forward(self, X):
        a, b = functional.linear(X, self.w[:8]), functional.linear(X, self.w[8:])
        return functional.linear(torch.cat([torch.tanh(b), a.relu()], 1), self.v)


@case("a weight and its first columns", vectors, groups=1)
class Columns(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.v = nn.Parameter(torch.randn(8, 10)), nn.Parameter(torch.randn(3, 8))

    def forward(self, X):
        more = functional.linear(X[:, :6], self.w[:, :6])
        return functional.linear(functional.linear(X, self.w).relu() + more, self.v)


@case("low-rank addition", vectors, stays="a weight is used in mm")
class LowRank(Net):
    def __init__(self):
        super().__init__()
        self.u, self.v = nn.Parameter(torch.randn(6, 3)), nn.Parameter(torch.randn(3, 8))

    def forward(self, X):
        weight = self.b.weight + self.u @ self.v
        return self.c(functional.relu(functional.linear(self.a(X).relu(), weight)))


@case("weights from the left", vectors, groups=1)
class Left(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(10, 16), nn.Linear(16, 3)

    def forward(self, X):
        return (self.b.weight @ torch.relu(self.a.weight @ X.T)).T


@case("a linear layer as a convolution", images, groups=1)
class AsConvolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.out = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, X):
        hidden = functional.conv2d(X, self.a.weight[:, :, None, None], self.a.bias)
        return self.out(functional.relu(hidden).mean((2, 3)))


@case("weights made by a layer", vectors, groups=1, stays="bmm mixes it")
class Hyper(nn.Module):
    def __init__(self):
        super().__init__()
        self.z, self.h, self.out = nn.Linear(10, 6), nn.Linear(6, 40), nn.Linear(4, 3)

    def forward(self, X):
        weight = self.h(functional.relu(self.z(X))).view(-1, 4, 10)
        return self.out(torch.relu(torch.bmm(weight, X[..., None])[..., 0]))


@case("called with other weights", vectors, groups=2)
class Called(Net):
    def forward(self, X):
        doubled = {name: p * 2 for name, p in self.a.named_parameters()}
        hidden = functional.relu(torch.func.functional_call(self.a, doubled, (X,)))
        return self.c(functional.relu(self.b(hidden)))


@case("vmap over rows", vectors, groups=2)
class Vmap(Plain):
    def forward(self, X):
        return torch.vmap(super().forward)(X)


@case("complex layers", vectors, groups=1)
class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(10, 8, dtype=torch.cfloat)
        self.b = nn.Linear(8, 3, dtype=torch.cfloat)

    def forward(self, X):
        return self.b(torch.tanh(self.a(X.to(self.a.weight.dtype)))).real


@case("a state that is learned", series, groups=1)
class LearnedState(nn.Module):
    def __init__(self):
        super().__init__()
        self.h, self.c = (nn.Parameter(torch.randn(1, 1, 5)) for _ in range(2))
        self.read, self.out = nn.LSTM(6, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, X):
        state = tuple(t.expand(-1, len(X), -1).contiguous() for t in (self.h, self.c))
        return self.out(self.read(X, state)[0].mean(1))


@case("a state from the first step", series, groups=1)
class MadeState(nn.Module):
    def __init__(self):
        super().__init__()
        self.start, self.out = nn.Linear(6, 16), nn.Linear(8, 3)
        self.read = nn.LSTM(6, 8, batch_first=True)

    def forward(self, X):
        h, c = torch.tanh(self.start(X[:, 0])).chunk(2, 1)
        out, (_, c) = self.read(X, (h[None].contiguous(), c[None].contiguous()))
        return self.out(out[:, -1] + c[0])


@case("embedding, GRU and attention pooling", tokens, groups=2)
class AttentionPooling(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.read = nn.Embedding(20, 8, 0), nn.GRU(8, 10, batch_first=True)
        self.score, self.out = nn.Linear(10, 1), nn.Linear(10, 3)

    def forward(self, X):
        hidden, _ = self.read(self.embed(X))
        return self.out((torch.softmax(self.score(hidden), 1) * hidden).sum(1))


@case("attention with other keys and values", series, groups=4)
class OtherKeys(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.keys, self.out = nn.Linear(6, 8), nn.Linear(6, 5), nn.Linear(8, 3)
        self.attend = nn.MultiheadAttention(8, 2, kdim=5, vdim=5, batch_first=True)

    def forward(self, X):
        keys = functional.relu(self.keys(X))
        return self.out(functional.relu(self.attend(self.stem(X), keys, keys)[0]).mean(1))


@case("two queries for each key", series, groups=1)
class GroupedQueries(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(*s) for s in ((6, 8), (6, 4), (6, 4), (8, 3)))

    def forward(self, X):
        q, k, v = (p(X).unflatten(-1, (-1, 2)).transpose(1, 2) for p in (self.q, self.k, self.v))
        out = functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        return self.out(out.transpose(1, 2).flatten(2).mean(1))


@case("local response norm", images, groups=1, stays="avg_pool3d reads it at several places")
class LocalResponse(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Linear(6, 2)

    def forward(self, X):
        hidden = functional.local_response_norm(functional.relu(self.a(X)), 3)
        return self.out(functional.relu(self.b(hidden)).mean((2, 3)))


@case("channels last", images, groups=3)
class ChannelsLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Linear(8, 6)
        self.c, self.out = nn.Conv2d(6, 4, 1), nn.Linear(4, 2)

    def forward(self, X):
        hidden = self.a(X.contiguous(memory_format=torch.channels_last)).permute(0, 2, 3, 1)
        hidden = functional.gelu(self.b(hidden)).permute(0, 3, 1, 2)
        return self.out(functional.relu(self.c(hidden)).mean((2, 3)))


@case("one layer at two scales", images, groups=2)
class TwoScales(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.out = nn.Linear(8, 2)

    def forward(self, X):
        hidden = functional.relu(self.a(X))
        small = functional.interpolate(self.b(functional.avg_pool2d(hidden, 2)), scale_factor=2)
        return self.out((self.b(hidden) + small).mean((2, 3)))
