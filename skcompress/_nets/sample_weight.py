"""Sample weights travel inside X, so that skorch batches them with their rows."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet

from .checks import forward_names


class SampleWeightMixin:
    """Let a skorch net weigh its training rows: put it before the net's class.

    Use it for nets whose module knows nothing of weights. The loss of a batch
    becomes ``sum(w_i * loss_i) / sum(w_i)``, with loss_i the criterion of row i
    (the criterion must have a `reduction` parameter) and w_i the row's weight.

    Examples
    --------
    >>> from skorch import NeuralNetClassifier
    >>> from skcompress import SampleWeightMixin
    >>> class WeightedClassifier(SampleWeightMixin, NeuralNetClassifier):
    ...     pass
    """

    _takes_sample_weight = True
    criterion_: Any

    def infer(self, x: Any, **fit_params: Any) -> Any:
        """Take the weights out of the batch and run the module on the rest.

        Parameters
        ----------
        x : tensor or dict of tensors
            Rows of a batch, with or without weights.
        **fit_params : dict
            As skorch passes them on to `forward`.

        Returns
        -------
        output : tensor or tuple of tensors
            What the module returns.
        """
        return super().infer(_without_weight(x), **fit_params)  # type: ignore[misc]

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, **kwargs: Any) -> Any:
        """Return the weighted mean of the rows' losses.

        Parameters
        ----------
        y_pred, y_true : tensor
            The module's output and the targets of a batch.
        X : tensor or dict of tensors, default=None
            The batch's rows; without weights in it the loss is the net's own.
        **kwargs : object
            As skorch passes them.

        Returns
        -------
        loss : tensor of shape ()
            The loss of the batch.
        """
        weight = packed_weight(X)
        if weight is None:
            return super().get_loss(y_pred, y_true, X=X, **kwargs)  # type: ignore[misc]
        criterion = self.criterion_
        reduction, criterion.reduction = criterion.reduction, "none"
        try:
            loss = super().get_loss(y_pred, y_true, X=X, **kwargs)  # type: ignore[misc]
        finally:
            criterion.reduction = reduction
        rows = loss.reshape(len(loss), -1).mean(dim=1)
        weight = weight.to(rows)
        return (rows * weight).sum() / weight.sum().clamp_min(torch.finfo(rows.dtype).tiny)


_WEIGHT = "sample_weight"
_ROWS = "X"


def takes_sample_weight(net: Any) -> bool:
    """Whether the net can use sample weights: named in `forward`, or by the mixin."""
    if not isinstance(net, NeuralNet):
        return False
    return getattr(net, "_takes_sample_weight", False) or _WEIGHT in forward_names(net)


def pack_sample_weight(net: NeuralNet, X: Any, sample_weight: Any) -> dict[str, Any]:
    """Return X as a dict with the weights in it, so that skorch batches them with the rows.

    skorch's ``fit(X, y, sample_weight=...)`` would hand the whole array to every batch.
    """
    return add_weight(net, X, np.asarray(sample_weight, dtype=np.float32))


def add_weight(net: NeuralNet, X: Any, weight: Any) -> dict[str, Any]:
    """Return rows, of all data or of a batch, as a dict with their weights in it."""
    if isinstance(X, Mapping):
        return {**X, _WEIGHT: weight}
    if getattr(net, "_takes_sample_weight", False):
        return {_ROWS: X, _WEIGHT: weight}
    first = next(name for name in _ordered_forward_names(net) if name != _WEIGHT)
    return {first: X, _WEIGHT: weight}


def _ordered_forward_names(net: NeuralNet) -> list[str]:
    module: Any = net.module if isinstance(net.module, type) else type(net.module)
    return [name for name in inspect.signature(module.forward).parameters if name != "self"]


def packed_weight(X: Any) -> Any:
    """Return the weights in a batch's rows, or None."""
    return X.get(_WEIGHT) if isinstance(X, Mapping) else None


def _without_weight(x: Any) -> Any:
    if not isinstance(x, Mapping) or _WEIGHT not in x:
        return x
    rest = {key: value for key, value in x.items() if key != _WEIGHT}
    return rest[_ROWS] if set(rest) == {_ROWS} else rest
