"""DeadUnitRemover: the step around `skcompress.nn.surgery.dead_units`."""

import pickle

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
    MagnitudePruner,
    Quantizer,
    TrainingData,
)
from skcompress.metrics import compression_scoring
from skcompress.nn.modules.folding import FoldedNorm
from skcompress.nn.surgery.proof import ProofError
from skcompress.steps import dead_unit_remover as _dead_units
from tests.sample_nets import Attention, Convolution, Recurrent, TwoInputs, make_classifier


class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm = nn.Linear(64, 24, bias=False), nn.BatchNorm1d(24)
        self.b, self.out = nn.Linear(24, 24, bias=False), nn.Linear(24, 10)

    def forward(self, X):
        return self.out(torch.sigmoid(self.b(torch.relu(self.norm(self.a(X))))))


pytestmark = pytest.mark.usefixtures("seeded_rng")


@pytest.fixture(scope="module")
def fitted(digits):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_classifier(Deep, max_epochs=3).fit(*digits)


@pytest.fixture(scope="module")
def pruned(fitted):
    return MagnitudePruner(0.95, scope="layer").fit_transform(fitted)


@pytest.fixture(scope="module")
def data(digits, fitted):
    return TrainingData(*digits, dense_net=fitted)


def test_nothing_changes_but_the_size(pruned, data):
    remover = DeadUnitRemover()
    net = remover.fit_transform(pruned, data)
    np.testing.assert_allclose(net.predict_proba(data.X), pruned.predict_proba(data.X), atol=1e-5)
    report = remover.report_
    assert report.n_params < 0.9 * report.dense_n_params
    assert report.macs < report.dense_macs
    assert type(net.module_.norm) is FoldedNorm
    assert net.module_.a.bias is not None


def test_norm_layers_may_stay(pruned, data):
    remover = DeadUnitRemover(fold_batch_norm=False)
    net = remover.fit_transform(pruned, data)
    assert type(net.module_.norm) is nn.BatchNorm1d
    assert remover.plan_.folded == {}
    assert sum(remover.plan_.removed.values()) > 0
    np.testing.assert_allclose(net.predict_proba(data.X), pruned.predict_proba(data.X), atol=1e-5)


def test_its_plan_says_what_goes_and_what_stays(pruned, data):
    plan = DeadUnitRemover().fit(pruned, data).plan_
    assert plan.folded == {"module.norm": "module.a"}
    text = repr(plan)
    assert "module.norm: folded into module.a" in text
    assert f"module.a: {plan.removed['module.a']} dead units go" in text
    assert "module.out: 10 units stay: it is an output of the net" in text
    assert repr(pickle.loads(pickle.dumps(plan))) == text


def test_a_plan_is_for_one_net(fitted, pruned, data):
    remover = DeadUnitRemover().fit(pruned, data)
    with pytest.raises(ValueError, match="one particular net"):
        remover.transform(fitted)


def test_what_was_removed_stays_removed_in_training(pruned, data):
    net = DeadUnitRemover().fit_transform(pruned, data)
    tuner = FineTuner(3, random_state=0)
    tuned = tuner.fit_transform(net, data)
    assert [p.shape for p in tuned.module_.parameters()] == [
        p.shape for p in net.module_.parameters()
    ]
    assert type(tuned.module_.norm) is FoldedNorm
    losses = [row["train_loss"] for row in tuned.history_][-3:]
    assert losses[-1] < losses[0]


def test_codes_lose_units_and_keep_their_norm_layers(fitted, data):
    steps = [("prune", MagnitudePruner(0.95, scope="layer")), ("codes", Quantizer(4))]
    coded = Pipeline(steps).fit_transform(fitted, data)
    remover = DeadUnitRemover()
    net = remover.fit_transform(coded, data)
    np.testing.assert_allclose(net.predict_proba(data.X), coded.predict_proba(data.X), atol=1e-5)
    assert sum(remover.plan_.removed.values()) > 0
    assert "module.norm stays: the weight of 'a' is stored as codes" in repr(remover.plan_)


@pytest.mark.parametrize("module", [Attention, Convolution, Recurrent, TwoInputs])
def test_nets_of_other_kinds(module, digits):
    X, y = digits
    if module is TwoInputs:
        X = {"image": X, "ids": np.arange(len(X)) % 5}
    else:
        X = X.reshape(-1, 1, 8, 8) if module is Convolution else X.reshape(-1, 8, 8)
    net = make_classifier(module, max_epochs=1).fit(X, y)
    net = MagnitudePruner(0.9, scope="layer").fit_transform(net)
    smaller = DeadUnitRemover().fit_transform(net, TrainingData(X, y))
    np.testing.assert_allclose(smaller.predict_proba(X), net.predict_proba(X), atol=1e-5)


def test_a_wrong_result_is_never_returned(pruned, data, monkeypatch):
    def planted(module, removal):
        module = remove(module, removal)
        with torch.no_grad():
            module.out.bias += 1e-3
        return module

    remove = _dead_units.remove
    monkeypatch.setattr(_dead_units, "remove", planted)
    before = {k: v.clone() for k, v in pruned.module_.state_dict().items()}
    with pytest.raises(ProofError, match="off by"):
        DeadUnitRemover().fit(pruned, data)
    for name, value in pruned.module_.state_dict().items():
        assert torch.equal(value, before[name])


def test_parameters_are_checked(fitted, data):
    with pytest.raises(ValueError, match="fold_batch_norm"):
        DeadUnitRemover("yes").fit(fitted, data)
    with pytest.raises(ValueError, match="training rows"):
        DeadUnitRemover().fit(fitted)


@pytest.mark.parametrize("level", [None, "codes"])
def test_training_behind_it_is_kept(level, digits, tmp_path):
    """What a fine-tuner has made of a net with other layers goes through the store and back."""
    steps = [
        ("prune", MagnitudePruner(0.9)),
        ("dead", DeadUnitRemover()),
        ("codes", Quantizer(4) if level else "passthrough"),
        ("tune", FineTuner(1)),
    ]

    def fitted(memory):
        net = make_classifier(Deep, max_epochs=1)
        clf = CompressedClassifier(net, Pipeline(steps), memory=memory, random_state=0)
        return clf.fit(*digits).predict_proba(digits[0])

    first, again, alone = fitted(tmp_path), fitted(tmp_path), fitted(None)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, alone)
    # The dense net and the fine-tuning; a CacheWarning would be an error.
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) >= 2


def test_in_a_sweep(digits):
    compressor = Pipeline([("prune", MagnitudePruner(0.9)), ("dead", DeadUnitRemover())])
    clf = CompressedClassifier(make_classifier(Deep, max_epochs=2), compressor, random_state=0)
    search = GridSearchCV(
        clf,
        {"compressor__dead": ["passthrough", DeadUnitRemover(), DeadUnitRemover(False)]},
        cv=2,
        scoring=compression_scoring("accuracy"),
        refit="neg_macs",
    ).fit(*digits)
    assert (
        search.cv_results_["split0_test_accuracy"][0] == search.cv_results_["split0_test_accuracy"]
    ).all()
    macs = search.cv_results_["mean_test_neg_macs"]
    assert macs[1] > macs[0]
    nbytes = search.cv_results_["mean_test_neg_nbytes"]
    assert nbytes[1] > nbytes[0]
