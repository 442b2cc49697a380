"""Every architecture of the zoo: pruned by half and proven, or refused with the expected reason."""

import copy
import json
import pickle
import re

import pytest
import torch
from torch.utils._pytree import tree_leaves

from skcompress.nn.graph import TraceError, trace
from skcompress.nn.modules.counting import count_params
from skcompress.nn.surgery.proof import provable, prove
from skcompress.nn.surgery.shrinking import masked, shrink
from tests.nn.zoo import CASES

SIZES = (1, 2, 9)
# One of each kind in the ordinary tests; all of them with the slow ones.
QUICK = {
    *(
        "mlp with batch norm and dropout",
        "residual mlp",
        "nn.GLU",
        "siamese",
        "layer reused on the input",
    ),
    *("weight-tied autoencoder", "parameters without layers", "LeNet with a written width"),
    *("a written batch size", "ResNet-like", "DenseNet-like", "MobileNet-like", "ResNeXt-like"),
    *(
        "U-Net",
        "upsampling decoder",
        "group norm",
        "temporal convolutions",
        "stacked bidirectional LSTM",
    ),
    *("LSTM with projection", "stacked bidirectional GRU", "cells in a loop", "packed sequences"),
    *(
        "nn.TransformerEncoder",
        "attention by hand, heads follow",
        "FT-Transformer-like",
        "MLP-Mixer",
    ),
    *("mixture of experts, routed", "an expert without rows", "two inputs", "graph convolution"),
    *("through numpy", "a branch on hidden values", "written in place", "half precision inside"),
}
EACH = [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow, id=name) for name in CASES
]


def half_of(graph, seed=3):
    draw = torch.Generator().manual_seed(seed)
    return [
        group.units[i]
        for group in graph.groups
        for i in torch.randperm(group.n_units, generator=draw)[: group.n_units // 2]
    ]


def outputs(module, call):
    args, kwargs = call
    module.eval()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        return [t for t in tree_leaves(module(*args, **kwargs)) if isinstance(t, torch.Tensor)]


def assert_same(one, other, tolerance=1e-4):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.shape == b.shape
        scale = float(b.abs().max()) + 1e-6
        assert float((a - b).abs().max()) <= tolerance * scale


def test_the_zoo_is_as_large_as_announced():
    assert len(CASES) >= 100
    assert set(CASES) >= QUICK


@pytest.mark.parametrize("name", EACH)
def test_pruned_rightly_or_refused(name):
    case = CASES[name]
    module, calls = case.module(), [case.call(n) for n in SIZES]
    before = copy.deepcopy(module.state_dict())
    if case.refused is not None:
        with pytest.raises(TraceError, match=case.refused):
            trace(module, calls)
        return
    graph = provable(module, trace(module, calls), calls)
    assert len(graph.groups) == case.groups, graph
    assert re.search(case.stays or "", repr(graph))
    removed = half_of(graph)
    pruned = prove(module, graph, removed, calls)
    assert (count_params(pruned) < count_params(module)) == bool(graph.groups)
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])

    reference = masked(module, graph, removed)
    for n in (1, 3, 7):  # other rows than it was proven on
        assert_same(outputs(pruned, case.call(n)), outputs(reference, case.call(n)))
    expected = outputs(pruned, case.call(5))
    for copied in copies(pruned, case.module()):
        assert_same(outputs(copied, case.call(5)), expected, 0)
    replayed = shrink(case.module(), json.loads(json.dumps(graph.kept(removed))))
    replayed.load_state_dict(pruned.state_dict())
    assert_same(outputs(replayed, case.call(5)), expected, 0)
    assert_trains(pruned, case.call(9))


def copies(pruned, dense):
    yield copy.deepcopy(pruned)
    try:
        pickle.dumps(dense)
    except Exception:  # parametrizations and compiled layers: not even before they were pruned
        return
    yield pickle.loads(pickle.dumps(pruned))


def assert_trains(module, call):
    module.train()
    before = [p.clone() for p in module.parameters()]
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    args, kwargs = call
    with torch.random.fork_rng():
        torch.manual_seed(0)
        leaves = [t for t in tree_leaves(module(*args, **kwargs)) if isinstance(t, torch.Tensor)]
    sum(t.square().sum() for t in leaves if t.requires_grad).backward()
    optimizer.step()
    changed = [not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True)]
    assert any(changed)
