"""Nets of the zoo with parameters of their own: found, coded, and saved with what was found."""

import pytest
from skorch import NeuralNet
from torch import nn

from skcompress import Quantizer
from skcompress._file import decode, encode
from skcompress._nets import copy_net, module_root
from skcompress.base._own_weights import note_, noted
from skcompress.nn.codes.coded_layers import packed_weights
from skcompress.nn.discovery import find_uses
from tests.nn.zoo import CASES
from tests.nn.zoo.test_zoo import assert_same, outputs

# Axis of the channels and number of first axes that tell them apart, too, by name.
FOUND = {
    "FT-Transformer-like": {},
    "vision transformer": {},
    "ConvNeXt-like": {},
    "capsule-like routing by distance": {},
    "weight-tied autoencoder": {},
    "low-rank addition": {},
    "a state that is learned": {},
    "experts in one tensor": {"module.a": (2, 1), "module.b": (2, 0)},
    "parameters without layers": {f"module.weights.{n}": (1, 0) for n in range(3)},
    "factorization machine": {"module.v": (1, 0)},
    "einsum, named axes": {"module.w": (0, 0), "module.v": (1, 0)},
    "a slice of a weight": {"module.w": (0, 0), "module.v": (0, 0)},
    "a weight and its first columns": {"module.w": (0, 0), "module.v": (0, 0)},
}


def definition(case):
    return NeuralNet(case.build, criterion=nn.MSELoss, verbose=0)


@pytest.mark.parametrize("name", FOUND)
def test_found_coded_and_saved(name):
    case = CASES[name]
    net, call = definition(case).initialize(), case.call(3)
    net.module_ = case.module()
    copied = module_root(copy_net(net)).eval()
    found = find_uses(copied, lambda: copied["module"](*call[0], **call[1]))
    weights = {f"{n}.{a}": use[:2] for n, own in found.items() for a, use in own.items() if use}
    assert weights == FOUND[name]
    note_(net, found)
    quantizer = Quantizer(3)
    coded = quantizer.fit_transform(net)
    layers = module_root(coded).named_modules()
    assert set(weights) <= {f"{n}.{attr}" for n, layer in layers for attr in packed_weights(layer)}
    rounded = quantizer.plan_.round_(copy_net(net))
    assert_same(outputs(coded.module_, call), outputs(rounded.module_, call), 1e-6)
    again = decode(encode(coded), definition(case))
    assert_same(outputs(again.module_, call), outputs(coded.module_, call), 0)
    assert noted(again) == noted(coded) == noted(net)
