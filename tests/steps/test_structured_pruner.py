"""StructuredPruner: targets, scores, gradual pruning, plans and refusals."""

import pickle
import random

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from torch import nn

from skcompress import (
    CompressedClassifier,
    FineTuner,
    MagnitudePruner,
    Quantizer,
    StructuredPruner,
    TrainingData,
)
from skcompress._nets import module_inputs, seeded, some_rows, take_rows
from skcompress.io import load, save
from skcompress.metrics import compression_scoring
from skcompress.model_selection import SmallestWithinDrop
from skcompress.nn.modules.attention import PrunedAttention
from skcompress.nn.modules.copying import copy_module
from skcompress.steps._structured.rows import taylor_scores, unit_activations
from skcompress.steps._structured.traced import trace_net
from tests.sample_nets import MLP, Attention, Convolution, Recurrent, TwoInputs, make_classifier


class TwoLayers(nn.Module):
    def __init__(self, n_a=16, n_b=24):
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(64, n_a), nn.BatchNorm1d(n_a), nn.Linear(n_a, n_b)
        self.out = nn.Linear(n_b, 10)

    def forward(self, X):
        return self.out(torch.relu(self.b(torch.relu(self.norm(self.a(X))))))


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(64, 16), nn.Linear(16, 24), nn.Linear(24, 10)

    def forward(self, X):
        return self.out(torch.relu(self.b(torch.relu(self.a(X)))))


class Fixed(nn.Module):
    """A hidden width that the code writes down."""

    def __init__(self):
        super().__init__()
        self.a, self.out = nn.Linear(64, 16), nn.Linear(16, 10)

    def forward(self, X):
        return self.out(torch.relu(self.a(X)).view(-1, 16))


class TwoNorms(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.b = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.out = nn.Linear(16, 10)

    def forward(self, X):
        return self.out(self.b(self.a(X)))


class Odd(MLP):
    """Has a tensor that no file holds."""

    def __init__(self):
        super().__init__()
        self.register_buffer("odd", torch.zeros(2, dtype=torch.float8_e5m2))


pytestmark = pytest.mark.usefixtures("seeded_rng")


@pytest.fixture(scope="module")
def fitted(digits):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_classifier(TwoLayers, max_epochs=10).fit(*digits)


@pytest.fixture(scope="module")
def data(digits, fitted):
    return TrainingData(*digits, dense_net=fitted)


def size_of(net, tmp_path):
    save(net, tmp_path / "net.skc")
    return (tmp_path / "net.skc").stat().st_size


def widths(net):
    return net.module_.a.out_features, net.module_.b.out_features


class TestTargets:
    @pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 0.9])
    def test_a_fraction_of_all_units(self, fitted, data, ratio):
        a, b = widths(StructuredPruner(ratio).fit_transform(fitted, data))
        assert a + b == 40 - round(40 * ratio)

    def test_a_fraction_of_each_layer(self, fitted, data):
        net = StructuredPruner(0.5, scope="layer").fit_transform(fitted, data)
        assert widths(net) == (8, 12)

    def test_min_units_and_round_to(self, fitted, data):
        net = StructuredPruner(0.9, scope="layer", min_units=5).fit_transform(fitted, data)
        assert widths(net) == (5, 5)
        net = StructuredPruner(0.6, scope="layer", round_to=8).fit_transform(fitted, data)
        assert widths(net) == (8, 16)

    @pytest.mark.parametrize(("target", "at_most"), [(0.5, 0.5 * 1752), (900, 900), (5000, 1752)])
    def test_parameters(self, fitted, data, target, at_most):
        pruner = StructuredPruner(target_params=target).fit(fitted, data)
        assert pruner.report_.dense_n_params == 1730
        assert pruner.report_.n_params <= at_most

    def test_the_largest_net_below_a_target_is_taken(self, fitted, data):
        pruner = StructuredPruner(target_params=900, scope="layer").fit(fitted, data)
        kept = sum(n for name, (n, _) in pruner.report_.units.items() if "out" not in name)
        for fraction in np.linspace(0, 1, 11)[:-1]:
            other = StructuredPruner(float(fraction), scope="layer").fit(fitted, data)
            if other.report_.n_params <= 900:
                more = sum(n for name, (n, _) in other.report_.units.items() if "out" not in name)
                assert more <= kept

    def test_multiply_accumulates(self, fitted, data):
        pruner = StructuredPruner(target_macs=0.5).fit(fitted, data)
        assert 0.4 < pruner.report_.macs / pruner.report_.dense_macs <= 0.5

    @pytest.mark.parametrize("scope", ["global", "layer"])
    @pytest.mark.parametrize("before", [None, Quantizer(4), MagnitudePruner(0.8)])
    def test_bytes_of_the_file(self, fitted, data, tmp_path, before, scope):
        net = fitted if before is None else clone(before).fit_transform(fitted)
        dense = size_of(net, tmp_path)
        for target in (int(0.7 * dense), int(0.4 * dense)):
            pruner = StructuredPruner(target_nbytes=target, scope=scope)
            small = pruner.fit_transform(net, data)
            assert 0.85 * target < size_of(small, tmp_path) <= target
        assert widths(StructuredPruner(target_nbytes=dense).fit_transform(net, data)) == (16, 24)

    def test_a_fraction_of_the_dense_file(self, fitted, data, tmp_path):
        dense = size_of(fitted, tmp_path)
        coded = Quantizer(8).fit_transform(fitted)
        assert size_of(coded, tmp_path) < 0.6 * dense
        for net, kept in ((fitted, False), (coded, True)):
            small = StructuredPruner(target_nbytes=0.6).fit_transform(net, data)
            assert (widths(small) == (16, 24)) == kept
            assert size_of(small, tmp_path) <= 0.6 * dense

    def test_bytes_in_steps_that_are_out_of_reach_or_of_no_file(self, fitted, data, tmp_path):
        tuner = FineTuner(1, random_state=0)
        target = size_of(fitted, tmp_path) // 2
        pruner = StructuredPruner(target_nbytes=target, n_steps=2, fine_tuner=tuner)
        assert size_of(pruner.fit_transform(fitted, data), tmp_path) <= target
        with pytest.raises(ValueError, match=r"cannot reach target_nbytes=100, .* net .* has \d+"):
            StructuredPruner(target_nbytes=100).fit(fitted, data)
        with pytest.raises(ValueError, match=r"target_nbytes=1000.5"):
            StructuredPruner(target_nbytes=1000.5).fit(fitted, data)
        odd = make_classifier(Odd, max_epochs=1).fit(data.X, data.y)
        with pytest.raises(ValueError, match="no file holds it: .*float8_e5m2"):
            StructuredPruner(target_nbytes=0.5).fit(odd, TrainingData(data.X, data.y))

    def test_a_fraction_is_of_the_dense_net(self, fitted, data):
        small = StructuredPruner(0.6).fit_transform(fitted, data)
        again = StructuredPruner(target_params=0.5).fit(small, data)
        assert again.report_.n_params == StructuredPruner(0.0).fit(small, data).report_.n_params

    def test_a_threshold_is_in_units_of_a_weight(self, digits):
        net = make_classifier(max_epochs=1).fit(*digits)
        with torch.no_grad():
            net.module_.hidden.weight.copy_(torch.arange(32).view(-1, 1).expand(32, 64))
        data = TrainingData(*digits)
        for importance in ("l1", "l2"):
            pruner = StructuredPruner(threshold=9.5, importance=importance).fit(net, data)
            assert pruner.plan_.removed == {"module.hidden": list(range(10))}
        pruner = StructuredPruner(threshold="median").fit(net, data)
        assert pruner.plan_.removed == {"module.hidden": list(range(16))}
        pruner = StructuredPruner(threshold="0.5*mean").fit(net, data)
        assert pruner.plan_.removed == {"module.hidden": list(range(8))}

    def test_a_target_out_of_reach(self, fitted, data):
        with pytest.raises(ValueError, match=r"cannot reach target_params=20.* has 89"):
            StructuredPruner(target_params=20).fit(fitted, data)


class TestScores:
    def test_the_scale_of_a_norm_layer_counts(self, digits, fitted, data):
        net = clone(fitted).fit(*digits)
        with torch.no_grad():
            net.module_.norm.weight.fill_(1.0)
            net.module_.norm.weight[3] = 1e-6
        for importance in ("l1", "l2", "bn_scale"):
            pruner = StructuredPruner(0.02, importance=importance).fit(net, TrainingData(*digits))
            assert pruner.plan_.removed == {"module.a": [3]}

    def test_weights_that_read_a_unit_count_in_group_l2(self, digits):
        net, data = make_classifier(max_epochs=1).fit(*digits), TrainingData(*digits)
        with torch.no_grad():
            net.module_.out.weight[:, 5] = 0
            net.module_.hidden.weight[5] *= 1.1 / net.module_.hidden.weight[5].norm()
        module = net.module_
        both = torch.cat([module.hidden.weight, module.out.weight.T], 1)
        expected = both.square().sum(1).argsort()[:8].tolist()
        pruner = StructuredPruner(0.25, importance="group_l2").fit(net, data)
        assert pruner.plan_.removed == {"module.hidden": sorted(expected)}
        assert pruner.plan_.removed != StructuredPruner(0.25).fit(net, data).plan_.removed

    def test_bn_scale_empties_no_layer_for_its_smaller_scales(self, digits):
        net = make_classifier(TwoNorms).initialize()
        with torch.no_grad():
            net.module_.a[1].weight.uniform_(0.01, 0.02)
            net.module_.b[1].weight.uniform_(1.0, 2.0)
        pruner = StructuredPruner(0.5, importance="bn_scale").fit(net, TrainingData(*digits))
        assert all(0.2 < ratio < 0.8 for ratio in pruner.plan_.ratios.values())

    def test_bn_scale_leaves_other_units_alone(self, fitted, data):
        net = StructuredPruner(0.9, importance="bn_scale").fit_transform(fitted, data)
        assert widths(net) == (1, 24)

    @pytest.mark.parametrize("importance", ["taylor", "activation"])
    def test_a_unit_that_does_nothing_on_the_rows_goes_first(self, digits, importance):
        net = make_classifier(max_epochs=2).fit(*digits)
        with torch.no_grad():
            net.module_.hidden.bias[5] = -1e6
            net.module_.hidden.weight[5] *= 10
        pruner = StructuredPruner(0.2, importance=importance).fit(net, TrainingData(*digits))
        assert 5 in pruner.plan_.removed["module.hidden"]
        by_weight = StructuredPruner(0.2).fit(net, TrainingData(*digits))
        assert 5 not in by_weight.plan_.removed["module.hidden"]

    def test_taylor_sees_the_labels(self, digits, fitted):
        X, y = digits
        plans = [
            StructuredPruner(0.5, importance="taylor").fit(fitted, TrainingData(X, labels)).plan_
            for labels in (y, np.zeros_like(y))
        ]
        assert plans[0].removed != plans[1].removed

    def test_taylor_is_a_mean_over_small_batches(self, digits, fitted):
        X, y = digits[0][:96], digits[1][:96]
        data = TrainingData(X, y)
        graph = trace_net(fitted, data, ()).graph
        scores = taylor_scores(fitted, data, graph)
        assert graph.groups[1].name == "b.weight"
        module, squares = copy_module(fitted.module_).eval(), 0
        for rows in np.split(np.arange(96), 3):
            module.zero_grad()
            logits = module(torch.from_numpy(X[rows]))
            nn.functional.cross_entropy(logits, torch.from_numpy(y[rows])).backward()
            squares += (module.b.weight * module.b.weight.grad).sum(1).square() / 3
        torch.testing.assert_close(scores[1], squares.detach().sqrt())

    @pytest.mark.parametrize("importance", ["l1", "l2", "taylor", "activation"])
    def test_the_scale_of_a_layer_is_no_reason_to_empty_it(self, digits, importance):
        net, data = make_classifier(Plain, max_epochs=3).fit(*digits), TrainingData(*digits)
        before = StructuredPruner(0.7, importance=importance).fit(net, data).plan_
        with torch.no_grad():  # of a net with ReLU: what it computes is the same
            for p in net.module_.a.parameters():
                p *= 2**-7
            net.module_.b.weight *= 2**7
        after = StructuredPruner(0.7, importance=importance).fit(net, data).plan_
        assert after.removed == before.removed

    def test_activation_is_about_what_varies(self, digits):
        net, data = make_classifier(Plain, max_epochs=3).fit(*digits), TrainingData(*digits)
        with torch.no_grad():
            net.module_.a.weight[5], net.module_.a.bias[5] = 0.0, 100.0  # always the same
        pruner = StructuredPruner(0.05, importance="activation").fit(net, data)
        assert set(pruner.plan_.removed["module.a"]) >= {5}
        layer = net.module_.a
        with torch.no_grad():
            hidden = torch.relu(layer(torch.from_numpy(data.X)))
        expected = hidden.std(0, correction=0) * net.module_.b.weight.square().mean(0).sqrt()
        graph = trace_net(net, data, ()).graph
        torch.testing.assert_close(
            unit_activations(net, data, graph)[0], expected.detach(), rtol=1e-3, atol=1e-4
        )

    def test_random_follows_the_seed(self, fitted, data):
        plans = [
            StructuredPruner(0.5, importance="random", random_state=seed).fit(fitted, data).plan_
            for seed in (0, 0, 1)
        ]
        assert plans[0].removed == plans[1].removed != plans[2].removed

    def test_a_function(self, fitted, data):
        def largest_last(group):
            return -np.array([float(w.abs().sum()) for w in group.weights])

        net = StructuredPruner(0.5, importance=largest_last, scope="layer")
        kept = net.fit_transform(fitted, data).module_.b.weight
        assert kept.shape == (12, 8)
        with pytest.raises(ValueError, match="returned tensor.* expected 16 numbers"):
            StructuredPruner(0.5, importance=lambda group: [1.0]).fit(fitted, data)


class TestGradual:
    def test_in_steps_with_training_between(self, fitted, data):
        pruner = StructuredPruner(0.5, n_steps=3, fine_tuner=FineTuner(2, random_state=0))
        net = pruner.fit_transform(fitted, data)
        assert sum(widths(net)) == 20
        assert [len(step.removed) > 0 for step in pruner.plan_.steps] == [True] * 3
        stages = [row.get("stage") for row in net.history_]
        assert stages.count("FineTuner") == 4
        sums = [sum(n for n, _ in step.units.values()) - 10 for step in pruner.plan_.steps]
        assert sums == [26, 21, 20]
        assert pruner.report_.units["module.out"] == (10, 10)

    @pytest.mark.parametrize("target", [{"target_params": 0.4}, {"target_macs": 600}])
    def test_a_target_in_steps(self, fitted, data, target):
        tuner = FineTuner(1, random_state=0)
        pruner = StructuredPruner(n_steps=2, fine_tuner=tuner, **target).fit(fitted, data)
        reached = {"target_params": pruner.report_.n_params, "target_macs": pruner.report_.macs}
        [(name, value)] = target.items()
        assert reached[name] <= (0.4 * 1752 if value < 1 else value)

    def test_a_threshold_in_steps(self, fitted, data):
        tuner = FineTuner(1, lr=1e-9, random_state=0)
        kept = [
            sum(widths(StructuredPruner(threshold="mean", **more).fit_transform(fitted, data)))
            for more in ({}, {"n_steps": 3, "fine_tuner": tuner})
        ]
        assert kept[1] <= kept[0]

    def test_the_plan_is_for_one_net_and_small(self, fitted, data):
        pruner = StructuredPruner(0.5, n_steps=2, fine_tuner=FineTuner(1, random_state=0))
        pruner.fit(fitted, data)
        assert pruner.transform(fitted) is not None
        with pytest.raises(ValueError, match="for one particular net"):
            pruner.transform(StructuredPruner(0.0).fit_transform(make_other(data), data))
        copied = pickle.loads(pickle.dumps(pruner))
        assert repr(copied.plan_) == repr(pruner.plan_)
        with pytest.raises(ValueError, match="was pickled"):
            copied.transform(fitted)


def make_other(data):
    return make_classifier(TwoLayers, max_epochs=1).fit(data.X, data.y)


class TestPlan:
    def test_it_says_what_goes_what_stays_and_why(self, fitted, data):
        pruner = StructuredPruner(0.5, scope="layer", ignored_layers=["out"]).fit(fitted, data)
        text = repr(pruner.plan_)
        assert "StructurePlan(8 of 50 units go)" in text
        assert "module.a: 8 of 16 units go: " in text
        assert "module.b: 24 units stay: it is in ignored_layers" in text
        assert len(pruner.plan_.removed["module.a"]) == 8

    def test_another_net_of_the_same_structure(self, fitted, data):
        pruner = StructuredPruner(0.5, scope="layer").fit(fitted, data)
        other = make_other(data)
        net = pruner.transform(other)
        kept = pruner.plan_.kept()["a.weight"][0]
        assert torch.equal(net.module_.a.weight, other.module_.a.weight[kept])
        assert pruner.transform(Quantizer().fit_transform(other)).module_.a.out_features == 8

    def test_a_net_of_another_structure(self, fitted, data):
        pruner = StructuredPruner(0.5).fit(fitted, data)
        wider = make_classifier(TwoLayers, module__n_a=20, max_epochs=1).fit(data.X, data.y)
        with pytest.raises(ValueError, match="layers of other sizes"):
            pruner.transform(wider)


class TestNets:
    @pytest.mark.parametrize(
        ("module", "shape", "reports"),
        [
            (Convolution, (-1, 1, 8, 8), {"module.conv": (4, 8)}),
            (Recurrent, (-1, 8, 8), {"module.rnn": (6, 12)}),
            (
                Attention,
                (-1, 8, 8),
                {"module.encode.linear1": (8, 16), "module.encode.self_attn": (1, 2)},
            ),
        ],
    )
    @pytest.mark.parametrize("before", [None, Quantizer(4), MagnitudePruner(0.7)])
    def test_kinds_of_layers(self, digits, module, shape, reports, before):
        X, y = digits[0].reshape(shape), digits[1]
        net = make_classifier(module, max_epochs=1).fit(X, y)
        if before is not None:
            net = clone(before).fit_transform(net)
        pruner = StructuredPruner(0.5, scope="layer")
        pruned = pruner.fit_transform(net, TrainingData(X, y))
        assert pruner.report_.units.items() >= reports.items()
        again = pickle.loads(pickle.dumps(pruned))
        np.testing.assert_array_equal(again.predict_proba(X), pruned.predict_proba(X))
        before = pruned.predict_proba(X)
        pruned.partial_fit(X, y)
        assert not np.array_equal(pruned.predict_proba(X), before)
        if module is Attention:
            assert isinstance(pruned.module_.encode.self_attn, PrunedAttention)

    def test_several_inputs_by_name(self, digits):
        X = {"image": digits[0], "ids": (digits[1] % 5).astype(np.int64)}
        net = make_classifier(TwoInputs, max_epochs=1).fit(X, digits[1])
        pruner = StructuredPruner(0.5, scope="layer").fit(net, TrainingData(X, digits[1]))
        assert pruner.report_.units["module.left"] == (6, 12)
        assert pruner.report_.units["module.embed"] == (2, 4)

    def test_a_net_without_removable_units_is_refused_with_the_reason(self, digits):
        net = make_classifier(Fixed, max_epochs=1).fit(*digits)
        with pytest.raises(ValueError, match=r"cannot remove any unit.*view|shape '\[-1, 16\]'"):
            StructuredPruner(0.5).fit(net, TrainingData(*digits))
        assert StructuredPruner(0.0).fit(net, TrainingData(*digits)).plan_.removed == {}

    def test_the_only_layer_is_the_whole_module(self, digits):
        net = make_classifier(
            nn.Linear, module__in_features=64, module__out_features=10, max_epochs=1
        ).fit(*digits)
        with pytest.raises(ValueError, match="it is an output of the net"):
            StructuredPruner(0.5).fit(net, TrainingData(*digits))


class Halves(nn.Module):
    """Two halves of one layer, added."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(64, 12), nn.Linear(64, 40), nn.Linear(46, 10)

    def forward(self, X):
        a = torch.relu(self.a(X))
        half = a[:, : a.shape[1] // 2] + a[:, a.shape[1] // 2 :]
        return self.out(torch.cat([half, torch.relu(self.b(X))], 1))


class Parity(nn.Module):
    """A net that wants an even number of units."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(64, 8), nn.Linear(64, 30)
        self.out = nn.Linear(38, 10)

    def forward(self, X):
        a = torch.relu(self.a(X))
        if a.shape[1] % 2:
            raise RuntimeError("odd")
        return self.out(torch.cat([a, torch.relu(self.b(X))], 1))


def test_what_the_trial_does_not_show_is_found_when_it_happens(digits):
    net = make_classifier(Parity, max_epochs=1).fit(*digits)
    n_protected = set()
    for ratio in (0.3, 0.4, 0.5):
        for importance in ("l1", "random"):
            pruner = StructuredPruner(ratio, importance=importance, random_state=0)
            pruned = pruner.fit_transform(net, TrainingData(*digits))
            assert pruned.module_.a.out_features % 2 == 0
            n_protected.add(sum("odd" in line for line in pruner.plan_.protected))
    assert n_protected >= {1}


def test_halves_of_one_layer_are_coupled(digits):
    net = make_classifier(Halves, max_epochs=1).fit(*digits)
    pruned = StructuredPruner(0.5, scope="layer").fit_transform(net, TrainingData(*digits))
    assert pruned.module_.a.out_features in (6, 12)  # pairs of rows, or none
    assert pruned.module_.b.out_features == 20


class CenterLoss(nn.Module):
    """A criterion that uses a weight of the module."""

    def __init__(self, shared=None):
        super().__init__()
        self.shared = shared

    def forward(self, output, target):
        return nn.functional.cross_entropy(output, target) + 1e-3 * self.shared.square().mean()


def test_a_criterion_that_shares_a_weight_is_refused(digits):
    net = make_classifier(max_epochs=0).fit(*digits)
    net.criterion_ = CenterLoss(net.module_.hidden.weight)
    with pytest.raises(ValueError, match="'criterion' shares parameters with its module"):
        StructuredPruner(0.5).fit(net, TrainingData(*digits))


class TestParameters:
    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({}, "exactly one of.*Got none of them"),
            ({"pruning_ratio": 0.5, "target_macs": 0.5}, "exactly one of.*target_macs=0.5"),
            ({"pruning_ratio": 1.0}, "pruning_ratio"),
            ({"threshold": "2*max"}, "Got threshold='2\\*max'"),
            ({"target_params": 1.5}, "Got target_params=1.5"),
            ({"pruning_ratio": 0.5, "n_steps": 2}, "pass fine_tuner="),
            ({"pruning_ratio": 0.5, "importance": "magic"}, "importance"),
            ({"pruning_ratio": 0.5, "ignored_layers": ["c"]}, "no layer named 'c'"),
        ],
    )
    def test_bad_ones_are_refused(self, fitted, data, params, message):
        with pytest.raises(ValueError, match=message):
            StructuredPruner(**params).fit(fitted, data)

    def test_rows_are_needed(self, fitted):
        with pytest.raises(ValueError, match="TrainingData"):
            StructuredPruner(0.5).fit(fitted)


class Droppy(nn.Module):
    """Draws from every global generator when it trains."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(64, 12), nn.Linear(12, 12), nn.Linear(12, 10)

    def forward(self, X):
        hidden = torch.relu(self.a(X))
        if self.training and random.random() + np.random.rand() < 0.5:  # noqa: NPY002
            hidden = hidden + self.b(nn.functional.dropout(hidden))
        return self.out(hidden + self.b(hidden))


@pytest.mark.usefixtures("global_rng_untouched")
@pytest.mark.parametrize("importance", ["l2", "taylor"])
def test_nets_that_draw_from_global_generators(digits, importance):
    with seeded(0):
        net = make_classifier(Droppy, max_epochs=1).fit(*digits)
    nets = [
        StructuredPruner(0.5, importance=importance).fit_transform(net, TrainingData(*digits))
        for _ in range(2)
    ]
    assert torch.equal(nets[0].module_.a.weight, nets[1].module_.a.weight)
    assert nets[0].module_.a.out_features == 6


@pytest.mark.usefixtures("global_rng_untouched")
def test_the_callers_net_and_the_global_states_are_left_alone(fitted, data):
    before = {k: v.clone() for k, v in fitted.module_.state_dict().items()}
    StructuredPruner(0.5, importance="taylor").fit(fitted, data)
    after = fitted.module_.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())
    assert all(not layer._forward_pre_hooks for layer in fitted.module_.modules())
    assert all(p.requires_grad for p in fitted.module_.parameters())


def test_a_sweep_inside_a_pipeline(digits):
    steps = Pipeline([("prune", StructuredPruner(0.5)), ("tune", FineTuner(1))])
    clf = CompressedClassifier(make_classifier(max_epochs=3), steps, random_state=0)
    grid = {"compressor__prune__pruning_ratio": [0.25, 0.75]}
    search = GridSearchCV(clf, grid, cv=2, error_score="raise").fit(*digits)
    ratio = search.best_params_["compressor__prune__pruning_ratio"]
    net = search.best_estimator_.net_
    assert net.module_.hidden.out_features == 32 - round(32 * ratio)
    assert search.best_estimator_.report_.macs == net.module_.hidden.out_features * 74


def test_a_sweep_with_sizes_in_workers_and_a_cache(digits, tmp_path):
    steps = Pipeline([("prune", StructuredPruner()), ("tune", FineTuner(1)), ("codes", None)])
    net = make_classifier(TwoLayers, max_epochs=4)
    clf = CompressedClassifier(net, steps, memory=tmp_path / "cache", random_state=0)
    grid = [
        {"compressor": [None]},
        {
            "compressor__prune__pruning_ratio": [0.25, 0.75],
            "compressor__codes": ["passthrough", Quantizer(4)],
        },
        {
            "compressor__prune__n_steps": [2],
            "compressor__prune__target_macs": [0.5],
            "compressor__prune__fine_tuner": [FineTuner(1)],
            "compressor__codes": ["passthrough"],
        },
    ]
    search = GridSearchCV(
        clf,
        grid,
        cv=3,
        n_jobs=2,
        scoring=compression_scoring("accuracy"),
        refit=SmallestWithinDrop("accuracy", 0.05),
        error_score="raise",
    ).fit(*digits)
    results = search.cv_results_
    for scorer in ("accuracy", "neg_nbytes", "neg_macs"):
        assert np.isfinite(results[f"mean_test_{scorer}"]).all()
    nbytes = -results["mean_test_neg_nbytes"]
    dense, quarter, quarter_coded, most, most_coded, gradual = nbytes
    assert dense > quarter > most > most_coded
    assert quarter > quarter_coded > most_coded
    assert dense > gradual
    best = search.best_estimator_
    save(best, tmp_path / "best.skc")
    assert (tmp_path / "best.skc").stat().st_size == best.report_.nbytes
    loaded = load(tmp_path / "best.skc", clone(best))
    np.testing.assert_array_equal(loaded.predict(digits[0]), best.predict(digits[0]))
    alone = GridSearchCV(
        clf.set_params(memory=None),
        grid,
        cv=3,
        error_score="raise",
        scoring=compression_scoring("accuracy"),
        refit=False,
    ).fit(*digits)
    for name in ("accuracy", "neg_nbytes", "neg_macs"):
        np.testing.assert_array_equal(
            alone.cv_results_[f"mean_test_{name}"], results[f"mean_test_{name}"]
        )


def test_rows_come_from_all_over_the_data():
    """Rows are often sorted by class, and a branch is known as far as the rows take it."""
    X, y = np.arange(90.0).reshape(30, 3), np.repeat([0, 1, 2], 10)
    assert y[some_rows(X, 3)].tolist() == [0, 1, 2]
    assert take_rows(X, some_rows(X, 3)).tolist() == X[[0, 10, 20]].tolist()
    assert len(y[some_rows(X, 7)]) == 7
    both = {"a": X, "b": y}
    rows = take_rows(both, some_rows(both, 40))
    assert len(rows["a"]) == len(rows["b"]) == 30


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.out = nn.Linear(64, 12), nn.Linear(12, 10)
        self.register_buffer("n_calls", torch.zeros(()))

    def forward(self, X):
        self.n_calls += 1
        return self.out(torch.relu(self.a(X)))


def test_inputs_are_noted_on_a_copy(digits):
    net, data = make_classifier(Counting, max_epochs=1).fit(*digits), TrainingData(*digits)
    before = net.module_.n_calls.clone()
    assert [len(args[0]) for args, _ in module_inputs(net, data.X, "it")] == [1, 2, 16]
    assert torch.equal(net.module_.n_calls, before)


class OnePerBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.out = nn.Linear(64, 12), nn.Linear(12, 10)

    def forward(self, X):
        return self.out(torch.relu(self.a(X)).view(360, 12))


def test_a_net_that_predicts_batches_of_one_size_only(digits):
    net = make_classifier(OnePerBatch, batch_size=-1, max_epochs=1).fit(*digits)
    with pytest.raises(
        ValueError, match=r"cannot process one row.*shape .* It must take any number"
    ):
        StructuredPruner(0.5).fit(net, TrainingData(*digits))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8, sparse=True)
        self.a, self.out = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, X):
        return self.out(torch.relu(self.a(self.embed(X).mean(1))))


class ByRow(Plain):
    def forward(self, X):
        return torch.vmap(super().forward)(X)


class ComplexInside(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(64, 12, dtype=torch.cfloat)
        self.out = nn.Linear(12, 10, dtype=torch.cfloat)

    def forward(self, X):
        return self.out(torch.tanh(self.a(X.to(self.a.weight.dtype)))).real


@pytest.mark.parametrize("module", [Tokens, ByRow, ComplexInside])
def test_scores_of_unusual_nets(digits, module):
    X, y = digits
    if module is Tokens:
        X, y = np.random.default_rng(0).integers(0, 20, (40, 5)), np.arange(40) % 3
    net = make_classifier(module, optimizer=torch.optim.SGD, max_epochs=1).fit(X, y)
    for importance in ("taylor", "activation", "l2"):
        pruner = StructuredPruner(0.25, importance=importance).fit(net, TrainingData(X, y))
        assert (pruner.report_.n_params < pruner.report_.dense_n_params) or module is ByRow


class RandomFeatures(nn.Module):
    """Hidden units that no training changes: their weights are a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("w", torch.randn(12, 64) / 8)
        self.b, self.out = nn.Linear(12, 8), nn.Linear(8, 10)

    def forward(self, X):
        return self.out(torch.relu(self.b(torch.relu(nn.functional.linear(X, self.w)))))


@pytest.mark.parametrize("importance", ["l2", "group_l2", "taylor", "activation"])
def test_units_made_by_a_buffer(digits, importance):
    net = make_classifier(RandomFeatures, max_epochs=1).fit(*digits)
    pruner = StructuredPruner(0.25, importance=importance)
    pruned = pruner.fit_transform(net, TrainingData(*digits)).module_
    # A loss has no gradient by them, so taylor leaves them.
    assert len(pruned.w) + len(pruned.b.weight) == 15
    assert (len(pruned.w) == 12) == (importance == "taylor")
