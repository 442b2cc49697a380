"""Several branches, experts, graphs and sets."""

import torch
from torch import nn
from torch.nn import functional

from tests.nn.zoo.cases import case, digits, tokens, vectors


@case("mixture of experts, all run", vectors, groups=5, stays="")
class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.gate, self.out = nn.Linear(10, 8), nn.Linear(10, 3), nn.Linear(8, 2)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 8)) for _ in range(3)
        )

    def forward(self, X):
        hidden = functional.relu(self.stem(X))
        gates = torch.softmax(self.gate(X), -1)
        parts = torch.stack([expert(hidden) for expert in self.experts], -1)
        return self.out((parts * gates.unsqueeze(1)).sum(-1))


@case("mixture of experts, routed", vectors, groups=4)
class Routed(Experts):
    def __init__(self):
        super().__init__()
        del self.gate

    def forward(self, X):
        hidden = functional.relu(self.stem(X))
        chosen = (X[:, :3]).argmax(1)
        out = torch.zeros_like(hidden)
        for number, expert in enumerate(self.experts):
            at = chosen == number
            out[at] = expert(hidden[at])
        return self.out(out)


@case("an expert without rows", vectors, stays="was not used on these rows")
class Unvisited(Routed):
    def forward(self, X):
        return super().forward(torch.cat([-X[:, :2].abs(), X[:, 2:].abs()], 1))


@case("experts in one tensor", vectors, stays="output")
class Stacked(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(3, 10, 6)), nn.Parameter(torch.randn(3, 6, 2))

    def forward(self, X):
        hidden = torch.relu(torch.einsum("ni,eih->neh", X, self.a))
        return torch.einsum("neh,eho->no", hidden, self.b)


@case("two inputs", lambda n: {"image": digits(n), "ids": tokens(n)[:, 0]}, groups=3)
class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.embed = nn.Conv2d(1, 4, 3), nn.Embedding(20, 5)
        self.hidden, self.out = nn.Linear(4 * 9 + 5, 8), nn.Linear(8, 3)

    def forward(self, image, ids):
        left = functional.max_pool2d(functional.relu(self.conv(image)), 2).flatten(1)
        return self.out(functional.relu(self.hidden(torch.cat([left, self.embed(ids)], 1))))


@case("embeddings of columns", lambda n: (tokens(n), vectors(n)), groups=8)
class Columns(nn.Module):
    def __init__(self):
        super().__init__()
        self.embeds = nn.ModuleList(nn.Embedding(20, 3) for _ in range(7))
        self.norm = nn.BatchNorm1d(10)
        self.head = nn.Sequential(nn.Linear(31, 12), nn.ReLU(), nn.Linear(12, 2))

    def forward(self, ids, X):
        parts = [embed(ids[:, i]) for i, embed in enumerate(self.embeds)]
        return self.head(torch.cat([*parts, self.norm(X)], 1))


@case("bag of words", tokens, groups=1)
def bag():
    return nn.Sequential(nn.EmbeddingBag(20, 8, mode="mean"), nn.ReLU(), nn.Linear(8, 3))


@case("deep set", lambda n: torch.randn(n, 5, 4), groups=3)
class DeepSet(nn.Module):
    def __init__(self):
        super().__init__()
        self.phi = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6))
        self.rho = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, X):
        codes = self.phi(X)
        return self.rho(torch.cat([codes.sum(1), codes.max(1).values], -1))


@case("graph convolution", lambda n: (torch.randn(n, 5, 4), torch.rand(n, 5, 5)), groups=2)
class GraphNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, X, edges):
        edges = edges / edges.sum(-1, keepdim=True)
        return self.out(functional.relu(self.b(edges @ functional.relu(self.a(edges @ X)))).mean(1))


@case("capsule-like routing by distance", vectors, stays="")
class Prototypes(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.prototypes = nn.Linear(10, 6), nn.Parameter(torch.randn(3, 6))

    def forward(self, X):
        return -((self.encode(X).unsqueeze(1) - self.prototypes) ** 2).sum(-1)


@case("variational, mean in evaluation", vectors, groups=2, stays="output")
class Variational(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.mean, self.logvar = nn.Linear(10, 8), nn.Linear(8, 4), nn.Linear(8, 4)
        self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 10)

    def forward(self, X):
        hidden = functional.relu(self.a(X))
        code, logvar = self.mean(hidden), self.logvar(hidden)
        if self.training:
            code = code + torch.randn_like(code) * (0.5 * logvar).exp()
        return self.c(functional.relu(self.b(code))), logvar
