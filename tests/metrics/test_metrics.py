"""Scorers find the compressed estimator wherever it is; the report says what changed for whom."""

import copy
import pickle
import time

import numpy as np
import pandas as pd
import pytest
import sklearn
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, cross_validate
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch

from skcompress import (
    CompressedClassifier,
    CompressedRegressor,
    FineTuner,
    MagnitudePruner,
    Quantizer,
)
from skcompress.metrics import (
    compression_report,
    compression_scoring,
    neg_latency_scorer,
    neg_macs_scorer,
    neg_nbytes_scorer,
)
from tests.sample_nets import make_classifier, make_regressor

# Finding ----------------------------------------------------------------------------------------

SCORERS = [neg_nbytes_scorer, neg_macs_scorer, neg_latency_scorer]


class Stub(ClassifierMixin, BaseEstimator):
    """Predicts its parameter, or the first column, and has a report like ours."""

    def __init__(self, nbytes=100, label=None):
        self.nbytes = nbytes
        self.label = label

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.report_ = Bunch(
            n_params=20,
            n_nonzero=5,
            macs=10,
            sparsity=0.5,
            nbytes=self.nbytes,
            dense_n_params=20,
            dense_n_nonzero=10,
            dense_macs=16,
            dense_sparsity=0.0,
            dense_nbytes=400,
            history=[],
        )
        return self

    def predict(self, X):
        column = np.asarray(X)[:, 0]
        return column if self.label is None else np.full(len(column), self.label)

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))

    def transform(self, X):
        return np.asarray(X)


class StubRegressor(RegressorMixin, BaseEstimator):
    def __init__(self, shift=0.0):
        self.shift = shift

    def fit(self, X, y):
        self.report_ = Stub().fit(X, [0, 1]).report_
        return self

    def predict(self, X):
        return np.asarray(X)[:, 0] + self.shift


class ColumnRegressor(StubRegressor):
    def predict(self, X):
        return super().predict(X)[:, None]


X = np.array([[0.0], [0.0], [0.0], [0.0], [1.0], [1.0], [1.0], [1.0]])
y = np.array([0, 0, 0, 0, 1, 1, 1, 1])


@pytest.mark.parametrize(
    ("model", "nbytes"),
    [
        (Stub(), 100),
        (make_pipeline(StandardScaler(), Stub()), 100),
        (make_pipeline(make_pipeline(StandardScaler(), Stub(7))), 7),
        (make_pipeline(Stub(30), Stub(100)), 130),
        (make_pipeline(FeatureUnion([("a", Stub(1)), ("b", Stub(2))]), LogisticRegression()), 3),
        (make_pipeline(ColumnTransformer([("a", Stub(5), [0])]), LogisticRegression()), 5),
        (GridSearchCV(Stub(), {"nbytes": [50]}, cv=2), 50),
        (GridSearchCV(make_pipeline(Stub()), {"stub__nbytes": [60]}, cv=2), 60),
        (VotingClassifier([("a", Stub(1)), ("b", Stub(2))]), 3),
        (StackingClassifier([("a", Stub(1))], final_estimator=Stub(10), cv=2), 11),
        (BaggingClassifier(Stub(3), n_estimators=4), 12),
        (OneVsRestClassifier(Stub(3)), 3),
        (CalibratedClassifierCV(Stub(3), cv=2), 6),
        (CalibratedClassifierCV(Stub(3), cv=2, ensemble=False), 3),
        (FixedThresholdClassifier(Stub(3)), 3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_compressed_estimator_is_found(model, nbytes):
    fitted = clone(model).fit(X, y)
    assert neg_nbytes_scorer(fitted, X, y) == -nbytes
    assert neg_nbytes_scorer(pickle.loads(pickle.dumps(fitted)), X, y) == -nbytes


def test_others_that_hold_one():
    assert neg_nbytes_scorer(FrozenEstimator(Stub(3).fit(X, y))) == -3
    regressor = TransformedTargetRegressor(StubRegressor(), transformer=StandardScaler())
    assert neg_nbytes_scorer(make_pipeline(regressor).fit(X, y), X, y) == -100


def test_what_several_have_together():
    first, second = Stub(), Stub()
    first.fit(X, y), second.fit(X, y)
    # 10 dense weights with 5 left, and 30 dense weights of which 6 were zero, with 6 left.
    second.report_.update(n_nonzero=6, sparsity=0.8, dense_n_nonzero=24, dense_sparsity=0.2)
    first.report_.macs = None
    report = compression_report(make_pipeline(first, second), X, y)
    assert report.sparsity == pytest.approx(1 - 11 / 40)
    assert report.dense_sparsity == pytest.approx(6 / 40)
    assert (report.n_nonzero, report.dense_n_nonzero, report.nbytes) == (11, 34, 200)
    assert "macs" not in report
    # The same one twice is one file.
    assert compression_report(make_pipeline(first, first), X, y).nbytes == 100


def test_a_model_without_one_is_refused():
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    for scorer in (neg_nbytes_scorer, neg_macs_scorer):
        with pytest.raises(ValueError, match="Pipeline holds no fitted compressed estimator"):
            scorer(model, X, y)
    with pytest.raises(ValueError, match="Stub holds no fitted"):
        neg_nbytes_scorer(Stub(), X, y)


def test_a_fact_that_a_report_lacks():
    model = Stub().fit(X, y)
    model.report_.macs = None
    assert np.isnan(neg_macs_scorer(model, X, y))
    del model.report_["nbytes"]
    with pytest.raises(ValueError, match="report of Stub has no 'nbytes', only"):
        neg_nbytes_scorer(model, X, y)


# Scorers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scorer", SCORERS, ids=repr)
def test_scorers_are_values(scorer):
    assert repr(scorer) in ("neg_nbytes_scorer", "neg_macs_scorer", "neg_latency_scorer")
    for again in (pickle.loads(pickle.dumps(scorer)), copy.deepcopy(scorer)):
        assert again == scorer
    assert scorer(Stub().fit(X, y), X, y) < 0


class Sleeper(Stub):
    """Takes its time, very long the first time, and counts rows."""

    def predict(self, X):
        self.rows_ = [*getattr(self, "rows_", []), len(next(iter(X.values())))]
        time.sleep(0.002 if len(self.rows_) > 1 else 0.3)


def test_latency_is_the_median_of_single_rows():
    sleeper = Sleeper().fit(X, y)
    seconds = -neg_latency_scorer(sleeper, {"a": X, "b": pd.DataFrame(X)}, y)
    assert 0.002 <= seconds < 0.03
    assert set(sleeper.rows_) == {1}
    # The first call is no measurement, and does not use up the time for them.
    assert 11 < len(sleeper.rows_) <= 201
    with pytest.raises(ValueError, match="no rows"):
        neg_latency_scorer(Stub().fit(X, y), X[:0])


def loss(estimator, X, y):
    return -float((estimator.predict(X) != y).mean())


def test_keys_of_the_scoring():
    sizes = ["neg_nbytes", "neg_macs", "sparsity", "dense"]
    assert list(compression_scoring("accuracy")) == ["accuracy", *sizes]
    assert list(compression_scoring(loss)) == ["loss", *sizes]
    several = compression_scoring({"f1": make_scorer(f1_score), "r": "recall", "mine": loss})
    assert list(several) == ["f1", "r", "mine", *sizes]
    assert several["mine"] is loss
    assert pickle.loads(pickle.dumps(several))["mine"] is loss


class Compressed(Stub):
    def __init__(self, compressor=None):
        super().__init__()
        self.compressor = compressor


OFF = Pipeline([("prune", "passthrough"), ("quantize", None)])
ON = Pipeline([("prune", MagnitudePruner(0)), ("quantize", Quantizer(8))])


@pytest.mark.parametrize(
    ("model", "dense"),
    [
        (Compressed(), 1),
        (Compressed(OFF), 1),
        (make_pipeline(StandardScaler(), Compressed(MagnitudePruner(0))), 1),
        (Compressed(ON), 0),
        (Compressed(FineTuner(1)), 0),  # as large, but trained longer
        (VotingClassifier([("a", Compressed()), ("b", Compressed(OFF))]), 1),
        (VotingClassifier([("a", Compressed()), ("b", Compressed(ON))]), 0),
        (GridSearchCV(Compressed(ON), {"compressor": [None]}, cv=2), 1),
        (LogisticRegression(), 0),
    ],
    ids=str,
)
def test_a_dense_model_is_known(model, dense):
    scorer = compression_scoring("accuracy")["dense"]
    assert scorer(model.fit(X, y), X, y) == dense


@pytest.mark.parametrize(
    ("quality", "error", "message"),
    [
        ("acuracy", ValueError, "quality='acuracy', but expected the name of a scorer"),
        (None, TypeError, "quality=None, but expected the name"),
        (make_scorer(f1_score), ValueError, "Name it: "),
        (lambda estimator, X, y: 1, ValueError, "Name it: "),
        ({"sparsity": "accuracy"}, ValueError, "quality called 'sparsity'"),
        ({1: "accuracy"}, ValueError, "quality called 1"),
        ({"mine": 3}, TypeError, "Got 3 as the quality 'mine'"),
        ({"mine": "acuracy"}, ValueError, "quality='acuracy'"),
    ],
)
def test_qualities_that_are_refused(quality, error, message):
    with pytest.raises(error, match=message):
        compression_scoring(quality)


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_cross_validate(digits, n_jobs, routing):
    net = CompressedClassifier(make_classifier(max_epochs=1), MagnitudePruner(0.75), random_state=0)
    model = make_pipeline(StandardScaler(), net)
    with sklearn.config_context(enable_metadata_routing=routing):
        scores = cross_validate(
            model,
            *digits,
            cv=2,
            scoring=compression_scoring({"accuracy": "accuracy", "loss": loss}),
            n_jobs=n_jobs,
            return_estimator=True,
            error_score="raise",
        )
    np.testing.assert_allclose(scores["test_loss"], scores["test_accuracy"] - 1)
    np.testing.assert_allclose(scores["test_sparsity"], 0.75, atol=0.01)
    reports = [fitted[-1].report_ for fitted in scores["estimator"]]
    assert list(scores["test_neg_macs"]) == [-report.macs for report in reports]
    assert list(scores["test_neg_nbytes"]) == [-report.nbytes for report in reports]


# What changed for whom --------------------------------------------------------------------------

TRUTH = np.array(["cat"] * 4 + ["dog"] * 4 + ["eel"] * 2)
BEFORE = np.array(["cat"] * 4 + ["dog", "dog", "cat", "cat"] + ["eel", "dog"])
AFTER = np.array(["cat"] * 3 + ["dog"] + ["dog"] * 4 + ["cat", "dog"])


class Says(Stub):
    """Predicts what it is told to; X holds the numbers of the rows."""

    def predict(self, X):
        return self.label[np.asarray(X)[:, 0]]


def says(answers, labels=TRUTH):
    model = Says(label=np.asarray(answers))
    return model.fit(None, labels)


ROWS = np.arange(10)[:, None]


def test_changes_of_a_classifier():
    report = compression_report(says(AFTER), ROWS, TRUTH, baseline=says(BEFORE))
    # Right after: 3 cats, 4 dogs, no eel. Right before: 4, 2, 1.
    assert report.n_rows == 10
    assert report.accuracy == pytest.approx(0.7)
    assert report.baseline_accuracy == pytest.approx(0.7)
    assert report.support == {"cat": 4, "dog": 4, "eel": 2}
    assert report.recall == {"cat": 0.75, "dog": 1.0, "eel": 0.0}
    assert report.baseline_recall == {"cat": 1.0, "dog": 0.5, "eel": 0.5}
    # The same accuracy, and an eel is not recognized any more.
    assert report.recall_change == {"cat": -0.25, "dog": 0.5, "eel": -0.5}
    assert report.changed == pytest.approx(0.4)
    assert (report.newly_wrong, report.newly_right) == (2, 2)
    assert report.nbytes == 100
    assert report["dense_nbytes"] == 400


def test_without_a_baseline():
    report = compression_report(says(AFTER), ROWS, TRUTH)
    assert report.accuracy == pytest.approx(0.7)
    assert not {"changed", "baseline_accuracy", "recall_change"} & set(report)
    assert "baseline" not in str(report)


def test_labels_that_only_one_side_knows():
    # "yak" was in training and is not here, "gnu" the other way round.
    truth = np.array(["cat", "gnu"])
    report = compression_report(says(["cat", "cat"], ["cat", "yak"]), ROWS[:2], truth)
    assert list(report.recall) == ["cat", "yak", "gnu"]
    assert report.recall["gnu"] == 0
    assert np.isnan(report.recall["yak"])
    line = next(line for line in str(report).splitlines() if line.startswith("yak"))
    assert line.split() == ["yak", "-", "0"]


def test_the_table():
    text = str(compression_report(says(AFTER), ROWS, TRUTH, baseline=says(BEFORE)))
    assert text.splitlines() == [
        "size                      compressed       dense       ratio",
        "file, bytes                      100         400       1/4.0",
        "parameters                        20          20       1/1.0",
        "nonzero weights                    5          10       1/2.0",
        "sparsity                       50.0%        0.0%",
        "MACs per row                      10          16       1/1.6",
        "",
        "quality on 10 rows        compressed    baseline      change",
        "accuracy                      0.7000      0.7000     +0.0000",
        "",
        "recall of class           compressed    baseline      change        rows",
        "cat                           0.7500      1.0000     -0.2500           4",
        "dog                           1.0000      0.5000     +0.5000           4",
        "eel                           0.0000      0.5000     -0.5000           2",
        "",
        "against the baseline",
        "predictions changed           40.00%",
        "newly wrong                        2",
        "newly right                        2",
    ]


def test_changes_of_a_regressor():
    values, truth = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0.0, 1.0, 2.0, 5.0])
    small, dense = StubRegressor(0.5).fit(values, truth), StubRegressor(0.0).fit(values, truth)
    report = compression_report(small, values, truth, baseline=dense)
    # Mean 2, sum of squares 4 + 1 + 0 + 9 = 14; errors .5, .5, .5, 1.5 and 0, 0, 0, 2.
    assert report.r2 == pytest.approx(1 - 3 / 14)
    assert report.baseline_r2 == pytest.approx(1 - 4 / 14)
    assert (report.mae, report.baseline_mae) == (0.75, 0.5)
    assert (report.mean_abs_change, report.max_abs_change) == (0.5, 0.5)
    assert "largest change                   0.5" in str(report)
    # A column of targets is the same, not (n, n) differences.
    column = compression_report(small, values, truth[:, None], baseline=dense)
    assert column.mae == 0.75
    assert column.mean_abs_change == 0.5
    columns = ColumnRegressor().fit(values, truth)
    assert compression_report(small, values, truth, columns).max_abs_change == 0.5


@given(
    order=st.permutations(range(10)),
    before=st.lists(st.sampled_from(["cat", "dog", "eel"]), min_size=10, max_size=10),
    after=st.lists(st.sampled_from(["cat", "dog", "eel"]), min_size=10, max_size=10),
)
def test_the_order_of_rows_does_not_matter(order, before, after):
    small, dense = says(after), says(before)
    one = compression_report(small, ROWS, TRUTH, dense)
    assert one == compression_report(small, ROWS[order], TRUTH[order], dense)
    gained = one.newly_right - one.newly_wrong
    assert one.accuracy - one.baseline_accuracy == pytest.approx(gained / 10)
    assert one.changed >= (one.newly_right + one.newly_wrong) / 10 - 1e-12
    by_class = sum(one.recall_change[label] * one.support[label] for label in one.support)
    assert by_class == pytest.approx(gained)


class Neither(BaseEstimator):
    report_ = Bunch(nbytes=1)


@pytest.mark.parametrize(
    ("est", "baseline", "error", "message"),
    [
        (Neither(), None, TypeError, r"est=Neither\(\.\.\.\), but expected a classifier or"),
        (says(AFTER), Neither(), TypeError, r"baseline=Neither\(\.\.\.\), but expected"),
        (says(AFTER), StubRegressor(), TypeError, "classifier and a baseline that is a regressor"),
        (LogisticRegression(), None, ValueError, "holds no fitted compressed"),
    ],
)
def test_models_that_cannot_be_compared(est, baseline, error, message):
    with pytest.raises(error, match=message):
        compression_report(est, ROWS, TRUTH, baseline)


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        compression_report(says(AFTER), ROWS[:0], TRUTH[:0])


def test_real_nets(digits, diabetes):
    X, y = digits
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "9"])
    net = make_classifier(max_epochs=10)
    dense, small = (
        Pipeline(
            [("scale", StandardScaler()), ("net", CompressedClassifier(net, step, random_state=0))]
        ).fit(X, names[y])
        for step in (None, Quantizer(2))
    )
    report = compression_report(small, X, names[y], dense)
    assert list(report.recall) == sorted(names)
    assert report.accuracy == pytest.approx(small.score(X, names[y]))
    assert report.baseline_accuracy == pytest.approx(dense.score(X, names[y]))
    assert report.n_nonzero == small["net"].report_.n_nonzero
    unchanged = compression_report(dense, X, names[y], dense)
    assert unchanged.changed == unchanged.newly_wrong == unchanged.newly_right == 0

    net = make_regressor(module__n_in=10)
    model = TransformedTargetRegressor(
        CompressedRegressor(net, Quantizer(3), random_state=0), transformer=StandardScaler()
    ).fit(diabetes[0], diabetes[1].ravel())
    report = compression_report(model, diabetes[0], diabetes[1].ravel(), Zero())
    assert report.max_abs_change == pytest.approx(np.abs(model.predict(diabetes[0])).max())


class Zero(RegressorMixin, BaseEstimator):
    def predict(self, X):
        return np.zeros(len(X))


def test_several_labels_for_each_row():
    """A row is right if all of its labels are; recall is of the rows that have a label."""
    y = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
    after, before = y.copy(), y.copy()
    after[0, 0], after[1, 2] = 0, 1
    before[3, 1] = 1
    models = [Stub().fit(None, [0]), Stub().fit(None, [0])]
    for model, predictions in zip(models, (after, before), strict=True):
        model.predict = lambda X, predictions=predictions: predictions
    report = compression_report(models[0], np.zeros((4, 1)), y, baseline=models[1])
    assert (report.accuracy, report.baseline_accuracy) == (0.5, 0.75)
    assert report.support == {0: 2, 1: 2, 2: 0}
    assert report.recall.pop(2) != 0  # nan: no row has it
    assert report.recall == {0: 0.5, 1: 1.0}
    assert report.recall_change[0] == -0.5
    assert (report.changed, report.newly_wrong, report.newly_right) == (0.75, 2, 1)
    assert "recall" in repr(report)
