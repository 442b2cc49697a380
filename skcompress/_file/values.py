"""Objects of scikit-learn's fitted attributes that are plain in another form.

Slices, random states, sparse matrices, splines and Bunches are made from checked numbers, by
functions that this module names; the file only says which of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse
from scipy.interpolate import BSpline
from sklearn.utils import Bunch

from .._sklearn import ImputerTriplet

_SPARSE = {
    each.__name__: each
    for each in (
        *(sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.csc_array),
        *(sparse.coo_matrix, sparse.coo_array),
    )
}
_KEY = 624  # of the generator of RandomState


def parts_of(value: Any) -> tuple[str, Any] | None:
    """Return the kind of an object and the plain values that it is made from, or None."""
    if type(value) is slice:
        return "slice", [value.start, value.stop, value.step]
    if type(value) is ImputerTriplet:
        return "triplet", list(value)
    if type(value) is Bunch:
        return "bunch", dict(value)
    if type(value) is BSpline:
        return "spline", [value.t, value.c, int(value.k), value.extrapolate, int(value.axis)]
    if type(value) is np.random.RandomState:
        name, *state = value.get_state(legacy=True)
        return ("random", state) if name == "MT19937" else None
    if sparse.issparse(value) and _SPARSE.get(type(value).__name__) is type(value):
        if value.format == "coo":
            indices = [value.row, value.col]
        else:
            indices = [value.indices, value.indptr]
        return type(value).__name__, [value.data, *indices, list(value.shape)]
    return None


def from_parts(kind: Any, parts: Any) -> Any:
    """Return the object that `parts_of` was given; ValueError if there is none such."""
    if kind in _SPARSE:
        return _sparse(_SPARSE[kind], *parts)
    if kind not in _MADE:
        raise ValueError(f"it has an object of the unknown kind {kind!r:.80}")
    return _MADE[kind](parts)


def _sparse(made: Any, data: Any, first: Any, second: Any, shape: Any) -> Any:
    arrays = (data, first, second)
    known = (
        all(isinstance(array, np.ndarray) and array.ndim == 1 for array in arrays)
        and data.dtype.kind in "biuf"
        and all(array.dtype in (np.int32, np.int64) for array in arrays[1:])
        and len(shape) == 2
        and all(type(n) is int and 0 <= n < 1 << 31 for n in shape)
    )
    if not known:
        raise ValueError("it has a sparse matrix that is none")
    if made.format == "coo":
        return made((data, (first, second)), shape=tuple(shape))
    matrix = made(arrays, shape=tuple(shape), copy=False)
    matrix.check_format(full_check=True)  # its indices are followed without a look
    return matrix


def _random(parts: Any) -> np.random.RandomState:
    key, at, has_gauss, gauss = parts
    known = (
        isinstance(key, np.ndarray)
        and (key.shape, key.dtype) == ((_KEY,), np.uint32)
        and all(type(n) is int for n in (at, has_gauss))
        and 0 <= at <= _KEY
        and has_gauss in (0, 1)
        and type(gauss) is float
    )
    if not known:
        raise ValueError("it has a random state that is none")
    random = np.random.RandomState()
    random.set_state(("MT19937", key, at, has_gauss, gauss))
    return random


def _spline(parts: Any) -> BSpline:
    knots, coefficients, degree, extrapolate, axis = parts
    arrays = (knots, coefficients)
    known = (
        type(degree) is int
        and degree >= 0
        and axis == 0
        and extrapolate in (True, False, "periodic")
        and all(isinstance(array, np.ndarray) and array.dtype == np.float64 for array in arrays)
        and knots.ndim == 1
        and coefficients.ndim in (1, 2)
        and len(knots) == len(coefficients) + degree + 1
        and len(coefficients) > degree
        and np.isfinite(knots).all()
        and (np.diff(knots) >= 0).all()
    )
    if not known:
        raise ValueError("it has a spline that is none")
    # The constructor refuses those of a constant column, which scikit-learn makes.
    return BSpline.construct_fast(knots, coefficients, degree, extrapolate, axis)


_MADE: dict[str, Callable[[Any], Any]] = {
    "slice": lambda parts: slice(*parts),
    "triplet": lambda parts: ImputerTriplet(*parts),
    "bunch": lambda parts: Bunch(**parts),
    "spline": _spline,
    "random": _random,
}
