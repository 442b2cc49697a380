"""Small nets for the tests, importable by worker processes.

A class defined in a test function or in ``__main__`` cannot be unpickled in a loky worker, so the
modules live here and the tests import them.
"""

import torch
from skorch import NeuralNetClassifier, NeuralNetRegressor
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
            "train_split": None,
            "verbose": 0,
            **params,
        },
    )
