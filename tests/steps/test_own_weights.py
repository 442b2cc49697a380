"""Weights that are parameters of a user's own module, beside the same nets of torch's layers."""

import copy
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from torch import nn
from torch.nn import functional

from skcompress import (
    CompressedClassifier,
    FineTuner,
    LowRankFactorizer,
    MagnitudePruner,
    Quantizer,
    StructuredPruner,
    TrainingData,
)
from skcompress.base import _own_weights
from skcompress.io import load, save
from skcompress.nn.codes.coded_layers import packed_weights
from tests.sample_nets import make_classifier

FACTS = ("n_params", "n_nonzero", "sparsity", "macs")


class Twin(nn.Module):
    def __init__(self, n_in=64, n_hidden=48, n_out=10):
        super().__init__()
        self.a, self.b = nn.Linear(n_in, n_hidden), nn.Linear(n_hidden, n_out)

    def forward(self, X):
        return self.b(torch.relu(self.a(X)))


class Operator(nn.Module):
    """Both layers as parameters, of shape (in, out)."""

    def __init__(self, n_in=64, n_hidden=48, n_out=10):
        super().__init__()
        twin = Twin(n_in, n_hidden, n_out)
        self.w, self.v = (
            nn.Parameter(layer.weight.detach().T.clone()) for layer in (twin.a, twin.b)
        )
        self.c, self.d = (nn.Parameter(layer.bias.detach()) for layer in (twin.a, twin.b))

    def forward(self, X):
        return torch.relu(X @ self.w + self.c) @ self.v + self.d


class Functional(Operator):
    """Of shape (out, in)."""

    def __init__(self, n_in=64, n_hidden=48, n_out=10):
        super().__init__(n_in, n_hidden, n_out)
        self.w, self.v = (nn.Parameter(p.detach().T.clone()) for p in (self.w, self.v))

    def forward(self, X):
        return functional.linear(torch.relu(functional.linear(X, self.w, self.c)), self.v, self.d)


class Transposed(nn.Module):
    """A linear layer as in GPT-2: a module of its own, with a weight of shape (in, out)."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_in, n_out) / math.sqrt(n_in))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, X):
        return torch.addmm(self.bias, X, self.weight)


class Layers(nn.Module):
    def __init__(self, n_in=64, n_out=10):
        super().__init__()
        self.a, self.b = Transposed(n_in, 32), Transposed(32, n_out)

    def forward(self, X):
        return self.b(torch.relu(self.a(X)))


class List(nn.Module):
    def __init__(self, n_in=64, n_out=10):
        super().__init__()
        self.ws = nn.ParameterList([torch.randn(n_in, 32) / 8, torch.randn(32, n_out) / 6])

    def forward(self, X):
        return torch.relu(X @ self.ws[0]) @ self.ws[1]


class Experts(nn.Module):
    """Stacked weights, and a gate that weighs what they say."""

    def __init__(self, n_in=64, n_out=10):
        super().__init__()
        self.gate = nn.Linear(n_in, 4)
        self.w = nn.Parameter(torch.randn(4, n_in, 16) / 8)
        self.v = nn.Parameter(torch.randn(4, 16, n_out) / 4)

    def forward(self, X):
        hidden = torch.relu(torch.einsum("bi,gio->bgo", X, self.w))
        said = torch.einsum("bgi,gio->bgo", hidden, self.v)
        return (said * torch.softmax(self.gate(X), 1)[..., None]).sum(1)


class Pooling(nn.Module):
    """A vector that weighs positions, as ``nn.Linear(8, 1)`` would."""

    def __init__(self, n_out=10):
        super().__init__()
        self.v = nn.Parameter(torch.randn(8))
        self.out = nn.Linear(8, n_out)

    def forward(self, X):
        X = X.view(-1, 8, 8)
        return self.out((torch.softmax(X @ self.v, 1)[..., None] * X).sum(1))


class Tied(nn.Module):
    def __init__(self, n_in=64, n_out=10):
        super().__init__()
        self.into, self.out = nn.Linear(n_in, 16), nn.Linear(16, n_out)
        self.w = nn.Parameter(torch.randn(16, 32) / 4)

    def forward(self, X):
        return self.out(torch.relu(self.into(X) @ self.w) @ self.w.T)


class Aliased(nn.Module):
    def __init__(self, n_in=64, n_out=10):
        super().__init__()
        self.w, self.v = (nn.Parameter(torch.randn(s) / 6) for s in ((n_in, 32), (32, n_out)))
        self.ws = [self.w, self.v]

    def forward(self, X):
        return torch.relu(X @ self.ws[0]) @ self.ws[1]


OWN = {kind.__name__: kind for kind in (Operator, Functional, Layers, List, Experts, Pooling, Tied)}


@pytest.fixture(scope="module")
def rows(digits):
    return digits[0], digits[1].astype(np.int64)


def fitted(module, rows, **params):
    net = make_classifier(module, **params)
    torch.manual_seed(0)
    return net.fit(*rows)


def with_weights_of(own, twin):
    """Give the net with own parameters the weights of its twin."""
    for attr, layer in (("w", twin.module_.a), ("v", twin.module_.b)):
        parameter = getattr(own.module_, attr)
        values = layer.weight.detach()
        parameter.data.copy_(values if parameter.shape == values.shape else values.T)
    for attr, layer in (("c", twin.module_.a), ("d", twin.module_.b)):
        getattr(own.module_, attr).data.copy_(layer.bias.detach())
    return own


def zeros_of(net, attr):
    return getattr(net.module_, attr).detach() == 0


def n_bytes(net, path):
    save(net, path)
    return path.stat().st_size


def test_a_bare_first_weight_counts(rows):
    """Of a net 13-32-3 the first weight was left out, and `sparsity` said 0.8 all the same."""
    X, y = rows[0][:, :13], rows[1] % 3
    net = make_classifier(Operator, module__n_in=13, module__n_hidden=32, module__n_out=3)
    clf = CompressedClassifier(net, MagnitudePruner(0.8), random_state=0).fit(X, y)
    module, n_weights = clf.net_.module_, 13 * 32 + 32 * 3
    n_zeros = int((module.w == 0).sum() + (module.v == 0).sum())
    assert clf.report_.dense_n_nonzero == n_weights
    assert clf.report_.n_nonzero == n_weights - n_zeros
    assert clf.report_.sparsity == pytest.approx(0.8, abs=1 / n_weights)
    assert int((module.w == 0).sum()) > 0
    dense = CompressedClassifier(net, random_state=0).fit(X, y).report_
    assert dense.n_nonzero == dense.dense_n_nonzero == n_weights


# A net without layers of a known type tells no shape for made-up rows.
@pytest.mark.filterwarnings("ignore:save got a NeuralNetClassifier")
@pytest.mark.parametrize("kind", [Operator, Functional])
def test_own_parameters_are_compressed_as_a_linear_layer_is(rows, kind, tmp_path):
    twin = fitted(Twin, rows)
    own = with_weights_of(make_classifier(kind).initialize(), twin)
    data = TrainingData(*rows)
    sizes = []
    for step in (
        MagnitudePruner(0.8),
        FineTuner(2, random_state=0),
        Quantizer(4),
        FineTuner(1, random_state=0),
    ):
        other = copy.deepcopy(step)
        twin, own = step.fit_transform(twin, data), other.fit_transform(own, data)
        for fact in FACTS:
            assert step.report_[fact] == other.report_[fact]
            assert step.report_["dense_" + fact] == other.report_["dense_" + fact]
        for attr, layer in (("w", twin.module_.a), ("v", twin.module_.b)):
            zeros = zeros_of(own, attr)
            zeros = zeros if zeros.shape == layer.weight.shape else zeros.T
            assert torch.equal(zeros, layer.weight == 0)
        sizes.append((n_bytes(own, tmp_path / "own"), n_bytes(twin, tmp_path / "twin")))
        np.testing.assert_allclose(
            own.predict_proba(rows[0]), twin.predict_proba(rows[0]), atol=1e-3
        )
    assert list(packed_weights(own.module_)) == ["w", "v"]
    for size, expected in sizes:
        assert size == pytest.approx(expected, rel=0.02)


STEPS = [("prune", MagnitudePruner(0.6)), ("tune", FineTuner(1)), ("quantize", Quantizer(4))]


@pytest.mark.parametrize("kind", OWN.values(), ids=OWN)
def test_every_kind_is_pruned_tuned_coded_and_saved(rows, kind, tmp_path):
    X, y = rows
    net = make_classifier(kind)
    clf = CompressedClassifier(net, Pipeline(STEPS), random_state=0, memory=tmp_path).fit(X, y)
    assert clf.report_.sparsity == pytest.approx(0.6, abs=0.01)
    quantizer = clf.compressor_["quantize"]
    assert quantizer.report_.bits == 4
    assert quantizer.report_.layers_left_float == []
    again = CompressedClassifier(net, Pipeline(STEPS), random_state=0, memory=tmp_path).fit(X, y)
    assert not again.report_.dense_trained
    save(clf, tmp_path / "model.skc")
    loaded = load(tmp_path / "model.skc", clf.__sklearn_clone__())
    for other in (again, pickle.loads(pickle.dumps(clf)), loaded):
        assert np.array_equal(other.transform(X), clf.transform(X))
        # The notes are there: a step without rows sees all weights.
        pruner = MagnitudePruner(0.9).fit(other.net_)
        assert pruner.report_.dense_n_nonzero == clf.report_.n_nonzero
        assert pruner.report_.sparsity > 0.89


@pytest.mark.parametrize("kind", OWN.values(), ids=OWN)
def test_codes_are_near_and_a_scale_is_kept_for_each_output(rows, kind):
    net = fitted(kind, rows)
    quantizer = Quantizer(8)
    coded = quantizer.fit_transform(net, TrainingData(*rows))
    np.testing.assert_allclose(coded.predict_proba(rows[0]), net.predict_proba(rows[0]), atol=0.05)
    if kind is Experts:
        assert "module.w            4x64x16  8 bits, 64 scales" in repr(quantizer.plan_)


def test_a_net_is_examined_once(rows, monkeypatch):
    calls = []
    find = _own_weights.find_uses
    monkeypatch.setattr(_own_weights, "find_uses", lambda *args: calls.append(1) or find(*args))
    CompressedClassifier(make_classifier(Operator), Pipeline(STEPS), random_state=0).fit(*rows)
    assert calls == [1]
    net = fitted(Twin, rows)
    MagnitudePruner(0.5).fit(net, TrainingData(*rows))
    assert calls == [1]


def test_the_net_that_is_given_stays_what_it_was(rows):
    net = fitted(Operator, rows)
    before = dict(vars(net.module_))
    MagnitudePruner(0.5).fit_transform(net, TrainingData(*rows))
    assert vars(net.module_) == before


def test_a_plan_carries_over_what_it_knows_of_parameters(rows):
    net, other = fitted(Operator, rows), fitted(Operator, rows, lr=0.001)
    pruner = MagnitudePruner(0.5).fit(net, TrainingData(*rows))
    pruned = pruner.transform(other)
    assert int(zeros_of(pruned, "w").sum()) == pruner.plan_.n_zeros["module.w"] > 0


def test_frozen_nets_are_examined_too(rows):
    net = fitted(Operator, rows)
    clf = CompressedClassifier(FrozenEstimator(net), MagnitudePruner(0.5), random_state=0)
    with pytest.warns(UserWarning, match="FrozenEstimator"):
        clf.fit(*rows)
    assert clf.report_.sparsity == pytest.approx(0.5, abs=0.01)


def test_without_rows_they_are_named_and_warned_about(rows):
    net = fitted(Tied, rows)
    pruner = MagnitudePruner(0.5)
    with pytest.warns(UserWarning, match=r"MagnitudePruner leaves 30% .*'module.w'.*TrainingData"):
        pruner.fit(net)
    assert "module.w  16x32  left alone, 30.2% of the weights: not examined without rows" in repr(
        pruner.plan_
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pruner.fit(net, TrainingData(*rows))
    assert "left alone" not in repr(pruner.plan_)


class FewOwn(Twin):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.eye(10))

    def forward(self, X):
        return super().forward(X) @ self.w


def test_of_a_small_share_there_is_no_warning(rows):
    pruner = MagnitudePruner(0.5).fit(fitted(FewOwn, rows))
    assert "module.w  10x10  left alone, 2.7% of the weights" in repr(pruner.plan_)


class Unused(Twin):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(64, 64))


def test_a_parameter_that_the_rows_do_not_reach_is_named(rows):
    net, pruner = fitted(Unused, rows), MagnitudePruner(0.5)
    with pytest.warns(UserWarning, match=r"leaves 54% .*'module.w' \(not used on the rows at hand"):
        pruner.fit(net, TrainingData(*rows))
    assert "not used on the rows at hand" in repr(pickle.loads(pickle.dumps(pruner.plan_)))


def test_low_rank_names_them(rows):
    net = fitted(Operator, rows)
    factorizer = LowRankFactorizer(2)
    with pytest.warns(UserWarning, match=r"LowRankFactorizer leaves 100% .*only Linear"):
        factorizer.fit(net, TrainingData(*rows))
    assert "module.w  64x48  left alone, 86.5% of the weights: only Linear and conv" in repr(
        factorizer.plan_
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        factorizer.set_params(ignored_layers=["module"]).fit(net, TrainingData(*rows))


def test_codes_do_not_take_the_place_of_a_parameter_that_is_read_past_its_name(rows):
    net, quantizer = fitted(Aliased, rows), Quantizer(2)
    with pytest.warns(
        UserWarning, match="Quantizer leaves 100% .*does not read it as an attribute"
    ):
        coded = quantizer.fit_transform(net, TrainingData(*rows))
    assert quantizer.report_.bits == 32
    assert quantizer.report_.layers_left_float == ["module"]
    assert np.array_equal(coded.predict_proba(rows[0]), net.predict_proba(rows[0]))
    pruned = MagnitudePruner(0.5).fit_transform(net, TrainingData(*rows))
    assert float(zeros_of(pruned, "w").float().mean()) > 0.4


def test_units_of_pruned_and_noted_parameters_still_go(rows):
    steps = Pipeline([("units", StructuredPruner(0.5)), ("quantize", Quantizer(4))])
    clf = CompressedClassifier(make_classifier(Operator), steps, random_state=0).fit(*rows)
    assert clf.net_.module_.w.shape == (64, 24)
    assert clf.report_.n_nonzero <= (64 + 10) * 24
    assert "24 scales" in repr(clf.compressor_["quantize"].plan_)
