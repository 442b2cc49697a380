import pytest
import torch
from torch import nn

from skcompress.nn.codes.coded_layers import code_layer_, pack_weight
from skcompress.nn.modules.weights import find_weights, resolve_ignored, weight_uses


class MyLinear(nn.Linear):
    def __init__(self, *args):
        super().__init__(*args)
        self.gain = nn.Parameter(torch.ones(3))


class Everything(nn.Module):
    """One layer of each kind that has weights, and some that have none."""

    def __init__(self):
        super().__init__()
        self.mine = MyLinear(4, 3)
        self.bilinear = nn.Bilinear(2, 3, 4)
        self.conv1, self.conv2, self.conv3 = (
            nn.Conv1d(1, 2, 3),
            nn.Conv2d(1, 2, 3),
            nn.Conv3d(1, 2, 3),
        )
        self.up1 = nn.ConvTranspose1d(1, 2, 3)
        self.up2 = nn.ConvTranspose2d(1, 2, 3)
        self.up3 = nn.ConvTranspose3d(1, 2, 3)
        self.words, self.bag = nn.Embedding(5, 2), nn.EmbeddingBag(5, 2)
        self.rnn, self.gru = nn.RNN(2, 3), nn.GRU(2, 3, bidirectional=True)
        self.lstm = nn.LSTM(2, 4, proj_size=3)
        self.cell, self.gru_cell, self.lstm_cell = (
            nn.RNNCell(2, 3),
            nn.GRUCell(2, 3),
            nn.LSTMCell(2, 3),
        )
        self.attention = nn.MultiheadAttention(4, 2)
        self.cross = nn.MultiheadAttention(4, 2, kdim=3, vdim=5)
        self.norm, self.layer_norm = nn.BatchNorm1d(3), nn.LayerNorm(3)
        self.bare = nn.Parameter(torch.ones(3, 3))


EXPECTED = [
    "mine.weight",
    "bilinear.weight",
    "conv1.weight",
    "conv2.weight",
    "conv3.weight",
    "up1.weight",
    "up2.weight",
    "up3.weight",
    "words.weight",
    "bag.weight",
    "rnn.weight_ih_l0",
    "rnn.weight_hh_l0",
    "gru.weight_ih_l0",
    "gru.weight_hh_l0",
    "gru.weight_ih_l0_reverse",
    "gru.weight_hh_l0_reverse",
    "lstm.weight_ih_l0",
    "lstm.weight_hh_l0",
    "lstm.weight_hr_l0",
    "cell.weight_ih",
    "cell.weight_hh",
    "gru_cell.weight_ih",
    "gru_cell.weight_hh",
    "lstm_cell.weight_ih",
    "lstm_cell.weight_hh",
    "attention.in_proj_weight",
    "attention.out_proj.weight",
    "cross.q_proj_weight",
    "cross.k_proj_weight",
    "cross.v_proj_weight",
    "cross.out_proj.weight",
]


def test_every_kind_of_weight_is_found_and_nothing_else():
    net = Everything()
    weights = find_weights(net)
    assert [w.name for w in weights] == EXPECTED
    for weight in weights:
        parameter = net.get_parameter(weight.name)
        assert weight.shape == parameter.shape
        assert weight.numel == parameter.numel()
        assert weight.values().data_ptr() == parameter.data_ptr()
        assert not weight.values().requires_grad
        assert weight.layer is net.get_submodule(weight.layer_name)


def test_zeroing_changes_only_the_masked_numbers_in_place():
    torch.manual_seed(0)
    for weight in find_weights(Everything()):
        before = weight.values().clone()
        pointer = weight.values().data_ptr()
        mask = torch.rand(weight.shape) < 0.5
        weight.zero_(mask)
        assert weight.values().data_ptr() == pointer
        assert torch.equal(weight.values(), before.masked_fill(mask, 0))
        assert torch.equal(weight.zeros(), mask | (before == 0))


def test_zeroing_keeps_the_parameter_trainable():
    layer = nn.Linear(3, 2)
    parameter = layer.weight
    find_weights(layer)[0].zero_(torch.ones(2, 3, dtype=torch.bool))
    assert layer.weight is parameter
    layer(torch.ones(1, 3)).sum().backward()
    assert torch.equal(parameter.grad, torch.ones(2, 3))


@pytest.mark.parametrize("mask", [torch.ones(3, 2, dtype=torch.bool), torch.ones(2, 3)])
def test_a_wrong_mask_is_refused(mask):
    weight = find_weights(nn.Linear(3, 2))[0]
    before = weight.values().clone()
    with pytest.raises(ValueError, match=r"mask of dtype .* for 'weight', but expected torch.bool"):
        weight.zero_(mask)
    assert torch.equal(weight.values(), before)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 3)
        self.body = nn.Linear(3, 3)
        self.out = nn.Linear(3, 7, bias=False)
        self.out.weight = self.embed.weight
        self.again = self.body


def test_tied_weights_and_reused_layers_are_listed_once():
    assert [w.name for w in find_weights(Tied())] == ["embed.weight", "body.weight"]


@pytest.mark.parametrize("coded", [False, True])
def test_all_places_of_a_tied_weight_are_listed(coded):
    net = Tied()
    if coded:
        codes = pack_weight(net.embed, "weight", bits=4)
        code_layer_(net.embed, {"weight": codes})
        code_layer_(net.out, {"weight": codes})
    uses = weight_uses(net)
    assert list(uses) == [w.name for w in find_weights(net)] == ["embed.weight", "body.weight"]
    assert [use.layer for use in uses["embed.weight"]] == [net.embed, net.out]
    assert [use.name for use in uses["body.weight"]] == ["body.weight"]


@pytest.mark.parametrize("ignored", ["embed", "out"])
def test_ignoring_either_holder_of_a_tied_weight_protects_it(ignored):
    assert [w.name for w in find_weights(Tied(), [ignored])] == ["body.weight"]


def test_ignoring_by_the_second_name_of_a_layer():
    assert resolve_ignored(Tied(), ["again"]) == {"body"}


@pytest.fixture
def root():
    inner = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    body = nn.ModuleDict({"block": inner, "block2": nn.Linear(2, 1)})
    return nn.ModuleDict({"module": body})


@pytest.mark.parametrize("prefix", ["", "module."])
def test_ignoring_covers_everything_below_but_not_names_that_merely_begin_alike(root, prefix):
    names = resolve_ignored(root, [prefix + "block"])
    assert names == {"module.block", "module.block.0", "module.block.1"}
    assert [w.name for w in find_weights(root, [prefix + "block"])] == ["module.block2.weight"]


def test_unknown_names_are_all_named_with_what_there_is(root):
    with pytest.raises(ValueError, match="ignored_layers") as error:
        find_weights(root, ["block", "blok", 3, ""])
    assert "no layer named 'blok', 3, ''" in str(error.value)
    assert "'module.block.0'" in str(error.value)


def test_a_bare_string_is_refused(root):
    with pytest.raises(ValueError, match=r"Write ignored_layers=\['block'\]"):
        find_weights(root, "block")


def test_layers_without_a_weight_parameter_are_passed_over():
    parametrized = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    assert find_weights(parametrized) == []
