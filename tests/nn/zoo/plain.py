"""Dense layers in all arrangements."""

import torch
from torch import nn
from torch.nn import functional

from tests.nn.zoo.cases import case, vectors


@case("mlp", vectors, groups=2)
def mlp():
    return nn.Sequential(
        nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 12), nn.Sigmoid(), nn.Linear(12, 3)
    )


@case("mlp with batch norm and dropout", vectors, groups=2)
def mlp_norm():
    return nn.Sequential(
        nn.Linear(10, 16, bias=False),
        nn.BatchNorm1d(16),
        nn.PReLU(16),
        nn.Dropout(0.5),
        nn.Linear(16, 12),
        nn.BatchNorm1d(12),
        nn.ELU(),
        nn.Linear(12, 3),
    )


@case("mlp with layer norm", vectors, groups=1, stays="takes statistics over it")
def mlp_layer_norm():
    return nn.Sequential(
        nn.Linear(10, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)
    )


@case("linear alone", vectors, stays="output")
def linear():
    return nn.Linear(10, 3)


@case("one hidden unit", vectors, stays="output")
def one_unit():
    return nn.Sequential(nn.Linear(10, 1), nn.Tanh(), nn.Linear(1, 3))


@case("residual mlp", vectors, groups=3)
class ResidualMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(10, 12)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 12)) for _ in range(2)
        )
        self.head = nn.Linear(12, 3)

    def forward(self, X):
        X = self.stem(X)
        for block in self.blocks:
            X = X + block(X)
        return self.head(functional.gelu(X))


@case("residual from the input", vectors, groups=1, stays="meets values that stay")
class InputResidual(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down, self.head = nn.Linear(10, 14), nn.Linear(14, 10), nn.Linear(10, 2)

    def forward(self, X):
        return self.head(torch.relu(X + self.down(torch.relu(self.up(X)))))


@case("gated, halves by chunk", vectors, groups=1)
class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.both, self.out = nn.Linear(10, 16), nn.Linear(8, 3)

    def forward(self, X):
        value, gate = self.both(X).chunk(2, dim=-1)
        return self.out(value * torch.sigmoid(gate))


@case("nn.GLU", vectors, groups=1)
def glu():
    return nn.Sequential(nn.Linear(10, 16), nn.GLU(), nn.Linear(8, 3))


@case("gated by two layers", vectors, groups=1)
class TwoGates(nn.Module):
    def __init__(self):
        super().__init__()
        self.value, self.gate, self.out = nn.Linear(10, 8), nn.Linear(10, 8), nn.Linear(8, 3)

    def forward(self, X):
        return self.out(functional.silu(self.gate(X)) * self.value(X))


@case("highway", vectors, groups=1)
class Highway(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.h, self.t = nn.Linear(10, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, X):
        X = self.stem(X)
        gate = torch.sigmoid(self.t(X))
        return self.out(gate * torch.tanh(self.h(X)) + (1 - gate) * X)


@case("wide and deep, with the input", vectors, groups=1)
class WideDeep(nn.Module):
    def __init__(self):
        super().__init__()
        self.deep, self.out = nn.Linear(10, 8), nn.Linear(18, 3)

    def forward(self, X):
        return self.out(torch.cat([X, torch.relu(self.deep(X))], dim=1))


@case("several outputs", vectors, groups=1, stays="output")
class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.a, self.b = nn.Linear(10, 12), nn.Linear(12, 3), nn.Linear(12, 2)

    def forward(self, X):
        hidden = torch.relu(self.body(X))
        return {"a": self.a(hidden), "b": (self.b(hidden), hidden.shape[0])}


@case("hidden units as an output", vectors, groups=1, stays="output")
class Features(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(10, 12), nn.Linear(12, 8), nn.Linear(8, 2)

    def forward(self, X):
        features = torch.relu(self.b(torch.relu(self.a(X))))
        return self.c(features), features


@case("siamese", lambda n: {"left": vectors(n), "right": vectors(n) ** 2}, groups=2)
class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(10, 12), nn.ReLU(), nn.Linear(12, 8))
        self.out = nn.Linear(8, 1)

    def forward(self, left, right):
        return self.out((self.encode(left) - self.encode(right)).abs())


@case("distance of codes", vectors, groups=1, stays="mixes it with other units")
class Distance(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(10, 12), nn.Linear(12, 8)

    def forward(self, X):
        return (self.b(torch.relu(self.a(X))) ** 2).sum(dim=1, keepdim=True)


@case("layer used three times", vectors, groups=1)
class Reused(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.again, self.out = nn.Linear(10, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, X):
        X = torch.relu(self.stem(X))
        for _ in range(3):
            X = torch.relu(self.again(X))
        return self.out(X)


@case("layer reused on the input", vectors, stays="reads an input of the net")
class ReusedOnInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.again, self.out = nn.Linear(10, 10), nn.Linear(10, 3)

    def forward(self, X):
        return self.out(torch.relu(self.again(torch.relu(self.again(X)))))


@case("autoencoder", vectors, groups=3, stays="output")
def autoencoder():
    return nn.Sequential(
        nn.Linear(10, 16),
        nn.ReLU(),
        nn.Linear(16, 4),
        nn.ReLU(),
        nn.Linear(4, 16),
        nn.ReLU(),
        nn.Linear(16, 10),
    )


@case("weight-tied autoencoder", vectors, groups=2, stays="reads an input of the net")
class TiedAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(10, 8), nn.Linear(8, 4)
        self.bias = nn.Parameter(torch.randn(8))

    def forward(self, X):
        code = torch.relu(self.b(torch.relu(self.a(X))))
        return torch.relu(code @ self.b.weight + self.bias) @ self.a.weight


@case("parameters without layers", vectors, groups=2)
class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        shapes = [(10, 12), (12, 8), (8, 3)]
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(s) / 3) for s in shapes)
        self.scale = nn.Parameter(torch.rand(1, 12) + 0.5)

    def forward(self, X):
        X = torch.relu(X @ self.weights[0]) * self.scale
        return torch.relu(X @ self.weights[1]) @ self.weights[2]


@case("masked weights", vectors, groups=1)
class MaskedWeights(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(10, 8), nn.Linear(8, 3)
        self.register_buffer("mask", (torch.rand(8, 10) > 0.5).float())

    def forward(self, X):
        return self.b(torch.relu(functional.linear(X, self.a.weight * self.mask, self.a.bias)))


@case("bilinear", vectors, stays="flows into")
class BilinearNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.both = nn.Linear(10, 6), nn.Linear(10, 5), nn.Bilinear(6, 5, 3)

    def forward(self, X):
        return self.both(torch.relu(self.a(X)), torch.relu(self.b(X)))


@case("factorization machine", vectors, stays="mixes it")
class Factorization(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.v = nn.Linear(10, 1), nn.Parameter(torch.randn(10, 6))

    def forward(self, X):
        square = (X @ self.v) ** 2
        return self.linear(X) + 0.5 * (square - (X**2) @ (self.v**2)).sum(1, keepdim=True)
