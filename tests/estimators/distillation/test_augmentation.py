"""New rows: what each way makes, from which rows, and what it refuses."""

import numpy as np
import pytest

from skcompress import DistilledClassifier, DistilledRegressor
from skcompress.estimators._distillation.augmentation import augment_rows
from tests.sample_nets import Tokens, make_classifier, make_regressor


def copies(X, augment, n_augment=3, seed=0):
    return augment_rows(X, augment, n_augment, np.random.default_rng(seed), "Test")


@pytest.fixture(name="X")
def rows_of_several_scales():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(200, 4)) * [1, 10, 0, 0.1] + [0, 5, 7, 0]
    return rows.astype(np.float32)


def test_noise_has_the_scale_of_each_feature(X):
    made = copies(X, "noise", 50)
    change = made.X - X[made.source]
    np.testing.assert_allclose(change.std(axis=0), 0.1 * X.std(axis=0), rtol=0.05)
    np.testing.assert_allclose(change.mean(axis=0), 0, atol=0.03)
    assert (change[:, 2] == 0).all()


def test_mixtures_of_two_rows(X):
    made = copies(X, "mixup", 50)
    assert made.share.min() >= 0.5
    assert 0.74 < made.share.mean() < 0.76
    share = made.share[:, None]
    expected = share * X[made.source] + (1 - share) * X[made.partner]
    np.testing.assert_allclose(made.X, expected, rtol=1e-5)
    assert len(np.unique(made.partner)) == 200


def test_swapped_features_are_values_of_the_same_feature(X):
    made = copies(X, "swap", 50)
    for feature in range(4):
        assert np.isin(made.X[:, feature], X[:, feature]).all()
    changed = X[made.source] != made.X
    np.testing.assert_allclose(changed[:, [0, 1, 3]].mean(), 0.1, atol=0.01)
    # Each feature for itself, not whole rows.
    assert 0.003 < (changed[:, 0] & changed[:, 1]).mean() < 0.02


@pytest.mark.parametrize("augment", ["noise", "mixup", "swap"])
@pytest.mark.usefixtures("global_rng_untouched")
def test_drawn_from_one_generator(X, augment):
    before = X.copy()
    one, two, other = (copies(X, augment, seed=s).X for s in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)
    assert one.dtype == np.float32
    assert one.shape == (600, 4)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("augment", ["noise", "mixup", "swap"])
def test_images_series_and_dicts(augment):
    rng = np.random.default_rng(0)
    X = {
        "image": rng.normal(size=(30, 1, 4, 5)).astype(np.float32),
        "ids": rng.integers(0, 9, size=(30, 3)),
        "id": rng.integers(0, 9, size=30),
    }
    made = copies(X, augment)
    for name, array in X.items():
        assert made.X[name].shape == (90, *array.shape[1:])
        assert made.X[name].dtype == array.dtype
    assert not np.array_equal(made.X["image"], X["image"][made.source])
    for name in ("ids", "id"):
        untouched = np.array_equal(made.X[name], X[name][made.source])
        assert untouched == (augment != "swap")


def test_a_function_of_rows_and_generator(X):
    def flip(rows, rng):
        rows *= -1
        return rows.astype(np.float64)

    before = X.copy()
    made = copies(X, flip, 2)
    np.testing.assert_array_equal(made.X, -np.tile(X, (2, 1)))
    assert made.X.dtype == np.float32
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize(
    ("augment", "got"),
    [
        (lambda X, rng: X[:5], r"\(5, 64\)"),
        (lambda X, rng: X[:, :3], r"\(360, 3\)"),
        (lambda X, rng: X * np.nan, "finite"),
        (lambda X, rng: {"image": X}, "image"),
    ],
)
def test_functions_that_return_something_else(digits, augment, got):
    from sklearn.naive_bayes import GaussianNB

    clf = DistilledClassifier(make_classifier(), GaussianNB(), augment=augment, n_augment=1)
    with pytest.raises(ValueError, match=rf"'augment' function of DistilledClassifier.*{got}"):
        clf.fit(*digits)


@pytest.mark.parametrize("augment", ["noise", "mixup"])
def test_whole_numbers_alone_are_refused(augment):
    ids = np.random.default_rng(0).integers(0, 20, size=(60, 7))
    net = make_classifier(Tokens)
    clf = DistilledClassifier(net, net, augment=augment, n_augment=1, dtype=None)
    with pytest.raises(ValueError, match=rf"is '{augment}', but X holds only whole.*'swap'"):
        clf.fit(ids, ids[:, 0] % 3)


def test_zero_copies_are_none(digits, diabetes):
    """So that a search may have 0 among its values."""
    from sklearn.linear_model import Ridge

    net = make_regressor(module__n_in=10)
    plain = DistilledRegressor(net, Ridge(), random_state=0).fit(*diabetes)
    with pytest.warns(UserWarning, match="'noise' makes no rows with n_augment=0"):
        zero = DistilledRegressor(net, Ridge(), augment="noise", random_state=0).fit(*diabetes)
    np.testing.assert_array_equal(plain.predict(diabetes[0]), zero.predict(diabetes[0]))
