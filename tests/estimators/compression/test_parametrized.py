"""Nets with parametrized weights: trained, kept, compressed and saved like all others."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import cross_validate
from sklearn.pipeline import Pipeline
from torch import nn
from torch.nn.utils import parametrize, prune

from skcompress import (
    CompressedClassifier,
    DeadUnitRemover,
    DistilledClassifier,
    FineTuner,
    LowRankFactorizer,
    MagnitudePruner,
    Quantizer,
    StructuredPruner,
    TrainingData,
)
from skcompress._nets import with_plain_weights
from skcompress.io import load, save
from tests.parametrized_nets import (
    NETS,
    Hooked,
    MaxNormed,
    Noisy,
    NormedNorm,
    Stacked,
    WeightNormed,
)
from tests.sample_nets import MLP, make_classifier

STEPS = {
    "prune": MagnitudePruner(0.5),
    "fewer": StructuredPruner(0.5),
    "dead": DeadUnitRemover(),
    "low rank": LowRankFactorizer(2),
    "quantize": Quantizer(4),
    "tune": FineTuner(1),
    "all": Pipeline(
        [
            ("dead", DeadUnitRemover()),
            ("rank", LowRankFactorizer(4)),
            ("fewer", StructuredPruner(0.3, reconstruct=True)),
            ("prune", MagnitudePruner(0.5, n_steps=2, fine_tuner=FineTuner(1))),
            ("codes", Quantizer(8)),
        ]
    ),
}


def estimator(module, compressor=None, **params):
    net = make_classifier(module, max_epochs=2)
    return CompressedClassifier(net, compressor, random_state=0, **params)


@pytest.mark.parametrize("module", NETS)
def test_an_uncompressed_net_is_kept_pickled_and_saved(module, digits, tmp_path):
    X, y = digits
    clf = estimator(module, memory=tmp_path / "cache").fit(X, y)
    expected = clf.predict_proba(X)
    assert clf.report_.sparsity == 0
    assert clf.report_.nbytes == clf.report_.dense_nbytes > 0
    assert "parametrizations_removed" not in clf.report_
    again = estimator(module, memory=tmp_path / "cache").fit(X, y)
    assert not again.report_.dense_trained
    np.testing.assert_array_equal(again.predict_proba(X), expected)
    for other in (pickle.loads(pickle.dumps(clf)), copy.deepcopy(clf)):
        np.testing.assert_array_equal(other.predict_proba(X), expected)
        other.net_.partial_fit(X, y)  # trains on, with its constraint
        assert list(other.net_.module_.state_dict()) == list(clf.net_.module_.state_dict())
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
    save(clf, tmp_path / "net.skc")
    loaded = load(tmp_path / "net.skc", estimator(module))
    np.testing.assert_array_equal(loaded.predict_proba(X), expected)
    assert list(loaded.net_.module_.state_dict()) == list(clf.net_.module_.state_dict())


def test_the_constraint_holds_while_the_dense_net_trains(digits):
    clf = estimator(MaxNormed).fit(*digits)
    assert clf.net_.module_.out.weight.norm(dim=1).max() <= 0.25 + 1e-6


@pytest.mark.parametrize("module", NETS)
@pytest.mark.parametrize("step", ["prune", "fewer", "quantize", "tune"])
def test_a_compressed_net_is_plain_pickled_and_saved(module, step, digits, tmp_path):
    check_compressed(module, step, digits, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:reconstruct=True has changed nothing")  # a frozen layer
@pytest.mark.parametrize("module", NETS)
@pytest.mark.parametrize("step", ["dead", "low rank", "all"])
def test_other_steps_on_parametrized_nets(module, step, digits, tmp_path):
    check_compressed(module, step, digits, tmp_path)


def check_compressed(module, step, digits, tmp_path):
    X, y = digits
    clf = estimator(module, STEPS[step]).fit(X, y)
    assert not any(map(parametrize.is_parametrized, clf.net_.module_.modules()))
    assert clf.report_.parametrizations_removed
    expected = clf.predict_proba(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(X), expected)
    save(clf, tmp_path / "net.skc")
    loaded = load(tmp_path / "net.skc", estimator(module, STEPS[step]))
    np.testing.assert_array_equal(loaded.predict_proba(X), expected)
    save(loaded, tmp_path / "again.skc")  # what was done to the layers is known to the loaded net
    assert (tmp_path / "again.skc").read_bytes() == (tmp_path / "net.skc").read_bytes()


def test_the_report_names_the_weights_and_counts_plain_ones(digits):
    clf = estimator(WeightNormed, MagnitudePruner(0.5)).fit(*digits)
    names = ["module.hidden.weight", "module.out.weight"]
    assert clf.report_.parametrizations_removed == names
    assert clf.compressor_.report_.parametrizations_removed == names
    n_params = sum(p.numel() for p in MLP().parameters())
    assert clf.report_.n_params == clf.report_.dense_n_params == n_params
    assert clf.report_.sparsity == pytest.approx(0.5, abs=1e-3)
    assert clf.report_.macs == clf.report_.dense_macs == 64 * 32 + 32 * 10
    dense = estimator(WeightNormed).fit(*digits)
    assert dense.report_.n_params == n_params
    assert dense.report_.nbytes == clf.report_.dense_nbytes
    plain = estimator(MLP, MagnitudePruner(0.5)).fit(*digits)
    assert "parametrizations_removed" not in plain.report_


def test_a_step_alone_leaves_the_given_net_as_it_is(digits):
    X, y = digits
    net = make_classifier(Stacked, max_epochs=1).fit(X, y)
    before = {name: value.clone() for name, value in net.module_.state_dict().items()}
    expected = net.predict_proba(X)
    step = MagnitudePruner(0.5)
    pruned = step.fit_transform(net, TrainingData(X, y, dense_net=net))
    assert set(step.report_.parametrizations_removed) == {
        "module.scale",
        "module.hidden.weight",
        "module.hidden.bias",
        "module.out.weight",
    }
    assert step.report_.sparsity == pytest.approx(0.5, abs=1e-3)
    np.testing.assert_array_equal(step.transform(net).predict_proba(X), pruned.predict_proba(X))
    torch.testing.assert_close(dict(net.module_.state_dict()), before, rtol=0, atol=0)
    np.testing.assert_array_equal(net.predict_proba(X), expected)
    with torch.no_grad():
        assert (net.module_.hidden.weight != 0).all()  # its class is still its own


def test_the_optimizer_of_a_plain_net_trains_it(digits):
    X, y = digits
    net = with_plain_weights(make_classifier(Stacked, max_epochs=1).fit(X, y), "A test")
    before = {name: value.clone() for name, value in net.module_.named_parameters()}
    net.partial_fit(X, y)
    changed = {n for n, p in net.module_.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {"scale", "hidden.weight", "hidden.bias", "out.bias"}  # one was frozen


def test_folds_and_workers(digits):
    X, y = digits
    for compressor in (None, Quantizer(8)):
        results = cross_validate(
            estimator(Hooked, compressor), X, y, cv=2, n_jobs=2, return_estimator=True
        )
        for score, fitted in zip(results["test_score"], results["estimator"], strict=True):
            assert 0 < score <= 1
            assert fitted.predict(X).shape == y.shape


@pytest.mark.filterwarnings("ignore:FrozenEstimator")
def test_a_frozen_net_and_a_student(digits):
    X, y = digits
    net = make_classifier(WeightNormed, max_epochs=1).fit(X, y)
    clf = CompressedClassifier(FrozenEstimator(net), MagnitudePruner(0.5)).fit(X, y)
    assert len(clf.report_.parametrizations_removed) == 2
    assert parametrize.is_parametrized(net.module_.hidden)
    student = DistilledClassifier(make_classifier(WeightNormed, max_epochs=1), FrozenEstimator(net))
    clf = CompressedClassifier(student, FineTuner(1, alpha=0.5), random_state=0).fit(X, y)
    assert len(clf.report_.parametrizations_removed) == 2


def test_the_norm_layer_that_was_parametrized_can_be_folded(digits):
    clf = estimator(NormedNorm, DeadUnitRemover()).fit(*digits)
    assert type(clf.net_.module_.norm).__name__ == "FoldedNorm"
    assert clf.report_.parametrizations_removed == ["module.norm.weight"]


class Masked(MLP):
    def __init__(self):
        super().__init__()
        prune.l1_unstructured(self.hidden, "weight", 0.5)


class Compiled(MLP):
    def __init__(self):
        super().__init__()
        self.hidden = torch.compile(self.hidden, backend="eager")


class Scripted(MLP):
    def __init__(self):
        super().__init__()
        self.hidden = torch.jit.trace(self.hidden, torch.zeros(1, 64))


def epochs_of(module, compressor, X, y, message):
    """Return for how many epochs the net was trained before it was refused."""
    epochs = []

    class Counting(nn.CrossEntropyLoss):
        def forward(self, *args):
            epochs.append(1)
            return super().forward(*args)

    net = make_classifier(module, criterion=Counting)
    with pytest.raises(ValueError, match=message):
        CompressedClassifier(net, compressor).fit(X, y)
    return len(epochs)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("compressor", [None, MagnitudePruner(0.5)], ids=["dense", "pruned"])
@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Masked, r"'module.hidden' is masked .*prune\.remove"),
        (Compiled, "compiled module 'module.hidden'"),
        (Scripted, "'module.hidden', which TorchScript has compiled"),
    ],
)
def test_layers_that_nobody_can_change_are_refused_before_training(
    module, message, compressor, digits
):
    assert epochs_of(module, compressor, *digits, message) == 0


def test_a_weight_that_never_stays_is_refused_before_training(digits):
    message = "'weight' in 'module.hidden' cannot be made permanent.*another value at each use"
    assert epochs_of(Noisy, MagnitudePruner(0.5), *digits, message) == 0
