"""Kinds of rows that a net takes, and made-up rows of such a kind.

A file holds no training row. It holds the shape and dtype of the rows and one or more ranges: of
whole numbers the smallest and the largest, of other numbers 1.7 standard deviations around their
mean with two digits. Random numbers from these ranges are rows that the net can compute with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

Range = tuple[float, float]

_ROWS = 4
_SEED = 0  # of all rows: a part of the format
_MOST = 1 << 22  # numbers in all rows
_MOST_COLUMNS = 256
_LARGEST = 1 << 53
_WIDTH = 1.7  # half the width of a uniform distribution, in standard deviations
_STANDARD: Range = (-_WIDTH, _WIDTH)
_DTYPES = ("float16", "float32", "float64", "int64")


class Input(NamedTuple):
    """One input of a net.

    Attributes
    ----------
    dtype : str
        As numpy names it.
    shape : tuple of int
        Of a row.
    ranges : tuple of (low, high)
        Of all numbers, or of each column. Two ints say that there are whole
        numbers only, two floats that there are others, too.
    """

    dtype: str
    shape: tuple[int, ...]
    ranges: tuple[Range, ...] = (_STANDARD,)


Inputs = dict[str, Input]
"""All inputs by name; a net that takes one array has the name ""."""


def describe_inputs(X: Any) -> list[Inputs]:
    """Describe the rows of `fit`: with one range for each input, then one for each column.

    Parameters
    ----------
    X : ndarray or mapping of str to ndarray
        As a net takes it.
    """
    arrays = X if isinstance(X, Mapping) else {"": X}
    whole = {name: _described(array, (_range(array),)) for name, array in arrays.items()}
    columns = {
        name: _described(array, tuple(map(_range, array.T))) if _has_columns(array) else whole[name]
        for name, array in arrays.items()
    }
    return [whole] if columns == whole else [whole, columns]


def made_up_rows(inputs: Mapping[str, Input]) -> Any:
    """Return a few rows of this kind, always the same; None if they would be very large."""
    size = sum(math.prod(each.shape) for each in inputs.values())
    n_rows = min(_ROWS, _MOST // max(size, 1))
    if not n_rows:
        return None
    # Of the generators of numpy this one never gives other numbers.
    random = np.random.RandomState(_SEED)
    rows = {name: _drawn(each, n_rows, random) for name, each in inputs.items()}
    return rows[""] if list(rows) == [""] else rows


def inputs_to_json(inputs: Inputs) -> list[Any]:
    """Return inputs as they stand in the header."""
    return [
        [name, each.dtype, list(each.shape), [list(pair) for pair in each.ranges]]
        for name, each in inputs.items()
    ]


def inputs_from_json(described: Any) -> Inputs:
    """Check what `inputs_to_json` returned; ValueError if it is something else."""
    found = {name: _checked(dtype, shape, ranges) for name, dtype, shape, ranges in described}
    named = all(type(name) is str for name in found) and ("" not in found or len(found) == 1)
    if not found or len(found) != len(described) or not named:
        raise ValueError(f"it has inputs of the names {list(found)!r:.80}")
    return found


def _has_columns(array: np.ndarray) -> bool:
    return array.ndim == 2 and 1 < array.shape[1] <= _MOST_COLUMNS


def _described(array: np.ndarray, ranges: tuple[Range, ...]) -> Input:
    return Input(array.dtype.name, array.shape[1:], ranges)


def _range(array: np.ndarray) -> Range:
    numbers = array[np.isfinite(array)].astype(np.float64)
    if not numbers.size:
        return _STANDARD
    low, high = float(numbers.min()), float(numbers.max())
    if max(-low, high) < _LARGEST and (array.dtype.kind in "iu" or (numbers % 1 == 0).all()):
        return int(low), int(high)
    # No number of a row: a mean of all, and how far they are from it.
    mean, width = numbers.mean(), _WIDTH * numbers.std()
    return _rounded(mean - width), _rounded(mean + width)


def _rounded(number: float) -> float:
    return float(f"{number:.2g}")


def _drawn(each: Input, n_rows: int, random: np.random.RandomState) -> np.ndarray:
    drawn = random.random_sample((n_rows, *each.shape))
    parts = list(_scaled(drawn, each.ranges))
    return (parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)).astype(each.dtype)


def _scaled(drawn: np.ndarray, ranges: tuple[Range, ...]) -> Iterator[np.ndarray]:
    for i, (low, high) in enumerate(ranges):
        part = drawn if len(ranges) == 1 else drawn[:, i : i + 1]
        if type(low) is int:
            yield low + np.floor(part * (high - low + 1))
        else:
            yield low + part * (high - low)


def _checked(dtype: Any, shape: Any, ranges: Any) -> Input:
    known = (
        dtype in _DTYPES
        and type(shape) is list
        and len(shape) < 16
        and all(type(n) is int and n > 0 for n in shape)
        and type(ranges) is list
        and (len(ranges) == 1 or [len(ranges)] == shape)
        and all(_is_range(pair, dtype) for pair in ranges)
    )
    if not known:
        raise ValueError(
            f"it has an input of the unknown kind {dtype!r:.80}, {shape!r:.80}, {ranges!r:.80}"
        )
    return Input(dtype, tuple(shape), tuple((low, high) for low, high in ranges))


def _is_range(pair: Any, dtype: str) -> bool:
    if type(pair) is not list or len(pair) != 2:
        return False
    kinds = {type(end) for end in pair}
    limit = 2.0**15 if dtype == "float16" else _LARGEST if kinds == {int} else 1e38
    fits = kinds == {int} or (kinds == {float} and dtype != "int64")
    return fits and all(abs(end) <= limit for end in pair) and pair[0] <= pair[1]
