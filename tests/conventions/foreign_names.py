"""Which attributes the objects of other libraries have, for the tests that look for their use."""

import inspect
import warnings

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.callback import CallbackSupportMixin
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from torch import nn

X = np.zeros((4, 2), np.float32)
LABELS = np.array([0, 1, 0, 1])
NETS = [
    (NeuralNetClassifier, nn.CrossEntropyLoss, 2, LABELS),
    (NeuralNetBinaryClassifier, nn.BCEWithLogitsLoss, 1, LABELS.astype(np.float32)),
    (NeuralNetRegressor, nn.MSELoss, 2, X),
]


def names_of(*objects):
    """Return the names of all attributes of some objects, without those like ``__len__``."""
    names = {name for one in objects for name in (*dir(one), *getattr(one, "__dict__", ()))}
    return {name for name in names if not name.startswith("__")}


def fitted_nets():
    """Yield a fitted net of each class of skorch that users start from."""
    for kind, criterion, n_outputs, y in NETS:
        module = {"module__in_features": 2, "module__out_features": n_outputs}
        options = {"criterion": criterion, "max_epochs": 1, "train_split": None, "verbose": 0}
        with torch.random.fork_rng():
            yield kind(nn.Linear, **module, **options).fit(X, y)


def names_of_nets():
    """Return the names of all attributes that a fitted skorch net has, private ones included."""
    found = {"_trimmed_for_prediction"}  # only once it is trimmed
    for net in fitted_nets():
        found |= names_of(net) - {name for name in vars(net) if name.startswith("module__")}
    return found


def private_names():
    """Return the private names of the classes of torch and scikit-learn that we have to do with."""
    layers = [one for one in vars(nn).values() if inspect.isclass(one)]
    made = [nn.LSTM(1, 1), nn.Conv2d(1, 1, 1), nn.MultiheadAttention(2, 1)]
    operator, storage = torch.ops.aten.add.Tensor, torch.UntypedStorage()
    bases = [BaseEstimator, TransformerMixin, ClassNamePrefixFeaturesOutMixin, CallbackSupportMixin]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some attributes warn when they are looked at
        names = names_of(*layers, *made, torch.Tensor, operator, storage, *bases)
    return {name for name in names if is_private(name)}


def is_private(name):
    """Tell whether a name is private: neither of the language's own ``__x__`` nor an ``_x_``."""
    return name.startswith("_") and not name.endswith("_")
