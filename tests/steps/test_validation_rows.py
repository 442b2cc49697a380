"""Rows that a net's `train_split` keeps for validation have no part in a compression."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from skorch.dataset import ValidSplit
from skorch.helper import predefined_split

from skcompress import (
    CompressedClassifier,
    CompressedRegressor,
    DeadUnitRemover,
    DistilledClassifier,
    FineTuner,
    LowRankFactorizer,
    MagnitudePruner,
    Quantizer,
    StructuredPruner,
    TrainingData,
)
from skcompress._nets import some_rows, train_and_validation_rows
from tests.sample_nets import Deep, TwoInputs, make_classifier, make_regressor

STEPS = [
    MagnitudePruner(0.8, reconstruct=True),
    MagnitudePruner(0.8, n_steps=2, fine_tuner=FineTuner(1), reconstruct=True),
    Quantizer(2, reconstruct=True),
    StructuredPruner(0.5, reconstruct=True),
    StructuredPruner(0.5, importance="taylor"),
    StructuredPruner(0.5, importance="activation"),
    StructuredPruner(0.5, scope="sensitivity"),
    StructuredPruner(0.5, importance="taylor", n_steps=2, fine_tuner=FineTuner(1)),
]
EACH = pytest.mark.parametrize("step", STEPS, ids=repr)


class Noted(ValidSplit):
    """A split that tells which rows it keeps."""

    rows: np.ndarray

    def __call__(self, dataset, y=None, groups=None):
        train, valid = super().__call__(dataset, y, groups)
        Noted.rows = np.asarray(valid.indices)
        return train, valid


def garbled(X, y, rows):
    """Return the data with nonsense in some rows; the classes are the same."""
    X, y = X.copy(), y.copy()
    X[rows] = np.random.default_rng(0).normal(size=X[rows].shape).astype(X.dtype) * 1e3
    y[rows] = y[rows][::-1]
    return X, y


def outputs_with_garbled_validation(model, X, y):
    fitted = [clone(model).fit(X, y)]
    valid = Noted.rows
    assert 0 < len(valid) < len(X) / 2
    fitted.append(clone(model).fit(*garbled(X, y, valid)))
    assert np.array_equal(Noted.rows, valid)
    return [one.transform(X) for one in fitted]


@EACH
@pytest.mark.parametrize("split", [Noted(5), Noted(0.3)], ids=["in order", "at random"])
def test_the_net_is_the_same_whatever_they_are(step, split, digits):
    net = make_classifier(Deep, max_epochs=2, train_split=split)
    model = CompressedClassifier(net, step, random_state=0)
    np.testing.assert_array_equal(*outputs_with_garbled_validation(model, *digits))


@pytest.mark.parametrize("step", [STEPS[0], STEPS[3], STEPS[6]], ids=repr)
def test_of_a_regressor(step, diabetes):
    net = make_regressor(module__n_in=10, train_split=Noted(4))
    model = CompressedRegressor(net, step, random_state=0)
    np.testing.assert_array_equal(*outputs_with_garbled_validation(model, *diabetes))


@pytest.mark.parametrize("step", [STEPS[0], STEPS[4]], ids=repr)
def test_of_a_student(step, digits):
    student = make_classifier(Deep, max_epochs=2, train_split=Noted(5))
    model = CompressedClassifier(
        DistilledClassifier(student, LogisticRegression(C=0.1)), step, random_state=0
    )
    np.testing.assert_array_equal(*outputs_with_garbled_validation(model, *digits))


def test_behind_each_other_and_from_the_store(digits, tmp_path):
    steps = make_pipeline(
        StructuredPruner(0.3, scope="sensitivity", reconstruct=True),
        DeadUnitRemover(),
        LowRankFactorizer(energy=0.9),
        MagnitudePruner(0.5, reconstruct=True),
        Quantizer(3, reconstruct=True),
    )
    net = make_classifier(Deep, max_epochs=2, train_split=Noted(5))
    model = CompressedClassifier(net, steps, memory=tmp_path, random_state=0)
    np.testing.assert_array_equal(*outputs_with_garbled_validation(model, *digits))


def test_another_split_is_not_read_from_the_store(digits, tmp_path):
    """The same weights and rows, but others of them are kept for validation."""
    outputs = []
    for memory in (None, tmp_path):
        for cut in (5, 2):
            net = make_classifier(Deep, max_epochs=0, train_split=ValidSplit(cut))
            model = CompressedClassifier(net, STEPS[0], memory=memory, random_state=0)
            outputs.append(model.fit(*digits).transform(digits[0]))
    np.testing.assert_array_equal(outputs[:2], outputs[2:])
    assert not np.array_equal(outputs[0], outputs[1])


class OwnSplit:
    """Cuts rows so that nobody can tell which."""

    def __call__(self, dataset, y=None, groups=None):
        rows = [dataset[i] for i in range(len(dataset) - 20)]
        return rows, rows


class TestWhichRows:
    def test_with_the_seed_of_the_training(self, digits):
        X, y = digits
        net = make_classifier(train_split=ValidSplit(0.3))
        train = train_and_validation_rows(net, X, y, 7)[0]
        data = TrainingData(X, y)._with_fold(split_seed=7)
        assert data._training_rows(net).tolist() == sorted(train)
        few = data._training_rows(net, 100)
        assert len(few) == 100
        assert set(few) < set(train)
        np.testing.assert_array_equal(data._training_X(net, 100), X[few])

    def test_a_step_alone_uses_the_rows_it_is_given(self, digits):
        net = make_classifier(train_split=ValidSplit(5))
        assert len(TrainingData(*digits)._training_rows(net)) == 360

    @pytest.mark.parametrize("split", [None, predefined_split([(0, 0)])])
    def test_without_a_part_of_their_own(self, split, digits):
        net = make_classifier(train_split=split)
        data = TrainingData(*digits)._with_fold(split_seed=7)
        assert len(data._training_rows(net)) == 360

    def test_inputs_by_name(self, digits):
        X = {"image": digits[0], "ids": (digits[1] % 5).astype(np.int64)}
        net = make_classifier(TwoInputs, train_split=ValidSplit(4))
        data = TrainingData(X, digits[1])._with_fold(split_seed=7)
        assert len(data._training_X(net, 1000)["ids"]) == 270

    @EACH
    def test_a_split_that_cannot_be_told(self, step, digits):
        net = make_classifier(Deep, max_epochs=1, train_split=OwnSplit())
        model = CompressedClassifier(net, step, random_state=0)
        with pytest.warns(UserWarning, match=r"train_split=<.*OwnSplit.* cannot tell which"):
            model.fit(*digits)
        plain = CompressedClassifier(net, Quantizer(4), random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            plain.fit(*digits)


@pytest.mark.parametrize("n", [1, 99, 100, 101, 150, 199, 200, 350])
def test_rows_are_from_all_over_the_data(n):
    """Of nearly twice as many rows as are looked at, too."""
    rows = some_rows(np.zeros((n, 3)), 100)
    assert len(rows) == len(set(rows)) == min(n, 100)
    assert rows[0] == 0
    assert n - 1 - rows[-1] <= n // 100
    assert max(np.diff(rows, append=n)) <= -(-n // 100)
