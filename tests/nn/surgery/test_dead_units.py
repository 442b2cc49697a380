"""Dead units: found, removed without a change of the outputs, or left with a reason."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skcompress.nn.codes.coded_layers import code_layer_, pack_weight
from skcompress.nn.graph import TraceError
from skcompress.nn.modules import folding
from skcompress.nn.modules.counting import count_params
from skcompress.nn.modules.weights import find_weights
from skcompress.nn.surgery import constants
from skcompress.nn.surgery import dead_units as dead
from skcompress.nn.surgery.dead_units import fold_norms, foldable_norms, remove_dead
from skcompress.nn.surgery.proof import ProofError, admit, prove_same
from tests.nn.zoo import CASES
from tests.nn.zoo.test_zoo import EACH, SIZES, outputs


def prune_by_magnitude(module, sparsity=0.9):
    for weight in find_weights(module):
        values = weight.values().abs()
        n = max(int(sparsity * values.numel()), 1)
        weight.zero_(values <= values.flatten().kthvalue(n).values)


def kill_units(module, seed=0):
    """Half of the rows and a fifth of the columns of every weight become zero."""
    draw = torch.Generator().manual_seed(seed)
    for weight in find_weights(module):
        mask = torch.zeros(weight.shape, dtype=torch.bool)
        mask[torch.rand(len(mask), generator=draw) < 0.5] = True
        if mask.dim() > 1:
            mask[:, torch.rand(mask.shape[1], generator=draw) < 0.2] = True
        weight.zero_(mask)


def calls_of(*shape):
    draw = torch.Generator().manual_seed(0)
    return [((torch.randn(n, *shape, generator=draw),), {}) for n in SIZES]


def largest_error(one, other, call):
    errors = [
        (a.double() - b.double()).abs().nan_to_num().max()
        for a, b in zip(outputs(one, call), outputs(other, call), strict=True)
        if a.numel()
    ]
    return float(max(errors, default=0))


def removed(removals):
    counts = {}
    for removal in removals:
        for name, n_units in removal.units.items():
            counts[name] = counts.get(name, 0) + n_units
    return counts


# torch says once per process that oneDNN has no projections
@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("kill", [prune_by_magnitude, kill_units])
@pytest.mark.parametrize("name", EACH)
def test_the_zoo(name, kill):
    case = CASES[name]
    module, calls = case.module(), [case.call(n) for n in SIZES]
    kill(module)
    before = copy.deepcopy(module.state_dict())
    if case.refused is not None:
        with pytest.raises(TraceError, match=case.refused):
            remove_dead(module, calls)
        return
    pairs, _ = foldable_norms(module, calls)
    result, removals, why = remove_dead(fold_norms(module, pairs), calls)
    assert (count_params(result) < count_params(module)) == bool(removals or pairs), why
    for n in (1, 3, 7, 30):  # other rows than it was proven on
        assert largest_error(result, module, case.call(n)) <= 1e-5
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])
    assert remove_dead(result, calls)[1] == []


def test_a_unit_without_incoming_weights_is_a_constant():
    net = nn.Sequential(
        *(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Sigmoid(), nn.Linear(5, 3)),
        *(nn.Tanh(), nn.Linear(3, 2, bias=False)),
    ).eval()
    with torch.no_grad():
        net[0].weight[[1, 3]] = 0
        net[3].weight[2] = 0
    result, removals, _ = remove_dead(net, calls_of(4))
    assert removed(removals) == {"0.weight": 2, "3.weight": 1}
    assert result[5].bias is not None
    assert largest_error(result, net, calls_of(4)[0]) < 1e-6


def test_a_unit_that_feeds_dead_ones_only_is_dead():
    net = nn.Sequential(*(nn.Linear(4, 4), nn.ReLU()) * 1, nn.Linear(4, 4), nn.Linear(4, 2))
    with torch.no_grad():
        net[3].weight[:, 1:] = 0
        net[2].weight[0, :2] = 0  # of the only unit that is read
    result, removals, _ = remove_dead(net, calls_of(4))
    assert removed(removals) == {"0.weight": 2, "2.weight": 3}
    assert len(removals) == 1
    assert [layer.out_features for layer in (result[0], result[2])] == [2, 1]


def test_one_unit_of_a_layer_is_left():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    nn.init.zeros_(net[0].weight)
    result, _, _ = remove_dead(net, calls_of(4))
    assert result[0].out_features == 1
    assert largest_error(result, net, calls_of(4)[0]) < 1e-6


@pytest.mark.parametrize(
    ("reader", "bias", "left"),
    [
        (nn.Conv2d(4, 3, 3), 0.5, 2),
        (nn.Conv2d(4, 3, 3, padding=1), 0.5, 4),
        (nn.Conv2d(4, 3, 3, padding=1), -0.5, 2),  # relu makes it zero
        (nn.Conv2d(4, 3, 3, padding=1, padding_mode="replicate"), 0.5, 2),
        (nn.Conv2d(4, 3, 3, padding="same"), 0.5, 4),
        (nn.ConvTranspose2d(4, 3, 2), 0.5, 4),
        (nn.ConvTranspose2d(4, 3, 2), -0.5, 2),
    ],
)
def test_a_constant_beside_a_border_of_zeros_is_none(reader, bias, left):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), reader)
    with torch.no_grad():
        net[0].weight[:2] = 0
        net[0].bias[:2] = bias
    result, _, why = remove_dead(net, calls_of(1, 8, 8))
    assert result[0].out_channels == left
    assert largest_error(result, net, calls_of(1, 8, 8)[1]) < 1e-6
    if left == 4:
        assert any("border of zeros" in line for line in why)


def test_coded_layers_lose_dead_units():
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2, bias=False)).eval()
    with torch.no_grad():
        net[0].weight[:2] = 0
        net[0].bias[:2] = 0.5
    for layer in (net[0], net[2]):
        code_layer_(layer, {"weight": pack_weight(layer, "weight", bits=4)})
    result, _, _ = remove_dead(net, calls_of(4))
    assert result[0].weight_codes.shape == (3, 4)
    assert largest_error(result, net, calls_of(4)[0]) < 1e-6


# --- the proof catches wrong folds ---------------------------------------------------------------


def no_fold(patch):
    patch.setattr(dead, "fold_constants_", lambda layer, constants: None)


def fold_of_the_next_column(patch):
    fold = folding.fold_constants_
    patch.setattr(
        dead,
        "fold_constants_",
        lambda layer, c: fold(layer, {(k + 1) % layer.weight.shape[1]: v for k, v in c.items()}),
    )


def padding_does_not_matter(patch):
    patch.setattr(dead, "_no_fold", lambda module, key, reading: None)


def all_is_constant(patch):
    found = constants.Reading.constant
    patch.setattr(constants.Reading, "constant", lambda self: found(self) | True)


def nothing_is_read(patch):
    patch.setattr(dead._Consumer, "used", lambda self, alive: set())


@pytest.mark.parametrize(
    "plant",
    [no_fold, fold_of_the_next_column, padding_does_not_matter, all_is_constant, nothing_is_read],
)
def test_wrong_removals_are_caught(plant, monkeypatch):
    net = nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.Sigmoid(), nn.Conv2d(4, 4, 3, padding=1), nn.Sigmoid()),
        *(nn.Conv2d(4, 3, 3), nn.Flatten(), nn.Linear(48, 2)),
    )
    with torch.no_grad():
        net[0].weight[:2] = 0
        net[2].weight[:2] = 0
    calls = calls_of(1, 8, 8)
    good, _, _ = remove_dead(net, calls)
    assert (good[0].out_channels, good[2].out_channels) == (4, 2)
    plant(monkeypatch)
    result, _, why = remove_dead(net, calls)
    assert any("without the dead ones the net fails" in line for line in why)
    assert largest_error(result, net, calls[1]) < 1e-5


def test_proof_of_no_change():
    net = nn.Linear(3, 2)

    def shifted(by):
        def change(module):
            with torch.no_grad():
                module.bias += by
            return module

        return change

    prove_same(net, shifted(0.0), calls_of(3))
    for by in (1e-4, 1e-7, float("nan")):
        with pytest.raises(ProofError, match="off by|nan"):
            prove_same(net, shifted(by), calls_of(3))
    with pytest.raises(ProofError, match="RuntimeError"):
        prove_same(net, lambda module: nn.Linear(4, 2), calls_of(3))


@settings(max_examples=30, deadline=None)
@given(bad=st.sets(st.integers(0, 9)), n=st.integers(0, 10))
def test_admit_finds_all_that_do_not_fit(bad, n):
    def check(items):
        if bad.intersection(items):
            raise ProofError("bad")

    assert set(admit(range(n), check)) == {i for i in bad if i < n}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), depth=st.integers(1, 4), sparsity=st.floats(0.3, 0.97))
def test_random_nets(seed, depth, sparsity):
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        acts = [nn.ReLU(), nn.Sigmoid(), nn.Tanh(), nn.GELU()]
        layers, width = [], 4
        for n in range(depth):
            new = 3 + seed % 5 + n
            layers += [nn.Linear(width, new, bias=bool((seed >> n) % 2))]
            layers += [nn.BatchNorm1d(new)] if (seed >> (n + 3)) % 2 else []
            layers += [acts[(seed + n) % 4]]
            width = new
        net = nn.Sequential(*layers, nn.Linear(width, 2)).eval()
        for layer in net:
            if isinstance(layer, nn.BatchNorm1d):
                layer.running_mean.uniform_(-1, 1)
    prune_by_magnitude(net, sparsity)
    calls = calls_of(4)
    pairs, _ = foldable_norms(net, calls)
    result, removals, _ = remove_dead(fold_norms(net, pairs), calls)
    assert largest_error(result, net, calls[2]) < 1e-5
    for layer in result[:-1]:  # what is left of a chain of layers has something to do
        if isinstance(layer, nn.Linear) and layer.out_features > 1:
            assert bool((layer.weight != 0).any(1).all())
    assert (count_params(result) < count_params(net)) == bool(pairs or removals)
