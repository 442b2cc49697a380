"""The cut: sizes, shared tensors, codes, and what it refuses."""

import json

import pytest
import torch
from torch import nn

from skcompress.nn.codes.coded_layers import code_layer_, is_coded, pack_weight, packed_weights
from skcompress.nn.graph import trace
from skcompress.nn.modules.weights import weight_attributes
from skcompress.nn.surgery.shrinking import cut_to, masked, shapes_of, shrink


@pytest.mark.parametrize(
    ("layer", "kept", "sizes"),
    [
        (nn.Linear(4, 6), {"weight": [[0, 5], [1]]}, {"in_features": 1, "out_features": 2}),
        (
            nn.Conv2d(4, 6, 3),
            {"weight": [[0], [1, 2, 3]], "bias": [[0]]},
            {"in_channels": 3, "out_channels": 1, "groups": 1},
        ),
        (
            nn.Conv1d(6, 12, 3, groups=6),
            {"weight": [[0, 1, 4, 5]], "bias": [[0, 1, 4, 5]]},
            {"in_channels": 2, "out_channels": 4, "groups": 2},
        ),
        (
            nn.ConvTranspose2d(6, 9, 2, groups=3),
            {"weight": [[2, 3]], "bias": [[3, 4, 5]]},
            {"in_channels": 2, "out_channels": 3, "groups": 1},
        ),
        (
            nn.BatchNorm2d(4, affine=False),
            {"running_mean": [[1, 2]], "running_var": [[1, 2]]},
            {"num_features": 2},
        ),
        (
            nn.GroupNorm(3, 6),
            {"weight": [[0, 1]], "bias": [[0, 1]]},
            {"num_groups": 1, "num_channels": 2},
        ),
        (nn.Embedding(7, 4), {"weight": [None, [3]]}, {"num_embeddings": 7, "embedding_dim": 1}),
        (
            nn.GRU(4, 2),
            {
                "weight_ih_l0": [[0, 2, 4], [0, 1, 2]],
                "weight_hh_l0": [[0, 2, 4], [0]],
                "bias_ih_l0": [[0, 2, 4]],
                "bias_hh_l0": [[0, 2, 4]],
            },
            {"input_size": 3, "hidden_size": 1},
        ),
        (
            nn.LSTMCell(4, 2),
            {
                "weight_ih": [[0, 2, 4, 6]],
                "weight_hh": [[0, 2, 4, 6], [0]],
                "bias_ih": [[0, 2, 4, 6]],
                "bias_hh": [[0, 2, 4, 6]],
            },
            {"input_size": 4, "hidden_size": 1},
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
@pytest.mark.parametrize("coded", [False, True])
def test_sizes_follow_the_tensors(layer, kept, sizes, coded):
    root = nn.ModuleDict({"layer": layer})
    expected = {name: p.detach().clone() for name, p in shapes_and_values(root)}
    if coded:
        for attr in weight_attributes(layer):
            if attr in layer._parameters:
                code_layer_(layer, {attr: pack_weight(layer, attr, bits=8)})
        expected = {name: p.detach().clone() for name, p in shapes_and_values(root)}
    cut = shrink(root, {f"layer.{name}": axes for name, axes in kept.items()})
    for name, value in sizes.items():
        assert getattr(cut["layer"], name) == value
    assert is_coded(cut["layer"]) == is_coded(layer)
    for name, value in shapes_and_values(cut):
        wanted = expected[name]
        for axis, indices in enumerate(kept.get(name.partition(".")[2], ())):
            if indices is not None:
                wanted = wanted.index_select(axis, torch.tensor(indices))
        assert torch.equal(value, wanted), name


def shapes_and_values(root):
    layer = root["layer"]
    for attr in {*layer._parameters, *layer._buffers, *packed_weights(layer)}:
        if getattr(layer, attr) is not None:
            yield f"layer.{attr}", getattr(layer, attr)


@pytest.mark.parametrize("options", [{"scheme": "fixed_point"}, {"symmetric": False}])
@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
@pytest.mark.parametrize("groups", [1, 3])
def test_codes_are_sliced_exactly(options, granularity, groups):
    layer = nn.ConvTranspose1d(6, 9, 2, groups=groups)
    code_layer_(
        layer, {"weight": pack_weight(layer, "weight", bits=5, granularity=granularity, **options)}
    )
    root = nn.ModuleDict({"layer": layer})
    axes = [[2, 3], [0, 2]] if groups == 3 else [[0, 5], [1, 7, 8]]
    before = layer.weight.detach()
    cut = shrink(root, {"layer.weight": axes})["layer"]
    expected = before[axes[0]][:, axes[1]]
    assert torch.equal(cut.weight.detach(), expected)
    codes = packed_weights(cut)["weight"].codes()
    n_scales = expected.shape[1] if granularity == "per_channel" else 1
    assert len(codes.scale) == n_scales
    assert codes.bits == 5


def test_tied_weights_stay_tied_and_frozen_ones_frozen():
    net = nn.ModuleList([nn.Linear(4, 6, bias=False), nn.Linear(4, 6, bias=False)])
    net[1].weight = net[0].weight
    net[0].weight.requires_grad_(False)
    cut = shrink(net, {"0.weight": [[0, 1]]})
    assert cut[0].weight is cut[1].weight
    assert (cut[1].out_features, cut[1].weight.shape) == (2, (2, 4))
    assert not cut[0].weight.requires_grad
    assert net[0].weight.shape == (6, 4)


def test_shared_codes_stay_shared():
    net = nn.ModuleList([nn.Linear(4, 6, bias=False), nn.Linear(4, 6, bias=False)])
    codes = pack_weight(net[0], "weight", bits=4)
    for layer in net:
        code_layer_(layer, {"weight": codes})
    cut = shrink(net, {"0.weight": [None, [1, 3]]})
    assert packed_weights(cut[0])["weight"] is packed_weights(cut[1])["weight"]
    assert cut[1].in_features == 2


@pytest.mark.parametrize(
    "kept", [{"2.weight": [[0]]}, {"0.weight": [[9]]}, {"0.bias": [[0], [0]]}, {"0.gain": [[0]]}]
)
def test_a_cut_for_another_net_is_refused(kept):
    with pytest.raises(ValueError, match="structure it was made for"):
        shrink(nn.Sequential(nn.Linear(4, 6), nn.ReLU()), kept)


def test_masked_keeps_sizes_and_zeroes_what_is_read():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    graph = trace(net, [((torch.randn(2, 4),), {})])
    reference = masked(net, graph, graph.groups[0].units[1:2])
    assert reference[2].weight[:, 1].abs().sum() == 0
    assert torch.equal(reference[2].weight[:, 0], net[2].weight[:, 0])
    assert torch.equal(reference[0].weight, net[0].weight)


def test_a_pruned_net_can_be_made_of_its_definition_and_its_sizes():
    def build():
        return nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(24, 3))

    net, x = build(), torch.randn(5, 1, 4, 4)
    graph = trace(net, [((x,), {})])
    pruned = shrink(net, graph.kept(graph.groups[0].units[::2])).eval()
    recorded = json.loads(json.dumps(shapes_of(pruned)))
    fresh = build()
    again = shrink(fresh, cut_to(fresh, recorded)).eval()
    again.load_state_dict(pruned.state_dict())
    assert torch.equal(again(x), pruned(x))
    with pytest.raises(ValueError, match="larger"):
        cut_to(pruned, shapes_of(net))
