"""The estimators as scikit-learn's citizens: clone, pickle, routing, callbacks, frozen nets."""

import copy
import gc
import pickle
import subprocess
import sys
import textwrap
import weakref
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.ensemble import StackingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, LRScheduler
from skorch.dataset import ValidSplit
from torch import nn

from skcompress import (
    CompressedClassifier,
    CompressedRegressor,
    FineTuner,
    MagnitudePruner,
    SampleWeightMixin,
)
from tests.sample_nets import MLP, make_classifier, make_regressor

COMPRESSOR = Pipeline([("prune", MagnitudePruner(0.8)), ("tune", FineTuner(2))])


@pytest.fixture(scope="module")
def fitted(digits):
    return CompressedClassifier(make_classifier(), COMPRESSOR, random_state=0).fit(*digits)


def weights_of(clf):
    return torch.cat([p.detach().flatten() for p in clf.net_.module_.parameters()])


@pytest.mark.usefixtures("global_rng_untouched")
def test_the_same_seed_gives_the_same_weights(digits, fitted):
    again = CompressedClassifier(make_classifier(), COMPRESSOR, random_state=0).fit(*digits)
    assert torch.equal(weights_of(again), weights_of(fitted))
    other = CompressedClassifier(make_classifier(), COMPRESSOR, random_state=1).fit(*digits)
    assert not torch.equal(weights_of(other), weights_of(fitted))


def test_what_was_given_is_unchanged(digits):
    net, X, y = make_classifier(), digits[0].copy(), digits[1].copy()
    compressor = clone(COMPRESSOR)
    clf = CompressedClassifier(net, compressor, random_state=0).fit(X, y)
    assert clf.estimator is net
    assert clf.compressor is compressor
    assert not net.initialized_
    assert not hasattr(compressor["prune"], "plan_")
    np.testing.assert_array_equal(X, digits[0])
    np.testing.assert_array_equal(y, digits[1])


def test_the_report(fitted):
    report = fitted.report_
    assert report.n_params == report.dense_n_params == 64 * 32 + 32 + 32 * 10 + 10
    assert report.n_nonzero == round(0.2 * 2368)
    assert report.sparsity == pytest.approx(0.8, abs=1e-3)
    assert report.dense_sparsity == 0
    assert report.macs == report.dense_macs == 2368
    assert report.dense_trained is True
    assert [row["stage"] for row in report.history] == ["dense"] * 5 + ["FineTuner"] * 2
    assert [row["epoch"] for row in report.history] == list(range(1, 8))


def test_the_result_is_a_plain_net(fitted, digits):
    X, y = digits
    assert type(fitted.net_) is NeuralNetClassifier
    np.testing.assert_array_equal(fitted.net_.predict(X), fitted.predict(X))
    net = pickle.loads(pickle.dumps(fitted.net_))
    np.testing.assert_array_equal(net.predict_proba(X), fitted.net_.predict_proba(X))
    net.partial_fit(X, y)


def test_no_compressor_is_the_dense_net(digits):
    clf = CompressedClassifier(make_classifier(), random_state=0).fit(*digits)
    assert clf.compressor_ is None
    assert clf.report_.sparsity == 0
    pruned = CompressedClassifier(make_classifier(), MagnitudePruner(0.0), random_state=0)
    assert torch.equal(weights_of(pruned.fit(*digits)), weights_of(clf))


def test_passthrough_drops_a_step(digits):
    clf = CompressedClassifier(make_classifier(), COMPRESSOR, random_state=0)
    clf = clone(clf).set_params(compressor__tune="passthrough").fit(*digits)
    assert len(clf.report_.history) == 5
    clf.set_params(compressor__prune="passthrough").fit(*digits)
    assert clf.report_.sparsity == 0


def test_before_fit(digits):
    clf = CompressedClassifier(make_classifier())
    for method in ("predict", "predict_proba", "transform"):
        with pytest.raises(NotFittedError):
            getattr(clf, method)(digits[0])


@pytest.mark.parametrize("copier", ["pickle", "joblib", "deepcopy"])
def test_copies_predict_the_same(fitted, digits, copier, tmp_path):
    import copy

    if copier == "pickle":
        other = pickle.loads(pickle.dumps(fitted))
    elif copier == "joblib":
        joblib.dump(fitted, tmp_path / "model")
        other = joblib.load(tmp_path / "model")
    else:
        other = copy.deepcopy(fitted)
    np.testing.assert_array_equal(other.predict_proba(digits[0]), fitted.predict_proba(digits[0]))
    assert other.report_.sparsity == fitted.report_.sparsity
    other.net_.partial_fit(*digits)
    assert not torch.equal(weights_of(other), weights_of(fitted))


def test_pickles_are_small(digits):
    net = make_classifier(module__n_hidden=200, callbacks=[EpochScoring("accuracy")])
    clf = CompressedClassifier(net, COMPRESSOR, random_state=0).fit(*digits)
    n_bytes = sum(p.numel() * 4 for p in clf.net_.module_.parameters())
    assert len(pickle.dumps(clf)) < n_bytes + 12_000


def test_in_the_middle_of_a_pipeline(digits):
    X, y = digits
    clf = CompressedClassifier(make_classifier(max_epochs=20), COMPRESSOR, random_state=0)
    model = make_pipeline(StandardScaler(), clf, LogisticRegression(max_iter=500)).fit(X, y)
    assert model.score(X, y) > 0.9
    inner = model[:-1].transform(X)
    assert inner.shape == (360, 10)
    assert inner.dtype == np.float32
    assert model[:-1].get_feature_names_out()[0] == "compressedclassifier0"


def test_in_a_stack(digits):
    clf = CompressedClassifier(make_classifier(max_epochs=20), COMPRESSOR, random_state=0)
    stack = StackingClassifier([("net", clf)], LogisticRegression(max_iter=500), cv=2)
    assert stack.fit(*digits).score(*digits) > 0.9


def halve(net):
    from skcompress._nets import copy_net

    net = copy_net(net)
    with torch.no_grad():
        net.module_.out.weight.mul_(0.5)
    return net


def test_any_function_of_a_net_can_be_a_step(digits):
    dense = CompressedClassifier(make_classifier(), random_state=0).fit(*digits)
    clf = CompressedClassifier(make_classifier(), FunctionTransformer(halve), random_state=0)
    clf.fit(*digits)
    expected = dense.net_.module_.out.weight / 2
    assert torch.equal(clf.net_.module_.out.weight, expected)


# Nets with things of their own ------------------------------------------------------------------


class CountRows(Callback):
    """Writes down on how many rows each epoch trains and validates."""

    seen: list = []

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        CountRows.seen.append((len(dataset_train), len(dataset_valid)))


@pytest.mark.parametrize("split", [ValidSplit(4, stratified=True), ValidSplit(0.25)])
def test_the_nets_own_split_in_every_stage(digits, split):
    CountRows.seen.clear()
    net = make_classifier(train_split=split, callbacks=[CountRows])
    prune = MagnitudePruner(0.8, n_steps=2, fine_tuner=FineTuner(2))
    compressor = Pipeline([("prune", prune), ("tune", FineTuner(3))])
    clf = CompressedClassifier(net, compressor, random_state=0).fit(*digits)
    assert CountRows.seen == [(270, 90)] * 10
    assert len(clf.report_.history) == 10
    assert all(0 <= row["valid_acc"] <= 1 for row in clf.report_.history)


def test_callbacks_of_the_net(digits):
    net = make_classifier(
        callbacks=[
            EarlyStopping(monitor="train_loss", patience=1, threshold=0.3),
            ("schedule", LRScheduler("StepLR", step_size=1, gamma=0.9)),
            EpochScoring("accuracy", on_train=True, name="train_acc"),
        ],
        max_epochs=50,
    )
    clf = CompressedClassifier(net, COMPRESSOR, random_state=0).fit(*digits)
    assert len(clf.report_.history) < 52
    assert "train_acc" in clf.report_.history[0]


class SetWidth(Callback):
    """skorch's recipe for a net that learns its width from the data."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        net.set_params(module__n_in=X.shape[1])


def test_a_callback_that_sets_the_width(digits):
    net = make_classifier(callbacks=[SetWidth()], module__n_in=3)
    clf = CompressedClassifier(net, COMPRESSOR, random_state=0).fit(*digits)
    assert clf.net_.module_.hidden.in_features == 64


class OwnFit(NeuralNetClassifier):
    """A subclass that prepares its targets, as users write them."""

    def fit(self, X, y, **fit_params):
        return super().fit(X, np.asarray(y)[::-1][::-1], **fit_params)

    def predict(self, X):
        return np.zeros(len(X), dtype=int)


def test_overridden_methods_are_used(digits):
    net = OwnFit(MLP, criterion=nn.CrossEntropyLoss, verbose=0, train_split=None)
    clf = CompressedClassifier(net, random_state=0).fit(digits[0], digits[1] + 5)
    assert set(clf.predict(digits[0])) == {5}


def test_skorch_prints_as_it_is_told(digits, capsys):
    CompressedClassifier(make_classifier(), COMPRESSOR, random_state=0).fit(*digits)
    assert capsys.readouterr().out == ""
    net = make_classifier(verbose=1, max_epochs=1)
    CompressedClassifier(net, random_state=0).fit(*digits)
    assert "train_loss" in capsys.readouterr().out


# Sample weights and metadata routing ------------------------------------------------------------


class Weighted(SampleWeightMixin, NeuralNetClassifier):
    pass


def weighted_net():
    return Weighted(
        MLP, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, lr=0.5, max_epochs=40
    )


def test_the_signature_says_whether_weights_work():
    import inspect

    plain, weighted = CompressedClassifier(make_classifier()), CompressedClassifier(weighted_net())
    assert "sample_weight" in inspect.signature(CompressedClassifier.fit).parameters
    assert "sample_weight" in inspect.signature(weighted.fit).parameters
    assert "sample_weight" not in inspect.signature(plain.fit).parameters
    assert plain.fit.__doc__ == CompressedClassifier.fit.__doc__


def test_weights_for_a_net_that_takes_none(digits):
    X, y = digits
    with pytest.raises(TypeError, match=r"its net cannot use it.*SampleWeightMixin"):
        CompressedClassifier(make_classifier()).fit(X, y, sample_weight=np.ones(len(X)))


@pytest.mark.parametrize("routing", [False, True])
def test_weights_reach_the_net(digits, routing):
    X, y = digits
    wrong = np.arange(len(X)) % 2 == 0
    labels = np.where(wrong, (y + 1) % 10, y)
    with config_context(enable_metadata_routing=routing):
        clf = CompressedClassifier(weighted_net(), COMPRESSOR, random_state=0)
        if routing:
            model = Pipeline([("net", clf.set_fit_request(sample_weight=True))])
            model.fit(X, labels, sample_weight=~wrong)
        else:
            model = Pipeline([("net", clf)]).fit(X, labels, net__sample_weight=~wrong)
        assert model.score(X, y) > 0.85


@pytest.mark.parametrize("routing", [False, True])
def test_cross_validation_with_routing_on_and_off(digits, routing):
    X, y = digits
    with config_context(enable_metadata_routing=routing):
        clf = CompressedClassifier(make_classifier(), COMPRESSOR, random_state=0)
        assert cross_val_score(clf, X, y, cv=2, error_score="raise").mean() > 0.5


@pytest.mark.parametrize("weights", [np.ones(3), np.full(360, np.nan), "all"])
def test_bad_weights(digits, weights):
    with pytest.raises(ValueError, match="sample_weight|could not convert"):
        CompressedClassifier(weighted_net()).fit(*digits, sample_weight=weights)


# Callbacks of scikit-learn ----------------------------------------------------------------------


class Recorder:
    """A scikit-learn callback that records its tasks."""

    max_propagation_depth = None

    def __init__(self):
        self.tasks = []

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        self.tasks.append((context.estimator_name, context.task_name))

    def on_fit_task_end(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass


def test_tasks_that_callbacks_see(digits):
    recorder = Recorder()
    clf = CompressedClassifier(make_classifier(), COMPRESSOR, random_state=0)
    clf.set_callbacks(recorder).fit(*digits)
    tasks = [task for name, task in recorder.tasks if name == "CompressedClassifier"]
    assert tasks == ["fit", "train", *["epoch"] * 5]
    assert [name for name, task in recorder.tasks if task == "epoch"].count("FineTuner") == 2
    assert {name for name, _ in recorder.tasks} >= {"Pipeline", "MagnitudePruner", "FineTuner"}
    pickle.dumps(clf)


def test_progress_bars(digits, capsys):
    clf = CompressedClassifier(make_classifier(), COMPRESSOR, random_state=0)
    model = Pipeline([("scale", StandardScaler()), ("net", clf)])
    model.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(*digits)
    text = capsys.readouterr().out
    assert "CompressedClassifier" in text
    assert "train" in text


# Frozen nets ------------------------------------------------------------------------------------


def test_a_frozen_net_is_compressed_without_training(fitted_classifier, digits):
    before = fitted_classifier.module_.hidden.weight.detach().clone()
    clf = CompressedClassifier(FrozenEstimator(fitted_classifier), MagnitudePruner(0.5))
    with pytest.warns(UserWarning, match="scores are too good"):
        clf.fit(*digits)
    assert torch.equal(fitted_classifier.module_.hidden.weight, before)
    kept = clf.net_.module_.hidden.weight != 0
    assert torch.equal(clf.net_.module_.hidden.weight[kept], before[kept])
    assert clf.report_.dense_trained is False
    assert clone(clf).estimator.estimator is fitted_classifier


@pytest.mark.filterwarnings("ignore:FrozenEstimator")
def test_labels_of_a_frozen_net(fitted_classifier, digits):
    X, y = digits
    frozen = FrozenEstimator(fitted_classifier)
    expected = fitted_classifier.predict(X)
    few = y < 3
    clf = CompressedClassifier(frozen).fit(X[few], y[few])
    np.testing.assert_array_equal(clf.predict(X), expected)
    names = np.array([f"digit {i}" for i in range(10)])
    clf = CompressedClassifier(frozen).fit(X, names[y])
    np.testing.assert_array_equal(clf.predict(X), names[expected])
    with pytest.raises(ValueError, match=r"10 outputs, but y has the 3 labels"):
        CompressedClassifier(frozen).fit(X[few], names[y[few]])


@pytest.mark.filterwarnings("ignore:FrozenEstimator")
def test_a_frozen_regressor(fitted_regressor, diabetes):
    reg = CompressedRegressor(FrozenEstimator(fitted_regressor)).fit(*diabetes)
    np.testing.assert_allclose(reg.predict(diabetes[0]), fitted_regressor.predict(diabetes[0]))
    frozen = CompressedRegressor(FrozenEstimator(make_regressor()))
    with pytest.raises(NotFittedError):
        frozen.fit(*diabetes)


# Modules that live in __main__ ------------------------------------------------------------------


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_module_defined_in_main(tmp_path, n_jobs):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import pickle
            import numpy as np
            import torch
            from sklearn.datasets import load_digits
            from sklearn.frozen import FrozenEstimator
            from sklearn.model_selection import GridSearchCV, cross_validate
            from sklearn.pipeline import Pipeline
            from skorch import NeuralNetClassifier
            from skcompress import CompressedClassifier, FineTuner, MagnitudePruner

            class Net(torch.nn.Module):
                def __init__(self):
                    super().__init__()
                    self.layer = torch.nn.Linear(64, 10)

                def forward(self, X):
                    return self.layer(X)

            X, y = load_digits(return_X_y=True)
            X = (X / 16).astype("float32")
            net = NeuralNetClassifier(
                Net, criterion=torch.nn.CrossEntropyLoss, verbose=0, lr=0.5, train_split=None
            )
            steps = Pipeline([("prune", MagnitudePruner(0.5)), ("tune", FineTuner(1))])
            options = dict(cv=3, n_jobs={n_jobs}, return_estimator=True, error_score="raise")
            clf = CompressedClassifier(net, steps, memory="cache", random_state=0)
            done = cross_validate(clf, X, y, **options)
            assert done["test_score"].min() > 0.8, done
            for fitted in done["estimator"]:
                assert type(fitted.net_.module_) is Net
                assert pickle.loads(pickle.dumps(fitted)).report_.sparsity == 0.5
            again = cross_validate(clf, X, y, **options)
            assert not any(fitted.report_.dense_trained for fitted in again["estimator"])
            net.fit(X, y.astype("int64"))
            grid = {{"compressor__prune__sparsity": [0.2, 0.5]}}
            search = GridSearchCV(clf, grid, n_jobs={n_jobs})
            assert search.fit(X, y).best_score_ > 0.8
            frozen = CompressedClassifier(FrozenEstimator(net), steps)
            done = cross_validate(frozen, X, y, **options)
            assert done["test_score"].min() > 0.8, done
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_predicted_targets_claim_no_more_digits_than_the_net_has(diabetes):
    X, y = diabetes
    one = CompressedRegressor(make_regressor(module__n_in=10), random_state=0).fit(X, y)
    assert one.predict(X).dtype == np.float32
    two = CompressedRegressor(make_regressor(module__n_in=10, module__n_out=2), random_state=0)
    assert two.fit(X, np.c_[y, -y]).predict(X).dtype == np.float64


@pytest.mark.parametrize("look", [lambda clf: clf.report_, pickle.dumps, copy.deepcopy])
def test_the_first_look_at_the_report_lets_the_dense_net_go(digits, look):
    X, y = (array.copy() for array in digits)
    clf = CompressedClassifier(make_classifier(), COMPRESSOR, random_state=0).fit(X, y)
    rows, dense = weakref.ref(X), weakref.ref(clf._unmeasured.dense_net)
    del X
    gc.collect()
    assert rows() is None
    look(clf)
    gc.collect()
    assert dense() is None
    assert clf.report_ is clf.report_
    assert clf.report_.nbytes < clf.report_.dense_nbytes
    assert clf.report_.sparsity == pytest.approx(0.8, abs=1e-3)


def test_many_threads_look_at_a_report_at_once(digits):
    clf = CompressedClassifier(make_classifier(), COMPRESSOR, random_state=0).fit(*digits)
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(lambda _: clf.report_.nbytes, range(32)))
    assert len(set(sizes)) == 1


def test_an_unfitted_estimator_has_no_report():
    assert not hasattr(CompressedClassifier(make_classifier()), "report_")
