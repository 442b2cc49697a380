"""Coded layers inside nets: recurrent, attention, tied, in threads and other processes."""

import copy
import pickle
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn

from skcompress.nn.codes.coded_layers import (
    PackedWeight,
    clear_decoded,
    code_layer,
    is_coded,
    pack_weight,
    packed_weights,
)
from skcompress.nn.modules.counting import count_nonzero, count_params, count_weights
from skcompress.nn.modules.macs import count_macs
from skcompress.nn.modules.weights import find_weights
from tests.nn.layer_cases import (
    KINDS,
    LAYERS,
    RECURRENT,
    assert_same,
    code,
    code_all,
    flat,
    through_cloudpickle,
    with_decoded_weights,
)

pytestmark = [
    pytest.mark.usefixtures("seeded_rng"),
    pytest.mark.filterwarnings("ignore:LSTM with projections"),  # torch, once a process
]


@RECURRENT
def test_recurrent_internals(name):
    layer, inputs = LAYERS[name]()
    coded = code(layer)
    plain = with_decoded_weights(layer, coded)
    coded.flatten_parameters()
    for ours, theirs in zip(coded.all_weights, plain.all_weights, strict=True):
        assert_same(ours, theirs)
    assert_same(coded._flat_weights, plain._flat_weights)
    assert not coded._weights_have_changed()
    assert_same(coded._replicate_for_data_parallel()._flat_weights[:1], plain._flat_weights[:1])
    with torch.no_grad():
        coded(*inputs)
        for weight in find_weights(coded):
            weight.zero_(torch.ones(weight.shape, dtype=torch.bool))
        assert not torch.equal(flat(coded(*inputs))[0], flat(plain(*inputs))[0])
        assert all(not t.any() for t in coded._flat_weights if t.dim() == 2)


@RECURRENT
def test_recurrent_layers_learn_through_their_scales(name):
    layer, inputs = LAYERS[name]()
    coded = code(layer, bits=3)
    codes = {a: w.packed.clone() for a, w in packed_weights(coded).items()}
    target = torch.randn_like(flat(coded(*inputs))[0])
    optimizer = torch.optim.Adam([w.gain for w in packed_weights(coded).values()], lr=0.02)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = (flat(coded(*inputs))[0] - target).square().mean()
        loss.backward()
        optimizer.step()
        with torch.inference_mode():  # the loss that predictions see is the one that training sees
            losses.append((flat(coded(*inputs))[0] - target).square().mean().item())
    assert losses[-1] < losses[0] < loss.new_tensor(1e9)
    assert all(torch.equal(w.packed, codes[a]) for a, w in packed_weights(coded).items())


def test_zeros_stay_zeros_in_training():
    layer = nn.Linear(8, 4)
    find_weights(layer)[0].zero_(torch.rand(4, 8) < 0.6)
    n_nonzero = count_nonzero(layer)
    for options in KINDS:
        coded = code(layer, **options)
        mask = coded.weight == 0
        assert count_nonzero(coded) <= n_nonzero
        optimizer = torch.optim.SGD(coded.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            coded(torch.randn(5, 8)).square().sum().backward()
            optimizer.step()
        assert (coded.weight[mask] == 0).all()


def encoder(norm_first=False):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first).eval()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_transformer_encoders_on_and_off_the_fast_path(norm_first, fast, padded):
    plain = encoder(norm_first)
    coded = code_all(copy.deepcopy(plain))
    assert sum(is_coded(m) for m in coded.modules()) == 2 * 4
    with torch.no_grad():
        for weight, target in zip(find_weights(coded), find_weights(plain), strict=True):
            assert weight.name == target.name
            target.values().copy_(weight.values())
    plain.requires_grad_(False)
    x = torch.randn(3, 5, 8)
    padding = torch.zeros(3, 5, dtype=torch.bool)
    padding[0, 3:] = padded
    torch.backends.mha.set_fastpath_enabled(fast)
    try:
        with torch.inference_mode():
            expected = plain(x, src_key_padding_mask=padding if padded else None)
            assert_same(coded(x, src_key_padding_mask=padding if padded else None), expected)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    assert count_macs(coded, lambda: coded(x), 3) == count_macs(plain, lambda: plain(x), 3)
    assert count_params(coded) == count_params(plain)
    coded.train()
    coded(x).sum().backward()


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(7, 3), nn.Linear(3, 7)
        self.out.weight = self.embed.weight

    def forward(self, x):
        return self.out(self.embed(x))


def coded_tied():
    net = Tied()
    shared = pack_weight(net.embed, "weight", bits=4)
    net.embed = code_layer(net.embed, {"weight": shared})
    net.out = code_layer(net.out, {"weight": shared})
    return net


@pytest.mark.parametrize("way", [lambda net: net, copy.deepcopy, through_cloudpickle])
def test_tied_weights_share_their_codes(way):
    net = way(coded_tied())
    assert packed_weights(net.embed)["weight"] is packed_weights(net.out)["weight"]
    assert [w.name for w in find_weights(net)] == ["embed.weight"]
    assert count_params(net) == count_params(Tied()) == 21 + 7
    assert count_weights(net) == 21
    assert len([n for n, _ in net.named_parameters() if n.endswith("gain")]) == 1
    find_weights(net)[0].zero_(torch.ones(7, 3, dtype=torch.bool))
    assert not net.out.weight.any()
    net = coded_tied()
    net(torch.tensor([[1, 2]])).sum().backward()
    assert net.embed.weight_codes.gain.grad.abs().sum() > 0


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_weights_of_coded_layers(options):
    net = nn.ModuleDict({"module": nn.Sequential(nn.Linear(5, 4), nn.GRU(4, 3))})
    plain = copy.deepcopy(net)
    code_all(net, **options)
    weights = find_weights(net)
    assert [w.name for w in weights] == [w.name for w in find_weights(plain)]
    assert [w.shape for w in weights] == [w.shape for w in find_weights(plain)]
    assert find_weights(net, ["0"])[0].name == "module.1.weight_ih_l0"
    assert count_params(net) == count_params(plain)
    assert count_weights(net) == count_weights(plain)
    for weight in weights:
        assert not weight.values().requires_grad
        assert torch.equal(weight.zeros(), weight.values() == 0)
        before = weight.values().clone()
        mask = torch.rand(weight.shape) < 0.5
        weight.zero_(mask)
        assert torch.equal(weight.values(), before.masked_fill(mask, 0))
    assert count_nonzero(net) == sum(int((w.values() != 0).sum()) for w in weights)
    with pytest.raises(ValueError, match="no layer named 'x'") as error:
        find_weights(net, ["x"])
    assert "weight_codes" not in str(error.value)  # no layer of the user's


def test_coding_a_coded_layer_again():
    layer = nn.LSTM(4, 3)
    half = code_layer(layer, {"weight_ih_l0": pack_weight(layer, "weight_ih_l0", bits=4)})
    whole = code_layer(half, {"weight_hh_l0": pack_weight(half, "weight_hh_l0", bits=2)})
    assert [w.bits for w in packed_weights(whole).values()] == [4, 2]
    assert type(whole)._coded_base is nn.LSTM
    assert half.weight_ih_l0_codes is not whole.weight_ih_l0_codes
    before = half.weight_ih_l0.detach().clone()
    find_weights(whole)[0].zero_(torch.ones(12, 4, dtype=torch.bool))
    assert torch.equal(half.weight_ih_l0, before)
    again = code_layer(whole, {"weight_hh_l0": pack_weight(whole, "weight_hh_l0", bits=8)})
    assert [w.bits for w in packed_weights(again).values()] == [4, 8]
    assert packed_weights(whole)["weight_hh_l0"].bits == 2
    x = torch.randn(5, 2, 4)
    assert_same(again(x), with_decoded_weights(layer, again)(x))


def test_two_threads_predict_at_once():
    net = code_all(nn.Sequential(nn.Linear(64, 64), nn.GRU(64, 32)).eval())
    x = torch.randn(9, 64)
    with torch.no_grad():
        expected = copy.deepcopy(net)(x)
    wrong = []

    def predict():
        # A new thread starts with torch's default, and sums are taken in another order then.
        torch.set_num_threads(1)
        for _ in range(20):
            with torch.inference_mode():
                output = net(x)
            if not all(
                torch.equal(a, b) for a, b in zip(flat(output), flat(expected), strict=True)
            ):
                wrong.append(output)

    threads = [threading.Thread(target=predict) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


IN_MAIN = """
import pickle, cloudpickle, copy, sys, torch
from torch import nn
from skcompress.nn.codes.coded_layers import code_layer, pack_weight

class Mine(nn.Linear):
    def forward(self, input):
        return super().forward(input) + 1

layer = Mine(3, 2)
coded = code_layer(layer, {"weight": pack_weight(layer, "weight", bits=4)})
x = torch.ones(1, 3)
for other in (copy.deepcopy(coded), pickle.loads(pickle.dumps(coded))):
    assert type(other) is type(coded)
    assert torch.equal(other(x), coded(x))
sys.stdout.buffer.write(cloudpickle.dumps((coded, coded(x).detach())))
"""


def test_bases_defined_in_main_travel_to_another_process():
    run = subprocess.run([sys.executable, "-c", IN_MAIN], capture_output=True, check=True)
    coded, expected = pickle.loads(run.stdout)
    assert is_coded(coded)
    assert torch.equal(coded(torch.ones(1, 3)), expected)
    assert torch.equal(copy.deepcopy(coded)(torch.ones(1, 3)), expected)


def test_clearing_drops_all_decoded_floats_and_they_come_back():
    net = code_all(encoder())
    x = torch.randn(2, 5, 8)
    net(x)
    with torch.no_grad():
        expected = net(x)
    parts = [m for m in net.modules() if isinstance(m, PackedWeight)]
    assert all(part._cached is not None and part._cached_levels is not None for part in parts)
    clear_decoded(net)
    assert all(part._cached is None and part._cached_levels is None for part in parts)
    with torch.no_grad():
        assert_same(net(x), expected)
