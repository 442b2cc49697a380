"""`partial_fit`: more training of a compressed net that undoes no compression."""

import copy
import inspect
import pickle

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import learning_curve
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import Pipeline
from skorch import NeuralNetClassifier
from skorch.callbacks import EarlyStopping
from torch import nn

from skcompress import (
    CompressedClassifier,
    CompressedRegressor,
    DeadUnitRemover,
    DistilledClassifier,
    FineTuner,
    LowRankFactorizer,
    MagnitudePruner,
    Quantizer,
    SampleWeightMixin,
    StructuredPruner,
)
from skcompress._nets import module_root, parts
from skcompress.io import load, save
from skcompress.nn.codes.coded_layers import packed_weights
from skcompress.nn.modules.weights import find_weights
from tests.sample_nets import (
    MLP,
    Convolution,
    Recurrent,
    TwoInputs,
    make_classifier,
    make_regressor,
)

SHAPES = {"module__n_in": "n_features", "module__n_out": "n_classes"}
PRUNED_AND_CODED = Pipeline(
    [("prune", MagnitudePruner(0.8)), ("tune", FineTuner(1)), ("quantize", Quantizer(4))]
)
STEPS = {
    "zeros": MagnitudePruner(0.8),
    "zeros, tuned": Pipeline([("prune", MagnitudePruner(0.8)), ("tune", FineTuner(1))]),
    "zeros, reconstructed": MagnitudePruner(0.8, reconstruct=True),
    "units": StructuredPruner(0.5),
    "units and zeros": Pipeline(
        [("units", StructuredPruner(0.5)), ("zeros", MagnitudePruner(0.5))]
    ),
    "dead units": Pipeline([("prune", MagnitudePruner(0.9)), ("dead", DeadUnitRemover())]),
    "codes": Quantizer(4),
    "zeros in fixed-point codes": Pipeline(
        [("prune", MagnitudePruner(0.8)), ("quantize", Quantizer(5, scheme="fixed_point"))]
    ),
    "zeros in codes": PRUNED_AND_CODED,
    "zeros in thin layers": Pipeline(
        [("rank", LowRankFactorizer(6)), ("prune", MagnitudePruner(0.5))]
    ),
}


def compressed(compressor=PRUNED_AND_CODED, net=None, **params):
    net = make_classifier() if net is None else net
    return CompressedClassifier(net, compressor, **{"random_state": 0, **params})


def zeros_of(clf):
    return {w.name: w.zeros().numpy().copy() for w in find_weights(module_root(clf.net_))}


def codes_of(clf):
    return {
        f"{name}.{attr}": packed.codes().values.numpy().copy()
        for name, layer in module_root(clf.net_).named_modules()
        for attr, packed in packed_weights(layer).items()
    }


def state_of(clf):
    states = (part.state_dict() for part in parts(clf.net_).values())
    return [(k, v.clone()) for state in states for k, v in state.items()]


def same_state(one, other):
    return len(one) == len(other) and all(
        k == q and torch.equal(v, w) for (k, v), (q, w) in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("name", STEPS)
def test_what_was_compressed_stays_so(name, digits):
    clf = compressed(STEPS[name]).fit(*digits)
    zeros, codes, before = zeros_of(clf), codes_of(clf), clf.predict_proba(digits[0])
    shapes = [(key, tensor.shape) for key, tensor in state_of(clf)]
    assert clf.partial_fit(*digits) is clf
    assert not np.array_equal(clf.predict_proba(digits[0]), before)
    after = zeros_of(clf)
    assert set(after) == set(zeros)
    for weight, zero in zeros.items():
        assert after[weight][zero].all()
    for weight, kept in codes.items():
        np.testing.assert_array_equal(codes_of(clf)[weight], kept)
    assert [(key, tensor.shape) for key, tensor in state_of(clf)] == shapes


@pytest.mark.parametrize(("module", "shape"), [(Convolution, (1, 8, 8)), (Recurrent, (8, 8))])
def test_zeros_of_other_layers(module, shape, digits):
    X, y = digits[0].reshape(-1, *shape), digits[1]
    clf = compressed(MagnitudePruner(0.7), make_classifier(module, max_epochs=2)).fit(X, y)
    zeros = zeros_of(clf)
    clf.partial_fit(X, y)
    assert sum(zero.sum() for zero in zeros.values()) > 300
    for name, zero in zeros_of(clf).items():
        np.testing.assert_array_equal(zero, zeros[name])


def test_it_learns(digits):
    X, y = digits
    clf = compressed(MagnitudePruner(0.9)).fit(X, y)
    before = clf.score(X, y)
    for _ in range(4):
        clf.partial_fit(X, y)
    assert clf.score(X, y) > before + 0.1
    assert clf.report_.sparsity == pytest.approx(0.9, abs=1e-3)


@pytest.mark.parametrize("looked", [False, True], ids=["measured later", "measured before"])
def test_the_report_is_of_the_net_of_now(digits, tmp_path, looked):
    clf = compressed().fit(*digits)
    earlier = clf.report_ if looked else copy.deepcopy(clf).report_
    rows, n_bytes = list(earlier.history), earlier.nbytes
    report = clf.partial_fit(*digits).report_
    assert earlier.history == rows
    assert earlier.nbytes == n_bytes
    assert report.history[:6] == rows
    assert [row["stage"] for row in report.history[6:]] == ["partial_fit"] * 5
    assert [row["epoch"] for row in report.history] == list(range(1, 12))
    save(clf, tmp_path / "net.skc")
    assert report.nbytes == (tmp_path / "net.skc").stat().st_size
    same = {name for name in earlier if name.startswith("dense_")} | {"n_params", "macs"}
    assert {name: report[name] for name in same} == {name: earlier[name] for name in same}
    n_nonzero = sum((~zero).sum() for zero in zeros_of(clf).values())
    assert report.n_nonzero == n_nonzero
    assert report.sparsity == 1 - n_nonzero / 2368


def test_the_report_counts_zeros_that_came_with_the_training(digits):
    X, y = digits[0].copy(), digits[1]
    X[:, :32] = 0
    net = make_classifier(optimizer=Shrinking, module__n_hidden=8, max_epochs=2)
    clf = compressed(None, net).fit(X, y)
    assert clf.report_.sparsity == 0
    Shrinking.shrinks = True
    try:
        clf.partial_fit(X, y)
    finally:
        Shrinking.shrinks = False
    assert clf.report_.n_nonzero == 0
    assert clf.report_.sparsity == 1
    assert clf.partial_fit(X, y).report_.sparsity == 1


class Shrinking(torch.optim.SGD):
    """An optimizer that can set all weights to zero."""

    shrinks = False

    def step(self, closure=None):
        loss = super().step(closure)
        if self.shrinks:
            with torch.no_grad():
                for group in self.param_groups:
                    for parameter in group["params"]:
                        parameter.zero_()
        return loss


@pytest.mark.usefixtures("global_rng_untouched")
def test_without_a_fit_it_is_one(digits):
    new, fitted = compressed(), compressed().fit(*digits)
    assert new.partial_fit(*digits) is new
    assert same_state(state_of(new), state_of(fitted))
    assert [r["stage"] for r in new.report_.history] == [r["stage"] for r in fitted.report_.history]


@pytest.mark.usefixtures("global_rng_untouched")
def test_the_same_seed_gives_the_same_weights(digits):
    net = make_classifier(module=Dropped)
    one, other = (compressed(net=net).fit(*digits) for _ in range(2))
    for _ in range(2):
        assert same_state(state_of(one.partial_fit(*digits)), state_of(other.partial_fit(*digits)))
    third = compressed(net=net).fit(*digits).set_params(random_state=1)
    first = compressed(net=net).fit(*digits)
    assert not same_state(
        state_of(first.partial_fit(*digits)), state_of(third.partial_fit(*digits))
    )


class Dropped(MLP):
    def forward(self, X):
        return self.out(nn.functional.dropout(self.act(self.hidden(X)), 0.5, self.training))


def test_a_copy_from_a_pickle_trains_the_same(digits):
    clf = compressed().fit(*digits)
    other = pickle.loads(pickle.dumps(clf))
    assert same_state(state_of(clf.partial_fit(*digits)), state_of(other.partial_fit(*digits)))


def test_with_memory_no_seed_is_needed(digits, tmp_path):
    one, other = (
        compressed(memory=tmp_path, random_state=None).fit(*digits).partial_fit(*digits)
        for _ in range(2)
    )
    assert same_state(state_of(one), state_of(other))


def test_a_loaded_estimator(digits, tmp_path):
    save(compressed().fit(*digits), tmp_path / "net.skc")
    clf = load(tmp_path / "net.skc", compressed())
    zeros, codes = zeros_of(clf), codes_of(clf)
    report = clf.partial_fit(*digits).report_
    assert all(zeros_of(clf)[name][zero].all() for name, zero in zeros.items())
    for name, kept in codes_of(clf).items():
        np.testing.assert_array_equal(kept, codes[name])
    assert report.sparsity >= 0.8 - 1e-3
    assert report.dense_n_params == 64 * 32 + 32 + 32 * 10 + 10
    assert [row["epoch"] for row in report.history] == [1, 2, 3, 4, 5]
    save(clf, tmp_path / "again.skc")
    assert report.nbytes == (tmp_path / "again.skc").stat().st_size


def test_a_frozen_net_is_not_changed(digits, fitted_classifier):
    before = copy.deepcopy(fitted_classifier.module_.state_dict())
    clf = compressed(MagnitudePruner(0.5), FrozenEstimator(fitted_classifier))
    with pytest.warns(UserWarning, match="trained outside"):
        clf.fit(*digits)
    clf.partial_fit(*digits)
    assert all(torch.equal(before[k], v) for k, v in fitted_classifier.module_.state_dict().items())
    assert clf.report_.sparsity == 0.5


class Recorded:
    """A random `train_split` that notes which rows it keeps for validation."""

    kept: list = []

    def __call__(self, dataset, y=None, groups=None):
        order = np.random.permutation(len(dataset))  # noqa: NPY002
        self.kept.append(sorted(order[:50].tolist()))
        subset = torch.utils.data.Subset
        return subset(dataset, order[50:]), subset(dataset, order[:50])


def test_the_rows_for_validation_are_those_of_the_fit(digits):
    Recorded.kept.clear()
    clf = compressed(MagnitudePruner(0.5), make_classifier(train_split=Recorded(), max_epochs=1))
    clf.fit(*digits).partial_fit(*digits).partial_fit(*digits)
    assert len(Recorded.kept) == 3
    assert Recorded.kept[0] == Recorded.kept[1] == Recorded.kept[2]


def test_callbacks_of_the_net_are_used(digits):
    net = make_classifier(callbacks=[EarlyStopping("train_loss", patience=2, threshold=10.0)])
    clf = compressed(None, net).fit(*digits)
    n = len(clf.report_.history)
    assert len(clf.partial_fit(*digits).report_.history) < n + 5


# Rows and targets --------------------------------------------------------------------------------


def test_classes_that_come_later(digits):
    X, y = digits
    labels = np.array([f"digit {i}" for i in range(10)])
    few = y < 4
    clf = compressed(MagnitudePruner(0.3), make_classifier(max_epochs=20), shape_params=SHAPES)
    clf.partial_fit(X[few], labels[y[few]], classes=labels)
    np.testing.assert_array_equal(clf.classes_, labels)
    assert clf.predict_proba(X).shape == (360, 10)
    assert clf.score(X, labels[y]) < 0.5
    clf.partial_fit(X, labels[y]).partial_fit(X[few], labels[y[few]], classes=labels[::-1])
    np.testing.assert_array_equal(clf.classes_, labels)
    assert clf.partial_fit(X, labels[y]).score(X, labels[y]) > 0.9


class NeverTrained(nn.Linear):
    def __init__(self):
        super().__init__(64, 10)

    def forward(self, X):
        assert not self.training, "a net was trained for a call that was refused"
        return super().forward(X)


def test_labels_that_are_not_among_the_classes(digits):
    X, y = digits
    clf = compressed(None, make_classifier(NeverTrained))
    with pytest.raises(ValueError, match=r"labels \[4, 5.*not among classes, array\(\[0, 1, 2, 3"):
        clf.partial_fit(X, y, classes=[0, 1, 2, 3])
    few = y < 4
    clf = compressed(None, shape_params=SHAPES).fit(X[few], y[few])
    before = state_of(clf)
    with pytest.raises(ValueError, match=r"labels \[4, 5.*classes_.*classes=\.\.\."):
        clf.partial_fit(X, y)
    with pytest.raises(ValueError, match=r"labels \['0'.*not among classes_"):
        clf.partial_fit(X, y.astype(str))
    with pytest.raises(ValueError, match=r"classes=\[0, 1\], but the net was fitted with array"):
        clf.partial_fit(X[few], y[few], classes=[0, 1])
    assert same_state(state_of(clf), before)
    assert len(clf.report_.history) == 5


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.zeros((4, 63)), [0, 1, 0, 1], "63 features, but CompressedClassifier is expecting 64"),
        (np.full((4, 64), np.nan), [0, 1, 0, 1], "contains NaN"),
        (np.zeros((4, 64)), [0, 1, 0], "inconsistent numbers"),
        (np.zeros((4, 64)), [0.5, 1.2, 0.1, 2.2], "Unknown label type"),
        (np.zeros((0, 64)), [], "0 sample"),
    ],
)
def test_bad_rows_leave_the_estimator_as_it_was(digits, X, y, message):
    clf = compressed(MagnitudePruner(0.5)).fit(*digits)
    before = state_of(clf)
    with pytest.raises(ValueError, match=message):
        clf.partial_fit(X, y)
    assert same_state(state_of(clf), before)
    assert clf.n_features_in_ == 64


def test_a_training_that_diverges_leaves_the_estimator_as_it_was(digits):
    clf = compressed(MagnitudePruner(0.5)).fit(*digits)
    before = state_of(clf)
    clf.net_.set_params(optimizer__weight_decay=1e30, lr=1e30)
    with pytest.raises(ValueError, match="diverged"):
        clf.partial_fit(*digits)
    assert same_state(state_of(clf), before)
    assert len(clf.report_.history) == 5
    assert clf.report_.sparsity == 0.5


def test_a_dict_of_inputs(digits):
    X, y = digits
    inputs = {"image": X, "ids": np.arange(360) % 5}
    clf = compressed(MagnitudePruner(0.3), make_classifier(TwoInputs), dtype=None).fit(inputs, y)
    before = clf.predict_proba(inputs)
    clf.partial_fit({"image": X, "ids": inputs["ids"].astype(float)}, y)
    assert not np.array_equal(clf.predict_proba(inputs), before)
    with pytest.raises(ValueError, match=r"inputs seen in fit, 'image', 'ids'. Got 'image'"):
        clf.partial_fit({"image": X}, y)


def test_a_regressor(diabetes):
    X, y = diabetes
    net = make_regressor(module__n_in=10, module__n_out=2, max_epochs=20)
    reg = CompressedRegressor(net, MagnitudePruner(0.5), random_state=0)
    targets = np.hstack([y, -y])
    reg.fit(X, targets)
    zeros, before = zeros_of(reg), reg.score(X, targets)
    reg.partial_fit(X, targets)
    assert reg.score(X, targets) > before
    assert all(zeros_of(reg)[name][zero].all() for name, zero in zeros.items())
    with pytest.raises(ValueError, match=r"shape \(1,\), but those seen in fit had \(2,\)"):
        reg.partial_fit(X, y)
    assert "classes" not in inspect.signature(reg.partial_fit).parameters


class Weighted(SampleWeightMixin, NeuralNetClassifier):
    pass


def test_sample_weights(digits):
    X, y = digits
    net = Weighted(MLP, criterion=nn.CrossEntropyLoss, lr=0.1, train_split=None, verbose=0)
    clf = compressed(MagnitudePruner(0.5), net).fit(X, y)
    weight = np.where(y == 3, 1.0, 0.0)
    clf.partial_fit(X, y, sample_weight=weight)
    for _ in range(3):
        clf.partial_fit(X, y, None, weight)
    assert (clf.predict(X) == 3).mean() > 0.9
    assert clf.report_.sparsity == 0.5


def test_sample_weights_that_the_net_cannot_use(digits):
    clf = compressed(None, make_classifier(max_epochs=1)).fit(*digits)
    assert "sample_weight" not in inspect.signature(clf.partial_fit).parameters
    assert "sample_weight" in inspect.signature(CompressedClassifier.partial_fit).parameters
    with pytest.raises(TypeError, match=r"partial_fit got sample_weight, but its net cannot"):
        clf.partial_fit(*digits, sample_weight=np.ones(360))


# Among scikit-learn's tools ----------------------------------------------------------------------


def test_a_learning_curve_that_trains_on(digits):
    sizes, _, scores = learning_curve(
        compressed(MagnitudePruner(0.5), make_classifier(max_epochs=10)),
        *digits,
        train_sizes=[0.2, 1.0],
        cv=3,
        exploit_incremental_learning=True,
        error_score="raise",
    )
    assert sizes.tolist() == [48, 240]
    assert scores[1].mean() > scores[0].mean()


def test_several_outputs(digits):
    X, y = digits
    targets = np.stack([y % 2, y % 5], axis=1)
    model = MultiOutputClassifier(compressed(MagnitudePruner(0.5), shape_params=SHAPES))
    model.partial_fit(X, targets, classes=[np.arange(2), np.arange(5)])
    before = model.score(X, targets)
    for _ in range(3):
        model.partial_fit(X, targets)
    assert model.score(X, targets) > before


def test_a_distilled_student_learns_on_from_labels(digits):
    student = DistilledClassifier(make_classifier(), LogisticRegression(C=0.1), held_out=0)
    clf = compressed(MagnitudePruner(0.7), student).fit(*digits)
    zeros = zeros_of(clf)
    clf.partial_fit(*digits)
    assert all(zeros_of(clf)[name][zero].all() for name, zero in zeros.items())
    assert not hasattr(student, "partial_fit")
