"""Quantizer: every kind of layer as codes, in nets that predict, travel and train further."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from torch import nn

from skcompress import FineTuner, MagnitudePruner, Quantizer, TrainingData
from skcompress.nn.layers import is_coded, packed_weights
from skcompress.nn.packed import PackedWeight
from skcompress.nn.weights import find_weights
from tests.nets import (
    Attention,
    Convolution,
    Recurrent,
    Tokens,
    TwoInputs,
    make_classifier,
    make_regressor,
)

SCHEMES = [
    {"scheme": "uniform"},
    {"scheme": "uniform", "symmetric": False},
    {"scheme": "uniform", "granularity": "per_tensor"},
    {"scheme": "fixed_point"},
    {"scheme": "fixed_point", "granularity": "per_tensor"},
]
EACH_SCHEME = pytest.mark.parametrize("options", SCHEMES, ids=str)


class Stacked(nn.Module):
    """Series through two layers in both directions, with projections."""

    def __init__(self, n_out=10):
        super().__init__()
        self.rnn = nn.LSTM(8, 6, 2, bidirectional=True, proj_size=3, batch_first=True)
        self.out = nn.Linear(6, n_out)

    def forward(self, X):
        return self.out(self.rnn(X)[0].mean(dim=1))


class Cells(nn.Module):
    """Series through a cell that is called for each step."""

    def __init__(self, n_out=10):
        super().__init__()
        self.cell = nn.GRUCell(8, 6)
        self.out = nn.Linear(6, n_out)

    def forward(self, X):
        state = None
        for step in X.unbind(1):
            state = self.cell(step, state)
        return self.out(state)


class Others(nn.Module):
    """Bilinear, transposed convolutions, 1d convolutions in groups."""

    def __init__(self, n_out=10):
        super().__init__()
        self.conv = nn.Conv1d(8, 4, 3, groups=2)
        self.up = nn.ConvTranspose1d(4, 6, 2, groups=2)
        self.pair = nn.Bilinear(6, 6, n_out)

    def forward(self, X):
        hidden = self.up(self.conv(X)).mean(dim=2)
        return self.pair(hidden, hidden)


class TiedTokens(nn.Module):
    """An embedding that is the output layer, too, and a layer used twice under two names."""

    def __init__(self, n_tokens=20, n_out=20):
        super().__init__()
        self.embed = nn.Embedding(n_tokens, 6)
        self.body = nn.Linear(6, 6)
        self.again = self.body
        self.out = nn.Linear(6, n_out, bias=False)
        self.out.weight = self.embed.weight
        self.hidden_list = [self.body]  # past torch's eyes

    def forward(self, X):
        hidden = self.again(torch.tanh(self.body(self.embed(X).mean(dim=1))))
        return self.out(self.hidden_list[0](hidden))


def series(digits):
    return digits[0].reshape(-1, 8, 8), digits[1]


def images(digits):
    return digits[0].reshape(-1, 1, 8, 8), digits[1]


def tokens(digits):
    return (digits[0][:, 8:16] * 16).astype(np.int64), digits[1]


def two_inputs(digits):
    X, y = digits
    return {"image": X, "ids": (y % 5).astype(np.int64)}, y


NETS = {
    "mlp": (lambda: make_classifier(), lambda d: d),
    "one linear": (
        lambda: make_classifier(nn.Linear, module__in_features=64, module__out_features=10),
        lambda d: d,
    ),
    "convolution": (lambda: make_classifier(Convolution), images),
    "lstm": (lambda: make_classifier(Recurrent), series),
    "gru": (lambda: make_classifier(Recurrent, module__kind=nn.GRU), series),
    "rnn": (lambda: make_classifier(Recurrent, module__kind=nn.RNN), series),
    "stacked lstm": (lambda: make_classifier(Stacked), series),
    "cells": (lambda: make_classifier(Cells), series),
    "others": (lambda: make_classifier(Others), series),
    "tokens": (lambda: make_classifier(Tokens, module__n_out=10), tokens),
    "tied": (lambda: make_classifier(TiedTokens), tokens),
    "two inputs": (lambda: make_classifier(TwoInputs), two_inputs),
    "attention": (lambda: make_classifier(Attention), series),
}
# torch says so once a process, when the layer is made
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")


@pytest.fixture(scope="module", params=NETS)
def fitted(request, digits):
    """A fitted net and its rows; the caller's net must not change."""
    make, rows = NETS[request.param]
    X, y = rows(digits)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make().set_params(max_epochs=2).fit(X, y)
    net.module_.eval()
    return net, X, y


def snapshot(net):
    """Everything of a net that must not change, by value."""
    state = {name: value.clone() for name, value in net.module_.state_dict().items()}
    momenta = copy.deepcopy(net.optimizer_.state_dict())
    return state, momenta, list(net.history_), [type(m) for m in net.module_.modules()]


def assert_unchanged(net, before):
    state, momenta, history, types = snapshot(net)
    assert list(state) == list(before[0])
    assert all(torch.equal(state[name], value) for name, value in before[0].items())
    assert str(momenta) == str(before[1])
    assert history == before[2]
    assert types == before[3]


def weights_of(net):
    return {weight.name: weight for weight in find_weights(net.module_)}


def dequantized(net, quantized):
    """The dense net with the weights that the quantized one computes with, frozen as they are."""
    dense = copy.deepcopy(net.module_).eval()
    for name, weight in {w.name: w for w in find_weights(dense)}.items():
        with torch.no_grad():
            weight.layer._parameters[weight.attr].copy_(weights_of(quantized)[name].values())
    return dense.requires_grad_(False)


def run(module, X):
    with torch.inference_mode():
        if isinstance(X, dict):
            return module(**{k: torch.from_numpy(v[:64]) for k, v in X.items()})
        return module(torch.from_numpy(X[:64]))


def outputs(net, X):
    rows = {k: v[:64] for k, v in X.items()} if isinstance(X, dict) else X[:64]
    return net.forward(rows)


def n_kept(net):
    """How many coded weights hold decoded floats."""
    parts = [m for m in net.module_.modules() if isinstance(m, PackedWeight)]
    assert parts
    return sum(m._kept is not None or m._kept_levels is not None for m in parts)


@EACH_SCHEME
def test_predicts_as_the_net_with_the_dequantized_weights(fitted, options):
    net, X, _ = fitted
    before = snapshot(net)
    quantizer = Quantizer(5, **options)
    quantized = quantizer.fit_transform(net)
    assert_unchanged(net, before)
    assert type(quantized) is type(net)
    assert set(weights_of(quantized)) == set(weights_of(net))
    assert quantizer.report_.layers_left_float == []
    assert quantizer.report_.bits == 5
    for weight in find_weights(quantized.module_):
        assert packed_weights(weight.layer)[weight.attr].bits == 5
    expected = run(dequantized(net, quantized), X)
    assert torch.equal(run(quantized.module_.eval(), X), expected)
    assert torch.equal(outputs(quantized, X), expected)
    again = quantizer.transform(net)
    assert torch.equal(outputs(again, X), expected)


def test_eight_bits_change_little_and_fewer_bits_more(fitted):
    net, X, _ = fitted
    exact = outputs(net, X)
    errors = [
        float((outputs(Quantizer(bits).fit_transform(net), X) - exact).abs().mean())
        for bits in (8, 5, 2)
    ]
    assert errors[0] < 0.02 * float(exact.std())
    assert errors[0] < errors[1] < errors[2]


def test_each_weight_is_off_by_at_most_half_a_step(fitted):
    net, _, _ = fitted
    quantized = Quantizer(6).fit_transform(net)
    for name, weight in weights_of(net).items():
        place = weights_of(quantized)[name]
        packed = packed_weights(place.layer)[place.attr]
        error = (place.values() - weight.values()).abs().max()
        assert error <= packed.scale.detach().max() * 0.5001
        assert error > 0


@pytest.mark.parametrize("way", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_predict_the_same_and_hold_no_floats(fitted, way):
    net, X, _ = fitted
    quantized = Quantizer(4).fit_transform(net)
    expected = outputs(quantized, X)
    assert n_kept(quantized) > 0
    other = way(quantized)
    assert n_kept(other) == 0
    assert torch.equal(outputs(other, X), expected)


def test_training_further_moves_scales_and_biases_but_no_code(fitted):
    net, X, y = fitted
    quantized = Quantizer(4).fit_transform(net)
    before = {name: value.clone() for name, value in quantized.module_.state_dict().items()}
    quantized.partial_fit(X, y)
    after = quantized.module_.state_dict()
    for name, value in before.items():
        codes = name.endswith((".packed", ".zero_point"))
        still = codes or "running" in name or "num_batches" in name
        if codes:
            assert torch.equal(after[name], value)
        elif not still:
            assert not torch.equal(after[name], value), name


@EACH_SCHEME
def test_zeros_stay_zeros_through_quantizing_and_training(fitted, options):
    net, X, y = fitted
    pruned = MagnitudePruner(0.6).fit_transform(net)
    zeros = {name: weight.zeros() for name, weight in weights_of(pruned).items()}
    quantized = Quantizer(3, **options).fit_transform(pruned)
    data = TrainingData(X, y)
    tuned = FineTuner(max_epochs=1, random_state=0).fit_transform(quantized, data)
    assert sum(int(zero.sum()) for zero in zeros.values()) > 20
    for name, zero in zeros.items():
        for after in (quantized, tuned):
            weight = weights_of(after)[name]
            assert (weight.values()[zero] == 0).all()
            assert weight.zeros()[zero].all()
    assert any(
        not torch.equal(a, b)
        for a, b in zip(tuned.module_.parameters(), quantized.module_.parameters(), strict=True)
    )


def test_pruning_after_quantizing(fitted):
    net, X, _ = fitted
    quantized = Quantizer(4).fit_transform(net)
    before = snapshot(quantized)
    pruner = MagnitudePruner(0.7)
    pruned = pruner.fit_transform(quantized, TrainingData(X, np.zeros(len(_first(X)))))
    assert_unchanged(quantized, before)
    assert pruner.report_.sparsity == pytest.approx(0.7, abs=0.01)
    for name, weight in weights_of(pruned).items():
        kept = ~weight.zeros()
        assert is_coded(weight.layer)
        assert torch.equal(weight.values()[kept], weights_of(quantized)[name].values()[kept])


def _first(X):
    return next(iter(X.values())) if isinstance(X, dict) else X


def test_a_regressor(fitted_regressor, diabetes):
    quantized = Quantizer(8).fit_transform(fitted_regressor)
    np.testing.assert_allclose(
        quantized.predict(diabetes[0]), fitted_regressor.predict(diabetes[0]), atol=0.05
    )
    assert not np.array_equal(quantized.predict(diabetes[0]), fitted_regressor.predict(diabetes[0]))


def test_a_large_net_pickles_small():
    net = make_classifier(
        nn.Linear, module__in_features=400, module__out_features=300, optimizer=torch.optim.SGD
    ).initialize()
    quantized = Quantizer(4).fit_transform(net)
    quantized.predict(np.zeros((2, 400), dtype=np.float32))
    assert n_kept(quantized) == 1
    assert len(pickle.dumps(quantized)) < 0.3 * len(pickle.dumps(net))


def test_tied_weights_and_reused_layers_stay_so(digits):
    net = make_classifier(TiedTokens, max_epochs=1).fit(*tokens(digits))
    module = Quantizer(4).fit_transform(net).module_
    assert module.again is module.body
    assert module.hidden_list[0] is module.body
    assert is_coded(module.body)
    tied = packed_weights(module.embed)["weight"]
    assert packed_weights(module.out)["weight"] is tied
    assert sum(p.numel() for p in module.parameters()) == 20 + 6 + 6
    other = copy.deepcopy(module)
    assert packed_weights(other.embed)["weight"] is packed_weights(other.out)["weight"]


def test_ignoring_one_holder_of_a_tied_weight_leaves_both(digits):
    net = make_classifier(TiedTokens, max_epochs=1).fit(*tokens(digits))
    quantizer = Quantizer(4, ignored_layers=["out"])
    quantized = quantizer.fit_transform(net)
    assert quantized.module_.out.weight is quantized.module_.embed.weight
    assert quantizer.report_.layers_left_float == ["module.embed"]
    n_embed, n_body = 20 * 6, 6 * 6
    assert quantizer.report_.bits == pytest.approx((32 * n_embed + 4 * n_body) / (n_embed + n_body))
    assert repr(quantizer.plan_).splitlines() == [
        "QuantizationPlan(1 of 2 weights become codes)",
        "  module.embed.weight  20x6  left alone: ignored",
        "  module.body.weight    6x6  4 bits, 6 scales",
    ]


class BareTie(nn.Module):
    """A module that uses a layer's weight itself."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(64, 16)
        self.matrix = self.hidden.weight
        self.out = nn.Linear(16, 10)

    def forward(self, X):
        return self.out(torch.relu(self.hidden(X) + X @ self.matrix.T))


def test_a_weight_that_the_users_module_holds_too_is_left_alone_and_said(digits):
    net = make_classifier(BareTie, max_epochs=1).fit(*digits)
    quantizer = Quantizer(4)
    quantized = quantizer.fit_transform(net)
    assert quantized.module_.matrix is quantized.module_.hidden.weight
    assert is_coded(quantized.module_.out)
    assert quantizer.report_.layers_left_float == ["module.hidden"]
    assert "left alone: also the parameter 'module.matrix'" in repr(quantizer.plan_)


def test_report(fitted_classifier, digits):
    quantizer = Quantizer(4, ignored_layers=["out"])
    quantizer.fit(fitted_classifier, TrainingData(*digits))
    report = quantizer.report_
    assert report.layers_left_float == ["module.out"]
    assert report.bits == pytest.approx((4 * 64 * 32 + 32 * 320) / (64 * 32 + 320))
    assert report.n_params == report.dense_n_params == 64 * 32 + 32 + 320 + 10
    assert report.macs == report.dense_macs == 64 * 32 + 320
    assert 0 <= report.sparsity < 0.2


def test_the_plan_is_small_and_prints_as_a_table(fitted_classifier):
    quantizer = Quantizer(4, granularity="per_tensor", ignored_layers=["module.out"])
    quantizer.fit(fitted_classifier)
    assert repr(quantizer.plan_).splitlines() == [
        "QuantizationPlan(1 of 2 weights become codes)",
        "  module.hidden.weight  32x64  4 bits, 1 scale",
        "  module.out.weight     10x32  left alone: ignored",
    ]
    loaded = pickle.loads(pickle.dumps(quantizer))
    first, second = (q.transform(fitted_classifier).module_ for q in (quantizer, loaded))
    assert torch.equal(first.hidden.weight, second.hidden.weight)


def test_the_plan_has_scales_but_no_codes():
    net = make_classifier(nn.Linear, module__in_features=1000, module__out_features=100)
    quantizer = Quantizer(2).fit(net.initialize())
    assert len(pickle.dumps(quantizer)) < 2000 + 4 * 100  # the codes take 25,000


def test_coded_layers_are_decoded_and_coded_anew(fitted_classifier, digits):
    eight = Quantizer(8).fit_transform(fitted_classifier)
    four = Quantizer(4, scheme="fixed_point").fit_transform(eight)
    for layer in (four.module_.hidden, four.module_.out):
        assert packed_weights(layer)["weight"].bits == 4
        assert type(layer).__name__ == "CodedLinear"
    assert packed_weights(eight.module_.hidden)["weight"].bits == 8
    back = Quantizer(8).fit_transform(eight)
    for name, weight in weights_of(back).items():
        torch.testing.assert_close(weight.values(), weights_of(eight)[name].values())
    with torch.no_grad():  # where the weight in hand asks for no gradient
        again = Quantizer(8).fit_transform(eight)
    assert packed_weights(again.module_.out)["weight"].scale.requires_grad
    again.partial_fit(*digits)


def test_frozen_weights_get_frozen_scales(fitted_classifier):
    net = copy.deepcopy(fitted_classifier)
    net.module_.hidden.weight.requires_grad_(False)
    for quantized in (
        Quantizer(8).fit_transform(net),
        Quantizer(4).fit_transform(Quantizer(8).fit_transform(net)),
    ):
        assert not packed_weights(quantized.module_.hidden)["weight"].scale.requires_grad
        assert packed_weights(quantized.module_.out)["weight"].scale.requires_grad


def test_another_net_of_the_same_structure_is_rounded_to_the_planned_levels(fitted_classifier):
    quantizer = Quantizer(4).fit(fitted_classifier)
    other = copy.deepcopy(fitted_classifier)
    with torch.no_grad():
        other.module_.hidden.weight.mul_(0.5)
        other.module_.out.weight.mul_(3)
    quantized = quantizer.transform(other)
    for name, weight in weights_of(quantized).items():
        packed = packed_weights(weight.layer)["weight"]
        assert torch.equal(packed.scale.detach(), quantizer.plan_.grids[f"module.{name}"].scale)
    assert int((quantized.module_.out.weight != 0).sum()) > 0
    limit = 7 * packed_weights(quantized.module_.out)["weight"].scale.detach()
    assert (quantized.module_.out.weight.detach().abs().amax(dim=1) <= limit * 1.0001).all()


def test_transform_of_another_structure_is_refused(fitted_classifier):
    quantizer = Quantizer(4).fit(fitted_classifier)
    other = make_classifier(module__n_hidden=16).initialize()
    with pytest.raises(ValueError, match=r"'module.hidden.weight' of shape \(32, 64\), but .*16"):
        quantizer.transform(other)


def test_fixed_point_is_symmetric(fitted_classifier):
    quantizer = Quantizer(scheme="fixed_point", symmetric=False)
    with pytest.raises(ValueError, match=r"scheme='fixed_point' and symmetric=False"):
        quantizer.fit(fitted_classifier)
    with pytest.raises(ValueError, match=r"scheme='fixed_point' and symmetric=False"):
        quantizer._check()  # what estimators call before they train


@pytest.mark.parametrize(
    "params",
    [{"bits": 1}, {"bits": 9}, {"bits": 4.0}, {"scheme": "kmeans"}, {"granularity": "row"}],
)
def test_bad_parameters(fitted_classifier, params):
    [name] = params
    with pytest.raises(ValueError, match=f"The '{name}' parameter of Quantizer must be"):
        Quantizer(**params).fit(fitted_classifier)


def test_fixed_point_needs_something_that_still_trains():
    net = make_classifier(nn.Linear, module__in_features=8, module__out_features=3)
    net.set_params(module__bias=False).initialize()
    with pytest.raises(ValueError, match=r"nothing to train .*scheme='uniform'"):
        Quantizer(scheme="fixed_point").fit(net)
    quantized = Quantizer(scheme="uniform").fit_transform(net)
    assert [p.numel() for p in quantized.module_.parameters()] == [3]


def test_unknown_layers_are_named(fitted_classifier):
    with pytest.raises(ValueError, match="no layer named 'hiden'"):
        Quantizer(ignored_layers=["hiden"]).fit(fitted_classifier)


def test_a_diverged_net_is_refused_by_name(fitted_classifier):
    net = copy.deepcopy(fitted_classifier)
    with torch.no_grad():
        net.module_.out.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"'out.weight' contains NaN"):
        Quantizer().fit(net)


def test_saved_parameters_load_into_an_equally_coded_net(fitted_classifier, digits, tmp_path):
    quantized = Quantizer(4).fit_transform(fitted_classifier)
    quantized.save_params(tmp_path / "params.pt")
    other = Quantizer(4).fit_transform(make_classifier().initialize())
    other.predict(digits[0])
    other.load_params(tmp_path / "params.pt")
    assert np.array_equal(other.forward(digits[0]), quantized.forward(digits[0]))


@EACH_SCHEME
def test_in_a_pipeline(fitted_classifier, digits, options):
    steps = Pipeline(
        [
            ("prune", MagnitudePruner(0.5)),
            ("quantize", Quantizer(3, **options)),
            ("tune", FineTuner(max_epochs=3, random_state=0)),
        ]
    )
    net = clone(steps).fit_transform(fitted_classifier, TrainingData(*digits))
    assert net.score(*digits) > 0.8
    assert float((net.module_.hidden.weight == 0).float().mean()) > 0.4


def test_float64(diabetes):
    X, y = (part.astype(np.float64) for part in diabetes)
    net = make_regressor(module__n_in=10).initialize()
    net.module_.double()
    net.partial_fit(X, y)
    quantizer = Quantizer(8, ignored_layers=["out"])
    quantized = quantizer.fit_transform(net)
    assert quantized.predict(X).dtype == np.float64
    assert quantized.module_.hidden.weight.dtype == torch.float64
    assert quantizer.report_.bits == (8 * 10 * 32 + 64 * 32) / (11 * 32)
