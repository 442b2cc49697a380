"""Predictions: straight through the module where that is what skorch would do.

skorch's `forward_iter` builds a dataset and a loader and collates single rows,
which costs hundreds of times what a small net does. An array may skip all that,
but only where every method on the way is skorch's own; otherwise the net's own
path is the only one that is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.dataset import Dataset
from skorch.utils import to_numpy
from torch.utils.data import DataLoader

_ON_THE_WAY = (
    "infer",
    "evaluation_step",
    "forward",
    "forward_iter",
    "get_iterator",
    "get_dataset",
    "get_params_for",
    "_set_training",
)
_HARMLESS_LOADER_OPTIONS = {
    "batch_size",
    "num_workers",
    "pin_memory",
    "persistent_workers",
    "prefetch_factor",
}


def predict_raw(net: NeuralNet, X: Any) -> np.ndarray:
    """Return the module's (first) output for every row of X, in eval mode.

    Parameters
    ----------
    net : skorch.NeuralNet
        A fitted net.
    X : array or mapping of str to array
        As the net takes it.

    Returns
    -------
    outputs : ndarray of shape (n_samples, ...)
    """
    return np.concatenate([to_numpy(output) for output in _outputs(net, X)])


def predict_with(net: NeuralNet, X: Any) -> np.ndarray:
    """Return what the net's `predict_proba` returns, its nonlinearity applied."""
    if not _is_skorch(net, "predict_proba"):
        return np.asarray(net.predict_proba(X))
    nonlinearity = net._get_predict_nonlinearity()
    return np.concatenate([to_numpy(nonlinearity(output)) for output in _outputs(net, X)])


def has_own_predict(net: NeuralNet) -> bool:
    """Whether the user has overridden `predict`, whose answer then counts."""
    return not _is_skorch(net, "predict")


def _outputs(net: NeuralNet, X: Any) -> Iterator[torch.Tensor]:
    outputs = _straight(net, X) if takes_fast_path(net, X) else net.forward_iter(X)
    for output in outputs:
        yield output[0] if isinstance(output, tuple) else output


def takes_fast_path(net: NeuralNet, X: Any) -> bool:
    """Whether feeding arrays straight to the module is what skorch itself would do."""
    arrays = list(X.values()) if isinstance(X, Mapping) else [X]
    options = net.get_params_for("iterator_valid")
    return (
        all(isinstance(array, np.ndarray) for array in arrays)
        and all(_is_skorch(net, name) for name in _ON_THE_WAY)
        and net.dataset is Dataset
        and not net.get_params_for("dataset")
        and net.iterator_valid is DataLoader
        and set(options) <= _HARMLESS_LOADER_OPTIONS
    )


def _straight(net: NeuralNet, X: Any) -> Iterator[Any]:
    net._set_training(False)
    n_rows = len(next(iter(X.values())) if isinstance(X, Mapping) else X)
    size = net.get_params_for("iterator_valid").get("batch_size", net.batch_size)
    size = n_rows if size == -1 else size
    for start in range(0, n_rows, max(size, 1)):
        rows = slice(start, start + size)
        with torch.inference_mode():
            yield net.infer(_batch(X, rows))


def _batch(X: Any, rows: slice) -> Any:
    if isinstance(X, Mapping):
        return {name: torch.from_numpy(array[rows]) for name, array in X.items()}
    return torch.from_numpy(X[rows])


def _is_skorch(net: NeuralNet, name: str) -> bool:
    method = getattr(type(net), name)
    return name not in net.__dict__ and method.__module__.partition(".")[0] == "skorch"
