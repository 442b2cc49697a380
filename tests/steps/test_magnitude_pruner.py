"""MagnitudePruner: which weights go, on which nets, in one step and in several."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch import NeuralNetClassifier
from torch import nn

from skcompress import FineTuner, MagnitudePruner, TrainingData
from tests.sample_nets import (
    Attention,
    Convolution,
    Recurrent,
    Tokens,
    make_classifier,
)


def zero_fraction(net):
    weights = [p for p in net.module_.parameters() if p.ndim > 1]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_the_asked_fraction_is_zero(fitted_classifier, sparsity):
    pruner = MagnitudePruner(sparsity)
    net = pruner.fit_transform(fitted_classifier)
    n_weights = 64 * 32 + 32 * 10
    assert zero_fraction(net) == round(sparsity * n_weights) / n_weights
    assert pruner.report_.sparsity == pytest.approx(zero_fraction(net))
    assert pruner.report_.n_nonzero == n_weights - round(sparsity * n_weights)


def test_the_smallest_go(fitted_classifier):
    net = MagnitudePruner(0.5).fit_transform(fitted_classifier)
    kept, gone = [], []
    for layer in ("hidden", "out"):
        old = getattr(fitted_classifier.module_, layer).weight.detach()
        new = getattr(net.module_, layer).weight.detach()
        kept.append(old[new != 0].abs())
        gone.append(old[new == 0].abs())
        assert torch.equal(old[new != 0], new[new != 0])
    assert torch.cat(gone).max() <= torch.cat(kept).min()


def test_a_threshold_is_in_units_of_a_weight(fitted_classifier):
    net = MagnitudePruner(threshold=0.1).fit_transform(fitted_classifier)
    for layer in ("hidden", "out"):
        old = getattr(fitted_classifier.module_, layer).weight.detach()
        new = getattr(net.module_, layer).weight.detach()
        assert torch.equal(new == 0, old.abs() < 0.1)


def test_per_layer(fitted_classifier):
    net = MagnitudePruner(0.75, scope="layer").fit_transform(fitted_classifier)
    assert float((net.module_.hidden.weight == 0).float().mean()) == 0.75
    assert float((net.module_.out.weight == 0).float().mean()) == 0.75


def test_ignored_layers(fitted_classifier):
    net = MagnitudePruner(0.9, ignored_layers=["out"]).fit_transform(fitted_classifier)
    assert int((net.module_.out.weight == 0).sum()) == 0
    assert float((net.module_.hidden.weight == 0).float().mean()) == pytest.approx(0.9, abs=1e-3)


def test_an_unknown_layer_is_named(fitted_classifier):
    with pytest.raises(ValueError, match=r"ignored_layers.*'hiden'.*hidden"):
        MagnitudePruner(0.9, ignored_layers=["hiden"]).fit_transform(fitted_classifier)


def test_biases_and_norms_are_left_alone(digits):
    X, y = digits
    net = make_classifier(Convolution, max_epochs=1).fit(X.reshape(-1, 1, 8, 8), y)
    pruned = MagnitudePruner(threshold=1e9).fit_transform(net)
    for name, parameter in pruned.module_.named_parameters():
        if name in ("conv.weight", "out.weight"):
            assert not parameter.any()
        else:
            assert torch.equal(parameter, dict(net.module_.named_parameters())[name])


@pytest.mark.parametrize(
    ("module", "X"),
    [
        (Recurrent, np.random.default_rng(0).normal(size=(40, 6, 8)).astype(np.float32)),
        (Attention, np.random.default_rng(0).normal(size=(40, 6, 8)).astype(np.float32)),
        (Tokens, np.random.default_rng(0).integers(0, 20, size=(40, 5))),
    ],
    ids=["LSTM", "attention", "embedding"],
)
def test_other_layers(module, X):
    y = np.arange(40) % 3
    net = make_classifier(module, max_epochs=1).fit(X, y)
    pruner = MagnitudePruner(0.8)
    pruned = pruner.fit_transform(net, TrainingData(X, y))
    assert pruner.report_.sparsity == pytest.approx(0.8, abs=0.01)
    assert np.isfinite(pruned.predict_proba(X)).all()


def test_a_module_that_is_one_layer(digits):
    net = NeuralNetClassifier(
        nn.Linear,
        module__in_features=64,
        module__out_features=10,
        criterion=nn.CrossEntropyLoss,
        verbose=0,
    ).initialize()
    pruned = MagnitudePruner(0.5).fit_transform(net)
    assert int((pruned.module_.weight == 0).sum()) == 320


def test_the_plan_is_small_and_can_be_read(fitted_classifier):
    pruner = MagnitudePruner(0.5).fit(fitted_classifier)
    text = repr(pruner.plan_)
    assert text.startswith("PruningPlan(1184 of 2368 weights become zero)\n")
    assert "module.hidden.weight" in text
    assert "of 2048" in text


def test_a_plan_fits_nets_of_its_structure(fitted_classifier, digits):
    pruner = MagnitudePruner(0.5).fit(fitted_classifier)
    other = make_classifier(max_epochs=1).fit(*digits)
    assert zero_fraction(pruner.transform(other)) == 0.5
    wider = make_classifier(module__n_hidden=33, max_epochs=1).fit(*digits)
    with pytest.raises(ValueError, match=r"'module.hidden.weight' of shape \(32, 64\).*\(33, 64\)"):
        pruner.transform(wider)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "exactly one of 'sparsity' and 'threshold'. Got sparsity=None and threshold=None"),
        ({"sparsity": 0.5, "threshold": 0.1}, "Got sparsity=0.5 and threshold=0.1"),
        ({"sparsity": 1.0}, r"'sparsity' parameter .* range \[0.0, 1.0\)"),
        ({"sparsity": "half"}, "Got 'half' instead"),
        ({"threshold": -1.0}, "'threshold' parameter"),
        ({"sparsity": float("nan")}, "'sparsity' parameter"),
        ({"sparsity": 0.5, "scope": "local"}, "'scope' parameter .* Got 'local'"),
        ({"sparsity": 0.5, "n_steps": 0}, "'n_steps' parameter"),
        ({"sparsity": 0.5, "n_steps": 3}, r"pass fine_tuner=FineTuner.*n_steps=3"),
    ],
)
def test_bad_parameters(fitted_classifier, digits, params, message):
    with pytest.raises(ValueError, match=message):
        MagnitudePruner(**params).fit(fitted_classifier, TrainingData(*digits))


def test_several_steps_need_rows(fitted_classifier):
    pruner = MagnitudePruner(0.9, n_steps=3, fine_tuner=FineTuner(1))
    with pytest.raises(ValueError, match=r"learns from the training rows.*TrainingData\(X, y\)"):
        pruner.fit_transform(fitted_classifier)


@pytest.mark.parametrize("target", [{"sparsity": 0.9}, {"threshold": 0.12}])
def test_gradual_pruning_reaches_the_target(fitted_classifier, digits, target):
    pruner = MagnitudePruner(
        **target, n_steps=3, fine_tuner=FineTuner(max_epochs=2, random_state=0)
    )
    net = pruner.fit_transform(fitted_classifier, TrainingData(*digits))
    weights = torch.cat(
        [layer.weight.detach().flatten() for layer in (net.module_.hidden, net.module_.out)]
    )
    if "sparsity" in target:
        assert zero_fraction(net) == pytest.approx(0.9, abs=1e-3)
    else:
        assert float(weights[weights != 0].abs().min()) >= 0.12
    # Two trainings of two epochs lie between three steps.
    assert len(net.history_) == len(fitted_classifier.history_) + 4


def test_gradual_pruning_is_better_than_one_shot(digits):
    from skcompress._nets import train

    net = train(make_classifier(max_epochs=30), *digits, seed=0, split_seed=0)
    one_shot = MagnitudePruner(0.93).fit_transform(net)
    tuner = FineTuner(max_epochs=5, random_state=0)
    gradual = MagnitudePruner(0.93, n_steps=4, fine_tuner=tuner)
    gradual = gradual.fit_transform(net, TrainingData(*digits))
    assert zero_fraction(gradual) == pytest.approx(zero_fraction(one_shot))
    assert gradual.score(*digits) > one_shot.score(*digits) + 0.1


def test_what_is_zero_already_counts(fitted_classifier):
    once = MagnitudePruner(0.6).fit_transform(fitted_classifier)
    twice = MagnitudePruner(0.8).fit_transform(once)
    assert zero_fraction(twice) == pytest.approx(0.8, abs=1e-3)
    assert zero_fraction(MagnitudePruner(0.5).fit_transform(once)) == zero_fraction(once)


def test_a_gradual_plan_takes_no_other_net(fitted_classifier, digits):
    pruner = MagnitudePruner(0.9, n_steps=2, fine_tuner=FineTuner(1, random_state=0))
    data = TrainingData(*digits)
    expected = pruner.fit_transform(fitted_classifier, data)
    again = pruner.transform(fitted_classifier)
    assert torch.equal(expected.module_.hidden.weight, again.module_.hidden.weight)
    with pytest.raises(ValueError, match="one particular net"):
        pruner.transform(expected)
    assert clone(pruner).fine_tuner is not pruner.fine_tuner


class Renormed(torch.nn.Module):
    """Looking a row up changes it: the forward of an embedding with max_norm is no mere reading."""

    def __init__(self):
        super().__init__()
        self.table, self.out = torch.nn.Embedding(9, 4, max_norm=0.01), torch.nn.Linear(4, 3)

    def forward(self, X):
        return self.out(self.table(X).mean(1))


@pytest.mark.parametrize("given", [False, True])
def test_counting_does_not_run_the_net_of_the_caller(given):
    net = make_classifier(Renormed).initialize()
    before = {name: value.clone() for name, value in net.module_.state_dict().items()}
    data = TrainingData(
        np.arange(8).reshape(4, 2), np.zeros(4, int), dense_net=net if given else None
    )
    assert MagnitudePruner(0.5).fit(net, data).report_.macs == 12
    for name, value in net.module_.state_dict().items():
        assert torch.equal(value, before[name]), name
