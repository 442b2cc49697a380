"""The distilling estimators as scikit-learn's and skorch's citizens, and what they report."""

import inspect
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.callback import ProgressBar
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, Checkpoint, EarlyStopping, EpochScoring, LRScheduler
from skorch.dataset import ValidSplit
from torch import nn

from skcompress import (
    CompressedClassifier,
    CompressedRegressor,
    DistilledClassifier,
    DistilledRegressor,
    FineTuner,
    MagnitudePruner,
    Quantizer,
    SampleWeightMixin,
    io,
)
from skcompress._caching.store import Store
from skcompress.estimators._distillation.frames import Inputs
from skcompress.estimators._distillation.soft_targets import TeacherSettings, collect_targets
from skcompress.estimators._distillation.teacher_targets import TeacherRows
from tests.sample_nets import MLP, make_classifier, make_regressor

FOREST = RandomForestClassifier(40, max_depth=9)
SPLIT = ValidSplit(4, stratified=True)


def weights_of(clf):
    return torch.cat([p.detach().flatten() for p in clf.net_.module_.parameters()])


def distilled(net=None, teacher=FOREST, **params):
    net = make_classifier() if net is None else net
    return DistilledClassifier(net, teacher, **{"random_state": 0, **params})


@pytest.fixture(scope="module")
def fitted(digits):
    net = make_classifier(max_epochs=20, train_split=SPLIT)
    # A better teacher than FOREST, which is worse than this student.
    clf = distilled(net, KNeighborsClassifier(3), augment="mixup", n_augment=1, control=True)
    return clf.fit(*digits)


# The student is a net ---------------------------------------------------------------------------


def test_the_student_is_a_plain_net(fitted, digits):
    X, y = digits
    assert type(fitted.net_) is NeuralNetClassifier
    np.testing.assert_array_equal(fitted.net_.predict(X), fitted.predict(X))
    content = pickle.dumps(fitted.net_)
    assert b"Neighbors" not in content
    assert b"skcompress" not in content
    net = pickle.loads(content)
    np.testing.assert_array_equal(net.predict_proba(X), fitted.net_.predict_proba(X))
    net.partial_fit(X, y)


def test_pickles_hold_no_teacher_unless_asked(digits):
    X, y = digits
    clf = distilled().fit(X, y)
    kept = distilled(keep_teacher=True).fit(X, y)
    n_bytes = sum(p.numel() * 4 for p in clf.net_.module_.parameters())
    assert len(pickle.dumps(clf)) < n_bytes + 14_000
    assert len(pickle.dumps(kept)) > n_bytes + 50_000
    again = pickle.loads(pickle.dumps(kept))
    np.testing.assert_array_equal(again.teacher_.predict_proba(X), kept.teacher_.predict_proba(X))
    np.testing.assert_array_equal(again.predict_proba(X), kept.predict_proba(X))
    assert torch.equal(weights_of(kept), weights_of(clf))
    assert not hasattr(kept.set_params(keep_teacher=False).fit(X, y), "teacher_")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clf)).predict(X), clf.predict(X))


def test_a_kept_teacher_is_the_one_of_the_targets(digits, tmp_path):
    X, y = digits
    net = make_classifier(train_split=SPLIT)
    first = distilled(net, keep_teacher=True, memory=tmp_path).fit(X, y)
    second = distilled(net, keep_teacher=True, memory=tmp_path).fit(X, y)
    assert first.report_.teacher_trained
    assert not second.report_.teacher_trained
    expected = first.teacher_.predict_proba(X)
    np.testing.assert_array_equal(second.teacher_.predict_proba(X), expected)


@pytest.mark.usefixtures("global_rng_untouched")
def test_the_same_seed_gives_the_same_weights(digits):
    params = {"augment": "noise", "n_augment": 2, "cv": 3}
    one, two, other = (distilled(random_state=s, **params).fit(*digits) for s in (0, 0, 1))
    assert torch.equal(weights_of(one), weights_of(two))
    assert not torch.equal(weights_of(one), weights_of(other))


def test_what_was_given_is_unchanged(digits):
    net, teacher = make_classifier(), clone(FOREST)
    X, y = digits[0].copy(), digits[1].copy()
    clf = distilled(net, teacher, augment="swap", n_augment=1).fit(X, y)
    assert clf.student is net
    assert clf.teacher is teacher
    assert not net.initialized_
    assert teacher.random_state is None
    assert not hasattr(teacher, "estimators_")
    np.testing.assert_array_equal(X, digits[0])
    np.testing.assert_array_equal(y, digits[1])


def test_before_fit(digits):
    clf = distilled()
    for method in ("predict", "predict_proba", "transform"):
        with pytest.raises(NotFittedError):
            getattr(clf, method)(digits[0])


# skorch stays skorch ----------------------------------------------------------------------------


class Spy(Callback):
    """Records the arguments of a training's callbacks."""

    calls: list = []

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        Spy.calls.append(("train", type(X), X.shape, y.shape))

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        Spy.calls.append(("epoch", len(dataset_train), len(dataset_valid)))

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        Spy.calls.append(("batch", training, type(batch[0]), len(batch[0])))

    def on_batch_end(self, net, batch=None, y_pred=None, training=False, **kwargs):
        Spy.calls.append(("after", training, len(y_pred), len(batch[1])))


def test_callbacks_see_the_rows_that_the_net_was_given(digits):
    Spy.calls.clear()
    net = make_classifier(train_split=SPLIT, max_epochs=1, callbacks=[Spy], batch_size=30)
    distilled(net, augment="mixup", n_augment=3).fit(*digits)
    kinds = {}
    for kind, *rest in Spy.calls:
        kinds.setdefault(kind, []).append(rest)
    assert kinds["train"] == [[np.ndarray, (360, 64), (360,)]]
    assert kinds["epoch"] == [[270, 90]]
    assert {batch[1] for batch in kinds["batch"]} == {torch.Tensor}
    assert sum(n for training, _, n in kinds["batch"] if training) == 270
    assert sum(n for training, _, n in kinds["batch"] if not training) == 90
    assert sum(n for training, n, _ in kinds["after"] if training) == 270
    assert all(n_pred == n_true for _, n_pred, n_true in kinds["after"])
    # 270 rows and 810 copies in batches of 30.
    assert sum(training for training, *_ in kinds["after"]) == 36


class CountInfer(NeuralNetClassifier):
    rows: list = []

    def infer(self, x, **fit_params):
        CountInfer.rows.append((self.module_.training, len(x)))
        return super().infer(x, **fit_params)


def test_validation_rows_are_split_off_before_augmenting(digits):
    """They are neither trained on nor copied, and scored with the net's ordinary loss."""
    X, y = digits
    seen = []

    def spy(rows, rng):
        seen.append(rows.copy())
        return rows

    CountInfer.rows.clear()
    net = make_classifier(train_split=SPLIT)
    net = CountInfer(**{**net.get_params(deep=False), "max_epochs": 2})
    clf = distilled(net, augment=spy, n_augment=2, keep_teacher=True).fit(X, y)
    train, valid = ValidSplit(4, stratified=True)(net.get_dataset(X, y), y)
    np.testing.assert_array_equal(seen[0], np.tile(X[np.asarray(train.indices)], (2, 1)))
    assert sum(n for training, n in CountInfer.rows if training) == 2 * 3 * 270
    # The teacher has not seen them either: the same forest from the training rows alone.
    rows = np.asarray(train.indices)
    forest = clone(FOREST).set_params(random_state=clf.teacher_.random_state)
    np.testing.assert_array_equal(
        clf.teacher_.predict_proba(X), forest.fit(X[rows], y[rows]).predict_proba(X)
    )
    held = np.asarray(valid.indices)
    loss = nn.functional.cross_entropy(torch.tensor(clf.transform(X[held])), torch.tensor(y[held]))
    assert clf.report_.history[-1]["valid_loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert clf.report_.student_score == clf.score(X[held], y[held])
    assert clf.report_.student_score == pytest.approx(clf.report_.history[-1]["valid_acc"])
    assert clf.report_.teacher_score == clf.teacher_.score(X[held], y[held])
    assert clf.report_.n_held_out == 90


def test_scores_and_schedules_of_the_net(digits, tmp_path):
    net = make_classifier(
        train_split=SPLIT,
        max_epochs=60,
        callbacks=[
            EpochScoring("accuracy", name="cached", on_train=True, lower_is_better=False),
            EpochScoring("accuracy", name="fresh", on_train=True, use_caching=False),
            EpochScoring("f1_macro", name="valid_f1", lower_is_better=False),
            EpochScoring(lambda net, X, y: len(X), name="n_rows", use_caching=False),
            LRScheduler("StepLR", step_size=3),
            EarlyStopping(patience=3, threshold=0.2),
            Checkpoint(dirname=str(tmp_path), load_best=True),
        ],
    )
    clf = distilled(net, augment="noise", n_augment=2).fit(*digits)
    history = clf.report_.history
    assert 3 < len(history) < 60
    assert history[-1]["event_lr"] < 0.01
    assert {row["n_rows"] for row in history} == {90}
    assert all(0 < row["cached"] <= 1 and 0 < row["valid_f1"] <= 1 for row in history)
    assert 0.5 < history[-1]["fresh"] <= 1
    assert list(tmp_path.iterdir())
    assert [row["stage"] for row in history] == ["student"] * len(history)


class SetWidth(Callback):
    def on_train_begin(self, net, X=None, y=None, **kwargs):
        net.set_params(module__n_in=X.shape[1])


def test_a_callback_that_sets_the_width(digits):
    net = make_classifier(callbacks=[SetWidth()], module__n_in=3)
    clf = distilled(net, augment="mixup", n_augment=1).fit(*digits)
    assert clf.net_.module_.hidden.in_features == 64


class OwnLoss(NeuralNetClassifier):
    """Prepares rows and weighs the loss in overrides, as users do."""

    def infer(self, x, **fit_params):
        assert isinstance(x, torch.Tensor)
        return super().infer(2 * x, **fit_params)

    def get_loss(self, y_pred, y_true, X, training=False):
        assert len(X) == len(y_true) == len(y_pred)
        return super().get_loss(y_pred, y_true, X=X, training=training) * 0.5


def test_overridden_methods_stay_in_play(digits):
    net = OwnLoss(MLP, criterion=nn.CrossEntropyLoss, verbose=0, max_epochs=30, lr=0.3)
    clf = distilled(net, augment="mixup", n_augment=1).fit(*digits)
    assert clf.score(*digits) > 0.7


def own_split(dataset, y=None, **params):
    return [dataset[i] for i in range(20)], None


def test_a_split_that_hides_its_rows(digits):
    with pytest.raises(ValueError, match=r"train_split=.*own_split.*Use skorch.dataset.ValidSplit"):
        distilled(make_classifier(train_split=own_split)).fit(*digits)


# The report -------------------------------------------------------------------------------------


def test_the_report(fitted, digits):
    report = fitted.report_
    assert report.n_params == report.dense_n_params == 64 * 32 + 32 + 32 * 10 + 10
    assert report.macs == 2368
    assert report.sparsity == 0
    assert report.nbytes == report.dense_nbytes > 5000
    assert report.teacher_trained is True
    assert report.dense_trained is True
    assert report.n_held_out == 90
    for name in ("teacher_score", "student_score", "control_score"):
        assert 0.8 < report[name] < 1


def test_a_control_holds_out_rows_where_the_net_keeps_none(digits):
    X, y = digits
    net, teacher = make_classifier(max_epochs=20), KNeighborsClassifier(3)
    plain = distilled(net, teacher, augment="mixup", n_augment=1).fit(X, y)
    clf = distilled(net, teacher, augment="mixup", n_augment=1, control=True, held_out=0.2)
    clf.fit(X, y)
    assert torch.equal(weights_of(plain), weights_of(clf))  # only for the report
    assert clf.report_.n_held_out == 72
    for name in ("teacher_score", "student_score", "control_score"):
        assert 0.8 < clf.report_[name] <= 1


class Fixed(ClassifierMixin, BaseEstimator):
    """Says the same whatever it has learned."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


@pytest.mark.filterwarnings("ignore:The teacher is worse")
def test_the_control_is_the_same_net_with_labels(digits, tmp_path):
    """It makes the same steps; without new rows it is the plain net."""
    X, y = digits
    net = make_classifier(train_split=SPLIT, max_epochs=10)
    held = np.asarray(SPLIT(net.get_dataset(X, y), y)[1].indices)
    plain = CompressedClassifier(net, random_state=0).fit(X, y)
    clf = distilled(net, Fixed(), alpha=1, control=True).fit(X, y)
    assert clf.report_.control_score == plain.score(X[held], y[held])
    assert clf.report_.student_score < 0.5
    Spy.calls.clear()
    net = make_classifier(train_split=SPLIT, max_epochs=1, callbacks=[Spy])
    unlabeled = X[:50] + 0.1
    clf = distilled(net, Fixed(), augment="swap", n_augment=2, control=True)
    clf.fit(X, y, X_unlabeled=unlabeled)
    steps = [training for kind, training, *_ in Spy.calls if kind == "after" and training]
    assert len(steps) == 2 * -(-(270 * 3 + 50) // 64)


def test_the_control_learns_from_labels_alone(digits):
    """Its teacher is of no use, its new rows are labelled by those they are made of."""
    net = make_classifier(train_split=SPLIT, max_epochs=30)
    for augment in ("noise", "mixup", "swap", lambda X, rng: X + 0.01):
        clf = distilled(net, Fixed(), alpha=1, augment=augment, n_augment=3, control=True)
        with _quiet():
            report = clf.fit(*digits).report_
        assert report.control_score > 0.8
        assert report.student_score < 0.5


def _quiet():
    import warnings

    return warnings.catch_warnings(action="ignore")


def test_a_teacher_that_is_worse_than_its_student(digits, diabetes):
    net = make_classifier(train_split=SPLIT, max_epochs=20)
    with pytest.warns(
        UserWarning, match=r"teacher is worse than its student: 0\.\d+ against 0\.\d+"
    ):
        clf = distilled(net, DummyClassifier(strategy="prior"), alpha=0.1).fit(*digits)
    assert clf.report_.teacher_score < clf.report_.student_score
    net = make_regressor(module__n_in=10, max_epochs=60, train_split=ValidSplit(4))
    reg = DistilledRegressor(net, DummyRegressor(), alpha=0.1, random_state=0)
    with pytest.warns(UserWarning, match="teacher is worse than its student"):
        reg.fit(diabetes[0], diabetes[0].sum(axis=1))  # easy to learn, unlike a constant


def test_the_report_of_a_regressor(diabetes):
    X, y = diabetes
    net = make_regressor(module__n_in=10, max_epochs=60, train_split=ValidSplit(4))
    reg = DistilledRegressor(
        net, RandomForestRegressor(30), augment="mixup", n_augment=2, control=True, random_state=0
    ).fit(X, y.ravel())
    held = np.asarray(ValidSplit(4)(net.get_dataset(X, y), y)[1].indices)
    assert reg.report_.student_score == pytest.approx(reg.score(X[held], y[held].ravel()), abs=1e-5)
    assert reg.report_.n_held_out == 50
    assert 0.2 < reg.report_.teacher_score < 1
    assert 0.1 < reg.report_.control_score < 1
    reg.set_params(student__train_split=None, held_out=0.2).fit(X, y)
    assert reg.report_.n_held_out == 40
    assert 0.1 < reg.report_.student_score < 1


# Rows without labels, out-of-fold targets -------------------------------------------------------


def test_rows_without_labels_teach(digits):
    X, y = digits
    teacher = KNeighborsClassifier(3)
    few = np.arange(60)
    alone = distilled(make_classifier(max_epochs=60), teacher, alpha=1).fit(X[few], y[few])
    more = distilled(make_classifier(max_epochs=60), teacher, alpha=1, keep_teacher=True)
    more.fit(X[few], y[few], X_unlabeled=X[60:300])
    test = X[60:]
    targets = more.teacher_.predict(test)
    assert (more.predict(test) == targets).mean() > (alone.predict(test) == targets).mean() + 0.02


def test_rows_without_labels_are_checked(digits):
    X, y = digits
    with pytest.raises(ValueError, match="expecting 64 features"):
        distilled().fit(X, y, X_unlabeled=X[:, :30])
    with pytest.raises(ValueError, match="NaN"):
        distilled().fit(X, y, X_unlabeled=np.full((3, 64), np.nan))
    with pytest.raises(ValueError, match="inputs seen in fit"):
        distilled().fit(X, y, X_unlabeled={"image": X})


class Memorizer(ClassifierMixin, BaseEstimator):
    """Knows the rows it was fitted on, and says of others only that it does not."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.known_ = {row.tobytes(): label for row, label in zip(X, y, strict=True)}
        return self

    def predict_proba(self, X):
        p = np.full((len(X), 10), 0.1)
        for i, row in enumerate(X):
            if row.tobytes() in self.known_:
                p[i] = np.eye(10)[self.known_[row.tobytes()]]
        return p


@pytest.mark.parametrize("augment", [None, lambda X, rng: X], ids=["rows", "copies"])
def test_a_row_is_labelled_by_a_teacher_that_has_not_seen_it(digits, augment):
    """With `cv` the memorizer has nothing to say, of copies no more than of rows."""
    X, y = digits
    net = make_classifier(max_epochs=20, train_split=SPLIT)
    params = {"alpha": 1, "augment": augment, "n_augment": int(augment is not None)}
    with _quiet():
        inside = distilled(net, Memorizer(), **params).fit(X, y)
        outside = distilled(net, Memorizer(), cv=4, **params).fit(X, y)
    assert inside.score(X, y) > 0.9
    assert outside.score(X, y) < 0.4
    np.testing.assert_allclose(outside.predict_proba(X), 0.1, atol=0.1)


def test_out_of_fold_targets_are_those_of_scikit_learn(digits):
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    X, y = digits
    cv = StratifiedKFold(3, shuffle=True, random_state=1)
    teacher = GaussianNB(var_smoothing=0.1)
    settings = TeacherSettings(teacher, cv, None, 0, Inputs(X[:5] + 1), Store(None), 0, "Test")
    targets = collect_targets(
        settings, TeacherRows(X, y, None, None, np.arange(10)), np.arange(len(X))
    )
    expected = cross_val_predict(teacher, X, y, cv=cv, method="predict_proba")
    np.testing.assert_allclose(targets.of_rows, expected, atol=1e-5)
    folds = [
        clone(teacher).fit(X[fit], y[fit]).predict_proba(X[:5] + 1) for fit, _ in cv.split(X, y)
    ]
    np.testing.assert_allclose(targets.extra.targets, np.mean(folds, axis=0), atol=1e-5)


def test_a_splitter_that_leaves_rows_out(digits):
    from sklearn.model_selection import ShuffleSplit

    with pytest.raises(ValueError, match=r"'cv' parameter .*one test part.*Got ShuffleSplit"):
        distilled(cv=ShuffleSplit(3, random_state=0)).fit(*digits)


# Inside scikit-learn ----------------------------------------------------------------------------


def test_in_a_pipeline_and_a_search(digits):
    X, y = digits
    model = Pipeline(
        [("scale", StandardScaler()), ("net", distilled(make_classifier(max_epochs=10)))]
    )
    search = GridSearchCV(model, {"net__alpha": [0, 1], "net__teacher__max_depth": [2, 7]}, cv=2)
    search.fit(X, y)
    assert search.best_score_ > 0.7
    inner = make_pipeline(StandardScaler(), distilled(), LogisticRegression(C=0.1)).fit(X, y)
    assert inner.score(X, y) > 0.8
    assert inner[:-1].get_feature_names_out()[0] == "distilledclassifier0"


def test_frames(digits):
    X, y = digits
    frame = pd.DataFrame(X, columns=[f"pixel{i}" for i in range(64)])
    clf = distilled().fit(frame, pd.Series(y).map(str))
    np.testing.assert_array_equal(clf.feature_names_in_, frame.columns)
    assert list(clf.classes_) == [str(i) for i in range(10)]
    clf.fit(frame, y, X_unlabeled=frame[:20])
    with pytest.raises(ValueError, match="feature names should match"):
        clf.predict(frame.rename(columns={"pixel3": "other"}))
    teacher = clone(FOREST).fit(frame, y)
    with pytest.warns(UserWarning, match="FrozenEstimator") as caught:
        distilled(teacher=FrozenEstimator(teacher)).fit(frame, y)
    assert len(caught) == 1  # nothing about missing feature names


class Weighted(SampleWeightMixin, NeuralNetClassifier):
    pass


def weighted(**params):
    net = Weighted(
        MLP, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, lr=0.5, max_epochs=40
    )
    return distilled(net, **params)


def test_the_signature_says_whether_weights_work():
    plain = distilled()
    assert "sample_weight" in inspect.signature(DistilledClassifier.fit).parameters
    assert "sample_weight" in inspect.signature(weighted().fit).parameters
    assert list(inspect.signature(plain.fit).parameters) == ["X", "y", "X_unlabeled"]
    compressed = CompressedClassifier(weighted())
    assert "sample_weight" in inspect.signature(compressed.fit).parameters


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("augment", [None, "mixup"])
def test_weights_reach_student_and_teacher(digits, routing, augment):
    X, y = digits
    wrong = np.arange(len(X)) % 2 == 0
    labels = np.where(wrong, (y + 1) % 10, y)
    with config_context(enable_metadata_routing=routing):
        clf = weighted(augment=augment, n_augment=int(augment is not None))
        if routing:
            model = Pipeline([("net", clf.set_fit_request(sample_weight=True))])
            model.fit(X, labels, sample_weight=~wrong)
        else:
            model = Pipeline([("net", clf)]).fit(X, labels, net__sample_weight=~wrong)
        assert model.score(X, y) > 0.85


def test_copies_weigh_what_their_rows_do(digits):
    X, y = digits
    weight = np.arange(360, dtype=np.float32)
    rows = TeacherRows(X, y, weight, None, np.arange(10))
    for cv in (None, 3):
        settings = TeacherSettings(
            FOREST, cv, lambda X, rng: X, 2, Inputs(X[:7]), Store(None), 0, "Test"
        )
        extra = collect_targets(settings, rows, np.arange(100, 360)).extra
        np.testing.assert_array_equal(extra.sample_weight[-7:], 1)
        of_rows = {row.tobytes(): w for row, w in zip(X, weight, strict=True)}
        expected = [of_rows[row.tobytes()] for row in extra.X[:-7]]
        np.testing.assert_array_equal(extra.sample_weight[:-7], expected)
        assert len(extra.X) == 2 * 260 + 7


def test_weights_that_somebody_cannot_take(digits):
    X, y = digits
    with pytest.raises(TypeError, match=r"its net cannot use it"):
        distilled().fit(X, y, sample_weight=np.ones(len(X)))
    clf = weighted(teacher=KNeighborsClassifier())
    with pytest.raises(ValueError, match=r"the teacher KNeighbors.* cannot use.*FrozenEstimator"):
        clf.fit(X, y, sample_weight=np.ones(len(X)))
    weighted(teacher=make_pipeline(StandardScaler(), FOREST)).fit(X, y, sample_weight=np.ones(360))


def test_rows_without_labels_are_routed(digits):
    """Behind a scaler, too: a Pipeline transforms what `transform_input` names."""
    X, y = digits
    with config_context(enable_metadata_routing=True):
        clf = distilled().set_fit_request(X_unlabeled=True)
        model = Pipeline(
            [("scale", StandardScaler()), ("net", clf)], transform_input=["X_unlabeled"]
        ).fit(X, y, X_unlabeled=X[:40])
        plain = distilled().fit(StandardScaler().fit_transform(X), y)
        assert not torch.equal(weights_of(model["net"]), weights_of(plain))
        assert cross_val_score(distilled(), X, y, cv=2, error_score="raise").mean() > 0.5


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


def test_tasks_that_callbacks_see(digits, capsys):
    recorder = Recorder()
    clf = distilled(make_classifier(train_split=SPLIT), control=True)
    clf.set_callbacks(recorder).fit(*digits)
    assert [task for _, task in recorder.tasks] == ["fit", "train", *["epoch"] * 5]
    pickle.dumps(clf)
    model = Pipeline([("scale", StandardScaler()), ("net", distilled())])
    model.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(*digits)
    assert "DistilledClassifier" in capsys.readouterr().out


# Composed ---------------------------------------------------------------------------------------

STEPS = [
    ("prune", MagnitudePruner(0.8)),
    ("tune", FineTuner(3, alpha=0.5)),
    ("quantize", Quantizer(4)),
]


@pytest.mark.filterwarnings("ignore:The teacher is worse")
@pytest.mark.parametrize("split", [None, SPLIT])
def test_distilled_pruned_and_quantized(digits, tmp_path, split):
    X, y = digits
    inner = DistilledClassifier(
        make_classifier(max_epochs=20, train_split=split),
        FOREST,
        augment="mixup",
        n_augment=1,
        keep_teacher=True,
        held_out=0.2,
    )
    clf = CompressedClassifier(inner, Pipeline(STEPS), random_state=0).fit(X, np.char.mod("d%d", y))
    assert clf.score(X, np.char.mod("d%d", y)) > 0.85
    report = clf.report_
    assert [row["stage"] for row in report.history] == ["student"] * 20 + ["FineTuner"] * 3
    assert report.sparsity == pytest.approx(0.8, abs=0.02)
    assert report.nbytes < report.dense_nbytes / 3
    assert report.n_held_out == (72 if split is None else 90)
    assert 0.7 < report.teacher_score <= 1
    # The student is the dense net: the same as the distilling estimator's own.
    dense = clone(inner).set_params(random_state=0).fit(X, np.char.mod("d%d", y))
    uncompressed = CompressedClassifier(inner, random_state=0).fit(X, np.char.mod("d%d", y))
    assert torch.equal(weights_of(uncompressed), weights_of(dense))
    assert type(pickle.loads(pickle.dumps(clf)).net_) is NeuralNetClassifier
    assert not hasattr(inner, "net_")
    io.save(clf, tmp_path / "model.skc")
    assert (tmp_path / "model.skc").stat().st_size == report.nbytes
    again = io.load(tmp_path / "model.skc", clf)
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    io.save(dense, tmp_path / "student.skc")
    again = io.load(tmp_path / "student.skc", clone(inner))
    np.testing.assert_array_equal(again.predict_proba(X), dense.predict_proba(X))


def test_settings_of_the_outer_estimator_fill_those_of_the_inner(digits):
    X, y = digits
    shapes = {"module__n_in": "n_features", "module__n_out": "n_classes"}
    inner = DistilledClassifier(make_classifier(), FOREST)
    clf = CompressedClassifier(inner, shape_params=shapes, random_state=0).fit(X[:, :30], y % 4)
    assert clf.net_.module_.hidden.in_features == 30
    own = DistilledClassifier(make_classifier(), FOREST, shape_params=shapes, random_state=0)
    again = CompressedClassifier(own, random_state=5).fit(X[:, :30], y % 4)
    assert torch.equal(weights_of(again), weights_of(clf))
    ids = np.random.default_rng(0).integers(0, 20, size=(100, 7))
    from tests.sample_nets import Tokens

    net = make_classifier(Tokens)
    inner = DistilledClassifier(net, net, dtype=None)
    clf = CompressedClassifier(inner, dtype=None, random_state=0).fit(ids, ids[:, 0] % 3)
    assert clf.predict(ids).shape == (100,)


def test_a_composed_regressor(diabetes):
    X, y = diabetes
    inner = DistilledRegressor(
        make_regressor(module__n_in=10, max_epochs=60), RandomForestRegressor(20)
    )
    reg = CompressedRegressor(inner, Pipeline(STEPS), random_state=0).fit(X, y.ravel())
    assert reg.score(X, y.ravel()) > 0.2
    with pytest.raises(TypeError, match=r"'estimator' parameter .*other kind of targets"):
        CompressedClassifier(inner).fit(X, y.ravel() > 0)


def test_bad_parameters_inside_a_composed_estimator(digits):
    inner = DistilledClassifier(make_classifier(), FOREST, alpha=2)
    with pytest.raises(ValueError, match="'alpha' parameter of DistilledClassifier"):
        CompressedClassifier(inner).fit(*digits)
    inner = DistilledClassifier(make_classifier(), FOREST)
    step = MagnitudePruner(0.5, ignored_layers=["hiden"])
    with pytest.raises(ValueError, match="hiden"):
        CompressedClassifier(inner, step).fit(*digits)


# Modules that live in __main__ ------------------------------------------------------------------


def test_modules_and_functions_defined_in_main(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import pickle
            import numpy as np
            import torch
            from sklearn.datasets import load_digits
            from sklearn.frozen import FrozenEstimator
            from sklearn.model_selection import cross_validate
            from sklearn.neighbors import KNeighborsClassifier
            from skorch import NeuralNetClassifier
            from skcompress import CompressedClassifier, DistilledClassifier, MagnitudePruner

            class Net(torch.nn.Module):
                def __init__(self, n_hidden=8):
                    super().__init__()
                    self.layers = torch.nn.Sequential(
                        torch.nn.Linear(64, n_hidden),
                        torch.nn.ReLU(),
                        torch.nn.Linear(n_hidden, 10),
                    )

                def forward(self, X):
                    return self.layers(X)

            def brighter(X, rng):
                return X * rng.uniform(0.8, 1.2, size=(len(X), 1))

            class Teacher(KNeighborsClassifier):
                pass

            X, y = load_digits(return_X_y=True)
            X = (X / 16).astype("float32")
            params = dict(
                criterion=torch.nn.CrossEntropyLoss, optimizer=torch.optim.Adam, verbose=0, lr=0.01
            )
            net = NeuralNetClassifier(Net, train_split=None, max_epochs=15, **params)
            wide = NeuralNetClassifier(Net, module__n_hidden=40, max_epochs=15, **params)
            options = dict(cv=3, n_jobs=2, return_estimator=True, error_score="raise")
            for teacher in (Teacher(7), wide, [wide, wide]):
                clf = DistilledClassifier(
                    net, teacher, augment=brighter, n_augment=1, memory="cache", random_state=0,
                    keep_teacher=teacher is wide,
                )
                done = cross_validate(clf, X, y, **options)
                assert done["test_score"].min() > 0.8, done
                again = cross_validate(clf, X, y, **options)
                for one, two in zip(done["estimator"], again["estimator"]):
                    assert one.report_.teacher_trained and not two.report_.teacher_trained
                    assert not two.report_.dense_trained
                    one.set_params(augment=None)  # functions of __main__ come back as others
                    assert pickle.loads(pickle.dumps(one)).report_.sparsity == 0
                np.testing.assert_array_equal(done["test_score"], again["test_score"])
            wide.fit(X, y.astype("int64"))
            frozen = DistilledClassifier(net, [FrozenEstimator(wide)], random_state=0)
            inside = CompressedClassifier(frozen, MagnitudePruner(0.5), random_state=0)
            assert cross_validate(inside, X, y, **options)["test_score"].min() > 0.7
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
