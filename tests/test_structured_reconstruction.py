"""StructuredPruner(reconstruct=True): layers make up for the inputs that they have lost."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skcompress import (
    CompressedClassifier,
    CompressedRegressor,
    FineTuner,
    MagnitudePruner,
    Quantizer,
    StructuredPruner,
    TrainingData,
    _reconstruction,
)
from skcompress._nets import module_root, predict_raw
from skcompress.nn.layers import is_coded
from skcompress.nn.reconstruction import Fit
from tests.nets import (
    Attention,
    Convolution,
    Deep,
    Images,
    Recurrent,
    Routed,
    Tied,
    Twice,
    TwoInputs,
    make_classifier,
    make_regressor,
)

pytestmark = pytest.mark.usefixtures("seeded_rng")


@pytest.fixture(scope="module")
def fitted(digits):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_classifier(Deep, max_epochs=10).fit(digits[0][::2], digits[1][::2])


@pytest.fixture(scope="module")
def data(digits, fitted):
    return TrainingData(digits[0][::2], digits[1][::2], dense_net=fitted)


def both(net, data, ratio=0.5, **params):
    """Return what is left of a net without and with new weights, and the second pruner."""
    plain = StructuredPruner(ratio, scope="layer", **params)
    pruner = clone(plain).set_params(reconstruct=True)
    return plain.fit_transform(net, data), pruner.fit_transform(net, data), pruner


def missed(net, other, X):
    a, b = (predict_raw(one, X) for one in (net, other))
    return float(np.square(a - b).sum() / np.square(a - a.mean(0)).sum())


class TestWeights:
    @pytest.mark.parametrize("ratio", [0.5, 0.75, 0.9])
    def test_rows_that_it_has_not_seen_come_out_more_as_before(self, fitted, data, digits, ratio):
        unseen = digits[0][1::2]
        plain, rebuilt, _ = both(fitted, data, ratio)
        assert missed(fitted, rebuilt, unseen) < missed(fitted, plain, unseen) / 3

    def test_units_and_sizes_are_the_same(self, fitted, data):
        plain, rebuilt, pruner = both(fitted, data)
        assert torch.equal(plain.module_.a.weight, rebuilt.module_.a.weight)
        for name in ("b", "out"):
            one, other = (net.module_.get_submodule(name).weight for net in (plain, rebuilt))
            assert one.shape == other.shape
            assert not torch.equal(one, other)
        assert (
            pruner.report_.n_params
            == StructuredPruner(0.5, scope="layer").fit(fitted, data).report_.n_params
        )

    def test_labels_do_not_matter(self, fitted, data):
        other = TrainingData(data.X, np.zeros_like(data.y), dense_net=fitted)
        nets = [both(fitted, rows)[1] for rows in (data, other)]
        assert missed(*nets, data.X) == 0

    @pytest.mark.usefixtures("global_rng_untouched")
    def test_the_callers_net_is_left_alone(self, fitted, data):
        before = {name: value.clone() for name, value in fitted.module_.state_dict().items()}
        both(fitted, data)
        for name, value in fitted.module_.state_dict().items():
            assert torch.equal(value, before[name])
        assert not any(layer._forward_hooks for layer in fitted.module_.modules())

    def test_nothing_to_remove(self, fitted, data):
        _, rebuilt, pruner = both(fitted, data, 0.0)
        assert missed(fitted, rebuilt, data.X) == 0
        assert pruner.report_.reconstruction == {}

    @pytest.mark.parametrize("n", [1, 2, 4, 5, 30])
    def test_few_rows(self, fitted, digits, n):
        few = TrainingData(digits[0][:n], digits[1][:n])
        plain, rebuilt, _ = both(fitted, few)
        assert missed(fitted, rebuilt, digits[0]) <= 1.01 * missed(fitted, plain, digits[0])

    def test_sorted_rows_and_more_than_are_looked_at(self, fitted, digits):
        order = np.argsort(digits[1], kind="stable").repeat(3)
        rows = TrainingData(digits[0][order], digits[1][order])
        plain, rebuilt, _ = both(fitted, rows)
        assert missed(fitted, rebuilt, digits[0]) < missed(fitted, plain, digits[0]) / 3


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
        plain, new, pruner = both(net, TrainingData(X, y))
        assert set(pruner.report_.reconstruction) == rebuilt
        assert missed(net, new, X) < missed(net, plain, X)
        new.partial_fit(X, y)

    def test_inputs_by_name(self, digits):
        X = {"image": digits[0], "ids": (digits[1] % 5).astype(np.int64)}
        net = make_classifier(TwoInputs, max_epochs=4).fit(X, digits[1])
        plain, new, _ = both(net, TrainingData(X, digits[1]))
        assert missed(net, new, X) < missed(net, plain, X)

    def test_a_tied_weight_stays(self, digits):
        net = make_classifier(Tied, max_epochs=2).fit(*digits)
        plain, new, pruner = both(net, TrainingData(*digits))
        assert set(pruner.report_.reconstruction) <= {"module.out"}
        assert torch.equal(plain.module_.b.weight, new.module_.b.weight)
        assert new.module_.b.weight is new.module_.c.weight

    def test_rows_that_go_another_way(self, digits):
        net = make_classifier(Routed, max_epochs=4).fit(*digits)
        plain, new, _ = both(net, TrainingData(*digits))
        assert missed(net, new, digits[0]) <= missed(net, plain, digits[0])

    def test_zeros_stay_zero(self, fitted, data):
        zeros = MagnitudePruner(0.6).fit_transform(fitted)
        plain, new, pruner = both(zeros, data)
        assert missed(zeros, new, data.X) < missed(zeros, plain, data.X) / 2
        assert set(pruner.report_.reconstruction) == {"module.b", "module.out"}
        for name in ("b", "out"):
            one, other = (net.module_.get_submodule(name).weight for net in (plain, new))
            assert torch.equal(one == 0, other == 0)

    def test_codes_stay_codes(self, fitted, data):
        coded = Quantizer(4).fit_transform(fitted)
        with pytest.warns(UserWarning, match="has changed nothing"):
            plain, new, _ = both(coded, data)
        assert is_coded(new.module_.out)
        assert missed(plain, new, data.X) == 0

    def test_a_layer_that_is_not_trained(self, fitted, data, digits):
        net = make_classifier(Deep, max_epochs=2).fit(*digits)
        net.module_.b.weight.requires_grad_(False)
        plain, new, pruner = both(net, data)
        assert set(pruner.report_.reconstruction) == {"module.out"}
        assert torch.equal(plain.module_.b.weight, new.module_.b.weight)

    def test_outputs_that_come_no_nearer(self, fitted, data, monkeypatch):
        def worse(pruned, layer, *_):
            with torch.no_grad():
                module_root(pruned).get_submodule(layer.name).weight.mul_(-9.0)
            return Fit(1.0, 0.5)

        monkeypatch.setattr(_reconstruction, "_refit", worse)
        plain, new, pruner = both(fitted, data)
        assert missed(plain, new, data.X) == 0
        assert pruner.report_.reconstruction == {}

    def test_targets_that_do_not_fit_into_memory_at_once(self, fitted, data, monkeypatch):
        passes = []
        find = _reconstruction._Targets._find
        monkeypatch.setattr(
            _reconstruction._Targets, "_find", lambda *args: passes.append(1) or find(*args)
        )
        nets = []
        for most in (_reconstruction._NUMBERS, 1):
            monkeypatch.setattr(_reconstruction, "_NUMBERS", most)
            nets.append(both(fitted, data)[1])
        assert len(passes) == 1 + 2
        assert missed(*nets, data.X) == 0


class TestStep:
    def test_what_it_reports(self, fitted, data):
        pruner = both(fitted, data)[2]
        found = pruner.report_.reconstruction
        assert set(found) == {"module.b", "module.out"}
        assert all(0 <= after < before for before, after in found.values())
        assert "module.b: new weights; " in repr(pruner.plan_)
        assert "reconstruction" not in StructuredPruner(0.5).fit(fitted, data).report_

    def test_the_plan_is_for_one_net(self, fitted, data, digits):
        _, rebuilt, pruner = both(fitted, data)
        assert missed(rebuilt, pruner.transform(fitted), data.X) == 0
        other = make_classifier(Deep, max_epochs=1).fit(*digits)
        with pytest.raises(ValueError, match="one particular net"):
            pruner.transform(other)
        copied = pickle.loads(pickle.dumps(pruner))
        assert copied.report_.reconstruction == pruner.report_.reconstruction
        with pytest.raises(ValueError, match="was pickled"):
            copied.transform(fitted)

    def test_in_steps(self, fitted, data):
        tuner = FineTuner(1, random_state=0)
        pruner = StructuredPruner(0.6, n_steps=2, fine_tuner=tuner, reconstruct=True)
        net = pruner.fit_transform(fitted, data)
        assert all(step.reconstruction for step in pruner.plan_.steps)
        without = clone(pruner).set_params(reconstruct=False).fit_transform(fitted, data)
        assert missed(fitted, net, data.X) < missed(fitted, without, data.X)

    @pytest.mark.parametrize("bad", ["yes", 1.5, None])
    def test_a_bad_value(self, fitted, data, bad):
        with pytest.raises(ValueError, match="'reconstruct' parameter"):
            StructuredPruner(0.5, reconstruct=bad).fit(fitted, data)

    def test_float64_targets(self, digits):
        X, y = digits[0].astype(np.float64), digits[1].astype(np.float64)
        model = CompressedRegressor(
            make_regressor(max_epochs=4), StructuredPruner(0.5, reconstruct=True), random_state=0
        ).fit(X, y)
        assert model.compressor_.report_.reconstruction
        assert np.isfinite(model.predict(X)).all()


class TestCache:
    def test_it_is_computed_once(self, digits, tmp_path, monkeypatch):
        calls = []
        solve = _reconstruction._solve
        monkeypatch.setattr(
            _reconstruction, "_solve", lambda *args: calls.append(1) or solve(*args)
        )
        model = CompressedClassifier(
            make_classifier(Deep, max_epochs=1),
            StructuredPruner(0.5, reconstruct=True),
            memory=tmp_path,
            random_state=0,
        )
        kept = [clone(model).fit(*digits) for _ in range(2)]
        assert len(calls) == 1
        fresh = clone(model).set_params(memory=None).fit(*digits)
        for one in kept:
            np.testing.assert_array_equal(one.transform(digits[0]), fresh.transform(digits[0]))
            assert (
                one.compressor_.report_.reconstruction == fresh.compressor_.report_.reconstruction
            )
        clone(model).set_params(compressor__pruning_ratio=0.6).fit(*digits)
        clone(model).set_params(random_state=1).fit(*digits)
        assert len(calls) == 4

    @pytest.mark.usefixtures("two_torch_threads")
    def test_the_same_in_workers(self, digits, tmp_path):
        scores = []
        for n_jobs, memory in ((1, None), (2, tmp_path)):
            model = CompressedClassifier(
                make_classifier(Deep, max_epochs=1), StructuredPruner(reconstruct=True)
            ).set_params(memory=memory, random_state=0)
            search = GridSearchCV(
                model, {"compressor__pruning_ratio": [0.5, 0.8]}, cv=2, n_jobs=n_jobs
            )
            scores.append(search.fit(*digits).cv_results_["mean_test_score"])
        np.testing.assert_array_equal(*scores)
