"""Folding: batch norm into every kind of layer, constants into biases."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skcompress.nn.codes.coded_layers import code_layer, pack_weight
from skcompress.nn.modules.copying import plain_copy
from skcompress.nn.modules.folding import (
    FoldedNorm,
    add_bias_,
    can_fold,
    fold_constants_,
    fold_norm_,
    has_new_bias,
    remove_norm_,
)


def lively(norm):
    with torch.no_grad():
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.2, 2)
        if norm.affine:
            norm.weight.uniform_(-2, 2)
            norm.bias.uniform_(-1, 1)
    return norm


CONVOLUTIONS = [
    (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d),
    (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d),
    (nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d),
]


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 2),
    transposed=st.booleans(),
    groups=st.integers(1, 3),
    per_group=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 1),
    bias=st.booleans(),
    affine=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_convolutions(
    n, transposed, groups, per_group, kernel, stride, padding, bias, affine, seed
):
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        plain, mirrored, norm = CONVOLUTIONS[n]
        sizes = (groups * per_group[0], groups * per_group[1], kernel)
        layer = (mirrored if transposed else plain)(
            *sizes, stride=stride, padding=min(padding, kernel - 1), groups=groups, bias=bias
        ).double()
        norm = lively(norm(sizes[1], affine=affine, eps=0.01)).double().eval()
        x = torch.randn(2, sizes[0], *[5] * (n + 1), dtype=torch.float64)
    expected = norm(layer(x))
    fold_norm_(layer, norm)
    torch.testing.assert_close(norm(layer(x)), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias):
    net = nn.Sequential(nn.Linear(4, 3, bias=bias), lively(nn.BatchNorm1d(3))).eval()
    x = torch.linspace(-1, 1, 20).view(5, 4)
    expected = net(x)
    fold_norm_(*net)
    torch.testing.assert_close(net(x), expected)
    assert type(net[1]) is FoldedNorm
    assert list(net.state_dict()) == ["0.weight", "0.bias"]
    assert has_new_bias(net[0]) != bias


@settings(max_examples=40, deadline=None)
@given(n=st.integers(0, 3), n_in=st.integers(2, 5), bias=st.booleans(), values=st.integers(0, 1000))
def test_constants(n, n_in, bias, values):
    draw = torch.Generator().manual_seed(values)
    layer = [nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d][n](
        n_in, 3, **({} if n == 0 else {"kernel_size": 2}), bias=bias
    ).double()
    x = torch.randn(4, n_in, *[4] * n, generator=draw, dtype=torch.float64)
    constants = {1: 0.75, 0: -1.5}
    for column, value in constants.items():
        x[:, column] = value
    expected = layer(x)
    fold_constants_(layer, constants)
    x[:, [0, 1]] = 0
    torch.testing.assert_close(layer(x), expected, rtol=1e-9, atol=1e-9)


def test_constants_that_a_coded_layer_reads():
    layer = nn.Linear(4, 3)
    coded = code_layer(layer, {"weight": pack_weight(layer, "weight", bits=3)})
    x = torch.tensor([[1.0, 2.0, 0.5, -1.0]])
    expected = coded(x)
    fold_constants_(coded, {2: 0.5})
    x[:, 2] = 0
    torch.testing.assert_close(coded(x), expected)


def test_what_refers_to_a_norm_layer_goes_on_doing_so():
    norm = nn.BatchNorm1d(3).eval()
    net = nn.ModuleDict({"a": norm, "b": norm})
    remove_norm_(norm)
    assert net["a"] is net["b"]
    assert not net["a"].training
    x = torch.ones(2, 3)
    for copied in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net)), plain_copy(net)):
        assert copied["a"](x) is x
        assert repr(copied["a"]) == "FoldedNorm()"
        assert not copied.train().state_dict()


def test_a_new_bias_is_as_frozen_as_the_layer():
    layer = nn.Linear(2, 2, bias=False).requires_grad_(False)
    add_bias_(layer)
    assert not layer.bias.requires_grad
    bias = layer.bias
    add_bias_(layer)
    assert layer.bias is bias


def test_only_what_is_known_to_the_last_detail():
    class Own(nn.Linear):
        pass

    assert can_fold(nn.Linear(1, 1), "layer")
    assert not can_fold(Own(1, 1), "layer")
    assert not can_fold(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), "layer")
    assert not can_fold(nn.LazyBatchNorm1d(), "norm")
    assert not can_fold(nn.InstanceNorm1d(3), "norm")
