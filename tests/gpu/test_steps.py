"""Each public step gives on a GPU what it gives on the CPU, from the same weights."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

import skcompress.steps
from skcompress import (
    DeadUnitRemover,
    FineTuner,
    LowRankFactorizer,
    MagnitudePruner,
    Quantizer,
    StructuredPruner,
    TrainingData,
)
from skcompress._nets import module_root, predict_raw
from skcompress.nn.modules.weights import find_weights
from tests.sample_nets import Attention, Deep, Images, Recurrent, make_classifier

STEPS = [
    MagnitudePruner(0.8),
    MagnitudePruner(threshold=0.05, scope="layer", reconstruct=True),
    MagnitudePruner(0.8, n_steps=2, fine_tuner=FineTuner(1, random_state=0)),
    StructuredPruner(0.5),
    StructuredPruner(target_nbytes=0.5, importance="taylor", reconstruct=True),
    StructuredPruner(target_macs=0.5, importance="activation", scope="sensitivity"),
    Quantizer(8),
    Quantizer(3, scheme="fixed_point", reconstruct=True),
    Quantizer(4, granularity="per_tensor", symmetric=False),
    LowRankFactorizer(energy=0.9),
    DeadUnitRemover(),
    FineTuner(1, random_state=0),
    FineTuner(1, alpha=0.5, random_state=0),
]
# Sums are added up in another order on a GPU, which a training multiplies.
LOOSE = {"rtol": 0.02, "atol": 0.1}
KINDS = {
    "dense": (Deep, (-1, 64)),
    "convolutions": (Images, (-1, 64)),
    "recurrent": (Recurrent, (-1, 8, 8)),
    "attention": (Attention, (-1, 8, 8)),
}


def of_kind(kind, digits):
    module, shape = KINDS[kind]
    return module, TrainingData(digits[0].reshape(shape), digits[1])


def on(device, net):
    """Return a fitted net with the same weights on another device."""
    other = clone(net).set_params(device=device).initialize()
    other.module_.load_state_dict(net.module_.state_dict())
    return other


def devices_of(net):
    tensors = [*net.module_.parameters(), *net.module_.buffers()]
    return {tensor.device.type for tensor in tensors}


def test_each_public_step_is_here():
    assert {type(step).__name__ for step in STEPS} == set(skcompress.steps.__all__)


@pytest.mark.parametrize("step", STEPS, ids=repr)
def test_outputs_are_those_of_the_cpu(step, device, digits):
    module, data = of_kind("dense", digits)
    torch.manual_seed(0)
    net = make_classifier(module, max_epochs=5).fit(data.X, data.y)
    own = on(device, net)
    before = {name: value.clone() for name, value in own.module_.state_dict().items()}
    with_cpu, with_device = clone(step), clone(step)
    rows = [TrainingData(data.X, data.y, dense_net=dense) for dense in (net, own)]
    expected = with_cpu.fit_transform(net, rows[0])
    found = with_device.fit_transform(own, rows[1])
    assert devices_of(found) == {device}
    assert all(torch.equal(value, before[k]) for k, value in own.module_.state_dict().items())
    np.testing.assert_allclose(predict_raw(found, data.X), predict_raw(expected, data.X), **LOOSE)
    for name in ("n_params", "macs"):
        assert with_device.report_[name] == with_cpu.report_[name]
    assert with_device.report_.sparsity == pytest.approx(with_cpu.report_.sparsity, abs=0.01)
    found.partial_fit(data.X, data.y)
    assert devices_of(found) == {device}


@pytest.mark.filterwarnings("ignore:StructuredPruner removes 5 of")  # few units of attention may go
@pytest.mark.parametrize("kind", list(KINDS)[1:])
@pytest.mark.parametrize(
    "step",
    [
        MagnitudePruner(0.8, reconstruct=True),
        StructuredPruner(0.3, reconstruct=True),
        Quantizer(4, reconstruct=True),
        LowRankFactorizer(energy=0.9),
        DeadUnitRemover(),
    ],
    ids=repr,
)
def test_other_layers(step, kind, device, digits):
    module, data = of_kind(kind, digits)
    torch.manual_seed(0)
    net = make_classifier(module, max_epochs=1).fit(data.X, data.y)
    found = clone(step).fit_transform(on(device, net), data)
    expected = clone(step).fit_transform(net, data)
    assert devices_of(found) == {device}
    outputs = [predict_raw(one, data.X) for one in (found, expected)]
    np.testing.assert_allclose(*outputs, **LOOSE)


def test_zeros_and_codes_behind_each_other(device, digits):
    module, data = of_kind("dense", digits)
    net = on(device, make_classifier(module, max_epochs=2).fit(data.X, data.y))
    pruned = MagnitudePruner(0.7, reconstruct=True).fit_transform(net, data)
    zeros = [weight.zeros().cpu() for weight in find_weights(module_root(pruned))]
    coded = Quantizer(4).fit_transform(StructuredPruner(0.0).fit_transform(pruned, data), data)
    tuned = FineTuner(1, random_state=0).fit_transform(coded, data)
    assert devices_of(tuned) == {device}
    for before, weight in zip(zeros, find_weights(module_root(tuned)), strict=True):
        assert weight.zeros().cpu()[before].all()


def test_the_state_of_the_device_is_put_back(device, digits):
    module, data = of_kind("dense", digits)
    net = on(device, make_classifier(module, max_epochs=1).fit(data.X, data.y))
    states = [torch.get_rng_state()]
    states += [torch.cuda.get_rng_state()] if device == "cuda" else []
    FineTuner(1, random_state=0).fit_transform(net, data)
    after = [torch.get_rng_state()]
    after += [torch.cuda.get_rng_state()] if device == "cuda" else []
    assert all(torch.equal(a, b) for a, b in zip(states, after, strict=True))
