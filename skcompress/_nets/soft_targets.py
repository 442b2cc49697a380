"""Soft targets of a teacher, carried from the rows of a training to the loss of every batch.

The targets travel inside X of the training batches only: the dataset that the
net's own `train_split` leaves for training is wrapped, the part for validation
is not. Callbacks and users' overrides of `infer` and `get_loss` see plain rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import skorch.dataset
import torch
from sklearn.base import clone
from skorch import NeuralNet
from skorch.utils import to_tensor
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from .._caching.fingerprint import fingerprint
from .criterion import first_output
from .sample_weight import pack_sample_weight, packed_weight
from .seeding import SeededSplit
from .teacher_loss import teacher_loss_per_row

_ROWS, _TARGET = "__x__", "__target__"


@dataclass(frozen=True)
class ExtraRows:
    """Rows without labels, trained on with the teacher's targets alone.

    Parameters
    ----------
    X : array or dict of arrays
        As the net takes them.
    targets : array of shape (n_extra, n_outputs)
        As those of :class:`SoftTargets`.
    sample_weight : array of shape (n_extra,) or None
        None: all count 1.
    """

    X: Any
    targets: np.ndarray
    sample_weight: np.ndarray | None = None


@dataclass(frozen=True)
class SoftTargets:
    """Targets of a teacher for the rows of a training, and their weight in the loss.

    Parameters
    ----------
    targets : array of shape (n_samples, n_outputs)
        Class probabilities or values, one row for each row of the training's X.
    alpha : float in [0, 1]
        Weight of the teacher's term on rows with labels; the labels' term gets
        ``1 - alpha``.
    temperature : float > 0
        Softens both distributions, see :mod:`skcompress.nn.modules.losses`.
    extra : ExtraRows or None
        Rows that are trained on with the teacher's term alone.
    """

    targets: np.ndarray
    alpha: float
    temperature: float
    extra: ExtraRows | None = None

    def digest(self) -> str:
        """Return the digest of everything here that the training depends on."""
        extra = self.extra
        rows = None if extra is None else (extra.X, extra.targets, extra.sample_weight)
        return fingerprint(self.targets, float(self.alpha), float(self.temperature), rows)


class SoftTargetsMixin:
    """Mixin for the time of one training with soft targets, `skc_soft_targets_`."""

    skc_soft_targets_: SoftTargets

    def notify(self, method_name: str, **details: Any) -> None:
        """Call the callbacks without the targets."""
        super().notify(method_name, **details_without_targets(details))  # type: ignore[misc]

    def infer(self, x: Any, **fit_params: Any) -> Any:
        """Run the module on the rows without the targets."""
        return super().infer(rows_without_targets(x), **fit_params)  # type: ignore[misc]

    def get_loss(self, y_pred: Any, y_true: Any, **kwargs: Any) -> Any:
        """Return the loss of a batch; of one with targets, with the teacher's term in it."""
        # Handed on as skorch hands it on: users' overrides have many signatures.
        own_loss, X = super().get_loss, kwargs.get("X")  # type: ignore[misc]
        if not carries_targets(X):
            return own_loss(y_pred, y_true, **kwargs)

        def label_loss(y_pred: Any, y_true: Any, X: Any) -> Any:
            return own_loss(y_pred, y_true, **{**kwargs, "X": X})

        return soft_target_loss(self, y_pred, y_true, X, self.skc_soft_targets_, label_loss)


class RowsWithTargetsMixin:
    """Mixin beside it for nets whose batches are torch's own, which take any rows."""

    skc_soft_targets_: SoftTargets

    def get_split_datasets(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Split the rows and attach the targets to those for training."""
        train, valid = super().get_split_datasets(X, y, **params)  # type: ignore[misc]
        return attach_targets(self, train, X, y, self.skc_soft_targets_), valid

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return the net's own iterator, faster where it can be."""
        iterator = super().get_iterator(dataset, training=training)  # type: ignore[misc]
        return fetch_whole_batches(iterator, dataset)


class RowsWithTargets(Dataset):
    """A net's training rows, each with its soft target, followed by the extra rows.

    Parameters
    ----------
    labeled : Dataset
        The training part that the net's `train_split` returns.
    rows : array of shape (len(labeled),)
        Their numbers in the data.
    soft_targets : SoftTargets
        Targets of all rows of the data.
    extra : Dataset or None
        The extra rows of the soft targets, in the net's own dataset class.
    """

    def __init__(
        self, labeled: Any, rows: np.ndarray, soft_targets: SoftTargets, extra: Any
    ) -> None:
        self.labeled = labeled
        self.extra = extra
        # One array for each row: its target and, last, whether it has a label.
        targets = [with_label_flags(soft_targets.targets[rows], 1.0)]
        if soft_targets.extra is not None:
            targets.append(with_label_flags(soft_targets.extra.targets, 0.0))
        self.targets = np.concatenate(targets)
        self.arrays = _arrays_by_name(labeled, rows, extra)
        self.fetches_batches = False

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> Any:
        n_labeled = len(self.labeled)
        X, y = self.labeled[i] if i < n_labeled else self.extra[i - n_labeled]
        return pack_targets(X, self.targets[i]), y

    def __getitems__(self, numbers: list[int]) -> Any:
        if not self.fetches_batches:
            return [self[i] for i in numbers]
        rows = np.asarray(numbers)
        X, y = (
            {name: torch.from_numpy(a[rows]) for name, a in part.items()} for part in self.arrays
        )
        return pack_targets(X.get("", X), torch.from_numpy(self.targets[rows])), y[""]


def identity_collate(batch: Any) -> Any:
    """Return a batch that was fetched whole, many times faster than row by row."""
    return batch


def _arrays_by_name(labeled: Any, rows: np.ndarray, extra: Any) -> Any:
    """Return X and y of all rows as dicts of arrays; None unless skorch's dataset holds arrays."""
    parts = [(labeled, rows)] if extra is None else [(labeled, rows), (extra, None)]
    found = []
    for dataset, numbers in parts:
        while isinstance(dataset, Subset):
            dataset = dataset.dataset
        if type(dataset) is not skorch.dataset.Dataset:
            return None
        for values in (dataset.X, dataset.y):
            arrays = dict(values) if isinstance(values, Mapping) else {"": values}
            if not all(isinstance(array, np.ndarray) for array in arrays.values()):
                return None
            picked = {n: a if numbers is None else a[numbers] for n, a in arrays.items()}
            found.append(picked)
    if extra is None:
        return tuple(found)
    labeled_parts, extra_parts = found[:2], found[2:]
    return tuple(
        {name: np.concatenate([array, more[name]]) for name, array in part.items()}
        for part, more in zip(labeled_parts, extra_parts, strict=True)
    )


def with_label_flags(targets: np.ndarray, flag: float) -> np.ndarray:
    """Return targets as rows of float32 with a last column that says whether there is a label."""
    column = np.full((len(targets), 1), flag, np.float32)
    return np.hstack([targets.reshape(len(targets), -1).astype(np.float32), column])


def attach_targets(
    net: Any, train: Any, X: Any, y: Any, soft_targets: SoftTargets
) -> RowsWithTargets:
    """Return the training part of a split with the teacher's targets."""
    rows = rows_of_split(net, train, len(soft_targets.targets))
    extra = soft_targets.extra
    if extra is None:
        return RowsWithTargets(train, rows, soft_targets, None)
    X_extra, n_extra = extra.X, len(extra.targets)
    if extra.sample_weight is not None:
        X_extra = pack_sample_weight(net, X_extra, extra.sample_weight)
    no_labels = np.zeros((n_extra, *np.shape(y)[1:]), np.asarray(y).dtype)
    return RowsWithTargets(train, rows, soft_targets, net.get_dataset(X_extra, no_labels))


def fetch_whole_batches(iterator: Any, dataset: Any) -> Any:
    """Let torch's own loader index plain arrays once per batch instead of once per row."""
    plain = isinstance(dataset, RowsWithTargets) and dataset.arrays is not None
    if plain and type(iterator) is DataLoader and iterator.collate_fn is default_collate:
        iterator.collate_fn = identity_collate
        dataset.fetches_batches = True
    return iterator


def train_and_validation_rows(
    net: NeuralNet, X: Any, y: Any, split_seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the rows in both parts of the net's `train_split`.

    Parameters
    ----------
    net : skorch.NeuralNet
        Unfitted; it is not changed.
    X, y : data
        As the net takes them.
    split_seed : int
        As for :func:`train`.
    """
    n = len(y)
    if not net.train_split:
        return np.arange(n), np.arange(0)
    net = clone(net)
    train_split = net.train_split
    net.train_split = SeededSplit(train_split, split_seed)
    train, valid = net.get_split_datasets(X, y)
    net.train_split = train_split
    rows = rows_of_split(net, train, n)
    validation = _row_numbers(valid, n) if isinstance(valid, Subset) else None
    return rows, np.arange(0) if validation is None else np.setdiff1d(validation, rows)


def training_rows(net: NeuralNet, X: Any, y: Any, split_seed: int) -> np.ndarray:
    """Return the rows that the net's `train_split` trains on, in order; all if it does not tell."""
    try:
        return np.unique(train_and_validation_rows(net, X, y, split_seed)[0])
    except ValueError:
        warnings.warn(
            f"train_split={net.train_split!r} does not return torch.utils.data.Subset of the rows "
            "it is given, so steps cannot tell which of them it keeps for validation, and look at "
            "all of them. Use skorch.dataset.ValidSplit.",
            UserWarning,
            stacklevel=2,
        )
        return np.arange(len(y))


_UNKNOWN_ROWS = (
    "The student's train_split={split!r} does not return torch.utils.data.Subset of the rows it is "
    "given, so their teacher's targets cannot be found. Use skorch.dataset.ValidSplit, "
    "predefined_split or None."
)


def rows_of_split(net: Any, part: Any, n_rows: int) -> np.ndarray:
    """Return which rows of the data a part of the net's split has; ValueError if unknown."""
    rows = _row_numbers(part, n_rows)
    if rows is None:
        raise ValueError(_UNKNOWN_ROWS.format(split=net.train_split))
    return rows


def _row_numbers(dataset: Any, n_rows: int) -> np.ndarray | None:
    """Return which rows of the data a part of a split has; None if that is unknown."""
    if isinstance(dataset, Subset):
        outer = _row_numbers(dataset.dataset, n_rows)
        return None if outer is None else outer[np.asarray(dataset.indices, dtype=np.int64)]
    return np.arange(n_rows) if len(dataset) == n_rows else None


# Batches ----------------------------------------------------------------------------------------


def pack_targets(X: Any, targets: Any) -> dict[str, Any]:
    """Return rows, or one row, with soft targets; each target ends in whether there is a label."""
    return {_ROWS: X, _TARGET: targets}


def rows_without_targets(X: Any) -> Any:
    """Return a batch's rows in the form that the net takes."""
    return X[_ROWS] if carries_targets(X) else X


def carries_targets(X: Any) -> bool:
    """Whether a batch's rows come with soft targets."""
    return isinstance(X, Mapping) and _TARGET in X


def details_without_targets(details: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of callbacks without soft targets and without unlabeled rows."""
    dataset = details.get("dataset_train")
    if isinstance(dataset, RowsWithTargets):
        details = {**details, "dataset_train": dataset.labeled}
    batch = details.get("batch")
    if not isinstance(batch, tuple | list) or not carries_targets(batch[0]):
        return details
    X, y = batch
    has_label = _has_label(X[_TARGET])
    details = {**details, "batch": (_select(X[_ROWS], has_label), _select(y, has_label))}
    if "y_pred" in details:
        details["y_pred"] = _select(details["y_pred"], has_label)
    return details


def soft_target_loss(
    net: Any, y_pred: Any, y_true: Any, X: Any, soft_targets: SoftTargets, label_loss: Any
) -> Tensor:
    """Return the loss of a batch: labels and teacher on labeled rows, the teacher on all others.

    With w the rows' weights (1 without weights), W their sum, W_L that of the
    rows with a label, and t the teacher's term of a row, it is

        (1 - alpha) * (W_L / W) * label_loss  +  (1 / W) * sum of w * t * (alpha or 1)

    with alpha on rows with a label and 1 on the others. `label_loss` is a callable that
    returns the net's own loss of the labeled rows; it is not called if its weight is 0.
    """
    rows = to_tensor(X[_TARGET], device=net.device)
    target, has_label = rows[:, :-1], rows[:, -1] > 0
    output = first_output(y_pred)
    weight = packed_weight(X[_ROWS])
    weight = torch.ones_like(rows[:, 0]) if weight is None else weight.to(rows)
    total = weight.sum().clamp_min(torch.finfo(rows.dtype).tiny)
    share = torch.where(has_label, soft_targets.alpha, 1.0) * weight
    counts = share > 0
    output, target = _select(output, counts), _select(target, counts)
    terms = teacher_loss_per_row(net, output, target, soft_targets.temperature)
    loss = (share[counts] * terms).sum() / total
    if soft_targets.alpha == 1 or not bool(has_label.any()):
        return loss
    labeled = (_select(value, has_label) for value in (y_pred, y_true, X[_ROWS]))
    label_share = weight[has_label].sum() / total
    return loss + (1 - soft_targets.alpha) * label_share * label_loss(*labeled)


def _has_label(targets: Any) -> Tensor:
    return torch.as_tensor(targets)[:, -1] > 0


def _select(value: Any, rows: Tensor) -> Any:
    """Return some rows of a tensor, or of all tensors in a container."""
    if bool(rows.all()):
        return value
    if isinstance(value, Mapping):
        return {name: _select(item, rows) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_select(item, rows) for item in value)
    return value[rows.to(value.device)] if isinstance(value, Tensor) else value
