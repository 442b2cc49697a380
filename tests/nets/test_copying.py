"""Copies are independent and complete; frozen nets come back."""

import copy
import pickle

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import EarlyStopping, EpochScoring
from torch import nn

from skcompress._nets import FrozenNet, copy_net, module_root, replace_modules
from tests.sample_nets import MLP, make_classifier


def state_of(net):
    """Return everything of a net that a user could see change."""
    return {
        "weights": {k: v.clone() for k, v in net.module_.state_dict().items()},
        "optimizer": copy.deepcopy(net.optimizer_.state_dict()),
        "history": copy.deepcopy(list(net.history_)),
        "params": {k: repr(v) for k, v in net.get_params(deep=False).items()},
        "callbacks": [(name, id(callback)) for name, callback in net.callbacks_],
    }


def assert_same_state(before, after):
    assert before["history"] == after["history"]
    assert before["params"] == after["params"]
    assert before["callbacks"] == after["callbacks"]
    torch.testing.assert_close(before["weights"], after["weights"], rtol=0, atol=0)
    assert repr(before["optimizer"]) == repr(after["optimizer"])


def test_a_copy_predicts_the_same(fitted_classifier, digits):
    net = copy_net(fitted_classifier)
    np.testing.assert_array_equal(
        net.predict_proba(digits[0]), fitted_classifier.predict_proba(digits[0])
    )
    assert type(net) is type(fitted_classifier)
    np.testing.assert_array_equal(net.classes_, fitted_classifier.classes_)


def test_training_a_copy_leaves_the_net_alone(digits):
    callbacks = [EarlyStopping(monitor="train_loss"), ("acc", EpochScoring("accuracy"))]
    net = make_classifier(callbacks=callbacks).fit(*digits)
    before = state_of(net)
    other = copy_net(net).partial_fit(*digits)
    assert_same_state(before, state_of(net))
    assert len(other.history_) == 2 * len(net.history_)
    assert not torch.equal(other.module_.hidden.weight, net.module_.hidden.weight)


def test_the_optimizer_of_a_copy_trains_the_copy(fitted_classifier):
    net = copy_net(fitted_classifier)
    held = {id(p) for group in net.optimizer_.param_groups for p in group["params"]}
    assert held == {id(p) for p in net.module_.parameters()}


def test_rebuilding_is_silent(digits, capsys):
    net = make_classifier(verbose=1, max_epochs=1).fit(*digits)
    capsys.readouterr()
    copy_net(net)
    replace_modules(net, {"module": MLP()})
    assert capsys.readouterr().out == ""
    assert net.verbose == 1


def test_a_replaced_module_is_what_trains(fitted_classifier, digits):
    net = replace_modules(copy_net(fitted_classifier), {"module": MLP()})
    before = net.module_.hidden.weight.clone()
    net.partial_fit(*digits)
    assert not torch.equal(before, net.module_.hidden.weight)


class TwoModules(NeuralNetClassifier):
    """A net with a second module and a second optimizer, as skorch documents it."""

    def __init__(self, *args, scaler=nn.Linear, **kwargs):
        self.scaler = scaler
        super().__init__(*args, **kwargs)

    def initialize_module(self):
        super().initialize_module()
        self.scaler_ = self.scaler(64, 64)
        return self

    def initialize_optimizer(self):
        self.optimizer_ = torch.optim.SGD(self.module_.parameters(), lr=self.lr)
        self.optimizer2_ = torch.optim.SGD(self.scaler_.parameters(), lr=self.lr)
        return self

    def infer(self, x, **fit_params):
        return super().infer(self.scaler_(torch.as_tensor(x)), **fit_params)


@pytest.fixture
def two_modules(digits):
    params = {"criterion": nn.CrossEntropyLoss, "train_split": None, "verbose": 0}
    return TwoModules(MLP, **params).fit(*digits)


def test_nets_with_two_modules_and_optimizers(two_modules, digits):
    net = copy_net(two_modules)
    assert set(module_root(net)) == {"module", "scaler"}
    np.testing.assert_array_equal(
        net.predict_proba(digits[0]), two_modules.predict_proba(digits[0])
    )
    net.partial_fit(*digits)
    assert not torch.equal(net.scaler_.weight, two_modules.scaler_.weight)


class Remembering(MLP):
    """Keeps its last activations, which are part of a graph."""

    def forward(self, X):
        self.seen = super().forward(X)
        return self.seen


def test_modules_that_keep_activations(digits):
    net = make_classifier(Remembering, max_epochs=1)
    net.fit(*digits)
    net.module_.train()
    net.module_(torch.as_tensor(digits[0]))
    copied = copy_net(net)
    np.testing.assert_array_equal(copied.predict_proba(digits[0]), net.predict_proba(digits[0]))


def test_a_frozen_net_comes_back(fitted_classifier, digits):
    net = pickle.loads(pickle.dumps(FrozenNet(fitted_classifier))).thaw()
    np.testing.assert_array_equal(
        net.predict_proba(digits[0]), fitted_classifier.predict_proba(digits[0])
    )
    net.partial_fit(*digits)
    assert list(net.history_)[:-5] == list(fitted_classifier.history_)


def test_a_frozen_net_is_smaller(digits):
    net = make_classifier(max_epochs=1).fit(*digits)
    assert len(pickle.dumps(FrozenNet(net))) < len(pickle.dumps(net))
