"""Factors of weights: nearest, thin, deterministic; and the layer that is made of them."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skcompress.nn.modules.copying import copy_module
from skcompress.nn.modules.counting import count_params, count_weights
from skcompress.nn.modules.folding import add_bias_, has_new_bias
from skcompress.nn.modules.low_rank import (
    LowRank,
    blank_factors_,
    can_factorize,
    factorize_,
    factors,
    is_smaller,
    rank_for_energy,
    singular_values,
)
from skcompress.nn.modules.macs import count_macs
from skcompress.nn.modules.precision import call_in, module_in
from skcompress.nn.modules.sizes import uncut_sizes
from skcompress.nn.modules.weights import find_weights
from skcompress.nn.surgery.proof import find_failing, prove_same
from skcompress.nn.surgery.shrinking import shrink
from skcompress.steps.low_rank_factorizer import _layers, _split, _why_not
from tests.nn.zoo import CASES
from tests.nn.zoo.test_zoo import EACH, assert_same, outputs


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


SHAPES = st.lists(st.integers(1, 6), min_size=2, max_size=4)


@settings(max_examples=80, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 1000), rank=st.integers(1, 8))
def test_factors_are_nearest(shape, seed, rank):
    weight = drawn(*shape, seed=seed)
    full = min(shape[0], weight[0].numel())
    rank = min(rank, full)
    first, second = factors(weight, rank)
    assert first.shape == (rank, *shape[1:])
    assert second.shape == (shape[0], rank)
    error = (second @ first.flatten(1) - weight.double().flatten(1)).norm()
    # Eckart and Young: what is left is what was dropped.
    expected = singular_values(weight)[rank:].square().sum().sqrt()
    assert abs(float(error - expected)) < 1e-9
    largest = second.gather(0, second.abs().argmax(0, keepdim=True))
    assert bool((largest >= 0).all())


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(0, 100), min_size=1, max_size=10),
    energy=st.floats(0.001, 1),
)
def test_rank_for_energy_is_the_smallest(values, energy):
    values = torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
    rank = rank_for_energy(values, energy)
    total = values.square().sum()
    assert 1 <= rank <= len(values)
    kept = values.square().cumsum(0)
    assert kept[rank - 1] >= energy * total * (1 - 1e-12)
    if rank > 1:
        assert kept[rank - 2] < energy * total * (1 + 1e-12)


def test_energy_of_one_drops_what_is_dependent():
    left, right = drawn(8, 3), drawn(3, 9, seed=1)
    assert rank_for_energy(torch.tensor([2.0, 1.0, 0.0, 0.0]), 1.0) == 2
    assert rank_for_energy(singular_values(left.double() @ right.double()), 1 - 1e-12) == 3
    assert rank_for_energy(torch.zeros(3), 0.5) == 1


def test_zero_rows_and_columns_stay_zero():
    weight = drawn(6, 5, 3)
    weight[2] = 0
    weight[:, 1] = 0
    first, second = factors(weight, 4)
    assert bool((second[2] == 0).all())
    assert bool((first[:, 1] == 0).all())
    assert int((second == 0).all(1).sum()) == 1


def test_only_what_gets_smaller_and_not_denser():
    assert is_smaller(torch.ones(10, 10), 4)
    assert not is_smaller(torch.ones(10, 10), 5)
    sparse = torch.ones(10, 10) * (drawn(10, 10) > 0.8)
    assert not is_smaller(sparse, 2)
    block = torch.zeros(10, 10)
    block[:6, :6] = 1
    assert is_smaller(block, 2)


LAYERS = [
    (nn.Linear(20, 12), (5, 20)),
    (nn.Linear(20, 12, bias=False), (2, 3, 20)),
    (nn.Conv1d(8, 12, 3, padding=1, stride=2), (2, 8, 9)),
    (nn.Conv2d(6, 12, 3, padding="same", dilation=2), (2, 6, 8, 8)),
    (nn.Conv2d(6, 12, (3, 1), padding=(1, 0), padding_mode="reflect", bias=False), (2, 6, 8, 8)),
    (nn.Conv3d(3, 12, 2), (1, 3, 4, 4, 4)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
class TestLayers:
    def test_full_rank_computes_the_same(self, layer, shape):
        layer, x = copy.deepcopy(layer), drawn(*shape)
        expected, weight = layer(x), layer.weight.clone()
        factorize_(layer, 99)
        torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.weight, weight, rtol=1e-4, atol=1e-5)
        assert layer.rank == min(len(weight), weight[0].numel())

    def test_a_low_rank_computes_with_the_product(self, layer, shape):
        plain, layer, x = copy.deepcopy(layer), copy.deepcopy(layer), drawn(*shape)
        factorize_(layer, 2)
        with torch.no_grad():
            plain.weight.copy_(layer.weight)
        torch.testing.assert_close(layer(x), plain(x), rtol=1e-4, atol=1e-5)

    def test_what_it_counts(self, layer, shape):
        layer, x = copy.deepcopy(layer), drawn(*shape)
        macs = count_macs(layer, lambda: layer(x), len(x))
        n_out, n_in = len(layer.weight), layer.weight[0].numel()
        n_bias = 0 if layer.bias is None else n_out
        factorize_(layer, 2)
        assert count_weights(layer) == 2 * (n_out + n_in)
        assert count_params(layer) == 2 * (n_out + n_in) + n_bias
        assert count_macs(layer, lambda: layer(x), len(x)) == macs * 2 * (n_out + n_in) // (
            n_out * n_in
        )

    def test_it_pickles_copies_and_is_deterministic(self, layer, shape):
        layer, x = copy.deepcopy(layer), drawn(*shape)
        other = copy.deepcopy(layer)
        factorize_(layer, 2)
        factorize_(other, 2)
        for same in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert torch.equal(same(x), layer(x))

    def test_a_blank_one_takes_its_state(self, layer, shape):
        layer, blank, x = copy.deepcopy(layer), copy.deepcopy(layer), drawn(*shape)
        factorize_(layer, 3)
        blank_factors_(blank, 3)
        blank.load_state_dict(layer.state_dict())
        assert repr(blank) == repr(layer)
        assert torch.equal(blank(x), layer(x))


def test_it_stays_what_it_was():
    layer = nn.Linear(20, 12).double().requires_grad_(False).eval()
    bias, container = layer.bias, [layer]
    factorize_(layer, 2)
    assert type(container[0]) is LowRank
    assert layer.bias is bias
    assert not layer.training
    assert not layer.second.training
    assert {p.dtype for p in layer.parameters()} == {torch.float64}
    assert not any(p.requires_grad for p in layer.parameters())
    assert (layer.in_features, layer.out_features) == (20, 12)
    assert [w.name for w in find_weights(layer)] == ["first.weight", "second.weight"]


def test_a_convolution_knows_its_channels():
    layer = nn.Conv1d(8, 12, 3)
    factorize_(layer, 2)
    assert (layer.in_channels, layer.out_channels) == (8, 12)


def test_gradients_reach_both_factors():
    layer = nn.Linear(6, 5)
    factorize_(layer, 2)
    layer(drawn(4, 6)).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    layer.zero_grad()
    nn.functional.linear(drawn(4, 6), layer.weight).sum().backward()
    assert layer.first.weight.grad is not None


def test_terms_can_be_cut():
    net = nn.Sequential(nn.Linear(6, 5))
    factorize_(net[0], 3)
    kept = {"0.first.weight": [[0, 2]], "0.second.weight": [None, [0, 2]]}
    assert shrink(net, kept)[0].rank == 2


def test_sizes_before_the_first_cut_are_known_to_what_a_change_brings_in():
    """A file is loaded in this order: made, changed, cut."""
    for layer, before in (
        (nn.Linear(6, 5, bias=False), (8, 9)),
        (nn.Conv1d(6, 5, 3, bias=False), (8, 9, 3)),
    ):
        layer._uncut_sizes = {"weight": before}  # as surgery does it
        add_bias_(layer)
        assert uncut_sizes(layer) == {"weight": before, "bias": (8,)}
        factorize_(layer, 2)
        assert uncut_sizes(layer.first) == {"weight": (2, 9, *before[2:])}
        assert uncut_sizes(layer.second)["weight"][:2] == (8, 2)
        assert uncut_sizes(layer.second)["bias"] == (8,)
        assert has_new_bias(layer.second)
        assert layer.uncut_rank == 2
        layer.first._uncut_sizes = {"weight": (3, *before[1:])}
        assert layer.uncut_rank == 3
    mirrored = nn.ConvTranspose1d(6, 4, 3, groups=2, bias=False)
    mirrored._uncut_sizes = {"weight": (9, 4, 3)}
    add_bias_(mirrored)
    assert uncut_sizes(mirrored)["bias"] == (8,)


def test_what_cannot():
    class Own(nn.Linear):
        pass

    assert not can_factorize(Own(4, 4))
    assert not can_factorize(nn.Conv2d(4, 4, 3, groups=4))
    assert not can_factorize(nn.ConvTranspose2d(4, 4, 3))
    assert not can_factorize(nn.MultiheadAttention(4, 2).out_proj)
    assert not can_factorize(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("name", EACH)
def test_the_zoo_computes_with_factors_of_full_rank(name):
    case = CASES[name]
    if case.refused is not None:
        return
    plain = module_in(torch.float64, copy_module(case.module()))
    module = copy_module(plain)
    names = [n for n, layer, _ in _layers(module) if _why_not(module, layer, n) is None]
    calls = [case.call(n) for n in (1, 5)]
    misused = find_failing(
        names, lambda own: prove_same(case.module(), lambda m: _split(m, own), calls)
    )
    assert set(misused) == ({"a"} if name == "called with other weights" else set())
    for path in names:
        if path not in misused:
            factorize_(module.get_submodule(path), 1000)
    for call in calls:
        call = call_in(torch.float64, call)
        try:
            expected = outputs(plain, call)
        except RuntimeError:  # it insists on single precision
            return
        assert_same(outputs(module, call), expected, 1e-9)
