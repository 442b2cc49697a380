"""Reports: of a step run by hand at once, inside of an estimator at the first look."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
import torch
from sklearn.pipeline import Pipeline

from skcompress import (
    CompressedClassifier,
    LowRankFactorizer,
    MagnitudePruner,
    Quantizer,
    StructuredPruner,
    TrainingData,
)
from tests.sample_nets import make_classifier

STEPS = {
    "units": StructuredPruner(pruning_ratio=0.3),
    "rank": LowRankFactorizer(energy=0.5),
    "prune": MagnitudePruner(0.5),
    "quantize": Quantizer(4),
}


@pytest.fixture
def fitted(digits):
    steps = Pipeline(list(STEPS.items()))
    return CompressedClassifier(make_classifier(), steps, random_state=0).fit(*digits)


def test_a_step_in_an_estimator_reports_what_it_reports_by_hand(digits, fitted):
    X, y = digits
    net = CompressedClassifier(make_classifier(), random_state=0).fit(X, y).net_
    dense = net
    for name, step in fitted.compressor_.named_steps.items():
        assert "_unmeasured" in vars(step)
        by_hand = STEPS[name].__sklearn_clone__()
        net = by_hand.fit_transform(net, TrainingData(X, y.astype(np.int64), dense_net=dense))
        assert "_unmeasured" not in vars(by_hand)
        assert step.report_ == by_hand.report_


@pytest.mark.parametrize("look", [lambda step: step.report_, pickle.dumps, copy.deepcopy])
def test_the_first_look_lets_the_nets_go(fitted, look):
    step = fitted.compressor_.named_steps["prune"]
    net = weakref.ref(step._unmeasured[0])
    look(step)
    gc.collect()
    assert net() is None
    assert pickle.loads(pickle.dumps(step)).report_ == step.report_


def test_what_becomes_of_a_net_later_is_not_in_the_report_of_a_step(fitted_classifier):
    pruner = MagnitudePruner(0.5)
    net = pruner.fit_transform(fitted_classifier)
    with torch.no_grad():
        for parameter in net.module_.parameters():
            parameter.fill_(1.0)
    assert pruner.report_.sparsity == pytest.approx(0.5, abs=1e-3)


def test_a_look_that_fails_can_be_repeated(fitted, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("skcompress.estimators._base.net_estimator.compare", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _ = fitted.report_
    assert fitted.report_.nbytes < fitted.report_.dense_nbytes


def test_a_second_fit_has_its_own_report(digits):
    X, y = digits
    clf = CompressedClassifier(make_classifier(), MagnitudePruner(0.5), random_state=0).fit(X, y)
    clf.set_params(compressor__sparsity=0.9).fit(X, y)
    assert clf.report_.sparsity == pytest.approx(0.9, abs=1e-3)
    pruner = MagnitudePruner(0.5).fit(clf.net_)
    assert pruner.set_params(sparsity=0.95).fit(clf.net_).report_.sparsity > 0.94


def test_an_unfitted_step_has_no_report():
    assert not hasattr(MagnitudePruner(0.5), "report_")


class HandWritten(torch.nn.Module):
    """Attention without a layer of it, then a product with a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.hidden = torch.nn.Linear(8, 32)
        self.out = torch.nn.Parameter(torch.randn(32, 10))

    def forward(self, X):
        X = X.view(-1, 8, 8)
        mixed = torch.nn.functional.scaled_dot_product_attention(X, X, X)
        return torch.relu(self.hidden(mixed.mean(1))) @ self.out


def test_products_outside_of_layers_count_in_reports_and_targets(digits):
    X, y = digits
    net = make_classifier(module=HandWritten)
    steps = Pipeline([("units", StructuredPruner(target_macs=0.8))])
    clf = CompressedClassifier(net, steps, random_state=0).fit(X, y)
    assert clf.report_.dense_macs == 2 * 8 * 8 * 8 + 8 * 32 + 32 * 10
    assert 0.7 < clf.report_.macs / clf.report_.dense_macs <= 0.8
