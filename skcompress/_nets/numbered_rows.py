"""Values of rows found again behind a net's own batching: numbers in place of the targets.

A collate function, an iterator or a dataset of the user may look into rows, sort or pad them.
During a training with soft targets or sample weights it gets rows in the form that it knows, and
the number of the row as its target. What comes out has its targets looked up by these numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import skorch.dataset
import torch
from skorch import NeuralNet
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .sample_weight import add_weight
from .soft_targets import SoftTargets, pack_targets, rows_of_split, with_label_flags

# Beyond it float32 does not hold every whole number.
_MOST_FLOATS = 2**24


@dataclass(frozen=True)
class RowValues:
    """What belongs to the numbered rows: targets, soft targets and weights, by number."""

    y: np.ndarray
    targets: np.ndarray | None
    weights: np.ndarray | None


class NumberedRows(Dataset):
    """Rows of a net's own dataset, and behind them extra ones, with numbers as their targets.

    Parameters
    ----------
    own : Dataset
        A part of the split of the net's dataset.
    extra : Dataset or None
        More rows, in the same dataset class.
    values : RowValues
        Of both.
    """

    def __init__(self, own: Any, extra: Any, values: RowValues) -> None:
        self.own = own
        self.extra = extra
        self.values = values
        if values.y.dtype.kind == "f" and len(self) > _MOST_FLOATS:
            raise ValueError(
                f"A net with batches of its own takes soft targets and weights for up to "
                f"{_MOST_FLOATS} rows with float targets. Got {len(self)}."
            )

    def __len__(self) -> int:
        return len(self.values.y)

    def __getitem__(self, i: int) -> Any:
        n_own = len(self.own)
        X, y = self.own[i] if i < n_own else self.extra[i - n_own]
        number = torch.full_like(y, i) if isinstance(y, Tensor) else np.full_like(y, i)[()]
        return X, number


class NumberedBatches:
    """A net's own iterator, whose batches get back the targets of their rows.

    Parameters
    ----------
    net : skorch.NeuralNet
        In training.
    iterator : iterable
        Yields rows and their numbers.
    values : RowValues
        By number.
    """

    def __init__(self, net: NeuralNet, iterator: Any, values: RowValues) -> None:
        self.net = net
        self.iterator = iterator
        self.values = values

    def __len__(self) -> int:
        return len(self.iterator)

    def __getattr__(self, name: str) -> Any:
        if name == "iterator":  # not there yet while unpickling
            raise AttributeError(name)
        return getattr(self.iterator, name)

    def __iter__(self) -> Iterator[Any]:
        for X, numbers in self.iterator:
            given = torch.as_tensor(numbers)
            rows = _row_numbers(self.net, given, len(self.values.y))
            # As the net's own batching would have handed them on: their dtype and shape, too.
            y = torch.from_numpy(self.values.y[rows]).to(given.dtype).reshape(given.shape)
            if self.values.weights is not None:
                X = add_weight(self.net, X, torch.from_numpy(self.values.weights[rows]))
            if self.values.targets is not None:
                X = pack_targets(X, torch.from_numpy(self.values.targets[rows]))
            yield X, y


class NumberedRowsMixin:
    """Mixin for the time of one training of a net with batches of its own."""

    skc_weights_: np.ndarray | None

    def get_split_datasets(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Split the rows and number those of both parts."""
        train, valid = super().get_split_datasets(X, y, **params)  # type: ignore[misc]
        weights = self.skc_weights_
        soft_targets = self.__dict__.get("skc_soft_targets_")
        train = _numbered_training_rows(self, train, y, soft_targets, weights)
        if valid is None or weights is None:
            return train, valid
        rows = rows_of_split(self, valid, len(y))
        return train, NumberedRows(valid, None, RowValues(y[rows], None, weights[rows]))

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return the net's own iterator; of numbered rows with their targets."""
        iterator = super().get_iterator(dataset, training=training)  # type: ignore[misc]
        if not isinstance(dataset, NumberedRows):
            return iterator
        return NumberedBatches(self, iterator, dataset.values)

    def notify(self, method_name: str, **details: Any) -> None:
        """Call the callbacks with the net's own datasets."""
        for name in ("dataset_train", "dataset_valid"):
            if isinstance(details.get(name), NumberedRows):
                details[name] = details[name].own
        super().notify(method_name, **details)  # type: ignore[misc]


def has_own_batches(net: NeuralNet) -> bool:
    """Whether anything of the user's makes batches of rows, and may look into them."""
    loaders = (net.iterator_train, net.iterator_valid)
    options = {*net.get_params_for("iterator_train"), *net.get_params_for("iterator_valid")}
    methods = (getattr(type(net), name) for name in ("get_dataset", "get_iterator"))
    plain = (
        net.dataset is skorch.dataset.Dataset
        and all(loader is DataLoader for loader in loaders)
        and "collate_fn" not in options
        and all(method.__module__.partition(".")[0] == "skorch" for method in methods)
    )
    return not plain


def _numbered_training_rows(
    net: Any, train: Any, y: Any, soft_targets: SoftTargets | None, weights: np.ndarray | None
) -> NumberedRows:
    rows = rows_of_split(net, train, len(y))
    own = RowValues(y[rows], None, None if weights is None else weights[rows])
    if soft_targets is None:
        return NumberedRows(train, None, own)
    extra = soft_targets.extra
    targets = [with_label_flags(soft_targets.targets[rows], 1.0)]
    if extra is None:
        return NumberedRows(train, None, RowValues(own.y, targets[0], own.weights))
    targets.append(with_label_flags(extra.targets, 0.0))
    no_labels = np.zeros((len(extra.targets), *y.shape[1:]), y.dtype)
    if own.weights is not None:
        more = np.ones(len(no_labels), np.float32)
        more = more if extra.sample_weight is None else extra.sample_weight
        own = RowValues(own.y, None, np.concatenate([own.weights, more]).astype(np.float32))
    values = RowValues(np.concatenate([own.y, no_labels]), np.concatenate(targets), own.weights)
    return NumberedRows(train, net.get_dataset(extra.X, no_labels), values)


def _row_numbers(net: NeuralNet, given: Tensor, n_rows: int) -> np.ndarray:
    """Return the numbers in a batch's targets; ValueError if they are not these any more."""
    columns = given.reshape(len(given), -1).detach().cpu().double().numpy()
    numbers = columns[:, 0]
    same = (columns == numbers[:, None]).all() and (numbers == np.floor(numbers)).all()
    if not same or numbers.min() < 0 or numbers.max() >= n_rows:
        raise ValueError(
            f"The dataset, iterator or collate_fn of {type(net).__name__} changes the targets, so "
            "that soft targets and weights of their rows cannot be found. Let it hand y on as it "
            "is, and change targets in get_loss."
        )
    return numbers.astype(np.int64)
