"""Rows of an array, or of all arrays of a mapping at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from skorch.helper import SliceDataset
from skorch.utils import to_numpy
from torch.utils.data import DataLoader, Dataset


def as_arrays(data: Any, name: str = "X") -> Any:
    """Return the rows of tensors and of skorch's SliceDataset as arrays; other data as they are.

    Raises
    ------
    TypeError
        If it is a dataset or a loader, which yield rows and targets together.
    """
    if isinstance(data, torch.Tensor):
        return to_numpy(data)
    if isinstance(data, SliceDataset):
        rows = [data[i] for i in range(len(data))]
        if rows and isinstance(rows[0], Mapping):
            return {key: np.stack([_as_array(row[key]) for row in rows]) for key in rows[0]}
        return np.stack([_as_array(row) for row in rows])
    if isinstance(data, Dataset | DataLoader):
        raise TypeError(
            f"{name} must be an array, a DataFrame or a dict of arrays. Got {type(data).__name__}, "
            "which yields rows and targets together: give SliceDataset(dataset, 0) as X and "
            "SliceDataset(dataset, 1) as y (from skorch.helper), or the arrays in it."
        )
    return data


def _as_array(value: Any) -> np.ndarray:
    return to_numpy(value) if isinstance(value, torch.Tensor) else np.asarray(value)


def n_rows(X: Any) -> int:
    """Return the number of rows of an array or of the arrays in a mapping."""
    return len(next(iter(X.values())) if isinstance(X, Mapping) else X)


def take_rows(X: Any, rows: Any) -> Any:
    """Return some rows, by their numbers or as a slice."""
    if isinstance(X, Mapping):
        return {name: array[rows] for name, array in X.items()}
    return X[rows]


def first_row(X: Any) -> Any:
    """Return the first row, as one row."""
    return take_rows(X, slice(1))


def stack_rows(parts: list[Any]) -> Any:
    """Return the rows of several arrays, or mappings of arrays, one after the other."""
    if isinstance(parts[0], Mapping):
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return np.concatenate(parts)


def some_rows(X: Any, n: int) -> np.ndarray:
    """Return which are up to n rows from all over the data, which may be sorted by class."""
    n = min(n, n_rows(X))
    return np.arange(n) * n_rows(X) // max(n, 1)
