import torch
from torch import nn

from skcompress.nn.modules.counting import count_nonzero, count_params, count_weights


def test_parameters_and_weights_of_a_small_net():
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2, bias=False))
    assert count_params(net) == 4 * 3 + 3 + 6 + 6
    assert count_weights(net) == 12 + 6
    assert count_nonzero(net) == 18
    with torch.no_grad():
        net[0].weight[0] = 0
    assert count_nonzero(net) == 14
    assert count_params(net) == 27  # parameters are counted whether or not they are zero


def test_tied_weights_count_once():
    net = nn.ModuleDict({"embed": nn.Embedding(7, 3), "out": nn.Linear(3, 7)})
    net["out"].weight = net["embed"].weight
    assert count_params(net) == 21 + 7
    assert count_weights(net) == 21
