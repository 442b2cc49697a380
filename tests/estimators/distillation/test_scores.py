"""The scores of the report where the net keeps no rows: on request, and at what cost."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from skorch import NeuralNetClassifier
from skorch.dataset import ValidSplit
from torch import nn

from skcompress import (
    CompressedClassifier,
    DistilledClassifier,
    DistilledRegressor,
    SampleWeightMixin,
    cache,
)
from skcompress.estimators._distillation.scores import held_out_rows
from skcompress.estimators._distillation.teacher_targets import TeacherRows
from tests.sample_nets import MLP, make_classifier, make_regressor

NAMES = ("teacher_score", "student_score", "control_score")


class Counted(ClassifierMixin, BaseEstimator):
    """Counts its fits in this process and keeps how many rows they had."""

    fits: list = []

    def fit(self, X, y):
        Counted.fits.append((X.copy(), y.copy()))
        self.model_ = KNeighborsClassifier(3).fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict_proba(self, X):
        return self.model_.predict_proba(X)


@pytest.fixture(autouse=True)
def _no_fits_yet():
    Counted.fits.clear()


def distilled(**params):
    net = make_classifier(max_epochs=20)
    return DistilledClassifier(net, Counted(), **{"random_state": 0, "held_out": 0.2, **params})


def weights_of(clf):
    return torch.cat([p.detach().flatten() for p in clf.net_.module_.parameters()])


def rows_that_are_not_in(part, X):
    known = {row.tobytes() for row in part}
    return np.array([row.tobytes() not in known for row in X])


def test_by_default_nothing_is_trained_twice(digits, diabetes):
    net = make_classifier(max_epochs=1)
    clf = DistilledClassifier(net, Counted(), random_state=0).fit(*digits)
    assert len(Counted.fits) == 1
    assert [clf.report_[name] for name in (*NAMES, "n_held_out")] == [None, None, None, 0]
    reg = DistilledRegressor(make_regressor(module__n_in=10, max_epochs=1), Ridge())
    assert reg.held_out == clf.held_out == 0
    assert reg.fit(*diabetes).report_.n_held_out == 0


def test_a_control_that_nothing_can_score(digits):
    Counted.fits.clear()
    with pytest.raises(UserWarning, match=r"control=True has no rows.*Set held_out=0.2"):
        distilled(control=True, held_out=0).fit(*digits)
    assert not Counted.fits
    kept = make_classifier(max_epochs=1, train_split=ValidSplit(5))
    clf = distilled(control=True, held_out=0).set_params(student=kept).fit(*digits)
    assert clf.report_.control_score > 0


def test_scores_are_there_if_asked_for(digits):
    """Of rows that neither of the scored has seen; what predicts has seen all."""
    X, y = digits
    clf = distilled().fit(X, y)
    report = clf.report_
    assert report.n_held_out == 72
    assert report.control_score is None
    assert [len(rows) for rows, _ in Counted.fits] == [360, 288]
    part, labels = Counted.fits[1]
    held = rows_that_are_not_in(part, X)
    assert report.teacher_score == KNeighborsClassifier(3).fit(part, labels).score(X[held], y[held])
    assert 0.8 < report.student_score < 1
    assert clf.score(X[held], y[held]) != report.student_score


def test_scores_change_nothing_else(digits):
    with_scores, without = (distilled(held_out=share).fit(*digits) for share in (0.25, 0))
    assert torch.equal(weights_of(with_scores), weights_of(without))
    assert with_scores.report_.n_held_out == 90
    assert [without.report_[name] for name in (*NAMES, "n_held_out")] == [None, None, None, 0]


def test_a_sweep_scores_with_one_teacher_more_for_each_fold(digits, tmp_path):
    def fit(folder, **params):
        params = {"teacher": KNeighborsClassifier(3), "memory": tmp_path / folder, **params}
        return distilled().set_params(**params).fit(*digits).report_

    def teachers(folder):
        kinds = [entry.kind for entry in cache.list_entries(tmp_path / folder)]
        return kinds.count("teacher")

    reports = [fit("two", alpha=alpha) for alpha in (0.3, 0.6, 1)]
    assert all(report.n_held_out == 72 for report in reports)
    assert len({report.teacher_score for report in reports}) == 1
    assert all(0.8 < report.student_score < 1 for report in reports)
    assert teachers("two") == 2
    assert fit("one", held_out=0).teacher_score is None
    assert teachers("one") == 1
    control = fit("two", control=True)
    assert all(control[name] > 0.8 for name in NAMES)


def test_a_teacher_without_a_say_is_not_scored(digits):
    report = distilled(alpha=0).fit(*digits).report_
    assert (report.teacher_score, report.n_held_out) == (None, 0)
    assert not Counted.fits
    plain = CompressedClassifier(make_classifier(max_epochs=20), random_state=0).fit(*digits)
    assert torch.equal(weights_of(distilled(alpha=0).fit(*digits)), weights_of(plain))


def test_scores_of_a_regressor(diabetes):
    X, y = diabetes
    net = make_regressor(module__n_in=10, max_epochs=60)
    reg = DistilledRegressor(net, Ridge(), held_out=0.2, random_state=0).fit(X, y)
    assert reg.report_.n_held_out == 40
    assert 0.1 < reg.report_.teacher_score < 1
    assert -1 < reg.report_.student_score < 1


def test_a_part_that_is_too_small_costs_the_scores_only(digits):
    """The student is trained by then."""
    teacher = KNeighborsClassifier(300)
    clf = DistilledClassifier(make_classifier(), teacher, held_out=0.2, random_state=0)
    with pytest.warns(UserWarning, match=r"report has no scores.*288 of the rows.*held_out=0"):
        clf.fit(*digits)
    assert clf.report_.teacher_score is None
    assert clf.predict(digits[0]).shape == (360,)


@pytest.mark.filterwarnings("ignore:The teacher gives")
@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_few_rows_have_no_scores(digits, n):
    X, y = digits
    teacher = KNeighborsClassifier(1)
    params = {"control": True, "held_out": 0.2, "random_state": 0}
    clf = DistilledClassifier(make_classifier(), teacher, **params)
    assert clf.fit(X[:n], y[:n] % 2).report_.n_held_out == 0


@pytest.mark.parametrize("share", [1.0, -0.1, "0.2", "auto", np.nan, None])
def test_shares_that_are_none(digits, share):
    with pytest.raises(ValueError, match="'held_out' parameter of DistilledClassifier"):
        distilled(held_out=share).fit(*digits)


class Weighted(SampleWeightMixin, NeuralNetClassifier):
    pass


def test_rows_that_weigh_nothing_score_nothing(digits):
    X, y = digits
    net = Weighted(MLP, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0)
    weight = (np.arange(360) < 180).astype(float)
    teacher = GaussianNB(var_smoothing=0.1)
    clf = DistilledClassifier(net, teacher, held_out=0.2, random_state=0)
    assert clf.fit(X, y, sample_weight=weight).report_.n_held_out == 72
    kept = clone(net).set_params(train_split=lambda data, y=None, **kw: _last_half(data))
    report = clf.set_params(student=kept).fit(X, y, sample_weight=weight).report_
    assert (report.teacher_score, report.n_held_out) == (None, 0)


def _last_half(data):
    rows = np.arange(len(data))
    halves = (rows[:180], rows[180:])
    return tuple(torch.utils.data.Subset(data, half) for half in halves)


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=120),
    share=st.floats(0, 0.99),
    seed=st.integers(0, 9),
)
def test_held_out_rows_leave_one_of_each_class(labels, share, seed):
    y = np.unique(labels, return_inverse=True)[1]
    rows = TeacherRows(np.zeros((len(y), 1)), y, None, None, np.unique(labels))
    part, held = held_out_rows(rows, share, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([part, held])), np.arange(len(y)))
    assert set(y[part]) == set(y)
    assert len(held) <= round(share * len(y))
    assert len(held) != 1


def test_classes_are_held_out_in_proportion():
    y = np.repeat([0, 1, 2], [500, 100, 10])
    rows = TeacherRows(np.zeros((610, 1)), y, None, None, np.arange(3))
    _, held = held_out_rows(rows, 0.2, 0)
    np.testing.assert_array_equal(np.bincount(y[held]), [100, 20, 2])
    assert not np.array_equal(held_out_rows(rows, 0.2, 1)[1], held)
    # From all over the class, not its end.
    assert len(np.unique(held[:100] // 100)) == 5
