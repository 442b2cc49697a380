"""The effect of soft targets on the weights: none at alpha 0, all of it at alpha 1."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.dataset import Dataset, ValidSplit
from torch import nn

from skcompress import (
    CompressedClassifier,
    CompressedRegressor,
    DistilledClassifier,
    DistilledRegressor,
    SampleWeightMixin,
)
from skcompress._nets import ExtraRows, SoftTargets, predict_raw, seeded, train
from tests.sample_nets import MLP, TwoInputs, make_classifier, make_regressor

FOREST = RandomForestClassifier(10, max_depth=6)


def weights_of(net):
    return torch.cat([p.detach().flatten() for p in net.module_.parameters()])


def same_weights(one, two):
    return torch.equal(weights_of(one.net_), weights_of(two.net_))


@pytest.mark.parametrize("split", [None, ValidSplit(5), ValidSplit(0.2, stratified=True)])
@pytest.mark.usefixtures("global_rng_untouched")
def test_alpha_0_is_ordinary_training(digits, split):
    net = make_classifier(train_split=split)
    plain = CompressedClassifier(net, None, random_state=3).fit(*digits)
    distilled = DistilledClassifier(net, FOREST, alpha=0, random_state=3)
    assert same_weights(distilled.fit(*digits), plain)
    assert not same_weights(distilled.set_params(alpha=0.1).fit(*digits), plain)


def test_alpha_0_of_a_regressor(diabetes):
    net = make_regressor(module__n_in=10)
    plain = CompressedRegressor(net, None, random_state=3).fit(*diabetes)
    distilled = DistilledRegressor(net, RandomForestRegressor(5), alpha=0, random_state=3)
    assert same_weights(distilled.fit(*diabetes), plain)
    assert not same_weights(distilled.set_params(alpha=0.5).fit(*diabetes), plain)


def test_alpha_0_in_a_cache_without_a_seed(digits, tmp_path):
    """The seed is then derived from rows and net, in the same way."""
    plain = CompressedClassifier(make_classifier(), memory=tmp_path).fit(*digits)
    distilled = DistilledClassifier(make_classifier(), FOREST, alpha=0, memory=tmp_path)
    assert same_weights(distilled.fit(*digits), plain)


@pytest.mark.filterwarnings("ignore:FrozenEstimator", "ignore:The teacher is worse")
@pytest.mark.parametrize("split", [None, ValidSplit(5), ValidSplit(0.2)])
@pytest.mark.parametrize("augment", [None, "mixup"])
def test_alpha_1_with_a_frozen_teacher_sees_no_labels(digits, split, augment):
    X, y = digits
    teacher = FrozenEstimator(RandomForestClassifier(10, random_state=0).fit(X, y))
    net = make_classifier(train_split=split)
    clf = DistilledClassifier(
        net, teacher, alpha=1, augment=augment, n_augment=2 * bool(augment), random_state=0
    )
    one = clf.fit(X, y).net_
    two = clf.fit(X, (y + 3) % 10).net_
    assert torch.equal(weights_of(one), weights_of(two))
    clf.set_params(alpha=0.9)
    assert not torch.equal(weights_of(clf.fit(X, y).net_), weights_of(one))


@pytest.mark.filterwarnings("ignore:FrozenEstimator")
def test_alpha_1_of_a_regressor(diabetes):
    X, y = diabetes
    teacher = FrozenEstimator(RandomForestRegressor(10, random_state=0).fit(X, y.ravel()))
    params = {"alpha": 1, "held_out": 0, "random_state": 0}
    reg = DistilledRegressor(make_regressor(module__n_in=10), teacher, **params)
    one, two = reg.fit(X, y).net_, reg.fit(X, -y).net_
    assert torch.equal(weights_of(one), weights_of(two))


def one_step(net, X, y, soft_targets, **params):
    """Return the weights after one step of plain SGD on all rows, and where it began."""
    net.set_params(batch_size=-1, optimizer=torch.optim.SGD, lr=1.0, max_epochs=1)
    with seeded(0):
        net.initialize()
    start = {name: p.detach().clone() for name, p in net.module_.named_parameters()}
    train(net, X, y, seed=0, split_seed=0, soft_targets=soft_targets, **params)
    return {name: start[name] - p.detach() for name, p in net.module_.named_parameters()}


def by_hand(X, y, soft_targets, weight=None):
    """Return the gradients of the documented loss, written out row by row."""
    with seeded(0):
        module = MLP()
    T, alpha = soft_targets.temperature, soft_targets.alpha
    extra = soft_targets.extra
    rows = torch.as_tensor(X if extra is None else np.vstack([X, extra.X]))
    targets = soft_targets.targets
    p = torch.as_tensor(targets if extra is None else np.vstack([targets, extra.targets]))
    w = torch.ones(len(rows)) if weight is None else torch.as_tensor(weight)
    total = 0
    for i, logits in enumerate(module(rows)):
        soft = p[i] ** (1 / T) / (p[i] ** (1 / T)).sum()
        log_q = torch.log_softmax(logits / T, dim=0)
        kl = sum(s * (s.log() - q) for s, q in zip(soft, log_q, strict=True) if s > 0)
        term = T**2 * kl
        if i < len(X):
            term = alpha * term + (1 - alpha) * -torch.log_softmax(logits, dim=0)[y[i]]
        total = total + w[i] * term
    (total / w.sum()).backward()
    return {name: parameter.grad for name, parameter in module.named_parameters()}


def some_targets(n_rows, alpha, temperature, n_extra=0, weight=None):
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(10, 0.3), size=n_rows + n_extra).astype(np.float32)
    p[p < 0.02] = 0
    p /= p.sum(axis=1, keepdims=True)
    X = rng.random((n_extra, 64), dtype=np.float32)
    extra = ExtraRows(X, p[n_rows:], weight) if n_extra else None
    return SoftTargets(p[:n_rows], alpha, temperature, extra)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("n_extra", [0, 7])
def test_the_loss_is_the_documented_one(digits, alpha, temperature, n_extra):
    X, y = digits[0][:20], digits[1][:20]
    soft_targets = some_targets(20, alpha, temperature, n_extra)
    got = one_step(make_classifier(), X, y, soft_targets)
    for name, expected in by_hand(X, y, soft_targets).items():
        torch.testing.assert_close(got[name], expected, rtol=1e-3, atol=1e-5)


class Weighted(SampleWeightMixin, NeuralNetClassifier):
    pass


def test_sample_weights_count_as_that_many_rows(digits):
    X, y = digits[0][:20], digits[1][:20]
    weight = np.arange(27, dtype=np.float32) % 4
    soft_targets = some_targets(20, 0.4, 2.0, n_extra=7, weight=weight[20:])
    net = Weighted(MLP, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0)
    got = one_step(net, X, y, soft_targets, sample_weight=weight[:20])
    for name, expected in by_hand(X, y, soft_targets, weight).items():
        torch.testing.assert_close(got[name], expected, rtol=1e-3, atol=1e-5)


class Softmax(MLP):
    def forward(self, X):
        return torch.softmax(super().forward(X), dim=1)


class LogSoftmax(MLP):
    def forward(self, X):
        return torch.log_softmax(super().forward(X), dim=1)


def test_nets_that_end_in_probabilities_learn_the_same(digits):
    X, y = digits[0][:20], digits[1][:20]
    soft_targets = some_targets(20, 1.0, 1.0, n_extra=5)
    expected = one_step(make_classifier(), X, y, soft_targets)
    for net in (
        make_classifier(Softmax, criterion=nn.NLLLoss),
        make_regressor(LogSoftmax, criterion=nn.NLLLoss, module__n_out=10),
    ):
        for name, value in one_step(net, X, y, soft_targets).items():
            torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("criterion", [nn.BCEWithLogitsLoss, nn.BCELoss])
def test_one_output_for_two_classes(digits, criterion):
    """The same as two logits of which the first is zero."""

    class Pair(MLP):
        def forward(self, X):
            logit = super().forward(X)
            return torch.cat([torch.zeros_like(logit), logit], dim=1)

    class Sigmoid(MLP):
        def forward(self, X):
            return torch.sigmoid(super().forward(X))

    X, y = digits[0][:20], (digits[1][:20] % 2).astype(np.int64)
    p = np.random.default_rng(0).dirichlet([0.5, 0.5], size=20).astype(np.float32)
    soft_targets = SoftTargets(p, 0.6, 2.0)
    expected = one_step(make_classifier(Pair, module__n_out=1), X, y, soft_targets)
    params = {"module__n_out": 1, "criterion": criterion, "verbose": 0, "train_split": None}
    labels = y.astype(np.float32)
    if criterion is nn.BCELoss:
        got = one_step(NeuralNet(Sigmoid, **params), X, labels[:, None], soft_targets)
    else:
        got = one_step(NeuralNetBinaryClassifier(MLP, **params), X, labels, soft_targets)
    for name, value in got.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5)


def test_a_students_outputs_beyond_the_classes(digits):
    """They are classes that the teacher gives no probability."""
    X, y = digits
    keep = y < 4
    clf = DistilledClassifier(make_classifier(max_epochs=30), FOREST, alpha=1, random_state=0)
    clf.fit(X[keep], y[keep])
    assert clf.score(X[keep], y[keep]) > 0.95
    logits = predict_raw(clf.net_, X[keep])
    assert (logits[:, :4].max(axis=1) > logits[:, 4:].max(axis=1) + 1).mean() > 0.9


def test_several_values(diabetes):
    X, y = diabetes
    targets = np.hstack([y, -y, 2 * y])
    net = make_regressor(module__n_in=10, module__n_out=3, max_epochs=60)
    reg = DistilledRegressor(net, RandomForestRegressor(20), alpha=1, random_state=0)
    assert reg.fit(X, targets).score(X, targets) > 0.5
    assert reg.predict(X).shape == (200, 3)
    teacher = RandomForestRegressor(20, random_state=0).fit(X, targets).predict(X)
    residual = np.var(reg.predict(X) - teacher) / np.var(teacher)
    assert residual < 0.3


class RowByRow(Dataset):
    """A dataset of the user's own, so that nothing may be fetched past it."""


def collate(rows):
    X = torch.stack([torch.as_tensor(x) for x, _ in rows])  # in the form that the net has them
    return X, torch.as_tensor([int(y) for _, y in rows])


@pytest.mark.parametrize("split", [None, ValidSplit(4)])
@pytest.mark.parametrize(
    "own",
    [{"dataset": RowByRow}, {"iterator_train__collate_fn": collate}],
    ids=["dataset", "collate"],
)
def test_whole_batches_are_the_same_rows(digits, own, split):
    """Batches of plain arrays are fetched at once; a dataset or collation of one's own is used."""
    fast, slow = (
        DistilledClassifier(
            make_classifier(train_split=split, **params),
            FOREST,
            augment="mixup",
            n_augment=1,
            random_state=0,
        ).fit(*digits)
        for params in ({}, own)
    )
    assert same_weights(fast, slow)


def test_dicts_and_weights_in_whole_batches(digits):
    X, y = digits
    inputs = {"image": X, "ids": np.arange(360) % 5}

    class WeightedRows(SampleWeightMixin, NeuralNetClassifier):
        pass

    def fit(**params):
        net = WeightedRows(
            TwoInputs, criterion=nn.CrossEntropyLoss, verbose=0, train_split=None, **params
        )
        rows = {"alpha": 0.5, "augment": "swap", "n_augment": 1, "dtype": None, "random_state": 0}
        clf = DistilledClassifier(net, make_weighted_teacher(), **rows)
        return clf.fit(inputs, y, sample_weight=np.arange(360) % 3)

    def make_weighted_teacher():
        return WeightedRows(
            TwoInputs, criterion=nn.CrossEntropyLoss, verbose=0, train_split=None, lr=0.1
        )

    assert same_weights(fit(), fit(dataset=RowByRow))
