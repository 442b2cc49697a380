"""Values: targets of a net, and outputs of a net in the shape of the targets."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from skorch import NeuralNet

from ..._nets import Predictor, criterion_name, is_softmax, module_name
from .rows import check_prediction_inputs, check_X_y, to_float32


class NetRegressorMixin(RegressorMixin):
    """Mixin of the regressors; `_check_targets` sets `_target_shape`."""

    _sizes: ClassVar[tuple[str, ...]] = ("n_features", "n_outputs")
    _dtype: Any
    _predictor: Predictor
    _target_shape: tuple[int, ...]
    net_: NeuralNet

    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted targets of every row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or dict of arrays
            Rows as in `fit`.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            In the shape of the targets seen in `fit`; float32 like the net, or float64
            for several targets, which scikit-learn asks for there.
        """
        X = check_prediction_inputs(self, X)
        values = self._predictor.values(X)
        values = values.reshape(len(values), *self._target_shape)
        return values.astype(np.float64) if values.size > len(values) else values

    def _check_targets(
        self, X: Any, y: Any, *, classes: Any = None, reset: bool = True
    ) -> tuple[Any, np.ndarray, int]:
        X, y = check_X_y(self, X, y, self._dtype, multi_output=True, reset=reset)
        targets = to_float32(y)
        if reset:
            self._target_shape = targets.shape[1:]
        elif targets.shape[1:] != self._target_shape:
            raise ValueError(
                f"y has rows of the shape {targets.shape[1:]}, but those seen in fit had "
                f"{self._target_shape}. Give as many targets, or call fit anew."
            )
        return X, targets, int(np.prod(self._target_shape))

    def _targets_for_net(
        self, y: np.ndarray, net: NeuralNet, output: np.ndarray | None
    ) -> np.ndarray:
        return value_targets(y, net, output, int(np.prod(self._target_shape)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def value_targets(
    y: np.ndarray, net: NeuralNet, output: np.ndarray | None, n_outputs: int
) -> np.ndarray:
    """Check a net's output for one row (None: unknown); return targets in its shape."""
    if output is None:
        return y.reshape(len(y), n_outputs)
    if output.size != n_outputs:
        raise ValueError(
            f"The module {module_name(net)} puts out the shape "
            f"{output.shape} for one row, but y has {n_outputs} target(s). Set its width, or "
            "let it follow the data: shape_params={'module__<name>': 'n_outputs'}."
        )
    if n_outputs == 1 and is_softmax(net):
        raise ValueError(
            f"{type(net).__name__} with {criterion_name(net)} compares classes, and y has one "
            "target, for which that loss is always 0. Use MSELoss."
        )
    # In the output's own shape: MSELoss broadcasts (n,) against (n, 1) to (n, n).
    return y.reshape(len(y), *output.shape[1:])
