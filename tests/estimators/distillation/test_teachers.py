"""Teachers of every kind: what they are given, what they say, how their classes are matched."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from skorch import NeuralNetBinaryClassifier

from skcompress import (
    CompressedClassifier,
    CompressedRegressor,
    DistilledClassifier,
    DistilledRegressor,
    MagnitudePruner,
)
from skcompress._caching.fingerprint import fingerprint
from skcompress.estimators._distillation.teacher_targets import (
    TeacherRows,
    fit_teacher,
    teacher_targets,
)
from tests.sample_nets import MLP, Convolution, Tokens, TwoInputs, make_classifier, make_regressor

NET = make_classifier(max_epochs=20)
WIDE = make_classifier(max_epochs=20, module__n_hidden=64)
NAMES = np.array([f"digit {i}" for i in range(10)])

CLASSIFIERS = [
    RandomForestClassifier(20, max_depth=6),
    HistGradientBoostingClassifier(max_iter=20),
    KNeighborsClassifier(5),
    LogisticRegression(C=0.1),
    GaussianNB(var_smoothing=0.1),
    make_pipeline(StandardScaler(), LogisticRegression(C=0.01)),
    LinearSVC(),
    SVC(),
    RidgeClassifier(),
    VotingClassifier(
        [("a", LogisticRegression(C=0.1)), ("b", KNeighborsClassifier())], voting="soft"
    ),
    StackingClassifier([("a", GaussianNB()), ("b", KNeighborsClassifier())], cv=2),
    WIDE,
    make_pipeline(StandardScaler(), WIDE),
    [WIDE, make_classifier(max_epochs=20)],
    [RandomForestClassifier(10, max_depth=6), WIDE],
    CompressedClassifier(WIDE, MagnitudePruner(0.5)),
    VotingClassifier([("net", CompressedClassifier(WIDE)), ("nb", GaussianNB())], voting="soft"),
]


def name_of(teacher):
    return " ".join(repr(teacher).split())[:60]


def distilled(teacher, net=NET, **params):
    return DistilledClassifier(net, teacher, **{"alpha": 1, "random_state": 0, **params})


@pytest.mark.filterwarnings("ignore:The teacher gives")
@pytest.mark.usefixtures("global_rng_untouched")
@pytest.mark.parametrize("teacher", CLASSIFIERS, ids=name_of)
def test_any_classifier_teaches(digits, teacher):
    X, y = digits
    # Not by repr: skorch's shows a set of strings, whose order is another in each copy.
    before = fingerprint(teacher)
    clf = distilled(teacher, keep_teacher=True).fit(X, NAMES[y])
    assert fingerprint(teacher) == before
    assert clf.score(X, NAMES[y]) > 0.85
    again = distilled(teacher).fit(X, NAMES[y])
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    assert not hasattr(again, "teacher_")
    other = distilled(teacher, random_state=1).fit(X, NAMES[y])
    assert not np.array_equal(other.predict_proba(X), clf.predict_proba(X))


REGRESSORS = [
    RandomForestRegressor(20),
    HistGradientBoostingRegressor(max_iter=20),
    GaussianProcessRegressor(alpha=1.0, optimizer=None),
    make_pipeline(StandardScaler(), Ridge()),
    VotingRegressor([("a", Ridge()), ("b", RandomForestRegressor(10))]),
    StackingRegressor([("a", Ridge())], RandomForestRegressor(10), cv=2),
    make_regressor(module__n_in=10, max_epochs=60),
    make_pipeline(StandardScaler(), make_regressor(module__n_in=10, max_epochs=60)),
    [make_regressor(module__n_in=10, max_epochs=60), Ridge()],
    CompressedRegressor(make_regressor(module__n_in=10, max_epochs=60)),
]


@pytest.mark.usefixtures("global_rng_untouched")
@pytest.mark.parametrize("teacher", REGRESSORS, ids=name_of)
@pytest.mark.parametrize("columns", [1, None])
def test_any_regressor_teaches(diabetes, teacher, columns):
    X, y = diabetes
    y = y if columns else y.ravel()
    net = make_regressor(module__n_in=10, max_epochs=60)
    reg = DistilledRegressor(net, teacher, alpha=1, random_state=0).fit(X, y)
    assert reg.score(X, y) > 0.25
    assert reg.predict(X).shape == y.shape


def rows_of(X, y, classes=None):
    classes = np.unique(y) if classes is None else classes
    return TeacherRows(X, np.searchsorted(classes, y), None, None, classes)


def test_what_a_forest_says(digits):
    X, y = digits
    rows = rows_of(X, NAMES[y])
    forest = fit_teacher(RandomForestClassifier(10), rows, 5, "Test")
    assert forest.random_state is not None
    np.testing.assert_allclose(teacher_targets(forest, X, rows, "Test"), forest.predict_proba(X))


def test_scores_become_probabilities(digits):
    X, y = digits
    rows = rows_of(X, y)
    svc = fit_teacher(LinearSVC(), rows, 0, "Test")
    targets = teacher_targets(svc, X, rows, "Test")
    powers = np.exp(svc.decision_function(X))
    np.testing.assert_allclose(targets, powers / powers.sum(axis=1, keepdims=True), rtol=1e-4)
    rows = rows_of(X, y % 2)
    svc = fit_teacher(LinearSVC(), rows, 0, "Test")
    targets = teacher_targets(svc, X, rows, "Test")
    np.testing.assert_allclose(
        targets[:, 1], 1 / (1 + np.exp(-svc.decision_function(X))), rtol=1e-4
    )


def test_a_list_is_the_mean_of_its_members(digits):
    X, y = digits
    rows = rows_of(X, y)
    fitted = fit_teacher([RandomForestClassifier(5), RandomForestClassifier(5)], rows, 0, "Test")
    each = [teacher_targets(member, X, rows, "Test") for member in fitted]
    assert not np.array_equal(*each)
    np.testing.assert_allclose(teacher_targets(fitted, X, rows, "Test"), np.mean(each, axis=0))


class Reversed(ClassifierMixin, BaseEstimator):
    """Keeps its classes in falling order."""

    def fit(self, X, y):
        self.model_ = GaussianNB(var_smoothing=0.1).fit(X, y)
        self.classes_ = self.model_.classes_[::-1]
        return self

    def predict_proba(self, X):
        return self.model_.predict_proba(X)[:, ::-1]


def test_classes_in_another_order(digits):
    X, y = digits
    rows = rows_of(X, NAMES[y])
    plain = fit_teacher(GaussianNB(var_smoothing=0.1), rows, 0, "Test")
    turned = fit_teacher(Reversed(), rows, 0, "Test")
    np.testing.assert_allclose(
        teacher_targets(turned, X, rows, "Test"), teacher_targets(plain, X, rows, "Test")
    )


@pytest.mark.filterwarnings("ignore:FrozenEstimator", "ignore:The teacher gives")
def test_a_teacher_that_knows_fewer_or_more_classes(digits):
    X, y = digits
    few = FrozenEstimator(GaussianNB(var_smoothing=0.1).fit(X[y < 4], NAMES[y[y < 4]]))
    targets = teacher_targets(few, X, rows_of(X, NAMES[y]), "Test")
    np.testing.assert_allclose(targets[:, :4].sum(axis=1), 1, rtol=1e-5)
    assert (targets[:, 4:] == 0).all()
    distilled(few).fit(X, NAMES[y])

    all_ten = LogisticRegression(C=0.1).fit(X, NAMES[y])
    keep = (y == 2) | (y == 7)
    targets = teacher_targets(FrozenEstimator(all_ten), X, rows_of(X[keep], NAMES[y[keep]]), "Test")
    expected = all_ten.predict_proba(X)[:, [2, 7]]
    np.testing.assert_allclose(targets, expected / expected.sum(axis=1, keepdims=True), atol=1e-5)
    assert (
        distilled(FrozenEstimator(all_ten))
        .fit(X[keep], y_of(keep, y))
        .score(X[keep], y_of(keep, y))
        > 0.9
    )
    with pytest.raises(ValueError, match=r"knows the classes .*none of those in y.*same labels"):
        distilled(few).fit(X, y)


def y_of(keep, y):
    return NAMES[y[keep]]


@pytest.mark.filterwarnings("ignore:FrozenEstimator")
def test_labels_of_a_frozen_net(digits, fitted_classifier):
    X, y = digits
    expected = fitted_classifier.predict_proba(X)
    frozen = FrozenEstimator(fitted_classifier)
    np.testing.assert_allclose(teacher_targets(frozen, X, rows_of(X, y), "T"), expected, rtol=1e-5)
    named = teacher_targets(frozen, X, rows_of(X, NAMES[y]), "T")
    np.testing.assert_allclose(named, expected, rtol=1e-5)
    few = teacher_targets(frozen, X, rows_of(X[y > 7], y[y > 7]), "T")
    np.testing.assert_allclose(
        few, expected[:, 8:] / expected[:, 8:].sum(1, keepdims=True), rtol=1e-4
    )
    with pytest.raises(ValueError, match="10 outputs, but y has the 2 labels"):
        distilled(frozen).fit(X[y > 7], NAMES[y[y > 7]])


def test_a_frozen_teacher_warns(digits):
    teacher = RandomForestClassifier(10, max_depth=5, random_state=0).fit(*digits)
    kept = pickle.dumps(teacher)
    with pytest.warns(UserWarning, match="FrozenEstimator: the teacher was fitted outside"):
        clf = distilled(FrozenEstimator(teacher)).fit(*digits)
    assert clf.report_.teacher_trained is False
    assert pickle.dumps(teacher) == kept


def test_a_binary_net_teaches_a_binary_net(digits):
    X, y = digits
    labels = np.where(y % 2, "odd", "even")

    def net(**params):
        return NeuralNetBinaryClassifier(
            MLP, module__n_out=1, lr=0.5, max_epochs=60, train_split=None, verbose=0, **params
        )

    clf = distilled(net(module__n_hidden=64), net(), keep_teacher=True).fit(X, labels)
    assert clf.score(X, labels) > 0.85
    teachers = np.where(clf.teacher_.predict(X), "odd", "even")
    assert (clf.predict(X) == teachers).mean() > 0.93
    # and one with two outputs, and a forest
    assert distilled(net(), make_classifier(max_epochs=60)).fit(X, labels).score(X, labels) > 0.85
    assert (
        distilled(RandomForestClassifier(20, max_depth=7), net()).fit(X, labels).score(X, labels)
        > 0.85
    )


def test_imbalanced_labels(digits):
    X, y = digits
    labels = np.where(y == 3, "three", "other")
    clf = distilled(RandomForestClassifier(50, max_depth=6)).fit(X, labels)
    assert (clf.predict(X[y == 3]) == "three").mean() > 0.8
    assert clf.score(X, labels) > 0.95


def test_images_are_flattened_for_scikit_learn(digits):
    X, y = digits
    images = X.reshape(-1, 1, 8, 8)
    net = make_classifier(Convolution)
    flat = fit_teacher(RandomForestClassifier(5), rows_of(X, y), 0, "T")
    deep = fit_teacher(RandomForestClassifier(5), rows_of(images, y), 0, "T")
    targets = teacher_targets(deep, images, rows_of(images, y), "T")
    np.testing.assert_array_equal(targets, flat.predict_proba(X).astype(np.float32))
    assert (
        distilled(RandomForestClassifier(5, max_depth=6), net).fit(images, y).score(images, y) > 0.8
    )


def test_columns_by_name(digits):
    X, y = digits
    frame = pd.DataFrame(X, columns=[f"pixel{i}" for i in range(64)])
    some = [f"pixel{i}" for i in range(20, 45)]
    teacher = make_pipeline(
        make_column_transformer((StandardScaler(), some)), LogisticRegression(C=0.01)
    )
    clf = distilled(teacher, keep_teacher=True).fit(frame, y)
    np.testing.assert_array_equal(clf.teacher_.feature_names_in_, frame.columns)
    assert clf.score(frame, y) > 0.8


def test_dicts_and_token_ids(digits):
    X, y = digits
    inputs = {"image": X, "ids": np.arange(360) % 5}
    net = make_classifier(TwoInputs, max_epochs=40)
    clf = distilled(net, net, dtype=None, augment="noise", n_augment=1).fit(inputs, y)
    assert clf.score(inputs, y) > 0.9
    with pytest.raises(TypeError, match=r"X is a dict.*RandomForestClassifier"):
        distilled(RandomForestClassifier(), net, dtype=None).fit(inputs, y)
    ids = np.random.default_rng(0).integers(0, 20, size=(300, 7))
    labels = (ids < 7).sum(axis=1) // 3
    net = make_classifier(Tokens, module__n_out=4, max_epochs=40, lr=0.05)
    clf = distilled(net, net, dtype=None, augment="swap", n_augment=1).fit(ids, labels)
    assert clf.score(ids, labels) > 0.8


def test_more_trees_at_once_are_the_same_forest(digits):
    """Sums over trees come in the order in which threads finish, unless asked one by one."""
    X, y = digits
    one, two = (
        distilled(RandomForestClassifier(40, n_jobs=n_jobs, max_depth=8)).fit(X, y)
        for n_jobs in (1, 2)
    )
    for a, b in zip(one.net_.module_.parameters(), two.net_.module_.parameters(), strict=True):
        assert torch.equal(a, b)


# Warnings ---------------------------------------------------------------------------------------


def test_targets_that_are_one_hot(digits):
    teacher = ExtraTreesClassifier(20)
    with pytest.warns(UserWarning, match=r"probability of 1\.0000 in the mean.*cv=5"):
        distilled(teacher).fit(*digits)
    distilled(teacher, cv=3).fit(*digits)
    distilled(teacher, alpha=0).fit(*digits)


def test_a_temperature_for_probabilities(digits):
    teacher = RandomForestClassifier(10, max_depth=6)
    with pytest.warns(UserWarning, match=r"temperature=3 flattens .*RandomForest.* Use 'auto'"):
        clf = distilled(teacher, temperature=3).fit(*digits)
    assert clf.report_.temperature == 3
    assert distilled(teacher, temperature=0.5).fit(*digits).report_.temperature == 0.5
    assert distilled(WIDE, temperature=3).fit(*digits).report_.temperature == 3
    assert distilled([WIDE, NET], temperature=3).fit(*digits).report_.temperature == 3


@pytest.mark.parametrize(
    ("teacher", "expected"),
    [
        (RandomForestClassifier(10, max_depth=6), 1),
        (LinearSVC(), 1),
        (WIDE, 2),
        ([WIDE, NET], 2),
        ([WIDE, RandomForestClassifier(10, max_depth=6)], 1),
        (make_pipeline(StandardScaler(), WIDE), 2),
        (CompressedClassifier(WIDE), 2),
    ],
    ids=name_of,
)
def test_the_temperature_follows_the_teacher(digits, teacher, expected):
    assert distilled(teacher).fit(*digits).report_.temperature == expected


# What is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"student": MLP}, TypeError, "'student' parameter .* must be a skorch net"),
        ({"student": type(NET)}, TypeError, "'student' parameter .* Got the class"),
        ({"student": make_classifier(MLP())}, ValueError, "'student' parameter .*instance"),
        ({"student": FrozenEstimator(NET)}, TypeError, r"'student' parameter .*Got Frozen"),
        ({"teacher": None}, TypeError, "'teacher' parameter .* must be a classifier.* Got None"),
        ({"teacher": RandomForestClassifier}, TypeError, r"write RandomForestClassifier\(\.\.\.\)"),
        ({"teacher": []}, ValueError, r"'teacher' parameter .* Got \[\] instead"),
        ({"teacher": [("a", GaussianNB())]}, TypeError, "VotingClassifier"),
        ({"teacher": RandomForestRegressor()}, TypeError, "must be a classifier. Got RandomF"),
        ({"teacher": make_classifier(MLP())}, ValueError, "'teacher' parameter .*instance"),
        ({"teacher": FrozenEstimator(GaussianNB())}, NotFittedError, "not fitted"),
        ({"teacher": FrozenEstimator(NET)}, NotFittedError, "not fitted"),
        (
            {"teacher": VotingClassifier([("a", GaussianNB())])},
            TypeError,
            "needs predict_proba .*Use voting='soft'",
        ),
        ({"teacher": StandardScaler()}, TypeError, "needs predict_proba or decision_function"),
        ({"alpha": 1.5}, ValueError, r"'alpha' parameter .* Got 1\.5"),
        ({"temperature": 0}, ValueError, "'temperature' parameter .* Got 0"),
        ({"temperature": "hot"}, ValueError, "'temperature' parameter .* Got 'hot'"),
        ({"augment": "blur"}, ValueError, "'augment' parameter .* Got 'blur'"),
        ({"n_augment": -1}, ValueError, "'n_augment' parameter .* Got -1"),
        ({"n_augment": 2}, ValueError, r"augment is None. Got n_augment=2; set augment"),
        ({"control": "yes"}, ValueError, "'control' parameter .* Got 'yes'"),
        ({"keep_teacher": 2}, ValueError, "'keep_teacher' parameter .* Got 2"),
        ({"cv": "five"}, ValueError, "'cv' parameter .* Got 'five'"),
        ({"memory": 3}, TypeError, "memory=3"),
        ({"shape_params": {"module__n_in": "w"}}, ValueError, "Got 'module__n_in': 'w'"),
        ({"dtype": "float64"}, ValueError, "'dtype' parameter .* Got 'float64'"),
        ({"student__criterion": torch.nn.MultiMarginLoss}, ValueError, "MultiMarginLoss.*alpha=0"),
        ({"student__module__n_out": 9}, ValueError, r"\(1, 9\).*10 classes.*shape_params"),
    ],
)
def test_bad_parameters(digits, monkeypatch, params, error, message):
    def no_work(*args, **kwargs):
        raise AssertionError("worked before looking")

    monkeypatch.setattr("skcompress.estimators._base.training.train", no_work)
    monkeypatch.setattr("skcompress.estimators._distillation.soft_targets.fit_teacher", no_work)
    clf = clone(distilled(GaussianNB())).set_params(**params)
    with pytest.raises(error, match=message):
        clf.fit(*digits)


@pytest.mark.filterwarnings("ignore:FrozenEstimator")
def test_what_does_not_go_together(digits):
    X, y = digits
    frozen = FrozenEstimator(GaussianNB(var_smoothing=0.1).fit(X, y))
    with pytest.raises(ValueError, match=r"FrozenEstimator is not. Got cv=5; leave it None"):
        distilled(frozen, cv=5).fit(X, y)
    reg = DistilledRegressor(make_regressor(), GaussianNB())
    with pytest.raises(TypeError, match="must be a regressor. Got GaussianNB"):
        reg.fit(X, y)


class Strange(ClassifierMixin, BaseEstimator):
    def __init__(self, what):
        self.what = what

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        p = np.full((len(X), 10), 0.1)
        return p * np.nan if self.what == "nan" else p[:, :9]


@pytest.mark.parametrize(("what", "message"), [("nan", "NaN"), ("narrow", "one column for each")])
def test_teachers_that_say_nonsense(digits, what, message):
    with pytest.raises(ValueError, match=rf"teacher Strange.*{message}"):
        distilled(Strange(what)).fit(*digits)
    with pytest.raises(ValueError, match="decision_function_shape='ovr'"):
        distilled(SVC(decision_function_shape="ovo")).fit(*digits)
