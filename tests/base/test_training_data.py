"""Rows of a caller, in any container and dtype, become those that the net computes in."""

import numpy as np
import pandas as pd
import pytest
import torch
from skorch import NeuralNet
from torch import nn

from skcompress import FineTuner, MagnitudePruner, Quantizer, StructuredPruner, TrainingData
from tests.sample_nets import MLP, Tokens, TwoInputs, make_classifier, make_regressor

CONTAINERS = {
    "float64": (lambda X: X.astype(float), lambda y: y),
    "float16 and int32": (lambda X: X.astype(np.float16), lambda y: y.astype(np.int32)),
    "lists": (lambda X: X.tolist(), lambda y: y.tolist()),
    "frames": (pd.DataFrame, pd.Series),
    "tensors": (torch.from_numpy, torch.from_numpy),
    "double tensors": (lambda X: torch.from_numpy(X).double(), lambda y: y.astype(float)),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_rows_in_any_container(name, fitted_classifier, digits):
    (X, y), (wrap_X, wrap_y) = digits, CONTAINERS[name]
    X = X.round(1).astype(np.float16).astype(np.float32)  # the same in all dtypes
    data, given = TrainingData(X, y), TrainingData(wrap_X(X), wrap_y(y))
    step = FineTuner(1, random_state=0)
    expected = step.fit_transform(fitted_classifier, data)
    got = step.fit_transform(fitted_classifier, given)
    assert torch.equal(got.module_.out.weight, expected.module_.out.weight)
    assert type(given.X) is type(wrap_X(X))


@pytest.mark.parametrize(
    "step",
    [
        MagnitudePruner(0.5),
        MagnitudePruner(0.5, reconstruct=True),
        MagnitudePruner(0.8, n_steps=2, fine_tuner=FineTuner(1)),
        StructuredPruner(0.5, importance="taylor"),
        Quantizer(3, reconstruct=True),
    ],
    ids=repr,
)
def test_doubles_in_every_step(step, fitted_classifier, digits):
    X, y = digits
    step.fit_transform(fitted_classifier, TrainingData(X.astype(float), y.astype(np.int32)))
    assert step.report_.macs > 0


def test_a_net_of_doubles(digits):
    X, y = digits
    net = NeuralNet(Double, nn.CrossEntropyLoss, verbose=0, train_split=None)
    net.fit(X.astype(float), y)
    FineTuner(1).fit_transform(net, TrainingData(X, y))


class Double(MLP):
    def __init__(self):
        super().__init__()
        self.double()


def test_values_take_the_shape_of_the_output(diabetes):
    X, y = diabetes
    net = make_regressor(module__n_in=10).fit(X, y)
    step = FineTuner(1, random_state=0)
    expected = step.fit_transform(net, TrainingData(X, y))
    got = step.fit_transform(net, TrainingData(X, y.ravel().astype(float)))
    assert torch.equal(got.module_.out.weight, expected.module_.out.weight)


def test_whole_numbers_stay_whole():
    ids, y = np.arange(280, dtype=np.int32).reshape(40, 7) % 20, np.arange(40) % 3
    net = make_classifier(Tokens, max_epochs=1).fit(ids.astype(np.int64), y)
    FineTuner(1).fit_transform(net, TrainingData(ids, y))
    both = {"image": np.zeros((40, 64)), "ids": ids[:, 0] % 5}
    net = make_classifier(TwoInputs, max_epochs=1)
    net.fit({"image": both["image"].astype(np.float32), "ids": both["ids"].astype(np.int64)}, y)
    FineTuner(1).fit_transform(net, TrainingData(both, y))


class Refusing(MLP):
    """A module that must not be trained."""

    def forward(self, X):
        assert not self.training, "a net was trained for rows that were refused"
        return super().forward(X)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: (X, y.astype(str)), r"y has the dtype <U21. Give class numbers: numpy.uni"),
        (lambda X, y: (X.astype(str), y), r"takes numbers as the net does, but X has the dtype <U"),
        (lambda X, y: (X, y[:-2]), r"360 rows of X, but y has 358"),
        (lambda X, y: (X, y, np.ones(3)), r"3 rows of sample_weight, but y has 360"),
        (lambda X, y: (X[:, :30], y), r"cannot process one row.*in_features=64"),
        (lambda X, y: ((X * 16).astype(int), y), r"takes floats"),
    ],
)
@pytest.mark.parametrize("step", [FineTuner(1), MagnitudePruner(0.5)], ids=repr)
def test_rows_that_the_net_cannot_take(step, change, message, digits):
    net = make_classifier(Refusing).initialize()
    with pytest.raises(ValueError, match=message):
        step.fit(net, TrainingData(*change(*digits)))
