"""Teachers and students of several labels for each row."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import make_multilabel_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from skorch import NeuralNet
from skorch.dataset import ValidSplit
from torch import nn

from skcompress import (
    CompressedClassifier,
    DistilledClassifier,
    MagnitudePruner,
    Quantizer,
    SampleWeightMixin,
)
from skcompress.estimators._distillation.teacher_targets import (
    TeacherRows,
    fit_teacher,
    teacher_targets,
)
from skcompress.io import load, save
from skcompress.nn.modules.losses import binary_kl
from tests.estimators.compression.test_estimator_checks import checks, run
from tests.estimators.compression.test_multilabel import SIZES, OneForTwo, Sigmoid
from tests.sample_nets import make_classifier, make_multilabel

FOREST = RandomForestClassifier(20, max_depth=4, random_state=0)
pytestmark = pytest.mark.filterwarnings("ignore:The teacher is worse")


class Weighted(SampleWeightMixin, NeuralNet):
    pass


@pytest.fixture(scope="module")
def data():
    X, y = make_multilabel_classification(300, 12, n_classes=4, random_state=0)
    return StandardScaler().fit_transform(X).astype(np.float32), y


def distilled(teacher=FOREST, student=None, **params):
    defaults = {"shape_params": SIZES, "random_state": 0, "held_out": 0}
    student = make_multilabel(lr=0.02) if student is None else student
    return DistilledClassifier(student, teacher, **{**defaults, **params})


NET = make_multilabel(module__n_in=12, module__n_out=4)
TEACHERS = {
    "forest": FOREST,
    "MLP": MLPClassifier((16,), alpha=1, solver="lbfgs", max_iter=2000, random_state=0),
    "chain": ClassifierChain(LogisticRegression(), random_state=0),
    "chain of scores": ClassifierChain(LinearSVC(), random_state=0),
    "one vs rest": OneVsRestClassifier(LogisticRegression()),
    "scores": OneVsRestClassifier(LinearSVC()),
    "for each": MultiOutputClassifier(LogisticRegression()),
    "neighbours": KNeighborsClassifier(),
    "net": NET,
    "net with sigmoid": clone(NET).set_params(module=Sigmoid, criterion=nn.BCELoss),
    "pipeline of a net": make_pipeline(StandardScaler(), NET),
    "ours": CompressedClassifier(NET, Quantizer(8)),
    "list": [FOREST, NET],
}


class TestTeachers:
    @pytest.mark.parametrize("name", TEACHERS)
    def test_students_learn_from(self, name, data):
        X, y = data
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*float64")  # of scikit-learn's scaler
            model = distilled(TEACHERS[name], alpha=1.0).fit(X, y)
        assert model.predict(X).shape == model.predict_proba(X).shape == y.shape
        assert model.score(X, y) > 0.35  # of 0.06 for guessing, and no label was seen
        assert model.report_.temperature == (2.0 if "net" in name or name == "ours" else 1.0)

    @pytest.mark.parametrize("name", ["forest", "MLP", "chain", "scores", "net"])
    def test_targets_are_the_probabilities_of_the_labels(self, name, data):
        X, y = data
        rows = TeacherRows(X, y, None, None, np.arange(4))
        fitted = fit_teacher(TEACHERS[name], rows, 0, "test")
        found = teacher_targets(fitted, X, rows, "test")
        if name == "forest":
            expected = np.stack([own[:, 1] for own in fitted.predict_proba(X)], 1)
        elif name == "scores":
            expected = 1 / (1 + np.exp(-fitted.decision_function(X)))
        elif name == "net":
            expected = fitted.predict_proba(X)[:, 1]
        else:
            expected = fitted.predict_proba(X)
        np.testing.assert_allclose(found, expected, atol=1e-6)

    @pytest.mark.parametrize("value", [0, 1])
    def test_a_label_that_no_row_or_every_row_has(self, value, data):
        X, y = data[0], data[1].copy()
        y[:, 2] = value
        model = distilled(alpha=1.0).fit(X, y)
        assert (model.predict_proba(X)[:, 2].round() == value).all()

    def test_frozen(self, data):
        X, y = data
        forest = clone(FOREST).fit(X, y)
        with pytest.warns(UserWarning, match="FrozenEstimator"):
            model = distilled(FrozenEstimator(forest), alpha=1.0).fit(X, y)
        expected = distilled(alpha=1.0).fit(X, y)
        np.testing.assert_array_equal(model.transform(X), expected.transform(X))

    def test_of_other_labels(self, data):
        X, y = data
        forest = clone(FOREST).fit(X, y[:, :3])
        with (
            pytest.warns(UserWarning, match="FrozenEstimator"),
            pytest.raises(ValueError, match=r"shape \(300, 3\).* expected .*\(300, 4\)"),
        ):
            distilled(FrozenEstimator(forest)).fit(X, y)

    def test_one_label_only(self, data):
        with pytest.raises(ValueError, match="y should be a 1d array"):
            distilled(LogisticRegression()).fit(*data)

    def test_no_probabilities(self, data):
        with pytest.raises(ValueError, match=r"probabilities of labels that are not in \[0, 1\]"):
            distilled(Wild()).fit(*data)


class Wild(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_ = np.arange(y.shape[1])
        return self

    def predict_proba(self, X):
        return np.full((len(X), 4), 1.5)


class TestTraining:
    def test_temperature_is_for_each_label(self, data):
        """The teacher's term of a batch, computed by hand."""
        from skcompress._nets.teacher_loss import teacher_loss_per_row

        torch.manual_seed(0)
        net = make_multilabel(module__n_in=12, module__n_out=4).initialize()
        output, target = torch.randn(5, 4), torch.rand(5, 4)
        found = teacher_loss_per_row(net, output, target, 3.0)
        p = torch.stack([1 - target, target], 2) ** (1 / 3)
        p = p / p.sum(2, keepdim=True)
        q = torch.stack([torch.sigmoid(-output / 3), torch.sigmoid(output / 3)], 2)
        expected = 9 * (p * (p / q).log()).sum(2).mean(1)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(found.mean(), binary_kl(output, target, 3.0))

    def test_two_labels(self, data):
        X, y = data
        model = distilled(alpha=1.0).fit(X, y[:, :2])
        assert model.score(X, y[:, :2]) > 0.6

    def test_alpha_zero_is_ordinary_training(self, data):
        student = make_multilabel()
        model = distilled(student=student, alpha=0).fit(*data)
        plain = CompressedClassifier(student, shape_params=SIZES, random_state=0).fit(*data)
        np.testing.assert_array_equal(model.transform(data[0]), plain.transform(data[0]))

    @pytest.mark.parametrize("augment", ["noise", "mixup", "swap"])
    def test_new_rows_control_and_scores(self, augment, data):
        X, y = data
        model = distilled(augment=augment, n_augment=1, control=True, held_out=0.2)
        report = model.fit(X[:200], y[:200], X_unlabeled=X[200:]).report_
        assert report.n_held_out == 40
        assert min(report.student_score, report.teacher_score, report.control_score) > 0.25

    def test_a_split_of_the_student(self, data):
        X, y = data
        student = make_multilabel(train_split=ValidSplit(5))
        model = distilled(student=student).fit(X, y)
        held = slice(0, 60)
        assert model.report_.n_held_out == 60
        right = (model.predict(X[held]) == y[held]).all(1).mean()
        assert model.report_.student_score == pytest.approx(right)

    def test_targets_of_teachers_that_have_not_seen_the_row(self, data):
        model = distilled(cv=3, alpha=1.0).fit(*data)
        assert model.score(*data) > 0.3

    def test_targets_that_are_the_labels(self, data):
        forest = RandomForestClassifier(5, bootstrap=False, random_state=0)
        with pytest.warns(UserWarning, match="targets say no more than the labels"):
            distilled(forest).fit(*data)

    def test_sample_weights(self, data):
        X, y = data
        counts = np.arange(300) % 2 == 0
        wrong = np.where(counts[:, None], y, 1 - y)
        model = distilled(student=make_multilabel(Weighted), held_out=0.2)
        model.fit(X, wrong, sample_weight=counts * 1.0)
        assert model.score(X[counts], y[counts]) > 0.5
        assert model.report_.student_score > 0.2

    def test_a_criterion_that_does_not_fit(self, data):
        with pytest.raises(ValueError, match=r"BCEWithLogitsLoss.*Got NeuralNetClassifier"):
            distilled(student=make_classifier()).fit(*data)

    def test_compressed_saved_and_pickled(self, data, tmp_path):
        X, y = data
        inner = distilled(shape_params=None)
        model = CompressedClassifier(
            inner, MagnitudePruner(0.5, reconstruct=True), shape_params=SIZES, random_state=0
        )
        fitted = clone(model).fit(X, y)
        save(fitted, tmp_path / "model.skc")
        for other in (
            load(tmp_path / "model.skc", model),
            pickle.loads(pickle.dumps(fitted)),
        ):
            np.testing.assert_array_equal(other.predict(X), fitted.predict(X))
            np.testing.assert_array_equal(other.predict_proba(X), fitted.predict_proba(X))

    def test_the_store(self, data, tmp_path):
        outputs = []
        for memory in (None, tmp_path, tmp_path):
            model = distilled(memory=memory).fit(*data)
            outputs.append(model.transform(data[0]))
        assert not model.report_.teacher_trained
        np.testing.assert_array_equal(outputs[0], outputs[1])
        np.testing.assert_array_equal(outputs[1], outputs[2])


CHECKED = distilled(
    RandomForestClassifier(8, max_depth=3), make_multilabel(module=OneForTwo, lr=0.02)
)


@pytest.mark.filterwarnings("ignore:The teacher gives its training rows")
@pytest.mark.parametrize(
    ("estimator", "check"),
    [check for check in checks([CHECKED]) if "format_decision_function" not in check.id],
)
def test_estimator(estimator, check):
    run(estimator, check)
