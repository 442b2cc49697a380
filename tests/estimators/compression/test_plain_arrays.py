"""Arrays that `predict` takes as they are: less work, the same answers, the same errors."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.frozen import FrozenEstimator
from torch import nn

from skcompress import CompressedClassifier, MagnitudePruner
from skcompress.estimators._base import rows
from tests.sample_nets import Tokens, make_classifier


@pytest.fixture(scope="module")
def clf(digits):
    return CompressedClassifier(make_classifier(), MagnitudePruner(0.5), random_state=0).fit(
        *digits
    )


@pytest.fixture
def full_validation(monkeypatch):
    """Count how often scikit-learn's full validation runs."""
    calls = []
    check_X = rows.check_X

    def counted(*args, **kwargs):
        calls.append(1)
        return check_X(*args, **kwargs)

    monkeypatch.setattr(rows, "check_X", counted)
    return calls


def test_a_plain_array_is_taken_as_it_is(clf, digits, full_validation):
    X = digits[0]
    expected = clf.predict_proba(X)
    assert full_validation == []
    np.testing.assert_array_equal(clf.predict_proba(X.astype(np.float64)), expected)
    assert full_validation == []
    np.testing.assert_array_equal(clf.predict_proba(X.tolist()), expected)
    assert full_validation == [1]


def test_float64_is_cast_in_a_copy(clf, digits):
    X = digits[0].astype(np.float64)
    clf.predict_proba(X)
    np.testing.assert_array_equal(X, digits[0])
    assert X.dtype == np.float64


def misaligned(X):
    """Return a copy that begins one byte off the place of a float."""
    copy = np.frombuffer(bytearray(X.nbytes + 1), np.uint8)[1:].view(X.dtype).reshape(X.shape)
    copy[:] = X
    return copy


@pytest.mark.parametrize(
    "change",
    [
        lambda X: X.astype(np.float16),
        lambda X: X.astype(">f4"),
        lambda X: X[::-1],
        lambda X: np.asfortranarray(X),
        misaligned,
        lambda X: X.tolist(),
        lambda X: pd.DataFrame(X),
        lambda X: np.ma.masked_array(X),
    ],
    ids=["float16", "big-endian", "reversed", "fortran", "misaligned", "list", "frame", "subclass"],
)
def test_others_are_validated_in_full(clf, digits, full_validation, change):
    X = change(digits[0])
    clf.predict(X)
    assert full_validation == [1]


@pytest.mark.parametrize("change", [misaligned, lambda X: X.astype(np.float64)])
def test_one_row_is_predicted_the_same_either_way(clf, digits, change):
    row = digits[0][:1]
    np.testing.assert_array_equal(clf.predict_proba(change(row)), clf.predict_proba(row))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda X: np.where(np.arange(64) == 3, np.nan, X),
        lambda X: np.where(np.arange(64) == 3, np.inf, X),
        lambda X: np.where(np.arange(64) % 2, np.inf, -np.inf) + X,
        lambda X: X[:, :30],
        lambda X: X[0],
        lambda X: X[:0],
    ],
    ids=["nan", "inf", "inf-inf", "width", "1-D", "empty"],
)
def test_the_same_errors(clf, digits, spoil):
    X = np.ascontiguousarray(spoil(digits[0]), dtype=np.float32)
    messages = []
    for array in (X, X.astype(np.float64)):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            clf.predict(array)
        messages.append(str(caught.value).replace("float32", "float64"))
    assert messages[0] == messages[1]


def test_large_numbers_that_only_sum_to_infinity(clf):
    X = np.full((4, 64), 3e38, dtype=np.float32)
    assert clf.transform(X).shape == (4, 10)


def test_numbers_beyond_float32_are_an_error(clf):
    with pytest.raises(ValueError, match="too large for dtype"):
        clf.predict(np.full((4, 64), 1e300))


def test_a_model_that_knows_names_asks_for_them(digits, full_validation):
    X, y = digits
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(64)])
    clf = CompressedClassifier(make_classifier(), random_state=0).fit(frame, y)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        clf.predict(X)


def test_ids_are_not_floats(full_validation):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 20, size=(60, 5))
    clf = CompressedClassifier(make_classifier(Tokens), dtype=None, random_state=0)
    clf.fit(X, X[:, 0] % 3)
    np.testing.assert_array_equal(clf.predict(X.astype(np.float32)), clf.predict(X))


def test_configuration_is_respected(clf, digits):
    X = digits[0].copy()
    X[0, 0] = np.nan
    with config_context(assume_finite=True):
        assert np.isnan(clf.predict_proba(X)).any()


@pytest.mark.parametrize("n_rows", [1, 3, 100])
@pytest.mark.parametrize(
    ("logits", "winner"), [([1e-9, 2e-9], 0), ([0, 200, 200], 1), ([-200, 0, 3e-9], 1)]
)
def test_the_first_of_equally_probable_classes(digits, logits, winner, n_rows):
    # Logits that differ may be the same probability: the class is that of predict_proba.
    net = make_classifier(module__n_out=len(logits)).initialize()
    nn.init.zeros_(net.module_.out.weight)
    net.module_.out.bias.data = torch.tensor(logits, dtype=torch.float32)
    X, y = digits
    with pytest.warns(UserWarning, match="trained outside"):
        clf = CompressedClassifier(FrozenEstimator(net)).fit(X, y % len(logits))
    np.testing.assert_array_equal(clf.predict(X[:n_rows]), winner)
    np.testing.assert_array_equal(clf.predict_proba(X[:n_rows]).argmax(axis=1), winner)
    np.testing.assert_array_equal(net.predict(X[:n_rows]), winner)
