"""What a teacher has said beforehand, carried to the loss of every batch.

The targets travel inside X of the training batches only: the dataset that the
net's own `train_split` leaves for training is wrapped, the part for validation
is not. Callbacks and users' overrides of `infer` and `get_loss` see plain rows.
"""

from __future__ import annotations

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
from .sample_weight import pack_sample_weight, packed_weight
from .seeding import SameSplit
from .teacher_loss import first_output, taught_rows

_ROWS, _TARGET = "__x__", "__target__"


@dataclass(frozen=True)
class ExtraRows:
    """Rows without labels, which only the teacher speaks about.

    Parameters
    ----------
    X : array or dict of arrays
        As the net takes them.
    targets : array of shape (n_extra, n_outputs)
        As those of :class:`Lesson`.
    sample_weight : array of shape (n_extra,) or None
        None: all count 1.
    """

    X: Any
    targets: np.ndarray
    sample_weight: np.ndarray | None = None


@dataclass(frozen=True)
class Lesson:
    """Targets of a teacher for the rows of a training, and how much they count.

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
        """Name everything that the training depends on."""
        extra = self.extra
        rows = None if extra is None else (extra.X, extra.targets, extra.sample_weight)
        return fingerprint(self.targets, float(self.alpha), float(self.temperature), rows)


class TaughtRows(Dataset):
    """A net's training rows with the teacher's targets beside each, and extra rows behind.

    Parameters
    ----------
    own : Dataset
        What the net's `train_split` leaves for training.
    rows : array of shape (len(own),)
        Their numbers in the data.
    lesson : Lesson
        Targets of all rows of the data.
    extra : Dataset or None
        The lesson's extra rows, as the net's own dataset serves them.
    """

    def __init__(self, own: Any, rows: np.ndarray, lesson: Lesson, extra: Any) -> None:
        self.own = own
        self.extra = extra
        # One array for each row: target and, last, whether it has a label.
        targets = [_flagged(lesson.targets[rows], 1.0)]
        if lesson.extra is not None:
            targets.append(_flagged(lesson.extra.targets, 0.0))
        self.targets = np.concatenate(targets)
        self.arrays = _arrays_of(own, rows, extra)
        self.in_batches = False

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> Any:
        n_own = len(self.own)
        X, y = self.own[i] if i < n_own else self.extra[i - n_own]
        return {_ROWS: X, _TARGET: self.targets[i]}, y

    def __getitems__(self, numbers: list[int]) -> Any:
        if not self.in_batches:
            return [self[i] for i in numbers]
        rows = np.asarray(numbers)
        X, y = (
            {name: torch.from_numpy(a[rows]) for name, a in part.items()} for part in self.arrays
        )
        packed = {_ROWS: X.get("", X), _TARGET: torch.from_numpy(self.targets[rows])}
        return packed, y[""]


def as_is(batch: Any) -> Any:
    """Collate nothing: the rows of plain arrays come as one batch, many times faster than alone."""
    return batch


def _arrays_of(own: Any, rows: np.ndarray, extra: Any) -> Any:
    """Return X and y of all rows, by name, where the datasets only hand out rows of arrays."""
    parts = [(own, rows)] if extra is None else [(own, rows), (extra, None)]
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
    own_parts, extra_parts = found[:2], found[2:]
    return tuple(
        {name: np.concatenate([a, other[name]]) for name, a in mine.items()}
        for mine, other in zip(own_parts, extra_parts, strict=True)
    )


def _flagged(targets: np.ndarray, flag: float) -> np.ndarray:
    column = np.full((len(targets), 1), flag, np.float32)
    return np.hstack([targets.reshape(len(targets), -1).astype(np.float32), column])


def wrap_rows(net: NeuralNet, own: Any, X: Any, y: Any, lesson: Lesson) -> TaughtRows:
    """Return the training part of a split with the teacher's targets."""
    rows = _numbers_of(own, len(lesson.targets))
    if rows is None:
        raise ValueError(_OWN_SPLIT.format(split=net.train_split))
    extra = lesson.extra
    if extra is None:
        return TaughtRows(own, rows, lesson, None)
    X_extra, n_extra = extra.X, len(extra.targets)
    if extra.sample_weight is not None:
        X_extra = pack_sample_weight(net, X_extra, extra.sample_weight)
    no_labels = np.zeros((n_extra, *np.shape(y)[1:]), np.asarray(y).dtype)
    return TaughtRows(own, rows, lesson, net.get_dataset(X_extra, no_labels))


def speed_up(iterator: Any, dataset: Any) -> Any:
    """Let an ordinary loader fetch whole batches of plain arrays."""
    plain = isinstance(dataset, TaughtRows) and dataset.arrays is not None
    if plain and type(iterator) is DataLoader and iterator.collate_fn is default_collate:
        iterator.collate_fn = as_is
        dataset.in_batches = True
    return iterator


def split_rows(net: NeuralNet, X: Any, y: Any, split_seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the rows that a training trains on, and of those it validates on.

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
    given = net.train_split
    net.train_split = SameSplit(given, split_seed)
    train, valid = net.get_split_datasets(X, y)
    rows = _numbers_of(train, n)
    if rows is None:
        raise ValueError(_OWN_SPLIT.format(split=given))
    held = _numbers_of(valid, n) if isinstance(valid, Subset) else None
    return rows, np.setdiff1d(held, rows) if held is not None else np.arange(0)


_OWN_SPLIT = (
    "The student's train_split={split!r} does not return torch.utils.data.Subset of the rows it is "
    "given, so their teacher's targets cannot be found. Use skorch.dataset.ValidSplit, "
    "predefined_split or None."
)


def _numbers_of(dataset: Any, n_rows: int) -> np.ndarray | None:
    """Return which rows of the data a part of a split has; None where that cannot be told."""
    if isinstance(dataset, Subset):
        inside = _numbers_of(dataset.dataset, n_rows)
        return None if inside is None else inside[np.asarray(dataset.indices, dtype=np.int64)]
    return np.arange(n_rows) if len(dataset) == n_rows else None


# Batches ----------------------------------------------------------------------------------------


def plain_rows(X: Any) -> Any:
    """Return a batch's rows as the net knows them."""
    return X[_ROWS] if is_taught(X) else X


def is_taught(X: Any) -> bool:
    """Whether a batch's rows carry a teacher's targets."""
    return isinstance(X, Mapping) and _TARGET in X


def plain_details(details: dict[str, Any], own_rows: Any) -> dict[str, Any]:
    """Return what callbacks are told, without targets and without rows that have no label."""
    if isinstance(details.get("dataset_train"), TaughtRows):
        details = {**details, "dataset_train": own_rows}
    batch = details.get("batch")
    if not isinstance(batch, tuple | list) or not is_taught(batch[0]):
        return details
    X, y = batch
    labelled = _labelled(X[_TARGET])
    details = {**details, "batch": (_pick(X[_ROWS], labelled), _pick(y, labelled))}
    if "y_pred" in details:
        details["y_pred"] = _pick(details["y_pred"], labelled)
    return details


def lesson_loss(net: Any, y_pred: Any, y_true: Any, X: Any, lesson: Lesson, hard: Any) -> Tensor:
    """Return the loss of a batch: labels and teacher on labelled rows, the teacher on all others.

    With w the rows' weights (1 where there are none), W their sum, W_L that of the
    rows with a label, and t the teacher's term of a row, it is

        (1 - alpha) * (W_L / W) * hard  +  (1 / W) * sum of w * t * (alpha or 1)

    with alpha on rows with a label and 1 on the others. `hard` returns the net's
    own loss of the labelled rows; it is not called where it would not count.
    """
    rows = to_tensor(X[_TARGET], device=net.device)
    target, labelled = rows[:, :-1], rows[:, -1] > 0
    output = first_output(y_pred)
    weight = packed_weight(X[_ROWS])
    weight = torch.ones_like(rows[:, 0]) if weight is None else weight.to(rows)
    total = weight.sum().clamp_min(torch.finfo(rows.dtype).tiny)
    share = torch.where(labelled, lesson.alpha, 1.0) * weight
    counts = share > 0
    told = taught_rows(net, _pick(output, counts), _pick(target, counts), lesson.temperature)
    loss = (share[counts] * told).sum() / total
    if lesson.alpha == 1 or not bool(labelled.any()):
        return loss
    own = hard(_pick(y_pred, labelled), _pick(y_true, labelled), _pick(X[_ROWS], labelled))
    return loss + (1 - lesson.alpha) * (weight[labelled].sum() / total) * own


def _labelled(targets: Any) -> Tensor:
    return torch.as_tensor(targets)[:, -1] > 0


def _pick(value: Any, rows: Tensor) -> Any:
    """Return some rows of a tensor, or of all tensors in a container."""
    if bool(rows.all()):
        return value
    if isinstance(value, Mapping):
        return {name: _pick(item, rows) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_pick(item, rows) for item in value)
    return value[rows.to(value.device)] if isinstance(value, Tensor) else value
