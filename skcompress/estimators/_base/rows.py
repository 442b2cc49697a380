"""Validate inputs and targets as scikit-learn does, and cast them for torch."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import check_is_fitted, validate_data

from ..._nets import as_arrays

_OPTIONS = {"allow_nd": True, "order": "C"}
_FLOAT32 = np.dtype(np.float32)
_FLOATS = (_FLOAT32, np.dtype(np.float64))


# A number that float32 cannot hold becomes infinite, which is an error of its own.
_becomes_infinite = np.errstate(over="ignore", invalid="ignore")


@_becomes_infinite
def check_X(estimator: Any, X: Any, dtype: str | None, *, reset: bool) -> Any:
    """Validate the inputs and cast them for the net.

    Parameters
    ----------
    estimator : estimator
        Gets (``reset=True``) or holds `n_features_in_`, `feature_names_in_`.
    X : array-like or mapping of str to array-like
        Rows along the first axis.
    dtype : {"float32", None}
        None keeps integers, as int64.
    reset : bool
        True in `fit`, False in `predict`.

    Returns
    -------
    X : ndarray or dict of ndarray
        float32 or int64, C-ordered, writable (torch warns of others).
    """
    X, wanted = as_arrays(X), _sklearn_dtype(dtype)
    if not _is_dict_of_arrays(X):
        return _cast_for_torch(validate_data(estimator, X, dtype=wanted, reset=reset, **_OPTIONS))
    if not X:
        raise ValueError("X is an empty dict, but a dict of arrays must have at least one entry.")
    arrays = {
        name: _cast_for_torch(
            check_array(array, dtype=wanted, ensure_2d=False, input_name=f"X[{name!r}]", **_OPTIONS)
        )
        for name, array in X.items()
    }
    check_consistent_length(*arrays.values())
    return arrays


@_becomes_infinite
def check_X_y(
    estimator: Any, X: Any, y: Any, dtype: str | None, *, multi_output: bool, reset: bool = True
) -> Any:
    """Validate inputs and targets of `fit` together; X as in :func:`check_X`.

    With ``reset=False`` X must be as it was in `fit`.
    """
    X, y = as_arrays(X), as_arrays(y, "y")
    if not _is_dict_of_arrays(X):
        options = {**_OPTIONS, "dtype": _sklearn_dtype(dtype), "multi_output": multi_output}
        X, y = validate_data(estimator, X, y, y_numeric=multi_output, reset=reset, **options)
        return _as_seen(estimator, _cast_for_torch(X), reset), y
    X = _as_seen(estimator, check_X(estimator, X, dtype, reset=reset), reset)
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires y to be passed, but y is None.")
    y = validate_data(
        estimator, y=y, multi_output=multi_output, y_numeric=multi_output, reset=reset
    )
    check_consistent_length(next(iter(X.values())), y)
    return X, y


def _as_seen(estimator: Any, X: Any, reset: bool) -> Any:
    return X if reset else cast_as_in_fit(X, estimator._kinds)


def check_prediction_inputs(estimator: Any, X: Any) -> Any:
    """Validate the inputs of a prediction and cast them as in `fit`."""
    if "_predictor" not in estimator.__dict__:
        check_is_fitted(estimator, "net_")
    array = check_plain_X(estimator, X)
    if array is not None:
        return array
    return cast_as_in_fit(check_X(estimator, X, estimator._dtype, reset=False), estimator._kinds)


def check_plain_X(estimator: Any, X: Any) -> np.ndarray | None:
    """Return X as scikit-learn's validation would in `predict`, None if that takes more.

    For one row that validation costs several times as much as a small net. Each X for
    which this returns None goes through it, and gets its errors.
    """
    if type(X) is not np.ndarray or X.dtype not in _FLOATS:
        return None
    shape = X.shape
    if not (
        len(shape) > 1
        and shape[0] > 0
        and shape[1] == getattr(estimator, "n_features_in_", None)
        and X.flags.carray  # C-ordered, aligned and writable
        and estimator._kinds.get("") == _FLOAT32
        and not hasattr(estimator, "feature_names_in_")
    ):
        return None
    array = X if X.dtype == _FLOAT32 else _as_float32(X)
    # A square too large for float32 gives None as well; the validation accepts it. The method
    # `dot` would be faster, but warns of it.
    return array if isfinite(np.vdot(array, array)) else None


@_becomes_infinite
def _as_float32(X: np.ndarray) -> np.ndarray:
    return X.astype(np.float32)


def cast_as_in_fit(X: Any, dtypes: Mapping[str, Any]) -> Any:
    """Cast the inputs of `predict` to the dtypes seen in `fit`.

    With ``dtype=None`` the same ids may come as integers once and as floats
    another time (pandas does that where a column holds a gap).
    """
    arrays = X if isinstance(X, Mapping) else {"": X}
    if set(arrays) != set(dtypes):
        raise ValueError(
            f"X must have the inputs seen in fit, {_input_names(dtypes)}. Got "
            f"{_input_names(arrays)} instead."
        )
    cast = {name: _cast_exactly(name, array, dtypes[name]) for name, array in arrays.items()}
    return cast if isinstance(X, Mapping) else cast[""]


@_becomes_infinite
def to_float32(y: np.ndarray) -> np.ndarray:
    """Return targets as float32."""
    targets = np.asarray(y, dtype=np.float32)
    if not np.isfinite(targets).all():
        raise ValueError(
            "Input y contains a value too large for dtype('float32'), which nets compute in. "
            "Scale the targets, for example with TransformedTargetRegressor."
        )
    return targets


def input_dtypes(X: Any) -> dict[str, Any]:
    """Return the dtype of every input, by name; a plain array has the name ""."""
    arrays = X if isinstance(X, Mapping) else {"": X}
    return {name: array.dtype for name, array in arrays.items()}


def row_shapes(X: Any) -> Any:
    """Return the shape of a row; of a dict, that of each input by name."""
    if isinstance(X, Mapping):
        return {name: X[name].shape[1:] for name in sorted(X)}
    return X.shape[1:]


def n_features_of(X: Any, param: str) -> int:
    """Return the size ``"n_features"`` of `shape_params`: the length of the second axis."""
    if isinstance(X, Mapping):
        raise ValueError(
            f"shape_params={{{param!r}: 'n_features'}} needs X to be one array. Got a dict with "
            f"{_input_names(X)}; set {param} on the net instead."
        )
    return int(X.shape[1])


def _is_dict_of_arrays(X: Any) -> bool:
    # scipy's dictionary-of-keys matrix is a mapping, too.
    return isinstance(X, Mapping) and not issparse(X)


def _sklearn_dtype(dtype: str | None) -> Any:
    return np.float32 if dtype == "float32" else "numeric"


def _cast_for_torch(array: np.ndarray) -> np.ndarray:
    dtype = np.int64 if array.dtype.kind in "iu" else np.float32
    cast = array.astype(dtype, copy=False)
    # Values that were not finite before have passed scikit-learn's own check.
    if dtype == np.float32 and not np.isfinite(cast).all() and np.isfinite(array).all():
        raise ValueError(
            "Input X contains infinity or a value too large for dtype('float32'), which nets "
            "compute in. Scale the inputs."
        )
    return cast if cast.flags.writeable else cast.copy()


def _cast_exactly(name: str, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    cast = array.astype(dtype, copy=False)
    if dtype.kind == "i" and not np.array_equal(cast, array):
        shown = f"X[{name!r}]" if name else "X"
        raise ValueError(f"{shown} held whole numbers in fit, but now it has a fractional part.")
    return cast


def _input_names(arrays: Mapping[str, Any]) -> str:
    return "one array" if set(arrays) == {""} else ", ".join(repr(name) for name in arrays)
