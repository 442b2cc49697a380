"""Columns of a DataFrame: teachers get them as they came, students their numbers."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skorch.dataset import ValidSplit

from skcompress import (
    CompressedClassifier,
    DistilledClassifier,
    DistilledRegressor,
    MagnitudePruner,
    cache,
)
from tests.sample_nets import make_classifier, make_regressor

LARGE = 2**24  # beyond it float32 does not hold every whole number


@pytest.fixture
def frame():
    """Return rows whose class only the text, or the exact number, tells without error."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, size=200)
    columns = {
        "a": rng.normal(size=200),
        "text": kind.astype(str),
        "code": pd.Categorical(kind.astype(str)),
        "number": LARGE + 2 + kind // 2,
    }
    index = [f"row {i}" for i in range(200)]  # rows are chosen by their place
    return pd.DataFrame(columns, index=index), kind


class Noting(ClassifierMixin, BaseEstimator):
    """Keeps the columns it was given; knows the class by the text."""

    seen: list = []

    def fit(self, X, y):
        Noting.seen.append(X)
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        Noting.seen.append(X)
        assert all(isinstance(text, str) for text in X["text"])
        return np.eye(3)[X["text"].astype(int)] * 0.7 + 0.1


def net(**params):
    return make_classifier(**{"module__n_in": 4, "module__n_out": 3, "max_epochs": 3, **params})


def distilled(teacher=None, student=None, **params):
    return DistilledClassifier(
        net() if student is None else student,
        Noting() if teacher is None else teacher,
        random_state=0,
        **params,
    )


@pytest.fixture(autouse=True)
def _nothing_seen():
    Noting.seen.clear()


TEXT_PIPELINE = make_pipeline(
    make_column_transformer((OneHotEncoder(), ["text"]), (StandardScaler(), ["a"])),
    RandomForestClassifier(10, max_depth=4),
)
CATEGORIES = HistGradientBoostingClassifier(
    max_iter=5, max_leaf_nodes=4, categorical_features="from_dtype"
)


def equal_frames(one, other):
    pd.testing.assert_frame_equal(one, other)
    return True


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"cv": 3},
        {"held_out": 0.2},
        {"student__train_split": ValidSplit(4)},
        {"student__train_split": ValidSplit(4), "cv": 3},
    ],
    ids=lambda params: "-".join(params) or "plain",
)
def test_a_teacher_gets_the_columns_as_they_came(frame, params):
    X, y = frame
    distilled().set_params(**params).fit(X, y)
    assert len(Noting.seen) >= 2
    for seen in Noting.seen:
        assert equal_frames(seen, X.loc[seen.index])
    fitted_on = Noting.seen[0]
    kept = 200 if "cv" not in params else 134
    kept = kept if "student__train_split" not in params else kept * 3 // 4
    assert abs(len(fitted_on) - kept) <= 2


@pytest.mark.filterwarnings("ignore:The teacher gives")
def test_the_student_gets_numbers(frame):
    X, y = frame
    numbers = X.astype({"text": float, "code": float}).to_numpy(np.float32)
    teacher = FrozenEstimator(RandomForestClassifier(5, random_state=0).fit(X, y))
    one = distilled(TEXT_PIPELINE, alpha=0).fit(X, y)
    two = distilled(TEXT_PIPELINE, alpha=0).fit(numbers, y)
    assert torch.equal(one.net_.module_.out.weight, two.net_.module_.out.weight)
    np.testing.assert_array_equal(one.predict(X), two.predict(numbers))
    with pytest.warns(UserWarning, match="FrozenEstimator"):
        assert distilled(teacher).fit(X, y).predict(X).shape == (200,)


@pytest.mark.filterwarnings("ignore:The teacher gives", "ignore:The teacher is worse")
@pytest.mark.parametrize("teacher", [TEXT_PIPELINE, CATEGORIES], ids=["Pipeline", "categories"])
def test_real_teachers(frame, teacher):
    X, y = frame
    clf = distilled(teacher, keep_teacher=True, held_out=0.2).fit(X, y)
    assert clf.report_.teacher_score == 1
    assert list(clf.teacher_.feature_names_in_) == list(X.columns)
    assert np.isfinite(cross_val_score(distilled(teacher), X, y, cv=3)).all()


@pytest.mark.filterwarnings("ignore:The teacher gives")
def test_whole_numbers_beyond_float32(frame):
    X, y = frame
    only = X[["number"]]
    teacher = make_pipeline(OneHotEncoder(), RandomForestClassifier(5))
    clf = distilled(teacher, net(module__n_in=1), keep_teacher=True).fit(only, y > 1)
    assert clf.teacher_.score(only, y > 1) == 1


def test_rows_without_labels(frame):
    X, y = frame
    more = X.iloc[:20].set_axis([f"more {i}" for i in range(20)])
    distilled().fit(X.iloc[20:], y[20:], X_unlabeled=more)
    assert any(equal_frames(seen, more) for seen in Noting.seen if len(seen) == 20)
    with pytest.raises(ValueError, match="feature names should match"):
        distilled().fit(X, y, X_unlabeled=more.rename(columns={"text": "word"}))


@pytest.mark.parametrize("augment", ["noise", "mixup", "swap", lambda X, rng: X])
def test_new_rows_are_made_of_numbers(frame, augment):
    X, y = frame
    clf = distilled(augment=augment, n_augment=1)
    with pytest.raises(ValueError, match=r"'augment' .*\['text', 'code'\] hold others.*X_unlabel"):
        clf.fit(X, y)
    with pytest.raises(ValueError, match="'augment' "):
        CompressedClassifier(clf).fit(X, y)
    assert not Noting.seen
    numeric, small = X[["a", "number"]], net(module__n_in=2)
    teacher = RandomForestClassifier(5, max_depth=3)
    distilled(teacher, small, augment=augment, n_augment=1).fit(numeric, y)


def test_text_that_is_no_number(frame):
    X, y = frame
    X = X.assign(colour=np.where(y > 0, "red", "blue"))
    with pytest.raises(ValueError, match="could not convert string") as caught:
        distilled().fit(X, y)
    assert "the student takes numbers: encode" in caught.value.__notes__[0]
    assert not Noting.seen


def teachers(folder):
    return [entry.kind for entry in cache.list_entries(folder)].count("teacher")


def test_inside_a_compressing_estimator(frame):
    X, y = frame
    clf = CompressedClassifier(distilled(), MagnitudePruner(0.5), random_state=0).fit(X, y)
    assert all(equal_frames(seen, X) for seen in Noting.seen)
    assert clf.report_.sparsity == pytest.approx(0.5, abs=0.01)


@pytest.mark.filterwarnings("ignore:The teacher gives")
def test_a_sweep_fits_one_teacher_for_each_fold(frame, tmp_path):
    X, y = frame
    clf = CompressedClassifier(
        distilled(TEXT_PIPELINE), MagnitudePruner(0.5), memory=tmp_path, random_state=0
    )
    settings = {"compressor__sparsity": [0.2, 0.8], "estimator__alpha": [0.3, 0.6]}
    search = GridSearchCV(clf, settings, cv=2, error_score="raise", refit=False)
    search.fit(X, y)
    assert teachers(tmp_path) == 2


@pytest.mark.filterwarnings("ignore:The teacher gives")
def test_the_key_knows_the_columns(frame, tmp_path):
    X, y = frame
    clf = distilled(TEXT_PIPELINE, memory=tmp_path)
    assert clf.fit(X, y).report_.teacher_trained
    assert not clf.fit(X, y).report_.teacher_trained
    other = X.assign(text=X["text"] + ".0")  # the same numbers, which the student gets
    assert clf.fit(other, y).report_.teacher_trained
    assert teachers(tmp_path) == 2


def test_a_regressor(frame):
    X, y = frame
    teacher = make_pipeline(make_column_transformer((OneHotEncoder(), ["text"])), Ridge(1e-3))
    student = make_regressor(module__n_in=4, max_epochs=1)
    reg = DistilledRegressor(student, teacher, keep_teacher=True, random_state=0)
    reg.fit(X, y.astype(float))
    assert reg.teacher_.score(X, y) > 0.99
