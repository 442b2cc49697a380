"""Nets whose dataset, iterator or collate function looks into rows learn from the same values."""

import numpy as np
import pytest
import torch
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from skorch.dataset import Dataset, ValidSplit
from torch import nn
from torch.utils.data import DataLoader

from skcompress import SampleWeightMixin
from skcompress._nets import ExtraRows, SoftTargets, train
from tests.sample_nets import MLP

# Ways to batch -----------------------------------------------------------------------------------


def named_collate(samples):
    """Look into each row, and sort them as for padded sequences."""
    samples = sorted(samples, key=lambda sample: float(sample[0].sum()))
    assert all(type(row) is np.ndarray and row.shape == (64,) for row, _ in samples)
    rows = torch.from_numpy(np.stack([row for row, _ in samples]))
    return {"X": rows}, torch.as_tensor(np.stack([y for _, y in samples]))


class NamedLoader(DataLoader):
    """Yields a dict of one input of the two that the dataset has."""

    def __iter__(self):
        for batch, y in super().__iter__():
            yield {"X": batch["image"] + 0 * batch["other"]}, y


class PlainLoader(DataLoader):
    """Looks at nothing but is not torch's own."""

    def __iter__(self):
        for X, y in super().__iter__():
            assert isinstance(X, torch.Tensor)
            yield X, y


class NamedRows(Dataset):
    """A dataset that knows its rows by name."""

    def transform(self, X, y):
        X, y = super().transform(X, y)
        return {"X": X["image"] if isinstance(X, dict) else X}, y


class OwnDatasets(NeuralNetClassifier):
    def get_dataset(self, X, y=None):
        return super().get_dataset(X, y) if hasattr(X, "__getitems__") else NamedRows(X, y)


WAYS = {
    "plain": {},
    "collate_fn": {"iterator_train__collate_fn": named_collate},
    "iterator": {"iterator_train": PlainLoader, "iterator_valid": PlainLoader},
    "dataset": {"dataset": NamedRows},
    "workers": {"dataset": NamedRows, "iterator_train__num_workers": 1},
}


class Weighted(SampleWeightMixin, NeuralNetClassifier):
    pass


class ByName(MLP):
    """Takes the weights itself, and keeps what it got."""

    seen: list = []

    def forward(self, X, sample_weight=None):
        if self.training:
            ByName.seen.append(sample_weight)
        return super().forward(X)


class LossByName(NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, X=None, **kwargs):
        loss = nn.functional.cross_entropy(y_pred, y_true, reduction="none")
        return (loss * X["sample_weight"]).mean()


PARAMS = {
    "criterion": nn.CrossEntropyLoss,
    "lr": 0.1,
    "max_epochs": 2,
    "batch_size": -1,  # all rows at once, so that their order does not matter
    "train_split": None,
    "verbose": 0,
}


def make(way, kind=NeuralNetClassifier, module=MLP, **params):
    return kind(module, **{**PARAMS, **WAYS[way], **params})


def trained(net, X, y, **values):
    return train(net, X, y, seed=0, split_seed=0, **values).module_.out.weight.detach()


def soft_targets(n, extra=None, alpha=0.5):
    rng = np.random.default_rng(0)
    return SoftTargets(rng.dirichlet(np.ones(10), n).astype(np.float32), alpha, 1.0, extra)


def extra_rows(digits, weight=None):
    targets = np.random.default_rng(1).dirichlet(np.ones(10), 30).astype(np.float32)
    return ExtraRows(digits[0][:30] + 0.1, targets, weight)


OWN = [way for way in WAYS if way != "plain"]


@pytest.mark.parametrize("way", OWN)
@pytest.mark.parametrize("alpha", [0.3, 1.0])
@pytest.mark.parametrize("more", [False, True], ids=["labeled", "with extra rows"])
def test_soft_targets(way, alpha, more, digits):
    values = soft_targets(360, extra_rows(digits) if more else None, alpha)
    expected = trained(make("plain"), *digits, soft_targets=values)
    got = trained(make(way), *digits, soft_targets=values)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    alone = trained(make("plain"), *digits)
    assert (got - alone).abs().max() > 1e-3


@pytest.mark.parametrize("way", OWN)
def test_weights_of_the_mixin(way, digits):
    weight = np.random.default_rng(0).uniform(0, 3, 360)
    params = {"kind": Weighted, "train_split": ValidSplit(4)}
    nets = [make("plain", **params), make(way, **params)]
    expected, got = (trained(net, *digits, sample_weight=weight) for net in nets)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    for name in ("train_loss", "valid_loss", "valid_acc"):
        one, two = (net.history_[:, name] for net in nets)
        np.testing.assert_allclose(one, two, rtol=1e-4)


@pytest.mark.parametrize("way", OWN)
def test_weights_of_forward_and_of_an_own_loss(way, digits):
    weight = np.random.default_rng(0).uniform(0, 3, 360)
    nets = [make(w, kind=LossByName, module=ByName) for w in ("plain", way)]
    ByName.seen.clear()
    expected, got = (trained(net, *digits, sample_weight=weight) for net in nets)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    for seen in ByName.seen:
        np.testing.assert_allclose(np.sort(seen.numpy()), np.sort(weight.astype(np.float32)))


@pytest.mark.parametrize("way", OWN)
def test_both_together(way, digits):
    weight = np.random.default_rng(0).uniform(0, 3, 360)
    extra = extra_rows(digits, np.linspace(0, 2, 30).astype(np.float32))
    values = {"sample_weight": weight, "soft_targets": soft_targets(360, extra)}
    params = {"kind": Weighted, "train_split": ValidSplit(4)}
    expected, got = (trained(make(w, **params), *digits, **values) for w in ("plain", way))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("way", OWN)
@pytest.mark.parametrize("n_out", [1, 3])
def test_values(way, n_out, diabetes):
    X = np.tile(diabetes[0], (1, 7))[:, :64]
    y = np.tile(diabetes[1], (1, n_out)) * np.arange(1, n_out + 1, dtype=np.float32)
    params = {"kind": NeuralNetRegressor, "criterion": nn.MSELoss, "module__n_out": n_out}
    targets = SoftTargets(np.random.default_rng(0).normal(size=y.shape).astype("f"), 0.5, 1.0)
    nets = (make(w, **params, lr=0.01) for w in ("plain", way))
    expected, got = (trained(net, X, y, soft_targets=targets) for net in nets)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_an_iterator_that_picks_inputs_by_name(digits):
    X, y = digits
    inputs = {"image": X, "other": X[:, :1]}
    loaders = {"iterator_train": NamedLoader, "iterator_valid": NamedLoader}
    values = soft_targets(360, ExtraRows({"image": X[:9], "other": X[:9, :1]}, np.eye(10)[:9]))
    plain = SoftTargets(values.targets, 0.5, 1.0, ExtraRows(X[:9], np.eye(10)[:9]))
    expected = trained(make("plain"), X, y, soft_targets=plain)
    got = trained(make("plain", **loaders), inputs, y, soft_targets=values)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_small_batches_in_any_order(digits):
    net = make("collate_fn", batch_size=16, iterator_train__shuffle=True, max_epochs=20)
    targets = SoftTargets(np.eye(10, dtype=np.float32)[(digits[1] + 1) % 10], 1.0, 1.0)
    trained(net, *digits, soft_targets=targets)
    predicted = net.module_(torch.from_numpy(digits[0])).argmax(1).numpy()
    assert (predicted == (digits[1] + 1) % 10).mean() > 0.9


def floats(samples):
    return torch.as_tensor(np.stack([x for x, _ in samples])), torch.tensor(
        [[float(y)] for _, y in samples]
    )


class Binary(NeuralNet):
    pass


def test_targets_keep_the_dtype_and_shape_of_the_collate_function(digits):
    X, y = digits[0], (digits[1] > 4).astype(np.int64)
    params = {"criterion": nn.BCEWithLogitsLoss, "module__n_out": 1, "train_split": None}
    net = make("plain", kind=Binary, iterator_train__collate_fn=floats, **params)
    targets = SoftTargets(np.stack([1 - y, y], 1).astype(np.float32), 0.5, 1.0)
    trained(net, X, y, soft_targets=targets)


@pytest.mark.parametrize(
    "change", [lambda y: y - 1, lambda y: y + 0.5, lambda y: nn.functional.one_hot(y, 400)]
)
def test_targets_that_are_changed(change, digits):
    def collate(samples):
        return torch.as_tensor(np.stack([x for x, _ in samples])), change(
            torch.tensor([y for _, y in samples])
        )

    net = make("plain", iterator_train__collate_fn=collate)
    with pytest.raises(ValueError, match="changes the targets.*Let it hand y on as it is"):
        trained(net, *digits, soft_targets=soft_targets(360))


def test_callbacks_see_the_rows_of_the_net(digits):
    from skorch.callbacks import Callback, EpochScoring

    seen = []

    class Watching(Callback):
        def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
            seen.append((type(dataset_train.dataset), type(dataset_valid.dataset)))

        def on_batch_end(self, net, batch=None, training=False, y_pred=None, **kwargs):
            assert set(batch[0]) == {"X"}
            assert len(batch[1]) == len(y_pred)
            assert batch[1].max() < 10

    scoring = EpochScoring("accuracy", on_train=True, name="train_acc")
    params = {"train_split": ValidSplit(4), "callbacks": [Watching(), scoring], "batch_size": 64}
    net = make("dataset", **params)
    trained(net, *digits, soft_targets=soft_targets(360, extra_rows(digits)))
    assert set(seen) == {(NamedRows, NamedRows)}
    assert net.history_[-1, "train_acc"] > 0
