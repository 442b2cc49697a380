"""One teacher for each fold of a sweep, the same scores with and without a cache, and no leak."""

import os
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_validate
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from skorch.dataset import ValidSplit

from skcompress import (
    CompressedClassifier,
    DistilledClassifier,
    DistilledRegressor,
    MagnitudePruner,
    Quantizer,
    cache,
)
from tests.sample_nets import make_classifier, make_regressor

pytestmark = pytest.mark.filterwarnings("ignore:The teacher gives its training rows")


class Counted(ClassifierMixin, BaseEstimator):
    """Leaves a file for every fit, in whatever process."""

    def __init__(self, folder, smoothing=0.1, random_state=None):
        self.folder = folder
        self.smoothing = smoothing
        self.random_state = random_state

    def fit(self, X, y, sample_weight=None):
        (Path(self.folder) / os.urandom(8).hex()).touch()
        self.model_ = GaussianNB(var_smoothing=self.smoothing).fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict_proba(self, X):
        return self.model_.predict_proba(X)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "count").mkdir()
    return tmp_path


def fits(folder):
    return len(list((folder / "count").iterdir()))


def distilled(folder, *, memory="cache", net=None, **params):
    net = make_classifier(max_epochs=2) if net is None else net
    memory = None if memory is None else folder / memory
    params = {"random_state": 0, "augment": "mixup", "n_augment": 1, "held_out": 0, **params}
    return DistilledClassifier(net, Counted(str(folder / "count")), memory=memory, **params)


GRID = {
    "net__alpha": [0.3, 1.0],
    "net__temperature": ["auto", 1.0, 0.5],
    "net__student__module__n_hidden": [8, 16],
}


def sweep(clf, digits, *, n_jobs=1, backend="loky", grid=GRID):
    model = Pipeline([("scale", StandardScaler()), ("net", clf)])
    search = GridSearchCV(model, grid, cv=StratifiedKFold(3), n_jobs=n_jobs, error_score="raise")
    with joblib.parallel_config(backend=backend):
        return search.fit(*digits)


def scores_of(search):
    return np.array([search.cv_results_[f"split{k}_test_score"] for k in range(3)])


@pytest.fixture(scope="module")
def uncached(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uncached")
    (folder / "count").mkdir()
    search = sweep(distilled(folder, memory=None), digits)
    assert fits(folder) == 12 * 3 + 1
    return search


@pytest.mark.parametrize(("n_jobs", "backend"), [(1, "loky"), (2, "loky"), (2, "threading")])
def test_one_teacher_for_each_fold(digits, folder, uncached, n_jobs, backend):
    """Whatever temperature, alpha and student are."""
    search = sweep(distilled(folder), digits, n_jobs=n_jobs, backend=backend)
    assert fits(folder) == 3 + 1
    np.testing.assert_array_equal(scores_of(search), scores_of(uncached))
    kinds = [entry.kind for entry in cache.list_entries(folder / "cache")]
    assert kinds.count("teacher") == 4
    # Temperatures 1 and "auto" are the same student.
    assert kinds.count("student") == 8 * 3 + 1
    sweep(distilled(folder), digits, n_jobs=n_jobs, backend=backend)
    assert fits(folder) == 3 + 1


@pytest.mark.parametrize("params", [{"cv": 3}, {"random_state": None}, {"control": True}])
def test_other_ways_to_teach_are_kept_too(digits, folder, params):
    grid = {"net__alpha": [0.5, 1.0], "net__student__module__n_hidden": [8, 16]}
    net = make_classifier(max_epochs=2, train_split=ValidSplit(4))
    sweep(distilled(folder, net=net, **params), digits, grid=grid)
    assert fits(folder) == 4 * (3 if "cv" in params else 1)


def test_a_compressed_student_is_trained_once(digits, folder):
    inner = distilled(folder, memory=None)
    steps = Pipeline([("prune", MagnitudePruner(0.5)), ("quantize", Quantizer())])
    clf = CompressedClassifier(inner, steps, memory=folder / "cache", random_state=0)
    grid = {
        "net__compressor__prune__sparsity": [0.5, 0.9],
        "net__compressor__quantize__bits": [8, 3],
    }
    search = sweep(clf, digits, n_jobs=2, grid=grid)
    assert fits(folder) == 4
    kinds = [entry.kind for entry in cache.list_entries(folder / "cache")]
    assert sorted(kinds) == ["student"] * 4 + ["teacher"] * 4
    plain = sweep(clf.set_params(memory=None), digits, grid=grid)
    np.testing.assert_array_equal(scores_of(search), scores_of(plain))


@pytest.mark.parametrize(
    "change",
    [
        {"teacher__smoothing": 0.2},
        {"random_state": 1},
        {"augment": "noise"},
        {"n_augment": 2},
        {"cv": 2},
        {"student__train_split": ValidSplit(4)},
    ],
)
def test_what_changes_the_targets_is_a_new_teacher(digits, folder, change):
    clf = distilled(folder)
    assert clf.fit(*digits).report_.teacher_trained
    report = clf.fit(*digits).report_
    assert not report.teacher_trained
    assert not report.dense_trained
    assert clf.set_params(**change).fit(*digits).report_.teacher_trained
    assert clf.report_.dense_trained


def test_other_rows_are_a_new_teacher(digits, folder):
    X, y = digits
    clf = distilled(folder).fit(X, y)
    assert clf.fit(X[:-1], y[:-1]).report_.teacher_trained
    assert clf.fit(X, np.roll(y, 1)).report_.teacher_trained
    assert clf.fit(X, y, X_unlabeled=X[:5]).report_.teacher_trained
    assert not clf.fit(X, y, X_unlabeled=X[:5]).report_.teacher_trained


@pytest.mark.parametrize(
    "change", [{"alpha": 0.7}, {"temperature": 0.5}, {"student__module__n_hidden": 7}]
)
def test_what_changes_the_student_alone(digits, folder, change):
    clf = distilled(folder).fit(*digits)
    clf.set_params(**change).fit(*digits)
    assert clf.report_.dense_trained
    assert not clf.report_.teacher_trained


@pytest.mark.filterwarnings("ignore:FrozenEstimator")
def test_another_frozen_teacher_is_another_student(digits, folder):
    X, y = digits
    one, two = (GaussianNB(var_smoothing=s).fit(X, y) for s in (0.1, 0.2))
    clf = DistilledClassifier(make_classifier(), None, memory=folder / "cache", random_state=0)
    assert clf.set_params(teacher=FrozenEstimator(one)).fit(X, y).report_.dense_trained
    assert not clf.set_params(teacher=FrozenEstimator(one)).fit(X, y).report_.dense_trained
    assert clf.set_params(teacher=FrozenEstimator(two)).fit(X, y).report_.dense_trained


def test_no_teacher_where_it_would_not_count(digits, folder):
    clf = distilled(folder, alpha=0, augment=None, n_augment=0).fit(*digits)
    assert fits(folder) == 0
    assert clf.report_.teacher_trained is False
    clf.set_params(augment="mixup", n_augment=1).fit(*digits)
    assert fits(folder) == 1


SCRIPT = """
import sys
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.naive_bayes import GaussianNB
from skorch import NeuralNetClassifier
from skcompress import DistilledClassifier

class Teacher(GaussianNB):
    def predict_proba(self, X):
        p = super().predict_proba(X) + {floor}
        return p / p.sum(axis=1, keepdims=True)

def augment(X, rng):
    return X + {shift}

X, y = load_digits(return_X_y=True)
net = NeuralNetClassifier(
    torch.nn.Linear, module__in_features=64, module__out_features=10,
    criterion=torch.nn.CrossEntropyLoss, verbose=0, max_epochs=1, train_split=None
)
clf = DistilledClassifier(
    net, Teacher(), augment=augment, n_augment=1, memory="cache", random_state=0
).fit(X / 16, y)
sys.exit(10 + clf.report_.teacher_trained)
"""


def test_an_edited_teacher_or_augmentation_is_a_new_teacher(folder):
    def trained(floor=0.1, shift=0.0):
        script = folder / "script.py"
        script.write_text(SCRIPT.format(floor=floor, shift=shift))
        done = subprocess.run(
            [sys.executable, str(script)], cwd=folder, capture_output=True, text=True, timeout=120
        )
        assert done.returncode in (10, 11), done.stderr
        return done.returncode == 11

    assert trained()
    assert not trained()
    assert trained(floor=0.2)
    assert trained(shift=0.5)


# No leak ----------------------------------------------------------------------------------------


def fitted_bits(done):
    return [
        (
            [p.detach().numpy().tobytes() for p in e["net"].net_.module_.parameters()],
            e["net"].report_.teacher_score,
            e["net"].report_.control_score,
        )
        for e in done["estimator"]
    ]


@pytest.mark.filterwarnings("ignore:The teacher is worse")
@pytest.mark.parametrize("task", ["classifier", "regressor"])
@pytest.mark.parametrize("cv", [None, 3])
def test_held_out_rows_change_nothing(digits, diabetes, task, cv):
    params = {"augment": "swap", "n_augment": 1, "control": True, "cv": cv, "random_state": 0}
    split = {"max_epochs": 2, "train_split": ValidSplit(4)}
    if task == "classifier":
        X, y = digits
        clf = DistilledClassifier(make_classifier(**split), GaussianNB(var_smoothing=0.1), **params)
    else:
        from sklearn.linear_model import Ridge

        X, y = diabetes[0], diabetes[1].ravel()
        clf = DistilledRegressor(make_regressor(module__n_in=10, **split), Ridge(), **params)
    model = Pipeline([("scale", StandardScaler()), ("net", clf)])
    rng = np.random.default_rng(0)
    for train, test in KFold(2, shuffle=True, random_state=0).split(X):
        options = {"cv": [(train, test)], "return_estimator": True}
        clean = cross_validate(model, X, y, **options)
        poisoned_X, poisoned_y = X.copy(), y.copy()
        poisoned_X[test] = rng.normal(scale=1e3, size=poisoned_X[test].shape)
        poisoned_y[test] = rng.permutation(poisoned_y[test])
        poisoned = cross_validate(model, poisoned_X, poisoned_y, **options)
        assert fitted_bits(clean) == fitted_bits(poisoned)
        poisoned_X[train[0]] += 1
        other = cross_validate(model, poisoned_X, y, **options)
        assert fitted_bits(clean) != fitted_bits(other)


def test_another_fold_trains_another_teacher(digits, folder):
    clf = distilled(folder)
    done = cross_validate(clf, *digits, cv=3, return_estimator=True)
    assert all(e.report_.teacher_trained for e in done["estimator"])
    nets = [
        torch.cat([p.flatten() for p in e.net_.module_.parameters()]) for e in done["estimator"]
    ]
    assert not torch.equal(nets[0], nets[1])
