"""What surrounds a fit, autocast or the number of threads, decides no weight and no label."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from torch import nn

from skcompress import (
    CompressedClassifier,
    CompressedRegressor,
    DeadUnitRemover,
    FineTuner,
    StructuredPruner,
)
from tests.sample_nets import (
    MLP,
    Attention,
    Convolution,
    Deep,
    Recurrent,
    make_classifier,
    make_regressor,
)

COMPRESSOR = Pipeline(
    [("prune", StructuredPruner(0.5, reconstruct=True)), ("tune", FineTuner(1, alpha=0.5))]
)


def autocast():
    return torch.autocast("cpu", dtype=torch.bfloat16)


def weights_of(estimator):
    return {name: value.clone() for name, value in estimator.net_.module_.state_dict().items()}


def test_an_autocast_around_everything_changes_nothing(digits):
    X, y = digits
    clf = CompressedClassifier(make_classifier(Deep), COMPRESSOR, random_state=0)
    plain = clf.fit(X, y)
    expected, probabilities = weights_of(plain), plain.predict_proba(X)
    with autocast():
        around = CompressedClassifier(make_classifier(Deep), COMPRESSOR, random_state=0).fit(X, y)
        np.testing.assert_array_equal(around.predict_proba(X), probabilities)
        np.testing.assert_array_equal(around.predict(X), probabilities.argmax(1))
        np.testing.assert_array_equal(around.transform(X), plain.transform(X))
        assert around.report_.macs == plain.report_.macs
    torch.testing.assert_close(weights_of(around), expected, rtol=0, atol=0)


def test_a_regressor_and_a_net_with_its_own_predict(diabetes, digits):
    X, y = diabetes
    reg = CompressedRegressor(make_regressor(module__n_in=10), random_state=0).fit(X, y)
    expected = reg.predict(X)
    net = make_classifier()
    net.__class__ = OwnPredict
    clf = CompressedClassifier(net, random_state=0).fit(*digits)
    labels = clf.predict(digits[0])
    with autocast():
        np.testing.assert_array_equal(reg.predict(X), expected)
        np.testing.assert_array_equal(clf.predict(digits[0]), labels)


class OwnPredict(type(make_classifier())):
    def predict(self, X):
        return self.forward(X).numpy().argmax(1)  # numpy has no bfloat16


class CastsItself(MLP):
    """Asks for single precision only where it computes something delicate."""

    def forward(self, X):
        with autocast():
            hidden = self.hidden(X)
        assert hidden.dtype == torch.bfloat16
        return self.out(torch.relu(hidden).float())


def test_an_autocast_of_the_module_itself_is_its_own_affair(digits):
    X, y = digits
    clf = CompressedClassifier(make_classifier(CastsItself), random_state=0).fit(X, y)
    with autocast():
        assert clf.predict_proba(X).dtype == np.float32
    assert clf.score(X, y) > 0.5


def test_folds_in_workers_without_the_autocast_have_the_same_scores(digits):
    clf = CompressedClassifier(make_classifier(), random_state=0)
    with autocast():
        scores = [
            cross_val_score(clf, *digits, cv=2, n_jobs=n, scoring="neg_log_loss") for n in (1, 2)
        ]
    np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize("module", [Recurrent, Attention])
def test_threads_that_predict_while_others_trace_score_the_same(module, digits):
    from joblib import parallel_config

    X, y = digits[0].reshape(-1, 8, 8), digits[1]
    clf = CompressedClassifier(make_classifier(module, max_epochs=1), random_state=0)
    grid = {"compressor": [StructuredPruner(r) for r in (0.2, 0.5)] + [DeadUnitRemover()]}
    scores = []
    for backend, n_jobs in (("loky", 1), ("threading", 3)):
        search = GridSearchCV(clf, grid, cv=2, scoring="neg_log_loss", refit=False, n_jobs=n_jobs)
        with parallel_config(backend):
            scores.append(search.fit(X, y).cv_results_["mean_test_score"])
    np.testing.assert_array_equal(*scores)


class Gated(Recurrent):
    def __init__(self):
        super().__init__(kind=nn.GRU)


@pytest.mark.parametrize("module", [MLP, Convolution, Recurrent, Gated, Attention])
def test_more_torch_threads_change_no_weight_and_only_the_last_bits_of_predictions(module, digits):
    X, y = digits
    X = {MLP: X, Convolution: X.reshape(-1, 1, 8, 8)}.get(module, X.reshape(-1, 8, 8))
    found = []
    for n_threads in (1, 2, 4):
        before = torch.get_num_threads()
        torch.set_num_threads(n_threads)
        try:
            clf = CompressedClassifier(make_classifier(module), COMPRESSOR, random_state=0)
            clf.fit(X, y)
            found.append((weights_of(clf), clf.predict_proba(X)))
        finally:
            torch.set_num_threads(before)
    for weights, probabilities in found[1:]:
        torch.testing.assert_close(weights, found[0][0], rtol=0, atol=0)
        np.testing.assert_allclose(probabilities, found[0][1], rtol=1e-4, atol=1e-6)
