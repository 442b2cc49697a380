"""Inputs and teachers at the edge: refused by name before any work, or distilled without a leak."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.ensemble import (
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from skorch.dataset import ValidSplit
from torch import nn

from skcompress import DistilledClassifier, DistilledRegressor
from skcompress._caching.store import Store
from skcompress.estimators._distillation.soft_targets import TeacherSettings, collect_targets
from skcompress.estimators._distillation.teacher_targets import TeacherRows
from tests.sample_nets import Convolution, TwoInputs, make_classifier, make_regressor

FOREST = RandomForestClassifier(10, max_depth=5)


def distilled(net=None, teacher=FOREST, **params):
    net = make_classifier() if net is None else net
    return DistilledClassifier(net, teacher, **{"random_state": 0, **params})


# Teachers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "teacher", [IsolationForest(), GaussianMixture(2)], ids=lambda t: type(t).__name__
)
def test_what_knows_no_classes_is_no_teacher(digits, teacher):
    with pytest.raises(TypeError, match="must be a classifier. Got"):
        distilled(teacher=teacher).fit(*digits)


def test_clusters_are_no_values(diabetes):
    with pytest.raises(TypeError, match="must be a regressor. Got KMeans"):
        DistilledRegressor(make_regressor(module__n_in=10), KMeans(3)).fit(*diabetes)


class Duck:
    """Teaches without being derived from anything."""

    def get_params(self, deep=True):
        return {}

    def set_params(self, **params):
        return self

    def fit(self, X, y):
        self.model_ = GaussianNB(var_smoothing=0.1).fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict_proba(self, X):
        return self.model_.predict_proba(X)


class Nameless(Duck):
    def fit(self, X, y):
        super().fit(X, y)
        del self.classes_


def test_a_teacher_of_no_family(digits):
    assert distilled(make_classifier(max_epochs=20), Duck()).fit(*digits).score(*digits) > 0.8
    with pytest.raises(TypeError, match=r"no classes_ once fitted.*Let its fit set classes_"):
        distilled(teacher=Nameless()).fit(*digits)


def test_hard_votes_behind_steps_are_seen_before_any_work(digits):
    teacher = make_pipeline(StandardScaler(), VotingClassifier([("a", GaussianNB())]))
    with pytest.raises(TypeError, match="Use voting='soft'"):
        distilled(teacher=teacher).fit(*digits)


def test_a_search_over_a_net_teaches(digits):
    X, y = digits
    search = GridSearchCV(make_classifier(max_epochs=20), {"lr": [0.001, 0.01]}, cv=2)
    clf = distilled(make_classifier(max_epochs=20), search).fit(X, np.char.mod("d%d", y))
    assert clf.score(X, np.char.mod("d%d", y)) > 0.85
    assert clf.report_.temperature == 2


def test_a_stack_gives_probabilities(digits):
    stack = StackingClassifier([("a", GaussianNB())], cv=2)
    with pytest.warns(UserWarning, match="temperature=3 flattens"):
        distilled(teacher=stack, temperature=3).fit(*digits)


FROZEN_PARTS = [
    lambda frozen: [frozen, FOREST],
    lambda frozen: VotingClassifier([("a", frozen), ("b", GaussianNB())], voting="soft"),
    lambda frozen: make_pipeline(StandardScaler(), frozen),
]


@pytest.mark.filterwarnings("ignore:The teacher gives")
@pytest.mark.parametrize("around", FROZEN_PARTS, ids=["list", "voting", "pipeline"])
def test_a_frozen_part_warns_and_takes_no_cv(digits, around):
    """It may have seen the test rows, and with `cv` rows of every part."""
    teacher = around(FrozenEstimator(GaussianNB(var_smoothing=0.1).fit(*digits)))
    with pytest.warns(UserWarning, match="FrozenEstimator"):
        distilled(teacher=teacher).fit(*digits)
    with pytest.raises(ValueError, match=r"'cv' parameter .* FrozenEstimator is not"):
        distilled(teacher=teacher, cv=3).fit(*digits)


def test_a_criterion_of_the_other_kind(digits, diabetes):
    net = make_regressor(module__n_in=64, module__n_out=10)
    with pytest.raises(ValueError, match=r"is a net for values.*MSELoss.*CrossEntropyLoss"):
        distilled(net).fit(*digits)
    reg = DistilledRegressor(make_classifier(module__n_in=10, module__n_out=1), FOREST_OF_VALUES)
    with pytest.raises(ValueError, match=r"is a net for classes.*Pass a NeuralNetRegressor"):
        reg.fit(*diabetes)


FOREST_OF_VALUES = RandomForestRegressor(10)


class OneHotError(NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, *args, **kwargs):
        return super().get_loss(y_pred, nn.functional.one_hot(y_true, 10).float(), *args, **kwargs)


def test_a_loss_of_ones_own_may_make_values_of_classes(digits):
    params = {**make_classifier().get_params(deep=False), "criterion": nn.MSELoss}
    clf = distilled(OneHotError(**{**params, "max_epochs": 40}), held_out=0).fit(*digits)
    assert clf.score(*digits) > 0.8


# Rows without labels ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unlabeled", "message"),
    [
        (np.zeros((0, 64)), "X_unlabeled: Found array with 0 sample"),
        (np.zeros((5, 3)), "X_unlabeled: X has 3 features"),
        (np.full((5, 64), np.nan), "X_unlabeled: Input X contains NaN"),
        (np.zeros(64), "X_unlabeled: Expected 2D"),
        ("abc", "X_unlabeled: could not convert"),
    ],
)
def test_rows_without_labels_are_named_in_errors(digits, unlabeled, message):
    with pytest.raises(ValueError, match=message):
        distilled().fit(*digits, X_unlabeled=unlabeled)


def test_rows_without_labels_of_another_shape(digits):
    X, y = digits
    images = X.reshape(-1, 1, 8, 8)
    clf = distilled(make_classifier(Convolution))
    with pytest.raises(ValueError, match=r"shape \(1, 8, 8\). Got \(1, 4, 8\)"):
        clf.fit(images, y, X_unlabeled=images[:5, :, :4])
    net = make_classifier(TwoInputs)
    inputs = {"image": X, "ids": np.arange(360) % 5}
    with pytest.raises(ValueError, match=r"'image': \(64,\)}. Got .*'image': \(30,\)}"):
        distilled(net, net, dtype=None).fit(
            inputs, y, X_unlabeled={"image": X[:9, :30], "ids": np.arange(9)}
        )


# Out-of-fold targets ----------------------------------------------------------------------------


def targets_of(digits, cv, train):
    X, y = digits
    settings = TeacherSettings(
        GaussianNB(var_smoothing=0.1), cv, None, 0, None, Store(None), 0, "Test"
    )
    return collect_targets(settings, TeacherRows(X, y, None, None, np.arange(10)), train)


def test_a_list_of_splits_numbers_the_rows_of_x(digits):
    """Also where `train_split` keeps some of them."""
    X, y = digits
    splits = list(KFold(3, shuffle=True, random_state=1).split(X))
    train = np.arange(0, 360, 2)
    got = targets_of(digits, splits, train).of_rows
    for fit, own in splits:
        model = GaussianNB(var_smoothing=0.1).fit(X[fit[fit % 2 == 0]], y[fit[fit % 2 == 0]])
        own = own[own % 2 == 0]
        np.testing.assert_allclose(got[own], model.predict_proba(X[own]), atol=1e-5)
    masks = [(~np.isin(np.arange(360), own), np.isin(np.arange(360), own)) for _, own in splits]
    np.testing.assert_array_equal(targets_of(digits, masks, train).of_rows, got)


@pytest.mark.parametrize(
    "params", [{"control": True, "held_out": 0.2}, {"student__train_split": ValidSplit(4)}]
)
def test_splits_by_number_where_rows_are_held_out(digits, params):
    splits = KFold(3).split(digits[0])  # a generator, of which there is one pass only
    clf = distilled(cv=splits).set_params(**params).fit(*digits)
    assert clf.report_.n_held_out > 0
    assert clf.report_.teacher_score > 0.5


def test_splits_in_which_a_row_teaches_itself(digits):
    splits = [(np.arange(360), own) for _, own in KFold(3).split(digits[0])]
    with pytest.raises(ValueError, match="not into the training part beside it"):
        distilled(cv=splits).fit(*digits)


def test_splits_of_rows_that_are_not_there(digits):
    with pytest.raises(ValueError, match=r"names rows 200 to 399, but X has 360"):
        distilled(cv=list(KFold(2).split(np.arange(400)))).fit(*digits)


class OwnFolds(KFold):
    def __init__(self, n):
        super().__init__(n, shuffle=True)


def test_a_shuffling_splitter_of_ones_own(digits):
    cv = OwnFolds(3)
    one, two = (distilled(cv=cv).fit(*digits).predict_proba(digits[0]) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert cv.random_state is None


def test_groups_are_explained(digits):
    with pytest.raises(ValueError, match="groups") as caught:
        distilled(cv=GroupKFold(3)).fit(*digits)
    assert "give a list of (training rows, test rows)" in caught.value.__notes__[0]


# Functions that make rows -----------------------------------------------------------------------


def test_errors_of_a_function_name_the_parameter(digits):
    with pytest.raises(TypeError) as caught:
        distilled(augment=lambda X: X, n_augment=1).fit(*digits)
    assert "'augment' function of DistilledClassifier" in caught.value.__notes__[0]
    with pytest.raises(ValueError, match="must return finite rows"):
        distilled(augment=lambda X, rng: X.astype(str), n_augment=1).fit(*digits)


# Few rows, one class ----------------------------------------------------------------------------


def test_one_class_has_nothing_to_be_warned_of(digits):
    X, _ = digits
    clf = distilled().fit(X, np.full(360, "only"))
    assert set(clf.predict(X)) == {"only"}


def test_few_rows_are_no_reason_for_a_warning(digits):
    """Of three rows held out, a worse teacher may be chance."""
    X, y = digits
    few = np.arange(15)
    teacher = Contrary()
    net = make_classifier(max_epochs=60, train_split=ValidSplit(5))
    clf = DistilledClassifier(net, teacher, alpha=0.1, random_state=0).fit(X[few], y[few] > 4)
    assert clf.report_.n_held_out == 3


class Contrary(Duck):
    def predict_proba(self, X):
        return np.eye(2)[(self.model_.predict_proba(X)[:, 1] < 0.5).astype(int)]
