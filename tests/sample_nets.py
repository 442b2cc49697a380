"""Small nets for the tests, importable by worker processes.

A class defined in a test function or in ``__main__`` cannot be unpickled in a loky worker, so the
modules live here and the tests import them.
"""

import torch
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from torch import nn


class MLP(nn.Module):
    """One hidden layer; returns logits or, for a regressor, the values themselves."""

    def __init__(self, n_in=64, n_hidden=32, n_out=10):
        super().__init__()
        self.hidden = nn.Linear(n_in, n_hidden)
        self.act = nn.ReLU()
        self.out = nn.Linear(n_hidden, n_out)

    def forward(self, X):
        return self.out(self.act(self.hidden(X)))


def make_classifier(module=MLP, **params):
    """Return an unfitted skorch classifier: quiet, on all rows, few epochs, logits and Adam.

    ``params`` are handed to `skorch.NeuralNetClassifier` and win over these defaults.
    """
    return NeuralNetClassifier(
        module,
        **{
            "criterion": nn.CrossEntropyLoss,
            "optimizer": torch.optim.Adam,
            "lr": 0.01,
            "max_epochs": 5,
            "batch_size": 64,
            "iterator_train__shuffle": True,
            "train_split": None,
            "verbose": 0,
            **params,
        },
    )


def make_multilabel(net=NeuralNet, **params):
    """Return an unfitted net for indicator matrices, a logit for each label."""
    return net(
        **{
            "module": MLP,
            "criterion": nn.BCEWithLogitsLoss,
            "optimizer": torch.optim.Adam,
            "lr": 0.01,
            "max_epochs": 30,
            "batch_size": 64,
            "iterator_train__shuffle": True,
            "train_split": None,
            "verbose": 0,
            **params,
        },
    )


def make_regressor(module=MLP, **params):
    """Return an unfitted skorch regressor with one output; see `make_classifier`."""
    return NeuralNetRegressor(
        module,
        **{
            "module__n_out": 1,
            "optimizer": torch.optim.Adam,
            "lr": 0.01,
            "max_epochs": 5,
            "batch_size": 64,
            "iterator_train__shuffle": True,
            "train_split": None,
            "verbose": 0,
            **params,
        },
    )


class Convolution(nn.Module):
    """Images of shape (n, 1, 8, 8)."""

    def __init__(self, n_out=10):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.out = nn.Linear(8 * 16, n_out)

    def forward(self, X):
        hidden = torch.relu(self.norm(self.conv(X)))
        return self.out(torch.max_pool2d(hidden, 2).flatten(1))


class Recurrent(nn.Module):
    """Series of shape (n, length, 8)."""

    def __init__(self, n_out=10, kind=nn.LSTM):
        super().__init__()
        self.rnn = kind(8, 12, batch_first=True)
        self.out = nn.Linear(12, n_out)

    def forward(self, X):
        return self.out(self.rnn(X)[0][:, -1])


class Tokens(nn.Module):
    """Token ids of shape (n, length), whole numbers."""

    def __init__(self, n_tokens=20, n_out=3):
        super().__init__()
        self.embed = nn.Embedding(n_tokens, 6)
        self.out = nn.Linear(6, n_out)

    def forward(self, X):
        return self.out(self.embed(X).mean(dim=1))


class TwoInputs(nn.Module):
    """A dict of two inputs, "image" and "ids"."""

    def __init__(self, n_out=10):
        super().__init__()
        self.left = nn.Linear(64, 12)
        self.embed = nn.Embedding(5, 4)
        self.out = nn.Linear(16, n_out)

    def forward(self, image, ids):
        return self.out(torch.cat([torch.relu(self.left(image)), self.embed(ids)], dim=1))


class Attention(nn.Module):
    """Series of shape (n, length, 8) through a transformer layer."""

    def __init__(self, n_out=10):
        super().__init__()
        self.encode = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        self.out = nn.Linear(8, n_out)

    def forward(self, X):
        return self.out(self.encode(X).mean(dim=1))


class Deep(nn.Module):
    def __init__(self, n_hidden=40):
        super().__init__()
        self.a, self.b = nn.Linear(64, n_hidden), nn.Linear(n_hidden, n_hidden)
        self.out = nn.Linear(n_hidden, 10)

    def forward(self, X):
        return self.out(torch.relu(self.b(torch.relu(self.a(X)))))


class Images(nn.Module):
    """Convolutions with norm layers, a residual connection and a group each."""

    def __init__(self):
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(1, 16, 3, padding="same"), nn.BatchNorm2d(16)
        self.second, self.norm2 = nn.Conv2d(16, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.each = nn.Conv2d(16, 16, 3, stride=2, groups=16)
        self.out = nn.Linear(16 * 9, 10)

    def forward(self, X):
        X = torch.relu(self.norm1(self.first(X.view(-1, 1, 8, 8))))
        X = torch.relu(self.norm2(self.second(X)) + X)
        return self.out(torch.relu(self.each(X)).flatten(1))


class Twice(nn.Module):
    """Calls one layer twice, and gives another its input by name."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(32, 24), nn.Linear(24, 24), nn.Linear(48, 10)

    def forward(self, X):
        left, right = (torch.relu(self.b(torch.relu(self.a(half)))) for half in X.split(32, 1))
        return self.out(input=torch.cat([left, right], 1))


class Tied(nn.Module):
    """Two layers share one weight."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(64, 24), nn.Linear(24, 24)
        self.c, self.out = nn.Linear(24, 24), nn.Linear(24, 10)
        self.c.weight = self.b.weight

    def forward(self, X):
        hidden = torch.relu(self.b(torch.relu(self.a(X))))
        return self.out(torch.relu(self.c(hidden)))


class Routed(nn.Module):
    """Gives a layer only some of the rows, and others of them once its inputs have changed."""

    def __init__(self):
        super().__init__()
        self.a, self.gate = nn.Linear(64, 24), nn.Linear(24, 1)
        self.b, self.out = nn.Linear(24, 24), nn.Linear(24, 10)

    def forward(self, X):
        hidden = torch.relu(self.a(X))
        score = self.gate(hidden)
        chosen = (score > score.median())[:, 0]
        part = torch.relu(self.b(hidden[chosen]))
        return self.out(torch.zeros(len(X), part.shape[1]).index_put((chosen,), part)) + score
