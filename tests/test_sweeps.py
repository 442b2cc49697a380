"""One training per fold, the same scores with and without a cache, and no leak."""

import os
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    KFold,
    RandomizedSearchCV,
    RepeatedKFold,
    RepeatedStratifiedKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

import skcompress
from skcompress import (
    CompressedClassifier,
    CompressedRegressor,
    FineTuner,
    MagnitudePruner,
    Quantizer,
    cache,
)
from skcompress.exceptions import CacheWarning
from tests.sample_nets import MLP, make_classifier, make_regressor


class CountTrainings(Callback):
    """Leaves a file for every training of more than `tuning` epochs, in whatever process."""

    def __init__(self, folder, tuning=0):
        self.folder = folder
        self.tuning = tuning

    def on_train_begin(self, net, **kwargs):
        if net.max_epochs > self.tuning:
            (Path(self.folder) / os.urandom(8).hex()).touch()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "count").mkdir()
    return tmp_path


def trainings(folder):
    return len(list((folder / "count").iterdir()))


STEPS = [("prune", MagnitudePruner(0.5)), ("tune", FineTuner(2)), ("quantize", Quantizer())]
GRID = [
    {"net__compressor": [None]},
    {
        "net__compressor__prune__sparsity": [0.5, 0.9],
        "net__compressor__tune": [FineTuner(2), "passthrough"],
        "net__compressor__quantize__bits": [8, 3],
    },
]


def sweep(folder, digits, *, memory, n_jobs=1, grid=GRID, tuning=2, backend="loky", **params):
    callbacks = [CountTrainings(str(folder / "count"), tuning)]
    net = make_classifier(max_epochs=3, callbacks=callbacks)
    params = {"random_state": 0, **params}
    clf = CompressedClassifier(net, Pipeline(STEPS), memory=memory, **params)
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
    search = sweep(folder, digits, memory=None)
    # 9 settings x 3 folds and the refit: without memory each trains its own dense net.
    assert trainings(folder) == 9 * 3 + 1
    return search


@pytest.mark.parametrize(
    ("n_jobs", "backend"), [(1, "loky"), (2, "loky"), (2, "threading"), (3, "multiprocessing")]
)
def test_one_training_per_fold_and_the_same_scores(digits, folder, uncached, n_jobs, backend):
    memory = folder / "cache"
    search = sweep(folder, digits, memory=memory, n_jobs=n_jobs, backend=backend)
    assert trainings(folder) == 3 + 1
    np.testing.assert_array_equal(scores_of(search), scores_of(uncached))
    best, expected = search.best_estimator_["net"].net_, uncached.best_estimator_["net"].net_
    for name, value in expected.module_.state_dict().items():
        assert torch.equal(best.module_.state_dict()[name], value)
    # Two sparsities are tuned once per fold, whatever the bits behind them.
    kinds = [entry.kind for entry in cache.list_entries(memory)]
    assert kinds.count("dense") == 4
    assert kinds.count("finetuner") in (6, 7)


def test_a_second_sweep_trains_nothing(digits, folder):
    first = sweep(folder, digits, memory=folder / "cache")
    second = sweep(folder, digits, memory=joblib.Memory(folder / "cache", verbose=0))
    assert trainings(folder) == 4
    np.testing.assert_array_equal(scores_of(first), scores_of(second))
    assert cache.size(folder / "cache") > 0
    assert cache.clear(folder / "cache") > 4
    sweep(folder, digits, memory=folder / "cache")
    assert trainings(folder) == 8


def test_tunings_and_gradual_pruning_are_kept_too(digits, folder):
    gradual = MagnitudePruner(0.8, n_steps=3, fine_tuner=FineTuner(1))
    grid = [
        {
            "net__compressor__prune": [gradual],
            "net__compressor__quantize__bits": [8, 6, 4, 3],
        }
    ]
    sweep(folder, digits, memory=folder / "cache", grid=grid, tuning=0)
    # Per fold and for the refit: a dense net, two trainings between three steps, a tuning.
    assert trainings(folder) == 4 * (1 + 2 + 1)


def test_without_a_seed_the_cache_decides(digits, folder):
    first = sweep(folder, digits, memory=folder / "one", random_state=None)
    second = sweep(folder, digits, memory=folder / "two", random_state=None, n_jobs=2)
    np.testing.assert_array_equal(scores_of(first), scores_of(second))
    assert trainings(folder) == 8


@pytest.mark.parametrize(
    "change",
    [
        {"estimator__lr": 0.02},
        {"estimator__module__n_hidden": 16},
        {"estimator__optimizer__weight_decay": 0.1},
        {"estimator__iterator_train__shuffle": False},
        {"random_state": 1},
        {"estimator__callbacks__print_log": None},
    ],
)
def test_what_changes_a_training_is_a_new_training(digits, folder, change):
    clf = CompressedClassifier(make_classifier(), memory=folder / "cache", random_state=0)
    assert clf.fit(*digits).report_.dense_trained
    assert not clf.fit(*digits).report_.dense_trained
    assert clf.set_params(**change).fit(*digits).report_.dense_trained


def test_another_release_of_ours_is_a_new_training(digits, folder, monkeypatch):
    from skcompress.estimators._base import training as _training

    clf = CompressedClassifier(make_classifier(), memory=folder / "cache", random_state=0)
    clf.fit(*digits)
    own, *others = _training.library_versions()
    assert own == skcompress.__version__
    monkeypatch.setattr(_training, "library_versions", lambda: ("99.0", *others))
    assert clf.fit(*digits).report_.dense_trained


def test_other_rows_are_a_new_training(digits, folder):
    X, y = digits
    clf = CompressedClassifier(make_classifier(), memory=folder / "cache", random_state=0)
    clf.fit(X, y)
    assert clf.fit(X[:-1], y[:-1]).report_.dense_trained
    assert clf.fit(X, np.roll(y, 1)).report_.dense_trained
    changed = X.copy()
    changed[0, 0] += 1e-3
    assert clf.fit(changed, y).report_.dense_trained


def test_what_only_prints_or_compresses_is_no_new_training(digits, folder):
    clf = CompressedClassifier(make_classifier(), memory=folder / "cache", random_state=0)
    clf.fit(*digits)
    clf.set_params(compressor=MagnitudePruner(0.5)).fit(*digits)
    assert not clf.report_.dense_trained
    assert not clf.fit(digits[0].astype(float), digits[1].astype(str)).report_.dense_trained


SCRIPT = """
import sys
import torch
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from skcompress import CompressedClassifier

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)

    def forward(self, X):
        return self.layer(X * {factor})

X, y = load_digits(return_X_y=True)
net = NeuralNetClassifier(
    Net, criterion=torch.nn.CrossEntropyLoss, verbose=0, max_epochs=1, train_split=None
)
clf = CompressedClassifier(net, memory="cache", random_state=0).fit(X, y)
sys.exit(10 + clf.report_.dense_trained)
"""


def test_an_edited_forward_is_a_new_training(folder):
    def trained(factor, comment=""):
        script = folder / "script.py"
        script.write_text(comment + SCRIPT.format(factor=factor))
        done = subprocess.run(
            [sys.executable, str(script)], cwd=folder, capture_output=True, text=True, timeout=120
        )
        assert done.returncode in (10, 11), done.stderr
        return done.returncode == 11

    assert trained(factor=0.1)
    assert not trained(factor=0.1)
    assert not trained(factor=0.1, comment="# a comment moves every line\n\n")
    assert trained(factor=0.2)


class Handle:
    """Holds an open file, which has no content to compare, but lets itself be copied."""

    def __init__(self, file):
        self.file = file

    def __deepcopy__(self, memo):
        return self


class WithHandle(Callback):
    def __init__(self, handle):
        self.handle = handle


class Stateful(MLP):
    """Keeps what decides its output outside of its state_dict."""

    offset = 0.0

    def forward(self, X):
        if self.training:
            self.offset += 0.01
        return super().forward(X) + torch.arange(10) * self.offset


def test_what_cannot_be_kept_is_trained_each_time(digits, folder):
    with Path(os.devnull).open() as handle:
        net = make_classifier(callbacks=[WithHandle(Handle(handle))])
        clf = CompressedClassifier(net, FineTuner(1), memory=folder / "cache", random_state=0)
        for _ in range(2):
            with pytest.warns(CacheWarning, match=r"not kept in the cache.*handle"):
                clf.fit(*digits)
            assert clf.report_.dense_trained
    assert cache.list_entries(folder / "cache") == []


def test_a_module_with_hidden_state(digits, folder):
    plain = CompressedClassifier(make_classifier(Stateful), random_state=0).fit(*digits)
    clf = CompressedClassifier(
        make_classifier(Stateful), FineTuner(0), memory=folder / "cache", random_state=0
    )
    with pytest.warns(CacheWarning, match="outside its state_dict"):
        clf.fit(*digits)
    np.testing.assert_array_equal(clf.predict_proba(digits[0]), plain.predict_proba(digits[0]))


def test_a_damaged_entry_is_trained_anew(digits, folder):
    clf = CompressedClassifier(make_classifier(), memory=folder / "cache", random_state=0)
    expected = clf.fit(*digits).predict_proba(digits[0])
    (entry,) = (folder / "cache").rglob("dense-*")
    content = bytearray(entry.read_bytes())
    content[len(content) // 2] ^= 1
    entry.write_bytes(content)
    with pytest.warns(CacheWarning):
        clf.fit(*digits)
    assert clf.report_.dense_trained
    np.testing.assert_array_equal(clf.predict_proba(digits[0]), expected)
    assert not clf.fit(*digits).report_.dense_trained


def test_a_location_that_cannot_be_written(digits, folder):
    (folder / "file").touch()
    clf = CompressedClassifier(make_classifier(), memory=folder / "file", random_state=0)
    with pytest.warns(CacheWarning):
        clf.fit(*digits)
    assert clf.report_.dense_trained


# No leak ----------------------------------------------------------------------------------------


def fitted_bits(estimators):
    """Return all that was fitted: the nets' arrays, the scaler's, and the plans."""
    return [
        (
            {k: v.numpy().tobytes() for k, v in e["net"].net_.module_.state_dict().items()},
            e["scale"].mean_.tobytes(),
            repr(e["net"].compressor_["prune"].plan_),
            repr(e["net"].compressor_["quantize"].plan_),
            [{k: v for k, v in row.items() if k != "dur"} for row in e["net"].report_.history],
        )
        for e in estimators
    ]


@pytest.mark.parametrize("task", ["classifier", "regressor"])
def test_held_out_rows_change_nothing_that_is_fitted(digits, diabetes, task):
    if task == "classifier":
        (X, y), net = digits, make_classifier(max_epochs=2, train_split=None)
        cls = CompressedClassifier
    else:
        X, y = diabetes[0], diabetes[1].ravel()
        net, cls = make_regressor(module__n_in=10, max_epochs=2), CompressedRegressor
    rng = np.random.default_rng(0)
    steps = [
        ("prune", MagnitudePruner(0.8, n_steps=2, fine_tuner=FineTuner(1))),
        ("tune", FineTuner(1, alpha=0.5)),
        ("quantize", Quantizer(4)),
    ]
    model = Pipeline(
        [("scale", StandardScaler()), ("net", cls(net, Pipeline(steps), random_state=0))]
    )
    for train, test in KFold(3, shuffle=True, random_state=0).split(X):
        split = [(train, test)]
        clean = cross_validate(model, X, y, cv=split, return_estimator=True)
        poisoned_X, poisoned_y = X.copy(), y.copy()
        poisoned_X[test] = rng.normal(scale=1e6, size=poisoned_X[test].shape)
        poisoned_y[test] = rng.permutation(poisoned_y[test])
        poisoned = cross_validate(model, poisoned_X, poisoned_y, cv=split, return_estimator=True)
        assert fitted_bits(clean["estimator"]) == fitted_bits(poisoned["estimator"])
        # The poison is real: a training row of it would have been seen.
        poisoned_X[train[0]] += 1
        other = cross_validate(model, poisoned_X, y, cv=split, return_estimator=True)
        assert fitted_bits(clean["estimator"]) != fitted_bits(other["estimator"])


# scikit-learn's own tools -----------------------------------------------------------------------

SPLITTERS = [
    KFold(3),
    KFold(3, shuffle=True, random_state=0),
    StratifiedKFold(3),
    StratifiedKFold(3, shuffle=True, random_state=0),
    RepeatedKFold(n_splits=2, n_repeats=2, random_state=0),
    RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0),
    StratifiedShuffleSplit(2, test_size=0.3, random_state=0),
    GroupKFold(3),
]


def small_model(memory=None):
    clf = CompressedClassifier(
        make_classifier(max_epochs=15), Pipeline(STEPS), memory=memory, random_state=0
    )
    return Pipeline([("scale", StandardScaler()), ("net", clf)])


@pytest.mark.parametrize("cv", SPLITTERS, ids=lambda cv: repr(cv).split("(")[0])
def test_splitters(digits, cv):
    X, y = digits
    groups = np.arange(len(X)) % 6 if isinstance(cv, GroupKFold) else None
    done = cross_validate(
        small_model(), X, y, cv=cv, groups=groups, return_estimator=True, error_score="raise"
    )
    assert len(done["test_score"]) == cv.get_n_splits(X, y, groups)
    assert done["test_score"].min() > 0.5
    for (train, _), fitted in zip(cv.split(X, y, groups), done["estimator"], strict=True):
        assert fitted["net"].report_.sparsity == pytest.approx(0.5, abs=0.02)
        np.testing.assert_allclose(fitted["scale"].mean_, X[train].mean(axis=0), atol=1e-5)


def test_cross_val_score_in_parallel(digits):
    one, two = (
        cross_val_score(small_model(), *digits, cv=3, n_jobs=n_jobs, error_score="raise")
        for n_jobs in (1, 2)
    )
    np.testing.assert_array_equal(one, two)


def test_randomized_search(digits, folder):
    search = RandomizedSearchCV(
        small_model(folder / "cache"),
        {"net__compressor__prune__sparsity": np.linspace(0, 0.95, 20)},
        n_iter=4,
        cv=2,
        random_state=0,
        error_score="raise",
    ).fit(*digits)
    assert search.best_score_ > 0.5
    assert [e.kind for e in cache.list_entries(folder / "cache")].count("dense") == 3


def trade_off(model, X, y):
    """Score accuracy and size as one number, which halving needs."""
    return model.score(X, y) + 0.01 * model["net"].report_.sparsity


def test_halving_search(digits):
    search = HalvingGridSearchCV(
        small_model(),
        {"net__compressor__prune__sparsity": [0.2, 0.5, 0.8, 0.99]},
        scoring=trade_off,
        cv=2,
        min_resources=100,
        random_state=0,
        error_score="raise",
    ).fit(*digits)
    assert search.best_params_["net__compressor__prune__sparsity"] < 0.99


def test_learning_curve(digits, folder):
    sizes, _, scores = learning_curve(
        small_model(folder / "cache"),
        *digits,
        cv=StratifiedKFold(2),
        train_sizes=[0.2, 0.5, 1.0],
        shuffle=True,
        random_state=0,
        error_score="raise",
    )
    assert list(sizes) == [36, 90, 180]
    assert scores.mean(axis=1)[2] > scores.mean(axis=1)[0]


def test_nested_cross_validation(digits, folder):
    search = GridSearchCV(
        small_model(folder / "cache"),
        {"net__compressor__prune__sparsity": [0.5, 0.9]},
        cv=2,
        error_score="raise",
    )
    scores = cross_val_score(search, *digits, cv=2, error_score="raise")
    assert scores.min() > 0.5
    # Two outer folds with two inner ones and a refit each.
    assert [e.kind for e in cache.list_entries(folder / "cache")].count("dense") == 2 * (2 + 1)
