"""What goes in: labels, dtypes, frames, dicts, axes, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNet, NeuralNetBinaryClassifier
from skorch.callbacks import Callback
from skorch.helper import SliceDict
from torch import nn

from skcompress import CompressedClassifier, CompressedRegressor, MagnitudePruner
from tests.sample_nets import (
    MLP,
    Attention,
    Convolution,
    Recurrent,
    Tokens,
    TwoInputs,
    make_classifier,
    make_regressor,
)

SHAPES = {"module__n_in": "n_features", "module__n_out": "n_classes"}
LEARNING = {"max_epochs": 20}


def compressed(net=None, **params):
    net = make_classifier(**LEARNING) if net is None else net
    return CompressedClassifier(net, MagnitudePruner(0.3), random_state=0, **params)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([f"digit {i}" for i in range(10)]),
        np.array([f"digit {i}" for i in range(10)], dtype=object),
        np.arange(10) * 7 - 30,
        np.arange(10, dtype=np.uint8),
        np.arange(10.0),
    ],
    ids=["str", "object", "gaps", "uint8", "float"],
)
def test_labels_of_any_type(digits, labels):
    X, y = digits
    clf = compressed().fit(X, labels[y])
    np.testing.assert_array_equal(clf.classes_, np.unique(labels))
    assert clf.predict(X).dtype == labels.dtype
    assert clf.score(X, labels[y]) > 0.9


def test_one_class(digits):
    X = digits[0]
    clf = compressed(shape_params=SHAPES).fit(X, np.full(len(X), "only"))
    assert set(clf.predict(X)) == {"only"}
    np.testing.assert_array_equal(clf.predict_proba(X), np.ones((len(X), 1)))


def test_a_fold_that_lacks_a_class(digits):
    X, y = digits
    keep = y != 3
    clf = compressed().fit(X[keep], y[keep])
    proba = clf.predict_proba(X)
    assert proba.shape == (360, 9)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
    assert clf.score(X[keep], y[keep]) > 0.9


def test_widths_follow_the_data(digits):
    X, y = digits
    clf = compressed(shape_params=SHAPES).fit(X[:, :30], y % 4)
    assert clf.net_.module_.hidden.in_features == 30
    assert clf.net_.module_.out.out_features == 4
    assert clf.n_features_in_ == 30


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, bool, ">f4"])
def test_numbers_become_float32(digits, dtype):
    X, y = digits
    X = (X * 16).astype(dtype)
    clf = compressed().fit(X, y)
    assert clf.predict_proba(X).dtype == np.float32


def test_negative_strides_and_read_only_arrays(digits):
    X, y = digits
    expected = compressed().fit(X, y).predict_proba(X)
    X = np.asfortranarray(X[::-1])[::-1]
    X.setflags(write=False)
    np.testing.assert_array_equal(compressed().fit(X, y).predict_proba(X), expected)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_token_ids(dtype):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 20, size=(300, 7)).astype(dtype)
    y = (X < 7).sum(axis=1) // 3
    net = make_classifier(Tokens, module__n_out=4, max_epochs=40, lr=0.05)
    clf = CompressedClassifier(net, MagnitudePruner(0.2), dtype=None, random_state=0).fit(X, y)
    assert clf.score(X, y) > 0.8
    np.testing.assert_array_equal(clf.predict(X.astype(float)), clf.predict(X))
    with pytest.raises(ValueError, match="whole numbers in fit"):
        clf.predict(X + 0.5)


def test_dtype_none_makes_floats_float32(digits):
    X, y = digits
    expected = compressed().fit(X, y).predict_proba(X)
    got = compressed(dtype=None).fit(X.astype(float), y).predict_proba(X.astype(float))
    np.testing.assert_array_equal(got, expected)


def test_data_frames(digits):
    X, y = digits
    frame = pd.DataFrame(X, columns=[f"pixel{i}" for i in range(64)])
    clf = compressed().fit(frame, pd.Series(y))
    np.testing.assert_array_equal(clf.feature_names_in_, frame.columns)
    np.testing.assert_array_equal(clf.predict(frame), compressed().fit(X, y).predict(X))
    with pytest.raises(ValueError, match="feature names should match"):
        clf.predict(frame.rename(columns={"pixel3": "other"}))


def test_the_output_as_a_frame(digits):
    X, y = digits
    clf = compressed().set_output(transform="pandas").fit(X, y)
    frame = clf.transform(X)
    assert list(frame.columns) == [f"compressedclassifier{i}" for i in range(10)]
    assert frame.shape == (360, 10)


@pytest.mark.parametrize("make", [dict, SliceDict], ids=["dict", "SliceDict"])
def test_dict_inputs(digits, make):
    X, y = digits
    inputs = make(image=X.astype(float), ids=np.arange(360) % 5)
    net = make_classifier(TwoInputs, max_epochs=40)
    clf = CompressedClassifier(net, MagnitudePruner(0.3), dtype=None, random_state=0)
    clf.fit(inputs, y)
    assert clf.score(inputs, y) > 0.9
    assert not hasattr(clf, "n_features_in_")
    with pytest.raises(ValueError, match=r"inputs seen in fit, 'image', 'ids'. Got 'image'"):
        clf.predict({"image": X})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "empty dict"),
        ({"image": np.zeros((4, 64)), "ids": np.zeros(3)}, "inconsistent numbers of samples"),
        ({"image": np.full((4, 64), np.nan), "ids": np.zeros(4)}, r"X\['image'\] contains NaN"),
    ],
)
def test_bad_dicts(inputs, message):
    with pytest.raises(ValueError, match=message):
        compressed(make_classifier(TwoInputs), dtype=None).fit(inputs, [0, 1, 0, 1])


@pytest.mark.parametrize(
    ("module", "shape"),
    [(Recurrent, (8, 8)), (Attention, (8, 8)), (Convolution, (1, 8, 8))],
    ids=["LSTM", "attention", "convolution"],
)
def test_more_axes(digits, module, shape):
    X, y = digits
    X = X.reshape(-1, *shape)
    clf = compressed(make_classifier(module, max_epochs=3)).fit(X, y)
    assert clf.predict(X).shape == (360,)
    assert clf.transform(X).shape == (360, 10)
    assert clf.report_.macs > 0


@pytest.mark.parametrize("net", [make_classifier(), NeuralNet(MLP, nn.CrossEntropyLoss, verbose=0)])
def test_any_net_with_a_classifiers_loss(digits, net):
    clf = compressed(net).fit(*digits)
    np.testing.assert_allclose(clf.predict_proba(digits[0]).sum(axis=1), 1, rtol=1e-5)


class Squeezed(MLP):
    def forward(self, X):
        return super().forward(X).squeeze(1)


@pytest.mark.parametrize("module", [MLP, Squeezed], ids=["(n, 1)", "(n,)"])
def test_one_output_for_two_classes(digits, module):
    X, y = digits
    labels = np.where(y > 4, "high", "low")
    net = NeuralNetBinaryClassifier(
        module, module__n_out=1, lr=0.5, max_epochs=60, train_split=None, verbose=0
    )
    clf = compressed(net).fit(X, labels)
    assert clf.score(X, labels) > 0.8
    assert clf.predict_proba(X).shape == (360, 2)
    with pytest.raises(ValueError, match="tells 2 classes apart, but y has 10"):
        compressed(net).fit(X, y)


@pytest.mark.parametrize("module", [MLP, Squeezed], ids=["(n, 1)", "(n,)"])
def test_targets_take_the_shape_of_the_output(diabetes, module):
    X, y = diabetes
    net = make_regressor(module, module__n_in=10, max_epochs=60)
    reg = CompressedRegressor(net, random_state=0).fit(X, y.ravel())
    assert reg.predict(X).shape == (200,)
    assert reg.score(X, y.ravel()) > 0.3
    assert reg.fit(X, y).predict(X).shape == (200, 1)


def test_several_targets(diabetes):
    X, y = diabetes
    targets = np.hstack([y, -y, 2 * y])
    shapes = {"module__n_in": "n_features", "module__n_out": "n_outputs"}
    net = make_regressor(max_epochs=60)
    reg = CompressedRegressor(net, shape_params=shapes, random_state=0).fit(X, targets)
    assert reg.predict(X).shape == (200, 3)
    assert reg.score(X, targets) > 0.3


def test_a_regressor_of_the_wrong_width(diabetes):
    X, y = diabetes
    net = make_regressor(module__n_in=10, module__n_out=2)
    with pytest.raises(ValueError, match=r"puts out the shape \(1, 2\).*y has 1 target"):
        CompressedRegressor(net).fit(X, y)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.full((4, 64), np.nan), [0, 1, 0, 1], "Input X contains NaN"),
        (np.full((4, 64), 1e300), [0, 1, 0, 1], r"too large for dtype\('float32'\)"),
        (np.zeros((0, 64)), [], "0 sample"),
        (np.zeros((4, 64)), [0, 1, 0], "inconsistent numbers of samples"),
        (np.zeros((4, 64)), [0.5, 1.2, 0.1, 2.2], "Unknown label type"),
        (np.zeros((4, 64)), [0, np.nan, 1, 1], "contains NaN"),
        (np.array([["a"] * 64] * 4), [0, 1, 0, 1], "string"),
        (np.zeros((4, 64), dtype=complex), [0, 1, 0, 1], "Complex data not supported"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", None])
def test_bad_data(X, y, message, dtype):
    with pytest.raises(ValueError, match=message):
        compressed(dtype=dtype).fit(X, y)


def test_targets_that_float32_cannot_hold(diabetes):
    X, y = diabetes
    with pytest.raises(ValueError, match=r"Input y .*TransformedTargetRegressor"):
        CompressedRegressor(make_regressor(module__n_in=10)).fit(X, y.astype(float) * 1e300)


def test_logits_where_skorch_takes_probabilities(digits):
    net = make_classifier(criterion=nn.NLLLoss)
    with pytest.raises(ValueError, match=r"NLLLoss .*not probabilities.*CrossEntropyLoss"):
        compressed(net).fit(*digits)


class Widening(Callback):
    """A callback that could set sizes when the training begins, and does not."""


def test_a_width_that_does_not_fit_is_explained(digits):
    X, y = digits
    late = make_classifier(callbacks=[Widening()])
    with pytest.raises(RuntimeError, match="cannot be multiplied") as caught:
        compressed(late).fit(X[:, :30], y)
    assert "a single row: X of shape (1, 30), float32" in caught.value.__notes__[0]


def test_too_few_outputs(digits):
    net = make_classifier(module__n_out=9)
    with pytest.raises(ValueError, match=r"\(1, 9\).*10 classes.*shape_params"):
        compressed(net).fit(*digits)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"estimator": MLP}, TypeError, "'estimator' parameter|must be a skorch net"),
        ({"estimator": type(make_classifier())}, TypeError, "Got the class"),
        ({"estimator": make_classifier(MLP())}, ValueError, "instance"),
        ({"compressor": "prune"}, TypeError, "'compressor' parameter .* Got 'prune'"),
        (
            {"compressor": Pipeline([("prune", MagnitudePruner(0.5))], memory="cache")},
            ValueError,
            "memory='cache', which cannot cache nets",
        ),
        ({"compressor": Pipeline([("scale", StandardScaler())])}, TypeError, "steps for data"),
        ({"compressor": MagnitudePruner(2.0)}, ValueError, "'sparsity' parameter"),
        ({"shape_params": {"module__n_in": "width"}}, ValueError, "Got 'module__n_in': 'width'"),
        ({"shape_params": ["module__n_in"]}, ValueError, "'shape_params' parameter"),
        ({"dtype": "float64"}, ValueError, "'dtype' parameter .* Got 'float64'"),
        ({"random_state": "seed"}, ValueError, "'random_state' parameter"),
        ({"memory": 3}, TypeError, "memory.*3"),
    ],
)
def test_bad_parameters(digits, params, error, message):
    clf = CompressedClassifier(make_classifier()).set_params(**params)
    with pytest.raises(error, match=message):
        clf.fit(*digits)


@pytest.mark.parametrize("kept", [False, True])
def test_bad_steps_are_refused_before_any_training(digits, tmp_path, monkeypatch, kept):
    def no_training(*args, **kwargs):
        raise AssertionError("trained")

    options = {"memory": tmp_path, "random_state": 0}
    if kept:
        CompressedClassifier(make_classifier(), **options).fit(*digits)
    monkeypatch.setattr("skcompress.estimators._base.training.train", no_training)
    for step, message in [
        (MagnitudePruner(0.5, ignored_layers=["hiden"]), "hiden"),
        (MagnitudePruner(), "exactly one"),
        (MagnitudePruner(0.9, n_steps=3), "fine_tuner"),
    ]:
        nested = Pipeline([("all", Pipeline([("step", step)]))])
        with pytest.raises(ValueError, match=message):
            CompressedClassifier(make_classifier(), nested, **options).fit(*digits)
