"""Every architecture of the zoo with all its weights as codes, through torch's exporter."""

import contextlib
import copy
import logging

import pytest
import torch
from torch.utils._pytree import tree_leaves

from tests.nn.layer_cases import code_all
from tests.nn.zoo import CASES
from tests.nn.zoo.test_zoo import assert_same, outputs

# Never quantized: complex numbers have no codes, and masks are refused.
NOT_CODED = {"complex layers", "masks of torch.nn.utils.prune"}
QUICK = {"mlp with batch norm and dropout", "ResNet-like"}
EACH = [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow, id=name)
    for name in CASES
    if name not in NOT_CODED
]

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's exporter, about itself


@pytest.fixture(autouse=True)
def _quiet():
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def exported(module, call):
    args, kwargs = call
    return torch.export.export(module.eval(), args, kwargs).module()


def ran(program, call):
    args, kwargs = call
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        leaves = tree_leaves(program(*args, **kwargs))
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


@pytest.mark.parametrize("name", EACH)
def test_coded_nets_are_exported_like_plain_ones(name):
    case = CASES[name]
    call = case.call(2)
    plain = exports(case.module(), call)
    net = code_all(torch.nn.ModuleDict({"module": case.module()}))["module"]
    if plain is None:
        assert exports(net, call) is None
        return
    expected = outputs(copy.deepcopy(net), call)
    assert_same(ran(exported(copy.deepcopy(net), call), call), expected, 1e-5)
    assert_same(outputs(net, call), expected, 0)


def exports(module, call):
    """Return the program, or None where torch makes none of the module."""
    with contextlib.suppress(Exception):
        return exported(module, call)
    return None
