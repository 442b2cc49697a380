"""Predictions: straight through the module where that is what skorch would do.

skorch's `forward_iter` builds a dataset and a loader and collates single rows,
which costs hundreds of times what a small net does. An array may skip all that,
but only where every method on the way is skorch's own; otherwise the net's own
path is the only one that is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet, NeuralNetBinaryClassifier
from skorch.dataset import Dataset
from skorch.utils import to_numpy
from torch import nn
from torch.utils.data import DataLoader

from .criterion import is_binary
from .rows import take_rows
from .seeding import without_autocast

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


# Batches may be larger than the net's own, for speed, but neither much larger (the
# user may have chosen a small one for its memory) nor beyond the caches.
_MAX_ENLARGED = 16
_MAX_ELEMENTS = 2**16
# Where torch's softmax is faster over the columns, as measured.
_MANY_ROWS = 64
_FEW_CLASSES = 32


class Predictor:
    """How one fitted net predicts, found out once.

    Finding out whether the straight way is open costs more than a small net's
    prediction. A change of the net that could close it is noticed at each call.

    Parameters
    ----------
    net : skorch.NeuralNet
        A fitted net.
    """

    def __init__(self, net: NeuralNet) -> None:
        self.net = net
        self.is_straight = _is_skorchs_way(net)
        self.has_own_predict = not _is_skorch(net, "predict")
        self.is_binary = is_binary(net)
        self._is_reshaped = isinstance(net, NeuralNetBinaryClassifier)
        self._has_own_proba = not _is_skorch(net, "predict_proba")
        self._stamp = _stamp(net)
        self._nonlinearity = None if self._has_own_proba else _nonlinearity(net)

    @property
    def threshold(self) -> float:
        """The probability above which a net with one output predicts the second class."""
        return getattr(self.net, "threshold", 0.5)

    def raw(self, X: Any) -> np.ndarray:
        """Return the module's (first) output for every row of X, in eval mode."""
        if _is_autocast_on(self.net.device):
            with without_autocast(self.net.device):
                return self.raw(X)
        return self._current()._joined(X, None)

    def probabilities(self, X: Any) -> np.ndarray:
        """Return what the net's `predict_proba` returns, its nonlinearity applied."""
        if _is_autocast_on(self.net.device):
            with without_autocast(self.net.device):
                return self.probabilities(X)
        current = self._current()
        if current._has_own_proba:
            return np.asarray(current.net.predict_proba(X))
        return current._joined(X, current._nonlinearity)

    def values(self, X: Any) -> np.ndarray:
        """Return the predictions of a regressor, which the net's `predict` returns."""
        if not self.has_own_predict:
            return self.probabilities(X)
        with without_autocast(self.net.device):
            return np.asarray(self.net.predict(X))

    def _current(self) -> Predictor:
        return self if self._stamp == _stamp(self.net) else Predictor(self.net)

    def _joined(self, X: Any, nonlinearity: Any) -> np.ndarray:
        net, first = self.net, _first_array(X)
        if first is None or not self.is_straight:
            return _stacked([_finished(output, nonlinearity) for output in net.forward_iter(X)])
        if _is_training(net.module_):
            net._set_training(False)
        n_rows = len(first)
        # One row, the call in which this counts, needs no size of batches.
        if n_rows == 1 or n_rows <= (size := _batch_size(net, first)):
            return _finished(self._straight(X), nonlinearity)
        parts = (take_rows(X, slice(i, i + size)) for i in range(0, n_rows, size))
        return _stacked([_finished(self._straight(part), nonlinearity) for part in parts])

    def _straight(self, X: Any) -> Any:
        net = self.net
        # As in skorch. In inference mode, a module that keeps something it computes could not
        # be trained any more, and one that asks autograd for a gradient would get none.
        with torch.set_grad_enabled(False):
            if not isinstance(X, np.ndarray):
                return net.infer({name: _tensor(array, net) for name, array in X.items()})
            # skorch's binary classifier reshapes the output; otherwise `infer` only calls.
            call = net.infer if self._is_reshaped else net.module_
            return call(_tensor(X, net))


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
    return Predictor(net).raw(X)


def _is_autocast_on(device: Any) -> bool:
    """Whether there is a `torch.autocast` around the caller, for a device or the CPU."""
    if torch.is_autocast_enabled("cpu"):
        return True
    return device not in ("cpu", None) and torch.is_autocast_enabled(torch.device(device).type)


def _is_skorchs_way(net: NeuralNet) -> bool:
    """Whether feeding arrays straight to the module is what skorch itself would do."""
    return (
        all(_is_skorch(net, name) for name in _ON_THE_WAY)
        and net.dataset is Dataset
        and not net.get_params_for("dataset")
        and net.iterator_valid is DataLoader
        and set(net.get_params_for("iterator_valid")) <= _HARMLESS_LOADER_OPTIONS
    )


def _stamp(net: NeuralNet) -> tuple[Any, ...]:
    """Return what differs when the user has changed how the net predicts.

    A parameter or method that is set later is one more entry in the net's dict.
    """
    own = net.__dict__
    return (
        len(own),
        own["iterator_valid"],
        own["dataset"],
        own["predict_nonlinearity"],
        own["module_"].__class__,
        type(net),
    )


def _first_array(X: Any) -> np.ndarray | None:
    """Return X, or the first of a dict of arrays; None where not all are arrays."""
    if isinstance(X, np.ndarray):
        return X
    is_plain = isinstance(X, Mapping) and all(isinstance(a, np.ndarray) for a in X.values())
    return next(iter(X.values()), None) if is_plain else None


def _is_training(module: nn.Module) -> bool:
    """Whether any layer is in training mode; a walk by hand takes a sixth of `modules()`."""
    if module.training:
        return True
    for layer in module._modules.values():
        # Most layers are leaves, for which a call of this function would double the time.
        if layer is not None and (layer.training or (layer._modules and _is_training(layer))):
            return True
    return False


def _finished(output: Any, nonlinearity: Any) -> np.ndarray:
    """Return the (first) output of a batch as an array, with the nonlinearity if there is one."""
    if isinstance(output, tuple):
        output = output[0]
    if nonlinearity is not None:
        output = nonlinearity(output)
    if type(output) is not torch.Tensor:
        return to_numpy(output)
    try:
        return output.numpy()
    except (TypeError, RuntimeError):  # on another device, or autograd follows it
        return to_numpy(output)


def _stacked(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _nonlinearity(net: NeuralNet) -> Any:
    own = net._get_predict_nonlinearity()
    is_softmax = isinstance(own, partial) and own.func is torch.softmax and not own.args
    return _softmax if is_softmax and own.keywords == {"dim": -1} else own


def _softmax(outputs: torch.Tensor) -> torch.Tensor:
    """Return softmax over the last axis, on which torch is slow if it is short."""
    is_tall = (
        outputs.numel() >= _MANY_ROWS  # which a tensor tells faster than the number of rows
        and outputs.ndim == 2
        and len(outputs) >= _MANY_ROWS
        and outputs.shape[1] <= _FEW_CLASSES
    )
    return torch.softmax(outputs.t(), 0).t().contiguous() if is_tall else torch.softmax(outputs, -1)


def _batch_size(net: NeuralNet, array: np.ndarray) -> int:
    own = net.__dict__.get("iterator_valid__batch_size", net.batch_size)
    n_rows = len(array)
    if own == -1 or n_rows <= own:
        return max(n_rows, 1)
    in_cache = _MAX_ELEMENTS * n_rows // max(array.size, 1)
    return max(own, min(in_cache, _MAX_ENLARGED * own))


def _tensor(array: np.ndarray, net: NeuralNet) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    return tensor if net.device in ("cpu", None) else tensor.to(net.device)


def _is_skorch(net: NeuralNet, name: str) -> bool:
    method = getattr(type(net), name)
    return name not in net.__dict__ and method.__module__.partition(".")[0] == "skorch"
