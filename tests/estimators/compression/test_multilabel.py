"""Indicator matrices of several labels for each row as targets."""

import pickle

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.datasets import make_multilabel_classification
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.dataset import ValidSplit
from torch import nn

from skcompress import (
    CompressedClassifier,
    DeadUnitRemover,
    FineTuner,
    LowRankFactorizer,
    MagnitudePruner,
    Quantizer,
    SampleWeightMixin,
    StructuredPruner,
)
from skcompress.io import load, save
from skcompress.metrics import compression_scoring
from tests.estimators.compression.test_estimator_checks import checks, run
from tests.sample_nets import MLP, make_classifier, make_multilabel

SIZES = {"module__n_in": "n_features", "module__n_out": "n_classes"}


class Sigmoid(MLP):
    """Puts out probabilities, for BCELoss."""

    def forward(self, X):
        return torch.sigmoid(super().forward(X))


class OneForTwo(MLP):
    """One output for two classes, as BCEWithLogitsLoss needs, or one for each label."""

    def __init__(self, n_in=64, n_out=10):
        super().__init__(n_in, 32, 1 if n_out == 2 else n_out)


class Weighted(SampleWeightMixin, NeuralNet):
    pass


class Cautious(NeuralNet):
    def predict(self, X):
        return (torch.sigmoid(self.forward(X)) > 0.9).numpy()


@pytest.fixture(scope="module")
def data():
    X, y = make_multilabel_classification(300, 12, n_classes=4, random_state=0)
    return StandardScaler().fit_transform(X).astype(np.float32), y


def compressed(compressor=None, net=None, **params):
    return CompressedClassifier(
        net or make_multilabel(), compressor, shape_params=SIZES, random_state=0, **params
    )


@pytest.fixture(scope="module")
def fitted(data):
    return compressed(Quantizer(8)).fit(*data)


class TestPredictions:
    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    def test_what_comes_out_is_as_of_scikit_learns_classifier(self, fitted, data):
        X, y = data
        other = MLPClassifier((8,), max_iter=20, random_state=0).fit(X, y)
        for name in ("predict", "predict_proba"):
            ours, theirs = (getattr(one, name)(X) for one in (fitted, other))
            assert type(ours) is type(theirs)
            assert ours.shape == theirs.shape == y.shape
            assert ours.dtype.kind == theirs.dtype.kind
        np.testing.assert_array_equal(fitted.classes_, other.classes_)
        assert get_tags(fitted).classifier_tags.multi_label

    def test_probabilities_are_sigmoids_of_the_outputs(self, fitted, data):
        X, _ = data
        expected = torch.sigmoid(torch.from_numpy(fitted.transform(X))).numpy()
        np.testing.assert_allclose(fitted.predict_proba(X), expected, rtol=1e-6)
        np.testing.assert_array_equal(fitted.predict(X), (expected > 0.5).astype(int))

    def test_scores(self, fitted, data):
        X, y = data
        assert fitted.score(X, y) == accuracy_score(y, fitted.predict(X)) > 0.5
        assert f1_score(y, fitted.predict(X), average="micro") > 0.8

    @pytest.mark.parametrize(
        "net",
        [
            make_multilabel(module=Sigmoid, criterion=nn.BCELoss),
            make_classifier(criterion=nn.BCEWithLogitsLoss, max_epochs=30),
            make_classifier(
                criterion=nn.BCEWithLogitsLoss, max_epochs=30, train_split=ValidSplit(5)
            ),
            make_multilabel(train_split=ValidSplit(0.2)),
        ],
        ids=["BCELoss", "NeuralNetClassifier", "with its accuracy", "with a split"],
    )
    def test_nets_of_other_kinds(self, net, data):
        model = compressed(MagnitudePruner(0.3), net).fit(*data)
        assert model.score(*data) > 0.5
        probabilities = model.predict_proba(data[0])
        assert probabilities.shape == (300, 4)
        np.testing.assert_array_equal(model.predict(data[0]), probabilities > 0.5)

    def test_the_net_s_own_predict(self, data):
        net = make_multilabel(Cautious)
        model = compressed(None, net).fit(*data)
        expected = model.predict_proba(data[0]) > 0.9
        np.testing.assert_array_equal(model.predict(data[0]), expected)

    @pytest.mark.parametrize(
        "kind", [csr_matrix, lambda y: y.astype(bool), lambda y: y.astype(float), np.ndarray.tolist]
    )
    def test_forms_of_targets(self, kind, data):
        X, y = data
        outputs = [compressed().fit(X, one).transform(X) for one in (y, kind(y))]
        np.testing.assert_array_equal(*outputs)

    def test_two_labels_are_not_two_classes(self, data):
        X, y = data
        model = compressed().fit(X, y[:, :2])
        assert model.predict(X).shape == model.predict_proba(X).shape == (300, 2)

    def test_one_label_for_each_row_again(self, data):
        X, y = data
        model = compressed(net=make_multilabel(module=OneForTwo))
        assert model.fit(X, y).predict(X).shape == (300, 4)
        model.fit(X, y[:, 0])
        assert model.predict(X).shape == (300,)
        assert model.predict_proba(X).shape == (300, 2)

    def test_sample_weights(self, data):
        X, y = data
        counts = np.arange(300) % 2 == 0
        wrong = np.where(counts[:, None], y, 1 - y)
        model = compressed(None, make_multilabel(Weighted))
        model.fit(X, wrong, sample_weight=counts * 1.0)
        assert model.score(X[counts], y[counts]) > 0.5
        assert model.score(X[~counts], wrong[~counts]) < 0.2

    def test_rows_of_a_dict(self, data):
        X, y = data
        net = make_multilabel(module__n_in=12, module__n_out=4)
        model = CompressedClassifier(net, random_state=0).fit({"X": X}, y)
        assert model.predict({"X": X}).shape == (300, 4)


STEPS = [
    MagnitudePruner(0.5, reconstruct=True),
    MagnitudePruner(0.5, n_steps=2, fine_tuner=FineTuner(1)),
    StructuredPruner(0.5, importance="taylor", reconstruct=True),
    StructuredPruner(0.5, scope="sensitivity"),
    LowRankFactorizer(energy=0.9),
    DeadUnitRemover(),
    Quantizer(4, reconstruct=True),
    FineTuner(2, alpha=0.5),
]


class TestSteps:
    @pytest.mark.parametrize("step", STEPS, ids=repr)
    def test_each_step(self, step, data):
        dense, model = compressed().fit(*data), compressed(step).fit(*data)
        assert model.score(*data) > dense.score(*data) - 0.25
        assert model.predict_proba(data[0]).shape == (300, 4)

    def test_in_a_search(self, data, tmp_path):
        model = compressed(Quantizer(8), memory=tmp_path)
        search = GridSearchCV(
            model,
            {"compressor__bits": [8, 2]},
            scoring=compression_scoring("f1_macro"),
            refit="f1_macro",
            cv=3,
            error_score="raise",
        ).fit(*data)
        assert search.best_params_ == {"compressor__bits": 8}
        assert search.best_score_ > 0.7

    @pytest.mark.filterwarnings("ignore:FrozenEstimator")
    def test_a_net_that_was_trained_outside(self, fitted, data):
        X, y = data
        net = make_multilabel(module__n_in=12, module__n_out=4).fit(X, y.astype(np.float32))
        model = CompressedClassifier(FrozenEstimator(net), Quantizer(8)).fit(X, y)
        assert model.score(X, y) > 0.5
        with pytest.raises(ValueError, match=r"puts out the shape \(1, 4\).* 3 labels"):
            clone(model).fit(X, y[:, :3])


class TestKeeping:
    def test_pickle(self, fitted, data):
        copied = pickle.loads(pickle.dumps(fitted))
        for name in ("predict", "predict_proba"):
            np.testing.assert_array_equal(*(getattr(m, name)(data[0]) for m in (fitted, copied)))

    @pytest.mark.parametrize("piped", [False, True])
    def test_save_and_load(self, data, piped, tmp_path):
        model = compressed(Quantizer(8))
        model = make_pipeline(StandardScaler(), model) if piped else model
        fitted = clone(model).fit(*data)
        save(fitted, tmp_path / "model.skc")
        read = load(tmp_path / "model.skc", model)
        for name in ("predict", "predict_proba"):
            ours, theirs = (getattr(one, name)(data[0]) for one in (fitted, read))
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype
        assert read.score(*data) == fitted.score(*data)


class TestRefusals:
    @pytest.mark.parametrize(
        ("net", "message"),
        [
            (make_classifier(), "criterion=torch.nn.BCEWithLogitsLoss.*CrossEntropyLoss"),
            (make_multilabel(criterion=nn.MSELoss), "net for values.*MSELoss"),
            (
                NeuralNetBinaryClassifier(MLP, train_split=None, verbose=0),
                "needs skorch.NeuralNet .*Got NeuralNetBinaryClassifier",
            ),
            (
                NeuralNetClassifier(MLP, criterion=nn.BCEWithLogitsLoss, verbose=0),
                r"no split can be stratified.*set train_split=ValidSplit\(5\) or None",
            ),
        ],
    )
    def test_nets_that_are_not_for_it(self, net, message, data):
        with pytest.raises(ValueError, match=message):
            compressed(None, net).fit(*data)

    def test_a_width_that_does_not_fit(self, data):
        model = CompressedClassifier(make_multilabel(module__n_in=12, module__n_out=3))
        with pytest.raises(ValueError, match=r"shape \(1, 3\) for one row.*needs \(1, 4\)"):
            model.fit(*data)

    def test_several_outputs_for_two_classes(self, data):
        model = compressed(net=make_multilabel())
        with pytest.raises(ValueError, match=r"shape \(1, 2\).*one output to tell 2 classes"):
            model.fit(data[0], data[1][:, 0])

    def test_values_that_are_no_indicators(self, data):
        with pytest.raises(ValueError, match=r"two axes and the values \[1, 2\], but"):
            compressed().fit(data[0], data[1] + 1)

    def test_several_classes_for_each_of_several_targets(self, data):
        with pytest.raises(ValueError, match="y should be a 1d array"):
            compressed().fit(data[0], data[1] + np.arange(4))


def test_the_tags_follow_the_net():
    of = {
        name: get_tags(CompressedClassifier(net)).classifier_tags
        for name, net in {"one": make_classifier(), "several": make_multilabel()}.items()
    }
    assert (of["one"].multi_class, of["one"].multi_label) == (True, False)
    assert (of["several"].multi_class, of["several"].multi_label) == (False, True)
    assert not get_tags(CompressedClassifier("nothing")).classifier_tags.multi_label


CHECKED = compressed(MagnitudePruner(0.3), make_multilabel(module=OneForTwo))


# Nets have no decision_function.
CHECKS = [check for check in checks([CHECKED]) if "format_decision_function" not in check.id]


@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_estimator(estimator, check):
    run(estimator, check)


def test_the_checks_have_those_of_several_labels():
    assert sum("multilabel" in check.id for check in CHECKS) == 3
