"""Rows of an array, or of all arrays of a mapping at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


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
