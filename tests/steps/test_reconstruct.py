"""reconstruct=True of all steps that have it: what is left makes up for what is gone."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from skcompress import (
    CompressedClassifier,
    CompressedRegressor,
    FineTuner,
    MagnitudePruner,
    Quantizer,
    StructuredPruner,
    TrainingData,
)
from skcompress._nets import copy_net, module_root
from skcompress.io import load, save
from skcompress.nn.modules.weights import find_weights
from skcompress.nn.reconstruction.least_squares import LayerFit
from skcompress.steps import _reconstruct as _reconstruction
from tests.sample_nets import (
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
from tests.steps.reconstructing import both, missed

pytestmark = pytest.mark.usefixtures("seeded_rng")

STEPS = [
    MagnitudePruner(0.9),
    MagnitudePruner(0.8, scope="layer"),
    MagnitudePruner(threshold=0.1),
    Quantizer(2),
    Quantizer(3, symmetric=False),
    Quantizer(3, scheme="fixed_point"),
    Quantizer(3, granularity="per_tensor"),
]
OF_WEIGHTS = pytest.mark.parametrize("step", [STEPS[0], STEPS[3]], ids=repr)
EACH = pytest.mark.parametrize(
    "step", [STEPS[0], STEPS[3], StructuredPruner(0.5, scope="layer")], ids=repr
)


def zeros_of(net):
    return [weight.zeros() for weight in find_weights(module_root(net))]


class TestWeights:
    @pytest.mark.parametrize("step", STEPS, ids=repr)
    def test_rows_that_it_has_not_seen_come_out_more_as_before(self, step, deep, deep_data, digits):
        unseen = digits[0][1::2]
        plain, new, _ = both(step, deep, deep_data)
        assert missed(deep, new, unseen) < missed(deep, plain, unseen) / 2

    @pytest.mark.parametrize("step", STEPS[:3], ids=repr)
    def test_the_same_weights_are_zero(self, step, deep, deep_data):
        plain, new, step = both(step, deep, deep_data)
        for one, other in zip(zeros_of(plain), zeros_of(new), strict=True):
            assert torch.equal(one, other)
        assert step.report_.sparsity == clone(step).fit(deep, deep_data).report_.sparsity

    @pytest.mark.parametrize("step", STEPS[3:], ids=repr)
    def test_codes_are_of_the_same_kind(self, step, deep, deep_data):
        plain, new, step = both(step, deep, deep_data)
        assert repr(plain.module_) == repr(new.module_)
        assert step.report_.bits == step.bits
        assert step.report_.layers_left_float == []

    @pytest.mark.parametrize("bits", [2, 4])
    def test_pruned_weights_stay_zero_as_codes(self, deep, deep_data, bits):
        pruned = MagnitudePruner(0.8, reconstruct=True).fit_transform(deep, deep_data)
        plain, new, _ = both(Quantizer(bits), pruned, deep_data)
        for before, after in zip(zeros_of(pruned), zeros_of(new), strict=True):
            assert after[before].all()
        assert missed(pruned, new, deep_data.X) < missed(pruned, plain, deep_data.X)

    @EACH
    def test_labels_do_not_matter(self, step, deep, deep_data):
        other = TrainingData(deep_data.X, np.zeros_like(deep_data.y), dense_net=deep)
        nets = [both(step, deep, rows)[1] for rows in (deep_data, other)]
        assert missed(*nets, deep_data.X) == 0

    @EACH
    @pytest.mark.usefixtures("global_rng_untouched")
    def test_the_callers_net_is_left_alone(self, step, deep, deep_data):
        before = {name: value.clone() for name, value in deep.module_.state_dict().items()}
        both(step, deep, deep_data)
        for name, value in deep.module_.state_dict().items():
            assert torch.equal(value, before[name])
        assert not any(layer._forward_hooks for layer in deep.module_.modules())

    def test_nothing_to_remove(self, deep, deep_data):
        _, new, step = both(MagnitudePruner(0.0), deep, deep_data)
        assert missed(deep, new, deep_data.X) == 0
        assert step.report_.reconstruction == {}

    @EACH
    @pytest.mark.parametrize("n", [1, 2, 4, 5, 30])
    def test_few_rows(self, step, deep, digits, n):
        few = TrainingData(digits[0][:n], digits[1][:n])
        plain, new, _ = both(step, deep, few)
        assert missed(deep, new, few.X) <= missed(deep, plain, few.X)

    @EACH
    def test_sorted_rows_and_more_than_are_looked_at(self, step, deep, digits):
        order = np.argsort(digits[1], kind="stable").repeat(3)
        rows = TrainingData(digits[0][order], digits[1][order])
        plain, new, _ = both(step, deep, rows)
        assert missed(deep, new, digits[0]) < missed(deep, plain, digits[0]) / 2

    def test_a_pass_ends_at_the_layer_that_is_solved_for(self, deep, deep_data):
        net = copy_net(deep)
        net.module_.out.register_forward_pre_hook(lambda *_: pytest.fail("called"))
        [x] = _reconstruction._inputs(net, "module.b", deep_data.X[:8], 1)
        with torch.no_grad():
            hidden = deep.module_.a(torch.from_numpy(deep_data.X[:8])).relu()
        torch.testing.assert_close(x, hidden)
        assert not net.module_.b._forward_hooks

    @EACH
    def test_outputs_that_come_no_nearer(self, step, deep, deep_data, monkeypatch):
        def worse(net, layer, *_):
            with torch.no_grad():
                module_root(net).get_submodule(layer.name).weight.mul_(-9.0)
            return LayerFit(1.0, 0.5)

        monkeypatch.setattr(_reconstruction, "_refit", worse)
        plain, new, step = both(step, deep, deep_data)
        assert missed(plain, new, deep_data.X) == 0
        assert step.report_.reconstruction == {}


class TestKinds:
    @OF_WEIGHTS
    @pytest.mark.parametrize(
        ("module", "shape", "others"),
        [
            (Convolution, (-1, 1, 8, 8), set()),
            (Recurrent, (-1, 8, 8), {"module.gru", "module.lstm", "module.rnn"}),
            (Images, (-1, 64), {"module.each"}),
            (Attention, (-1, 8, 8), {"module.encode.self_attn"}),
            (Twice, (-1, 64), set()),
        ],
    )
    def test_layers(self, digits, step, module, shape, others):
        X, y = digits[0].reshape(shape), digits[1]
        net = make_classifier(module, max_epochs=4).fit(X, y)
        plain, new, step = both(step, net, TrainingData(X, y))
        assert step.report_.reconstruction
        assert not others & set(step.report_.reconstruction)
        assert missed(net, new, X) < missed(net, plain, X)
        new.partial_fit(X, y)

    @EACH
    def test_inputs_by_name(self, digits, step):
        X = {"image": digits[0], "ids": (digits[1] % 5).astype(np.int64)}
        net = make_classifier(TwoInputs, max_epochs=4).fit(X, digits[1])
        plain, new, _ = both(step, net, TrainingData(X, digits[1]))
        assert missed(net, new, X) < missed(net, plain, X)

    @OF_WEIGHTS
    def test_a_net_of_one_layer(self, digits, step):
        sizes = {"module__in_features": 64, "module__out_features": 10}
        net = make_classifier(nn.Linear, **sizes).fit(*digits)
        plain, new, step = both(step, net, TrainingData(*digits))
        assert set(step.report_.reconstruction) == {"module"}
        assert missed(net, new, digits[0]) < missed(net, plain, digits[0])

    @OF_WEIGHTS
    def test_a_tied_weight_is_changed_as_without(self, digits, step):
        net = make_classifier(Tied, max_epochs=2).fit(*digits)
        plain, new, step = both(step, net, TrainingData(*digits))
        assert set(step.report_.reconstruction) <= {"module.a", "module.out"}
        assert torch.equal(plain.module_.b.weight, new.module_.b.weight)
        assert torch.equal(new.module_.b.weight, new.module_.c.weight)

    @OF_WEIGHTS
    def test_a_layer_that_is_not_trained_is_changed_as_without(self, step, digits):
        net = make_classifier(Deep, max_epochs=2).fit(*digits)
        net.module_.b.weight.requires_grad_(False)
        plain, new, step = both(step, net, TrainingData(*digits))
        assert set(step.report_.reconstruction) == {"module.a", "module.out"}
        assert torch.equal(plain.module_.b.weight, new.module_.b.weight)

    @OF_WEIGHTS
    def test_ignored_layers(self, step, deep, deep_data):
        step = clone(step).set_params(ignored_layers=["b"])
        _, new, step = both(step, deep, deep_data)
        assert torch.equal(new.module_.b.weight, deep.module_.b.weight)
        assert torch.equal(new.module_.b.bias, deep.module_.b.bias)
        assert set(step.report_.reconstruction) == {"module.a", "module.out"}

    @EACH
    def test_rows_that_go_another_way(self, digits, step):
        net = make_classifier(Routed, max_epochs=4).fit(*digits)
        plain, new, _ = both(step, net, TrainingData(*digits))
        assert missed(net, new, digits[0]) <= missed(net, plain, digits[0])

    def test_codes_stay_codes(self, deep, deep_data):
        coded = Quantizer(4).fit_transform(deep)
        with pytest.warns(UserWarning, match="has changed nothing"):
            plain, new, _ = both(MagnitudePruner(0.5), coded, deep_data)
        assert missed(plain, new, deep_data.X) == 0

    @EACH
    def test_float64(self, digits, step):
        X, y = digits[0].astype(np.float64), digits[1].astype(np.float64)
        model = CompressedRegressor(
            make_regressor(max_epochs=4), clone(step).set_params(reconstruct=True), random_state=0
        ).fit(X, y)
        assert model.compressor_.report_.reconstruction
        assert np.isfinite(model.predict(X)).all()


class TestStep:
    @EACH
    def test_what_it_reports(self, step, deep, deep_data):
        new = both(step, deep, deep_data)[2]
        found = new.report_.reconstruction
        assert {"module.b", "module.out"} <= set(found)
        assert all(0 <= after < before for before, after in found.values())
        assert "module.b: new weights; " in repr(new.plan_)
        assert "reconstruction" not in clone(step).fit(deep, deep_data).report_

    @EACH
    def test_the_plan_is_for_one_net(self, step, deep, deep_data, digits):
        _, new, step = both(step, deep, deep_data)
        assert missed(new, step.transform(deep), deep_data.X) == 0
        other = make_classifier(Deep, max_epochs=1).fit(*digits)
        with pytest.raises(ValueError, match="one particular net"):
            step.transform(other)
        copied = pickle.loads(pickle.dumps(step))
        assert copied.report_.reconstruction == step.report_.reconstruction
        assert repr(copied.plan_) == repr(step.plan_)
        with pytest.raises(ValueError, match="was pickled"):
            copied.transform(deep)

    @EACH
    def test_it_needs_rows(self, step, deep):
        with pytest.raises(ValueError, match="learns from the training rows"):
            clone(step).set_params(reconstruct=True).fit(deep)

    @EACH
    @pytest.mark.parametrize("bad", ["yes", 1.5, None])
    def test_a_bad_value(self, step, deep, deep_data, bad):
        with pytest.raises(ValueError, match="'reconstruct' parameter"):
            clone(step).set_params(reconstruct=bad).fit(deep, deep_data)

    def test_pruning_in_steps(self, deep, deep_data):
        tuner = FineTuner(1, random_state=0)
        step = MagnitudePruner(0.95, n_steps=2, fine_tuner=tuner)
        plain, new, _ = both(step, deep, deep_data)
        assert missed(deep, new, deep_data.X) < missed(deep, plain, deep_data.X)
        assert [int(z.sum()) for z in zeros_of(new)] != [0, 0, 0]

    def test_everything_behind_each_other(self, digits, tmp_path):
        steps = make_pipeline(
            MagnitudePruner(0.9, reconstruct=True),
            Quantizer(2, reconstruct=True),
            FineTuner(1, random_state=0),
        )
        net = make_classifier(Deep, max_epochs=10)
        model = CompressedClassifier(net, steps, random_state=0).fit(*digits)
        assert model.score(*digits) > 0.9
        plain = clone(model).set_params(
            compressor__magnitudepruner__reconstruct=False,
            compressor__quantizer__reconstruct=False,
            compressor__finetuner="passthrough",
        )
        assert plain.fit(*digits).score(*digits) < 0.8
        save(model, tmp_path / "model.skc")
        read = load(tmp_path / "model.skc", clone(model))
        np.testing.assert_array_equal(read.predict_proba(digits[0]), model.predict_proba(digits[0]))


class TestCache:
    @EACH
    def test_it_is_computed_once(self, step, digits, tmp_path, monkeypatch):
        calls = []
        solve = _reconstruction._solve
        monkeypatch.setattr(
            _reconstruction, "_solve", lambda *args: calls.append(1) or solve(*args)
        )
        model = CompressedClassifier(
            make_classifier(Deep, max_epochs=1),
            clone(step).set_params(reconstruct=True),
            memory=tmp_path,
            random_state=0,
        )
        kept = [clone(model).fit(*digits) for _ in range(2)]
        assert len(calls) == 1
        fresh = clone(model).set_params(memory=None).fit(*digits)
        for one in kept:
            np.testing.assert_array_equal(one.transform(digits[0]), fresh.transform(digits[0]))
            assert one.compressor_.report_ == fresh.compressor_.report_
        other = {MagnitudePruner: ("sparsity", 0.8), Quantizer: ("bits", 3)}
        name, value = other.get(type(step), ("pruning_ratio", 0.6))
        clone(model).set_params(**{f"compressor__{name}": value}).fit(*digits)
        clone(model).set_params(compressor__ignored_layers=["out"]).fit(*digits)
        clone(model).set_params(random_state=1).fit(*digits)
        assert len(calls) == 5

    @EACH
    @pytest.mark.usefixtures("two_torch_threads")
    def test_the_same_in_workers(self, step, digits, tmp_path):
        scores = []
        for n_jobs, memory in ((1, None), (2, tmp_path)):
            model = CompressedClassifier(make_classifier(Deep, max_epochs=1), clone(step))
            model.set_params(memory=memory, random_state=0)
            grid = {"compressor__reconstruct": [False, True]}
            search = GridSearchCV(model, grid, cv=2, n_jobs=n_jobs)
            scores.append(search.fit(*digits).cv_results_["mean_test_score"])
        np.testing.assert_array_equal(*scores)
