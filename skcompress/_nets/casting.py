"""Rows of a caller in the dtypes and shapes that a fitted net computes in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet

from .copying import copy_net
from .criterion import output_kind
from .input_hints import output_for_row
from .misuse import has_own_loss
from .rows import as_arrays
from .state import modules

_FLOATS = {torch.float64: np.float64, torch.float32: np.float32, torch.float16: np.float16}


def cast_rows(net: NeuralNet, X: Any, y: Any) -> tuple[Any, Any]:
    """Return X and y as a fitted net takes them.

    Floats get the dtype of its weights, and whole numbers stay whole. Class numbers become
    int64, values get the shape of the net's output.

    Raises
    ------
    ValueError
        If the net cannot process a row, or if y holds labels that are not class numbers.
    """
    X, y = as_arrays(X), np.asarray(as_arrays(y, "y"))
    if isinstance(X, Mapping) and not hasattr(X, "iloc"):
        X = {name: _cast(net, array, name) for name, array in X.items()}
    else:
        X = _cast(net, X, "X")
    # On a copy, since a forward may change the module (an Embedding with max_norm).
    return X, _cast_targets(net, y, output_for_row(copy_net(net), X))


def _cast(net: NeuralNet, given: Any, name: str) -> np.ndarray:
    array = np.asarray(given)
    if array.dtype.kind in "iu":
        return array.astype(np.int64, copy=False)
    if array.dtype.kind not in "bf":
        raise ValueError(
            f"TrainingData takes numbers as the net does, but {name} has the dtype {array.dtype}. "
            "Transform the rows as for the net's own fit."
        )
    cast = array.astype(_float_dtype(net, array), copy=False)
    return cast if cast.flags.writeable else cast.copy()  # torch warns of others


def _float_dtype(net: NeuralNet, array: np.ndarray) -> Any:
    """Return numpy's name of the dtype of a net's weights; that of the array if it has none."""
    parameters = (p for module in modules(net).values() for p in module.parameters())
    own = next((p.dtype for p in parameters if p.is_floating_point()), torch.float32)
    return _FLOATS.get(own, array.dtype)


def _cast_targets(net: NeuralNet, y: np.ndarray, output: np.ndarray) -> np.ndarray:
    kind = None if has_own_loss(net) else output_kind(net)
    if y.dtype.kind not in "biuf":
        raise ValueError(
            f"TrainingData takes targets as the net does, but y has the dtype {y.dtype}. Give "
            "class numbers: numpy.unique(y, return_inverse=True)[1]."
        )
    whole = y.dtype.kind in "biu" or bool((y == np.floor(y)).all())
    if kind in ("logits", "probabilities", "log_probabilities") and y.ndim == 1 and whole:
        return y.astype(np.int64, copy=False)
    if kind in ("values", "logit", "probability") and y.size == len(y) * output.size:
        # In the output's own shape: a loss would broadcast (n,) against (n, 1) to (n, n).
        return y.astype(output.dtype, copy=False).reshape(len(y), *output.shape[1:])
    return y.astype(np.int64 if y.dtype.kind in "iu" else _float_dtype(net, y), copy=False)
