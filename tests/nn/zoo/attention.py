"""Attention in torch's layers and written by hand."""

import math

import torch
from torch import nn
from torch.nn import functional

from tests.nn.zoo.cases import case, images, series, tokens, vectors


@case("nn.TransformerEncoder", series, groups=4, stays="takes statistics over it")
class Encoder(nn.Module):
    def __init__(self, **params):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 4, 16, batch_first=True, **params)
        self.stem = nn.Linear(6, 8)
        self.encode = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(8, 3)

    def forward(self, X):
        return self.out(self.encode(self.stem(X)).mean(1))


@case("pre-norm encoder with a causal mask", series, groups=4, stays="takes statistics over it")
class Causal(Encoder):
    def __init__(self):
        super().__init__(norm_first=True, activation="gelu", bias=False)

    def forward(self, X):
        mask = nn.Transformer.generate_square_subsequent_mask(X.shape[1], dtype=X.dtype)
        return self.out(self.encode(self.stem(X), mask=mask, is_causal=True)[:, -1])


@case("encoder with padding", tokens, groups=5, stays="takes statistics over it")
class Padded(Encoder):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 6)

    def forward(self, X):
        padding = (X == 3) & (torch.arange(X.shape[1]) > 0)
        return self.out(self.encode(self.stem(self.embed(X)), src_key_padding_mask=padding)[:, 0])


@case("nn.TransformerDecoder", series, groups=3, stays="takes statistics over it")
class DecoderNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.decode = nn.TransformerDecoderLayer(8, 2, 12, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, X):
        X = self.stem(X)
        return self.out(self.decode(X[:, 3:], X[:, :3]).mean(1))


@case("nn.MultiheadAttention, no norm", series, groups=2)
class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.out = nn.Linear(6, 8), nn.Linear(8, 3)
        self.attend = nn.MultiheadAttention(8, 4, batch_first=True)

    def forward(self, X):
        X = self.stem(X)
        return self.out((X + self.attend(X, X, X, need_weights=False)[0]).mean(1))


@case("attention with weights", series, groups=2)
class Weights(Residual):
    def forward(self, X):
        X = self.stem(X)
        return self.out((X + self.attend(X, X, X)[0]).mean(1))


@case("attention whose weights are used", series, groups=1, stays="mixes it with other units")
class UsedWeights(Residual):
    def forward(self, X):
        X = self.stem(X)
        out, weights = self.attend(X, X, X)
        return self.out((X + out).mean(1)), weights


class ByHand(nn.Module):
    """Heads by view; the number of heads follows the width, or is written down."""

    def __init__(self, follows):
        super().__init__()
        self.follows, self.heads, self.width = follows, 4, 2
        self.q, self.k, self.v, self.o = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, X):
        n, t, _ = X.shape
        heads = -1 if self.follows else self.heads
        q, k, v = (
            p(X).view(n, t, heads, self.width).transpose(1, 2) for p in (self.q, self.k, self.v)
        )
        weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(self.width), -1)
        return self.o((weights @ v).transpose(1, 2).reshape(n, t, -1))


class HandMade(nn.Module):
    def __init__(self, follows):
        super().__init__()
        self.stem, self.norm = nn.Linear(6, 8), nn.LayerNorm(8)
        self.attend, self.out = ByHand(follows), nn.Linear(8, 3)

    def forward(self, X):
        X = self.stem(X)
        return self.out(self.norm(X + self.attend(X)).mean(1))


@case("attention by hand, heads follow", series, groups=1)
def heads_follow():
    return HandMade(True)


@case("attention by hand, heads written", series, stays="without some of them the net fails")
def heads_written():
    return HandMade(False)


@case("scaled_dot_product_attention", series, groups=1)
class Fused(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(6, 24), nn.Linear(8, 3)

    def forward(self, X):
        q, k, v = self.qkv(X).unflatten(-1, (3, -1, 2)).permute(2, 0, 3, 1, 4)
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(out.transpose(1, 2).flatten(2).mean(1))


@case("linear attention", series, stays="")
class LinearAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(6, 8) for _ in range(4))
        self.out = nn.Linear(8, 3)

    def forward(self, X):
        q, k, v = functional.elu(self.q(X)) + 1, functional.elu(self.k(X)) + 1, self.v(X)
        return self.out((q @ (k.transpose(1, 2) @ v)).mean(1))


@case("FT-Transformer-like", vectors, groups=3, stays="takes statistics over it")
class FTTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(10, 8)), nn.Parameter(torch.randn(10, 8))
        self.cls = nn.Parameter(torch.randn(1, 1, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=True)
        self.head = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))

    def forward(self, X):
        X = X.unsqueeze(-1) * self.weight + self.bias
        X = torch.cat([self.cls.expand(len(X), -1, -1), X], 1)
        return self.head(self.layer(X)[:, 0])


@case("vision transformer", images, groups=2, stays="takes statistics over it")
class ViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 8, 8)
        self.place = nn.Parameter(torch.randn(1, 5, 8))
        self.cls = nn.Parameter(torch.randn(1, 1, 8))
        self.layer = nn.TransformerEncoderLayer(8, 4, 12, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, X):
        X = self.patch(X).flatten(2).transpose(1, 2)
        X = torch.cat([self.cls.expand(len(X), -1, -1), X], 1) + self.place
        return self.head(self.layer(X)[:, 0])


@case("GPT-like with tied embedding", tokens, groups=1, stays="takes statistics over it")
class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.place = nn.Embedding(20, 8), nn.Embedding(7, 8)
        self.norm, self.a, self.b = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, X):
        X = self.embed(X) + self.place(torch.arange(X.shape[1]))
        X = X + self.b(functional.gelu(self.a(self.norm(X))))
        return functional.linear(X, self.embed.weight)


@case("MLP-Mixer", series, groups=2, stays="takes statistics over it")
class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Linear(6, 8), nn.LayerNorm(8)
        self.over_time = nn.Sequential(nn.Linear(7, 12), nn.GELU(), nn.Linear(12, 7))
        self.over_units = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))
        self.out = nn.Linear(8, 3)

    def forward(self, X):
        X = self.stem(X)
        X = X + self.over_time(self.norm(X).transpose(1, 2)).transpose(1, 2)
        return self.out((X + self.over_units(self.norm(X))).mean(1))
