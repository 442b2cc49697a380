"""LowRankFactorizer: ranks, refusals, and all that comes behind it."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from torch import nn

from skcompress import (
    CompressedClassifier,
    DeadUnitRemover,
    FineTuner,
    LowRankFactorizer,
    MagnitudePruner,
    Quantizer,
    StructuredPruner,
    TrainingData,
)
from skcompress._nets import module_root
from skcompress.metrics import compression_scoring
from skcompress.nn.codes.coded_layers import is_coded
from skcompress.nn.modules.counting import count_nonzero
from skcompress.nn.modules.low_rank import LowRank
from tests.sample_nets import MLP, Attention, Convolution, Recurrent, make_classifier

pytestmark = pytest.mark.usefixtures("seeded_rng")


@pytest.fixture(scope="module")
def data(digits, fitted_classifier):
    return TrainingData(*digits, dense_net=fitted_classifier)


def test_ranks_and_counts(fitted_classifier, data):
    factorizer = LowRankFactorizer(6)
    net = factorizer.fit_transform(fitted_classifier, data)
    report = factorizer.report_
    assert report.ranks == {"module.hidden": 6, "module.out": 6}
    assert report.macs == 6 * (64 + 32) + 6 * (32 + 10)
    assert report.n_params == report.macs + 42
    assert type(net.module_.hidden) is LowRank
    assert net.score(data.X, data.y) > 0.5


def test_a_rank_that_is_not_worth_it(fitted_classifier, data):
    factorizer = LowRankFactorizer(8)
    net = factorizer.fit_transform(fitted_classifier, data)
    assert factorizer.report_.ranks == {"module.hidden": 8}
    assert type(net.module_.out) is nn.Linear
    assert "module.out: left alone: factors of rank 8 would not be smaller" in repr(
        factorizer.plan_
    )
    factorizer = LowRankFactorizer(1000).fit(fitted_classifier)
    assert factorizer.report_.ranks == {}


def test_more_energy_is_more_rank_and_less_error(fitted_classifier, data):
    expected, ranks, errors = fitted_classifier.predict_proba(data.X), [], []
    for energy in (0.3, 0.6, 0.9):
        factorizer = LowRankFactorizer(energy=energy)
        net = factorizer.fit_transform(fitted_classifier, data)
        ranks.append(factorizer.report_.ranks.get("module.hidden", 99))
        errors.append(np.abs(net.predict_proba(data.X) - expected).mean())
        weight = fitted_classifier.module_.hidden.weight.detach()
        got = net.module_.hidden.weight.detach()
        assert float(got.square().sum()) >= energy * float(weight.square().sum()) * 0.999
    assert ranks == sorted(set(ranks))
    assert errors[0] > errors[1] >= errors[2]


def test_ignored_layers_stay(fitted_classifier):
    factorizer = LowRankFactorizer(4, ignored_layers=["hidden"])
    net = factorizer.fit_transform(fitted_classifier)
    assert type(net.module_.hidden) is nn.Linear
    assert type(net.module_.out) is LowRank
    assert "module.hidden: left alone: ignored" in repr(factorizer.plan_)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (LowRankFactorizer(), "exactly one of 'rank' and 'energy'"),
        (LowRankFactorizer(2, energy=0.5), "exactly one of 'rank' and 'energy'. Got rank=2"),
        (LowRankFactorizer(0), "'rank' parameter"),
        (LowRankFactorizer(2.5), "'rank' parameter"),
        (LowRankFactorizer(energy=0.0), "'energy' parameter"),
        (LowRankFactorizer(energy=1.5), "'energy' parameter"),
        (LowRankFactorizer(2, ignored_layers=["none"]), "no layer named 'none'"),
    ],
)
def test_parameters_are_checked(step, message, fitted_classifier):
    with pytest.raises(ValueError, match=message):
        step.fit(fitted_classifier)


def test_coded_nets_are_refused_unless_ignored(fitted_classifier):
    coded = Quantizer(4, ignored_layers=["hidden"]).fit_transform(fitted_classifier)
    with pytest.raises(ValueError, match="first LowRankFactorizer, then Quantizer"):
        LowRankFactorizer(4).fit(coded)
    net = LowRankFactorizer(4, ignored_layers=["out"]).fit_transform(coded)
    assert type(net.module_.hidden) is LowRank


def test_a_sparse_layer_is_not_made_denser(fitted_classifier):
    sparse = MagnitudePruner(0.9).fit_transform(fitted_classifier)
    factorizer = LowRankFactorizer(4)
    net = factorizer.fit_transform(sparse)
    assert factorizer.report_.ranks == {}
    assert count_nonzero(module_root(net)) == count_nonzero(module_root(sparse))


def test_everything_works_behind_it(fitted_classifier, data):
    steps = [
        ("thin", LowRankFactorizer(6)),
        ("units", StructuredPruner(0.2)),
        ("prune", MagnitudePruner(0.5)),
        ("tune", FineTuner(3, random_state=0)),
        ("dead", DeadUnitRemover()),
        ("codes", Quantizer(4)),
    ]
    net = fitted_classifier
    for name, step in steps:
        n_before = count_nonzero(module_root(net))
        net = step.fit_transform(net, data)
        assert count_nonzero(module_root(net)) <= n_before, name  # zeros are kept
    assert type(net.module_.hidden) is LowRank
    assert is_coded(net.module_.hidden.first)
    assert is_coded(net.module_.out.second) or is_coded(net.module_.out)
    assert net.score(data.X, data.y) > 0.6


def test_training_brings_accuracy_back(fitted_classifier, data):
    low = LowRankFactorizer(2).fit_transform(fitted_classifier, data)
    tuned = FineTuner(10, random_state=0).fit_transform(low, data)
    assert tuned.score(data.X, data.y) > low.score(data.X, data.y) + 0.05
    assert tuned.module_.hidden.rank == 2


def test_factors_are_not_factorized_again(fitted_classifier):
    net = LowRankFactorizer(6).fit_transform(fitted_classifier)
    again = LowRankFactorizer(2).fit(net)
    assert again.report_.ranks == {}
    assert "module.hidden.first: left alone: it is a factor already" in repr(again.plan_)


def test_a_plan_is_good_for_nets_of_its_structure(fitted_classifier, digits):
    factorizer = LowRankFactorizer(4).fit(fitted_classifier)
    other = make_classifier(max_epochs=1).fit(*digits)
    assert factorizer.transform(other).module_.hidden.rank == 4
    wider = make_classifier(max_epochs=1, module__n_hidden=40).fit(*digits)
    with pytest.raises(ValueError, match="one of its structure"):
        factorizer.transform(wider)


class TiedAndHooked(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.b.weight = self.a.weight
        self.c.register_forward_hook(_nothing)

    def forward(self, X):
        return self.c(torch.relu(self.b(torch.relu(self.a(X)))))


def _nothing(layer, args, out):
    return None


def test_shared_weights_and_hooks_stay(digits):
    net = make_classifier(TiedAndHooked, max_epochs=1).fit(*digits)
    plan = LowRankFactorizer(2).fit(net).plan_
    assert plan.ranks == {}
    assert plan.left == {
        "module.a": "it shares parameters with another layer",
        "module.c": "it has hooks",
    }


@pytest.mark.parametrize("module", [Attention, Convolution, Recurrent])
def test_nets_of_other_kinds(module, digits):
    X, y = digits
    X = X.reshape(-1, 1, 8, 8) if module is Convolution else X.reshape(-1, 8, 8)
    net = make_classifier(module, max_epochs=1).fit(X, y)
    factorizer = LowRankFactorizer(2)
    low = factorizer.fit_transform(net, TrainingData(X, y))
    assert len(factorizer.report_.ranks) >= 1
    assert np.isfinite(low.predict_proba(X)).all()
    if module is Attention:  # torch's fused layer reads the weight, and gets the product
        low.module_.train()
        slow = low.module_(torch.as_tensor(X)).softmax(1).detach().numpy()
        np.testing.assert_allclose(low.predict_proba(X), slow, atol=1e-5)
    FineTuner(1).fit_transform(low, TrainingData(X, y))


def test_a_net_that_is_one_layer(digits):
    net = make_classifier(
        nn.Linear, module__in_features=64, module__out_features=10, max_epochs=1
    ).fit(*digits)
    low = LowRankFactorizer(3).fit_transform(net)
    assert low.module_.rank == 3
    low.partial_fit(*digits)


def test_training_behind_it_is_kept(digits, tmp_path):
    steps = [("thin", LowRankFactorizer(4)), ("tune", FineTuner(1))]

    def fitted(memory):
        net = make_classifier(max_epochs=1)
        clf = CompressedClassifier(net, Pipeline(steps), memory=memory, random_state=0)
        return clf.fit(*digits).predict_proba(digits[0])

    first = fitted(tmp_path)
    np.testing.assert_array_equal(first, fitted(tmp_path))
    np.testing.assert_array_equal(first, fitted(None))


def test_in_a_sweep_and_in_a_file(digits, tmp_path):
    from skcompress.io import load, save

    compressor = Pipeline([("thin", LowRankFactorizer(4)), ("tune", FineTuner(1))])
    clf = CompressedClassifier(make_classifier(MLP, max_epochs=2), compressor, random_state=0)
    search = GridSearchCV(
        clf,
        [
            {"compressor__thin__rank": [2, 6]},
            {"compressor__thin": [LowRankFactorizer(energy=0.5), "passthrough"]},
        ],
        cv=2,
        scoring=compression_scoring("accuracy"),
        refit="accuracy",
        error_score="raise",
    ).fit(*digits)
    nbytes = -search.cv_results_["mean_test_neg_nbytes"]
    assert nbytes[0] < nbytes[1] < nbytes[3]
    macs = -search.cv_results_["mean_test_neg_macs"]
    assert macs[0] < macs[1] < macs[3] == 2368
    model = clf.fit(*digits)
    save(model, tmp_path / "model.skc")
    loaded = load(tmp_path / "model.skc", clf)
    np.testing.assert_array_equal(loaded.predict_proba(digits[0]), model.predict_proba(digits[0]))
    assert loaded.net_.module_.hidden.rank == 4
    loaded.net_.partial_fit(*digits)


class CalledOtherwise(MLP):
    """Hands its layer other weights than its own: as two layers these would count twice."""

    def forward(self, X):
        doubled = {name: 2 * p for name, p in self.hidden.named_parameters()}
        return self.out(torch.func.functional_call(self.hidden, doubled, (X,)).relu())


def test_a_layer_that_is_not_just_called_is_left_alone(digits):
    net = make_classifier(CalledOtherwise, max_epochs=1).fit(*digits)
    factorizer = LowRankFactorizer(4)
    small = factorizer.fit_transform(net, TrainingData(*digits))
    assert factorizer.report_.ranks == {"module.out": 4}
    assert "module.hidden: left alone: as two layers it computes something else" in repr(
        factorizer.plan_
    )
    assert type(small.module_.hidden) is nn.Linear


class ComplexHidden(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(64, 32, dtype=torch.cfloat)
        self.out = nn.Linear(32, 10)

    def forward(self, X):
        return self.out(self.hidden(X.to(torch.cfloat)).abs())


@pytest.mark.parametrize("step", [LowRankFactorizer(2), DeadUnitRemover()])
def test_imaginary_parts_are_kept(digits, step):
    net = make_classifier(ComplexHidden).initialize()
    with torch.no_grad():
        net.module_.hidden.weight.real.zero_()  # as real numbers all units would be dead
    small = step.fit_transform(net, TrainingData(*digits))
    assert small.module_.hidden.weight.dtype == torch.cfloat
    assert small.module_.hidden.weight.imag.abs().sum() > 1
    assert small.module_.hidden.out_features == 32
