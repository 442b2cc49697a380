"""Which norm layers are folded, and that a wrong fold is never made."""

import re

import pytest
import torch
from torch import nn

from skcompress.nn.codes.coded_layers import code_layer_, pack_weight
from skcompress.nn.modules import folding
from skcompress.nn.surgery import norms
from skcompress.nn.surgery.norms import fold_norms, foldable_norms, norms_behind
from tests.nn.surgery.test_dead_units import calls_of, largest_error


class TestNorms:
    def folded(self, net, *shape):
        net.eval()
        pairs, stay = foldable_norms(net, calls_of(*shape))
        result = fold_norms(net, pairs)
        assert largest_error(result, net, calls_of(*shape)[2]) < 1e-5
        return pairs, stay

    def test_behind_each_kind_of_layer(self):
        net = nn.Sequential(
            *(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
            *(nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4)),
            *(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)),
            *(nn.Flatten(), nn.Linear(216, 3), nn.BatchNorm1d(3)),
        )
        for norm in (net[1], net[4], net[6], net[9]):
            norm.running_mean.uniform_(-1, 1)
            norm.running_var.uniform_(0.5, 2)
        pairs, stay = self.folded(net, 2, 8, 8)
        assert pairs == {"1": "0", "4": "3", "6": "5", "9": "8"}
        assert stay == {}

    def test_not_behind_an_activation(self):
        net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True), nn.BatchNorm1d(3))
        assert self.folded(net, 3)[1] == {"2": "the output of '0' is also read by relu_"}
        net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.BatchNorm1d(3))
        assert re.search("right before", self.folded(net, 3)[1]["2"])

    def test_not_where_positions_lie_along_the_second_axis(self):
        net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))
        assert re.search("right before", self.folded(net, 5, 4)[1]["1"])

    def test_not_from_the_statistics_of_the_batch(self):
        net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False)).eval()
        pairs, stay = foldable_norms(net, calls_of(3)[1:])  # one row has no variance
        assert pairs == {}
        assert re.search("from the batch", stay["1"])

    @pytest.mark.parametrize("use", ["sum", "output", "view", "twice", "kept norm"])
    def test_not_where_something_else_reads_the_layer(self, use):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)

            def forward(self, x):
                h = self.a(x)
                if use == "sum":
                    return self.norm(h) + h
                if use == "output":
                    return self.norm(h), h
                if use == "view":
                    return self.norm(h) * h.view(-1, 3)[:, :1]
                if use == "twice":
                    return self.norm(self.a(self.norm(h)))
                return self.norm(h) * self.norm.weight

        net = Net()
        with torch.no_grad():
            net.norm.running_var.fill_(3.0)
        pairs, stay = self.folded(net, 3)
        assert pairs == {}
        assert re.search(
            "is also read by|not used exactly once|computes something else", stay["norm"]
        )

    def test_shared_layers_and_codes_and_hooks_stay(self):
        shared = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
        shared[2].weight = shared[0].weight
        assert re.search("shares parameters", self.folded(shared, 3)[1]["1"])
        coded = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
        code_layer_(coded[0], {"weight": pack_weight(coded[0], "weight", bits=4)})
        assert re.search("stored as codes", self.folded(coded, 3)[1]["1"])
        hooked = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
        hooked[0].register_forward_hook(lambda layer, args, out: None)
        assert re.search("hooks", self.folded(hooked, 3)[1]["1"])

    def test_a_norm_that_a_list_keeps_besides(self):
        net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
        net.aside = [net[1]]
        assert self.folded(net, 3)[0] == {"1": "0"}


def wrong_scale(patch):
    patch.setattr(folding, "_along_outputs", lambda layer, scale: scale.mean())


def forgotten_mean(patch):
    factors = folding.norm_factors

    def planted(norm):
        scale, shift = factors(norm)
        return scale, shift + norm.running_mean * scale

    patch.setattr(folding, "norm_factors", planted)


def forgotten_eps(patch):
    patch.setattr(
        folding,
        "norm_factors",
        lambda norm: (
            norm.weight / norm.running_var.sqrt(),
            norm.bias - norm.running_mean * norm.weight / norm.running_var.sqrt(),
        ),
    )


def shared_readers(patch):
    patch.setattr(norms, "_why_not", lambda *args: None)


@pytest.mark.parametrize("plant", [wrong_scale, forgotten_mean, forgotten_eps])
def test_wrong_folds_of_norms_are_caught(plant, monkeypatch):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        net[1].running_mean.copy_(torch.tensor([1.0, -1.0, 0.5, 2.0]))
        net[1].running_var.copy_(torch.tensor([0.5, 1.0, 2.0, 0.7]))
    assert foldable_norms(net, calls_of(3))[0] == {"1": "0"}
    plant(monkeypatch)
    pairs, stay = foldable_norms(net, calls_of(3))
    assert pairs == {}
    assert "computes something else" in stay["1"]


def test_a_norm_that_is_wrongly_found_alone_is_caught(monkeypatch):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)
            self.norm.running_mean.fill_(1.0)

        def forward(self, x):
            h = self.a(x)
            return self.norm(h) + h

    assert foldable_norms(Net().eval(), calls_of(3))[0] == {}
    shared_readers(monkeypatch)
    assert "something else" in foldable_norms(Net().eval(), calls_of(3))[1]["norm"]


def test_norms_behind_of_a_net_without_norms():
    assert norms_behind(nn.Linear(3, 3), calls_of(3)) == ({}, {})
