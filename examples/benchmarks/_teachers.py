"""The teachers of distillation.py, and the nets it is about."""

import pickle

import numpy as np
import torch
from _common import MLP, make_net
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from skorch import NeuralNetRegressor

from skcompress import CompressedClassifier, CompressedRegressor

TEACHERS = ("forest", "boosting", "5 nets", "wide MLP")


def make_teacher(name, classifies, n_in, n_out, sizes):
    """Return an unfitted teacher; None where there is none of the kind."""
    if name == "forest":
        return (RandomForestClassifier if classifies else RandomForestRegressor)(sizes["n_trees"])
    if name == "boosting":
        boosting = HistGradientBoostingClassifier if classifies else HistGradientBoostingRegressor
        if n_in > 100:
            return boosting(max_iter=30, max_features=0.1)
        return boosting() if classifies or n_out == 1 else None  # it has one output
    compressed = CompressedClassifier if classifies else CompressedRegressor
    if name == "wide MLP":
        return compressed(net(classifies, [n_in, 256, 256, n_out], sizes))
    return [compressed(net(classifies, [n_in, 64, n_out], sizes))] * 5


def net(classifies, widths, sizes):
    """Return an unfitted net."""
    params = {"max_epochs": sizes["max_epochs"], "batch_size": 64}
    if classifies:
        return make_net(widths, **params).set_params(lr=0.003)
    return NeuralNetRegressor(
        MLP,
        module__widths=widths,
        optimizer=torch.optim.Adam,
        lr=0.003,
        train_split=None,
        iterator_train__shuffle=True,
        verbose=0,
        **params,
    )


class Ensemble:
    """A fitted teacher as a model of its own: of a list, the mean of its members."""

    def __init__(self, teacher, classes):
        self.members = teacher if isinstance(teacher, list) else [teacher]
        self.classes = classes

    def predict(self, X):
        if self.classes is None:
            return np.mean([member.predict(X) for member in self.members], axis=0)
        mean = np.mean([member.predict_proba(X) for member in self.members], axis=0)
        return self.classes[mean.argmax(axis=1)]

    def n_bytes(self):
        """Return the bytes of our nets' files, or of the pickle of anything else."""
        sizes = (m.report_.nbytes if hasattr(m, "report_") else _pickled(m) for m in self.members)
        return sum(sizes)


def _pickled(model):
    return len(pickle.dumps(model, protocol=5))
