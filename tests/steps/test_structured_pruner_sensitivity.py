"""StructuredPruner(scope="sensitivity"): trials, allocation, and what they are made of."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from skorch import NeuralNetClassifier
from skorch.dataset import ValidSplit
from torch import nn

from skcompress import (
    CompressedClassifier,
    FineTuner,
    Quantizer,
    SampleWeightMixin,
    StructuredPruner,
    TrainingData,
)
from skcompress._nets import predict_raw, train_and_validation_rows
from skcompress.metrics import compression_scoring
from skcompress.nn.modules.counting import count_params
from skcompress.steps._structured import ranking as _ranking
from tests.sample_nets import MLP, Recurrent, TwoInputs, make_classifier
from tests.steps.test_structured_pruner import Fixed, Parity, TwoLayers, widths

pytestmark = pytest.mark.usefixtures("seeded_rng")


@pytest.fixture(scope="module")
def fitted(digits):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_classifier(TwoLayers, max_epochs=10).fit(*digits)


@pytest.fixture(scope="module")
def data(digits, fitted):
    return TrainingData(*digits, dense_net=fitted)


def scan(net, data, ratio=0.0, **params):
    return StructuredPruner(ratio, scope="sensitivity", **params).fit(net, data)


def loss_of(net, X, y):
    outputs = torch.as_tensor(predict_raw(net, X))
    return float(nn.functional.cross_entropy(outputs, torch.as_tensor(y)))


@pytest.fixture
def idle(digits):
    """A net in which half of the units of the first layer do nothing, with the larger weights."""
    net = make_classifier(TwoLayers, max_epochs=5).fit(*digits)
    with torch.no_grad():
        net.module_.b.weight[:, :8] = 0
        net.module_.a.weight *= 10
        net.module_.a.weight[8:] *= 2
    return net


def test_units_go_where_the_loss_does_not_see_it(idle, digits):
    data = TrainingData(*digits)
    assert widths(StructuredPruner(0.2).fit_transform(idle, data)) != (8, 24)
    pruner = StructuredPruner(0.2, scope="sensitivity")
    small = pruner.fit_transform(idle, data)
    assert widths(small) == (8, 24)
    assert loss_of(small, *digits) == pytest.approx(loss_of(idle, *digits), abs=1e-4)
    assert pruner.report_.ratios == {"module.a": 0.5, "module.b": 0.0}
    assert pruner.plan_.removed == {"module.a": list(range(8))}


def test_the_trials_are_losses_of_nets_that_are_pruned_so(fitted, data, digits):
    pruner = scan(fitted, data)
    assert pruner.plan_.removed == {}
    rows = pruner.report_.sensitivity
    assert [row["n_removed"] for row in rows if row["layer"] == "module.b"] == [
        0,
        3,
        6,
        12,
        18,
        21,
        23,
    ]
    for row in rows:
        # Nothing of an ignored layer changes, its inputs neither.
        other = "a" if row["layer"] == "module.b" else "out"
        alone = StructuredPruner(row["ratio"], scope="layer", ignored_layers=[other])
        small = alone.fit_transform(fitted, data)
        assert sum(widths(small)) == 40 - row["n_removed"]
        assert row["loss"] == pytest.approx(loss_of(small, *digits), rel=1e-4)


@pytest.mark.parametrize(
    ("target", "fact"),
    [
        ({"target_params": 0.4}, "n_params"),
        ({"target_macs": 0.4}, "macs"),
        ({"target_nbytes": 0.4}, None),
        ({"target_params": 700}, "n_params"),
    ],
)
@pytest.mark.parametrize("rules", [{}, {"min_units": 4, "round_to": 4}])
def test_targets_are_met(fitted, data, target, fact, rules):
    pruner = StructuredPruner(**target, **rules, scope="sensitivity")
    small = pruner.fit_transform(fitted, data)
    [value] = target.values()
    if fact is not None:
        dense = pruner.report_[f"dense_{fact}"]
        assert pruner.report_[fact] <= (value if value > 1 else value * dense)
        assert pruner.report_[fact] > 0.5 * (value if value > 1 else value * dense)
    if rules:
        assert all(width % 4 == 0 and width >= 4 for width in widths(small))
    assert pruner.report_.sensitivity


def test_what_a_unit_saves_counts():
    """Two layers that matter equally little: of the one with the larger units more go."""

    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(60, 12), nn.Linear(4, 12)
            self.out = nn.Linear(24, 3)

        def forward(self, X):
            both = [torch.relu(self.a(X[:, :60])), torch.relu(self.b(X[:, 60:]))]
            return self.out(torch.cat(both, 1))

    X, y = torch.randn(50, 64).numpy(), np.zeros(50, dtype=np.int64)
    net = make_classifier(Wide, max_epochs=1).fit(X, y)
    with torch.no_grad():
        net.module_.out.weight.zero_()
        net.module_.out.weight[0] = torch.linspace(0.1, 0.11, 24)
    small = StructuredPruner(target_params=0.7, scope="sensitivity").fit_transform(
        net, TrainingData(X, y)
    )
    assert small.module_.b.out_features == 12
    assert small.module_.a.out_features < 9
    assert count_params(small.module_) <= 0.7 * count_params(net.module_)


def test_only_the_rows_given_are_seen(fitted, digits):
    X, y = digits
    losses = [
        [row["loss"] for row in scan(fitted, TrainingData(X, labels)).report_.sensitivity]
        for labels in (y, y, np.zeros_like(y))
    ]
    assert losses[0] == losses[1] != losses[2]


def test_rows_kept_from_training_are_not_looked_at(digits):
    X, y = digits
    net = make_classifier(TwoLayers, max_epochs=3, train_split=ValidSplit(0.3)).fit(X, y)
    train, held = train_and_validation_rows(net, X, y, 7)
    losses = {}
    for changed in ("none", "train", "held"):
        labels = y.copy()
        labels[{"none": [], "train": train, "held": held}[changed]] = 0
        for fold in ({"split_seed": 7}, {}):
            data = TrainingData(X, labels)._with_fold(**fold)
            table = scan(net, data).report_.sensitivity
            losses[changed, bool(fold)] = [row["loss"] for row in table]
    assert losses["none", True] == losses["held", True] != losses["train", True]
    assert losses["none", False] != losses["train", False]
    assert losses["none", False] != losses["held", False]


def test_many_rows_are_drawn_by_the_seed(fitted, digits):
    X, y = (np.concatenate([part] * 2) for part in digits)
    many = TrainingData(X[:700], y[:700])
    tables = [scan(fitted, many, random_state=seed).report_.sensitivity for seed in (0, 0, 1)]
    assert tables[0] == tables[1] != tables[2]


@pytest.mark.usefixtures("global_rng_untouched")
def test_nothing_else_is_touched(fitted, data):
    before = {k: v.clone() for k, v in fitted.module_.state_dict().items()}
    StructuredPruner(target_nbytes=0.5, scope="sensitivity").fit(fitted, data)
    after = fitted.module_.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())


def test_in_steps(fitted, data):
    tuner = FineTuner(1, random_state=0)
    pruner = scan(fitted, data, 0.5, n_steps=2, fine_tuner=tuner)
    assert {row["layer"]: row["n_removed"] for row in pruner.report_.sensitivity} == {
        "module.a": 15,
        "module.b": 23,
    }
    kept = 16 * (1 - pruner.report_.ratios["module.a"])
    assert kept + 24 * (1 - pruner.report_.ratios["module.b"]) == pytest.approx(20)
    copied = pickle.loads(pickle.dumps(pruner))
    assert copied.plan_.ratios == pruner.report_.ratios


@pytest.mark.filterwarnings("ignore:StructuredPruner removes")  # of 0.9, with this score
@pytest.mark.parametrize("importance", ["bn_scale", "taylor", "activation", "random"])
def test_units_that_must_stay_stay(fitted, data, importance):
    pruner = StructuredPruner(
        0.5, scope="sensitivity", importance=importance, random_state=0, ignored_layers=["out"]
    )
    small = pruner.fit_transform(fitted, data)
    assert widths(small) == (8, 24)
    pruner = StructuredPruner(0.9, scope="sensitivity", importance="bn_scale")
    assert widths(pruner.fit_transform(fitted, data)) == (1, 24)


def test_other_nets(digits):
    X, y = digits
    net = make_classifier(Recurrent, max_epochs=1).fit(X.reshape(-1, 8, 8), y)
    coded = Quantizer(4).fit_transform(net)
    pruner = scan(coded, TrainingData(X.reshape(-1, 8, 8), y), 0.5)
    assert pruner.report_.ratios == {"module.rnn": 0.5}
    both = {"image": X, "ids": (y % 5).astype(np.int64)}
    net = make_classifier(TwoInputs, max_epochs=1).fit(both, y)
    assert sum(n for n, _ in scan(net, TrainingData(both, y), 0.5).report_.units.values()) == 18
    net = make_classifier(Fixed, max_epochs=1).fit(X, y)
    assert scan(net, TrainingData(X, y)).report_.sensitivity == []


def test_a_width_that_the_net_does_not_work_with(digits):
    net = make_classifier(Parity, max_epochs=1).fit(*digits)
    pruner = StructuredPruner(0.5, scope="sensitivity")
    small = pruner.fit_transform(net, TrainingData(*digits))
    assert small.module_.a.out_features % 2 == 0


class Weighted(SampleWeightMixin, NeuralNetClassifier):
    pass


@pytest.mark.parametrize("params", [{"scope": "sensitivity"}, {"importance": "taylor"}])
def test_rows_of_weight_zero_do_not_count(digits, params):
    X, y = digits
    net = Weighted(
        MLP, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, lr=0.5, batch_size=360
    ).fit(X, y)
    counts = np.arange(len(X)) % 3 == 0
    results = [
        StructuredPruner(0.4, **params).fit(net, data)
        for data in (
            TrainingData(X, np.where(counts, y, (y + 1) % 10), sample_weight=counts * 1.0),
            TrainingData(X, np.where(counts, y, (y + 5) % 10), sample_weight=counts * 1.0),
        )
    ]
    assert results[0].plan_.removed == results[1].plan_.removed
    tables = [one.report_.get("sensitivity") for one in results]
    assert tables[0] == tables[1]


class NoLoss(NeuralNetClassifier):
    def get_loss(self, *args, **kwargs):
        return super().get_loss(*args, **kwargs) * torch.nan


class TestRefusals:
    def test_a_threshold_leaves_nothing_to_decide(self, fitted, data):
        with pytest.raises(ValueError, match=r"threshold='mean' and scope='sensitivity', but"):
            StructuredPruner(threshold="mean", scope="sensitivity").fit(fitted, data)

    def test_a_net_without_a_loss(self, digits):
        net = NoLoss(MLP, criterion=nn.CrossEntropyLoss, verbose=0).initialize()
        with pytest.raises(ValueError, match="the loss of the net is nan on the rows"):
            scan(net, TrainingData(*digits))

    def test_a_target_out_of_reach(self, fitted, data):
        with pytest.raises(ValueError, match=r"cannot reach target_params=20.* has 89"):
            StructuredPruner(target_params=20, scope="sensitivity").fit(fitted, data)


def test_a_sweep_gives_the_same_in_workers(digits, tmp_path):
    steps = Pipeline([("prune", StructuredPruner(target_macs=0.5)), ("tune", FineTuner(1))])
    grid = {"compressor__prune__scope": ["global", "layer", "sensitivity"]}
    results = [
        GridSearchCV(
            CompressedClassifier(
                make_classifier(TwoLayers, max_epochs=3), steps, memory=memory, random_state=0
            ),
            grid,
            cv=2,
            n_jobs=n_jobs,
            scoring=compression_scoring("accuracy"),
            refit=False,
            error_score="raise",
        )
        .fit(*digits)
        .cv_results_
        for n_jobs, memory in ((None, None), (2, tmp_path / "cache"))
    ]
    for name in ("accuracy", "neg_nbytes", "neg_macs"):
        one, other = (result[f"mean_test_{name}"] for result in results)
        np.testing.assert_array_equal(one, other)


def test_one_scan_for_all_targets(digits, tmp_path, monkeypatch):
    trials = []
    trial = _ranking._trial
    monkeypatch.setattr(_ranking, "_trial", lambda *args: trials.append(1) or trial(*args))
    X, y = (np.concatenate([part, part]) for part in digits)  # more rows than are scanned
    model = CompressedClassifier(
        make_classifier(TwoLayers, max_epochs=1),
        StructuredPruner(0.5, scope="sensitivity"),
        memory=tmp_path,
        random_state=0,
    ).fit(X, y)
    n = len(trials)
    assert n == sum(row["n_removed"] > 0 for row in model.compressor_.report_.sensitivity)
    other = clone(model).set_params(compressor__pruning_ratio=0.7).fit(X, y)
    assert len(trials) == n
    assert other.compressor_.report_.sensitivity == model.compressor_.report_.sensitivity
    assert other.report_.n_params < model.report_.n_params
    alone = clone(other).set_params(memory=None).fit(X, y)
    assert len(trials) == 2 * n
    np.testing.assert_array_equal(alone.transform(X), other.transform(X))
    clone(model).set_params(compressor__importance="l1").fit(X, y)
    clone(model).set_params(random_state=1).fit(X, y)
    assert len(trials) == 4 * n
