"""Parametrized weights become plain with the value they have, and nothing else changes."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from skcompress.nn.modules.copying import copy_module
from skcompress.nn.modules.parametrizations import (
    dress_,
    make_plain_,
    parametrized_tensors,
    tensors_made_plain,
    undress_,
)
from tests.parametrized_nets import NETS, Noise


def made_plain(module):
    for layer in module.modules():
        for attr in parametrized_tensors(layer):
            make_plain_(layer, attr)
    return module


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("training", [True, False])
def test_a_plain_module_computes_the_same_and_its_origin_too(kind, training, seeded_rng):
    module, X = kind(), torch.randn(5, 64)
    module(X).sum().backward()  # in training mode: a hook leaves a weight with a graph
    module.eval()
    expected = module(X).detach()
    module.train(training)
    state = copy.deepcopy(module.state_dict())
    plain = made_plain(copy_module(module)).eval()
    assert not any(map(parametrized_tensors, plain.modules()))
    assert any(map(tensors_made_plain, plain.modules()))
    assert torch.equal(plain(X), expected)
    torch.testing.assert_close(dict(module.state_dict()), dict(state), rtol=0, atol=0)
    assert torch.equal(module.eval()(X), expected)
    plain.load_state_dict(plain.state_dict())
    assert torch.equal(pickle.loads(pickle.dumps(plain))(X), expected)


@pytest.mark.parametrize("kind", NETS)
def test_an_undressed_module_pickles_and_comes_back(kind, seeded_rng):
    module, X = kind().eval(), torch.randn(5, 64)
    expected = module(X).detach()
    back = dress_(pickle.loads(pickle.dumps(undress_(copy_module(module)))))
    assert torch.equal(back(X), expected)
    assert torch.equal(module(X), expected)
    back.train()(X).square().sum().backward()
    assert all((p.grad != 0).any() for p in back.parameters() if p.requires_grad)
    back.load_state_dict(module.state_dict())


def test_a_copy_loses_its_parametrization_alone():
    module = parametrizations.weight_norm(nn.Linear(3, 2))
    copied = copy_module(module)
    parametrize.remove_parametrizations(copied, "weight")  # torch's, for which copies share a class
    assert parametrized_tensors(module) == ["weight"]
    assert module.weight.shape == (2, 3)


def test_one_of_two_parametrizations():
    layer = parametrizations.weight_norm(nn.Linear(3, 2))
    parametrize.register_parametrization(layer, "bias", nn.Tanh())
    weight, bias = layer.weight.detach(), layer.bias.detach()
    make_plain_(layer, "weight")
    assert parametrized_tensors(layer) == ["bias"]
    assert tensors_made_plain(layer) == ("weight",)
    assert torch.equal(layer.weight, weight)
    assert torch.equal(layer.bias, bias)


def test_a_buffer_stays_a_buffer_and_a_frozen_weight_frozen():
    layer = nn.BatchNorm1d(3)
    parametrize.register_parametrization(layer, "running_mean", nn.Tanh())
    make_plain_(layer, "running_mean")
    assert "running_mean" in layer._buffers
    linear = parametrizations.weight_norm(nn.Linear(3, 2).requires_grad_(False))
    make_plain_(linear, "weight")
    assert not linear.weight.requires_grad
    with pytest.warns(FutureWarning):
        hooked = nn.utils.weight_norm(nn.Linear(3, 2))
    hooked.requires_grad_(False)
    make_plain_(hooked, "weight")
    assert not hooked.weight.requires_grad


def test_a_random_weight_has_no_value_that_stays(seeded_rng):
    layer = nn.Linear(3, 2)
    parametrize.register_parametrization(layer, "weight", Noise())
    with pytest.raises(ValueError, match="'weight' has another value at each use"):
        make_plain_(layer, "weight")
