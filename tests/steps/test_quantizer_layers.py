"""Quantizer on every kind of layer: what is coded predicts, travels and trains further."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from skcompress import FineTuner, MagnitudePruner, Quantizer, TrainingData
from skcompress.nn.codes.coded_layers import is_coded, packed_weights
from skcompress.nn.codes.packed_weight import PackedWeight
from skcompress.nn.modules.weights import find_weights
from tests.sample_nets import (
    Attention,
    Convolution,
    Recurrent,
    Tokens,
    TwoInputs,
    make_classifier,
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
    return sum(m._cached is not None or m._cached_levels is not None for m in parts)


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
