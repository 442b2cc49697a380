"""StructuredPruner(reconstruct=True): layers make up for the inputs that they have lost."""

import pytest
import torch
from sklearn.base import clone

from skcompress import FineTuner, MagnitudePruner, Quantizer, StructuredPruner, TrainingData
from skcompress.nn.codes.coded_layers import is_coded
from skcompress.steps import _reconstruct as _reconstruction
from tests.sample_nets import (
    Attention,
    Convolution,
    Deep,
    Images,
    Recurrent,
    Tied,
    Twice,
    make_classifier,
)
from tests.steps.reconstructing import both, missed

pytestmark = pytest.mark.usefixtures("seeded_rng")

HALF = StructuredPruner(0.5, scope="layer")


class TestWeights:
    @pytest.mark.parametrize("ratio", [0.5, 0.75, 0.9])
    def test_rows_that_it_has_not_seen_come_out_more_as_before(
        self, deep, deep_data, digits, ratio
    ):
        unseen = digits[0][1::2]
        plain, rebuilt, _ = both(clone(HALF).set_params(pruning_ratio=ratio), deep, deep_data)
        assert missed(deep, rebuilt, unseen) < missed(deep, plain, unseen) / 3

    def test_units_and_sizes_are_the_same(self, deep, deep_data):
        plain, rebuilt, pruner = both(HALF, deep, deep_data)
        assert torch.equal(plain.module_.a.weight, rebuilt.module_.a.weight)
        for name in ("b", "out"):
            one, other = (net.module_.get_submodule(name).weight for net in (plain, rebuilt))
            assert one.shape == other.shape
            assert not torch.equal(one, other)
        assert pruner.report_.n_params == clone(HALF).fit(deep, deep_data).report_.n_params

    def test_nothing_to_remove(self, deep, deep_data):
        _, rebuilt, pruner = both(clone(HALF).set_params(pruning_ratio=0.0), deep, deep_data)
        assert missed(deep, rebuilt, deep_data.X) == 0
        assert pruner.report_.reconstruction == {}


class TestKinds:
    @pytest.mark.parametrize(
        ("module", "shape", "rebuilt"),
        [
            (Convolution, (-1, 1, 8, 8), {"module.out"}),
            (Recurrent, (-1, 8, 8), {"module.out"}),
            (Images, (-1, 64), {"module.second", "module.out"}),
            (Attention, (-1, 8, 8), {"module.encode.linear2"}),
            (Twice, (-1, 64), {"module.b", "module.out"}),
        ],
    )
    def test_layers(self, digits, module, shape, rebuilt):
        X, y = digits[0].reshape(shape), digits[1]
        net = make_classifier(module, max_epochs=4).fit(X, y)
        plain, new, pruner = both(HALF, net, TrainingData(X, y))
        assert set(pruner.report_.reconstruction) == rebuilt
        assert missed(net, new, X) < missed(net, plain, X)
        new.partial_fit(X, y)

    def test_a_tied_weight_stays(self, digits):
        net = make_classifier(Tied, max_epochs=2).fit(*digits)
        plain, new, pruner = both(HALF, net, TrainingData(*digits))
        assert set(pruner.report_.reconstruction) <= {"module.out"}
        assert torch.equal(plain.module_.b.weight, new.module_.b.weight)
        assert new.module_.b.weight is new.module_.c.weight

    def test_zeros_stay_zero(self, deep, deep_data):
        zeros = MagnitudePruner(0.6).fit_transform(deep)
        plain, new, pruner = both(HALF, zeros, deep_data)
        assert missed(zeros, new, deep_data.X) < missed(zeros, plain, deep_data.X) / 2
        assert set(pruner.report_.reconstruction) == {"module.b", "module.out"}
        for name in ("b", "out"):
            one, other = (net.module_.get_submodule(name).weight for net in (plain, new))
            assert torch.equal(one == 0, other == 0)

    def test_codes_stay_codes(self, deep, deep_data):
        coded = Quantizer(4).fit_transform(deep)
        with pytest.warns(UserWarning, match="has changed nothing"):
            plain, new, _ = both(HALF, coded, deep_data)
        assert is_coded(new.module_.out)
        assert missed(plain, new, deep_data.X) == 0

    def test_a_layer_that_is_not_trained(self, deep, deep_data, digits):
        net = make_classifier(Deep, max_epochs=2).fit(*digits)
        net.module_.b.weight.requires_grad_(False)
        plain, new, pruner = both(HALF, net, deep_data)
        assert set(pruner.report_.reconstruction) == {"module.out"}
        assert torch.equal(plain.module_.b.weight, new.module_.b.weight)

    def test_targets_that_do_not_fit_into_memory_at_once(self, deep, deep_data, monkeypatch):
        passes = []
        find = _reconstruction._Targets._find
        monkeypatch.setattr(
            _reconstruction._Targets, "_find", lambda *args: passes.append(1) or find(*args)
        )
        nets = []
        for most in (_reconstruction._NUMBERS, 1):
            monkeypatch.setattr(_reconstruction, "_NUMBERS", most)
            nets.append(both(HALF, deep, deep_data)[1])
        assert len(passes) == 1 + 2
        assert missed(*nets, deep_data.X) == 0


class TestStep:
    def test_in_steps(self, deep, deep_data):
        tuner = FineTuner(1, random_state=0)
        pruner = StructuredPruner(0.6, n_steps=2, fine_tuner=tuner, reconstruct=True)
        net = pruner.fit_transform(deep, deep_data)
        assert all(step.reconstruction for step in pruner.plan_.steps)
        without = clone(pruner).set_params(reconstruct=False).fit_transform(deep, deep_data)
        assert missed(deep, net, deep_data.X) < missed(deep, without, deep_data.X)
