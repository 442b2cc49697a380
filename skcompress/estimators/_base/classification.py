"""Classes: labels to targets of a net, and outputs of a net to labels."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from skorch import NeuralNet

from ..._nets import (
    Predictor,
    check_probabilities,
    criterion_name,
    first_row,
    is_binary,
    module_name,
    predict_raw,
)
from .rows import check_prediction_inputs, check_X_y


class NetClassifierMixin(ClassifierMixin):
    """Mixin of the classifiers; `_check_targets` sets `classes_`."""

    _sizes: ClassVar[tuple[str, ...]] = ("n_features", "n_classes")
    _dtype: Any
    _predictor: Predictor
    net_: NeuralNet

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of every row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or dict of arrays
            Rows as in `fit`.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Labels out of `classes_`.
        """
        X, predictor, classes = check_prediction_inputs(self, X), self._predictor, self.classes_
        if predictor.has_own_predict:
            return classes[predictor.values(X).astype(int)]
        probabilities = restrict_to_classes(predictor.probabilities(X), len(classes))
        if predictor.is_binary and len(classes) == 2:
            return classes[(probabilities[:, 1] > predictor.threshold).astype(int)]
        return classes[probabilities.argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of every class for every row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or dict of arrays
            Rows as in `fit`.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`.
        """
        X = check_prediction_inputs(self, X)
        return restrict_to_classes(self._predictor.probabilities(X), len(self.classes_))

    def _check_targets(self, X: Any, y: Any) -> tuple[Any, np.ndarray, int]:
        X, y = check_X_y(self, X, y, self._dtype, multi_output=False)
        check_classification_targets(y)
        self.classes_ = self._find_classes(X, y)
        return X, np.searchsorted(self.classes_, y), len(self.classes_)

    def _find_classes(self, X: Any, y: np.ndarray) -> np.ndarray:
        return np.unique(y)

    def _targets_for_net(
        self, y: np.ndarray, net: NeuralNet, output: np.ndarray | None
    ) -> np.ndarray:
        return class_targets(y, net, output, len(self.classes_))


def restrict_to_classes(probabilities: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the probabilities of the first classes, without outputs beyond them."""
    if probabilities.shape[1] == n_classes:
        return probabilities
    known = probabilities[:, :n_classes]
    return known / np.maximum(known.sum(axis=1, keepdims=True), np.finfo(known.dtype).tiny)


def class_targets(
    y: np.ndarray, net: NeuralNet, output: np.ndarray | None, n_classes: int
) -> np.ndarray:
    """Check a net's output for one row (None: unknown); return class numbers in its shape."""
    if is_binary(net):
        if n_classes > 2:
            raise ValueError(
                f"{type(net).__name__} with {criterion_name(net)} tells 2 classes apart, but y has "
                f"{n_classes}. Use CrossEntropyLoss with {n_classes} outputs."
            )
        shape = (-1,) if output is None else (-1, *output.shape[1:])
        return y.astype(np.float32).reshape(shape)
    if output is not None:
        _check_output(net, output, n_classes)
    return y.astype(np.int64)


def _check_output(net: NeuralNet, output: np.ndarray, n_classes: int) -> None:
    if output.ndim != 2 or output.shape[1] < n_classes:
        raise ValueError(
            f"The module {module_name(net)} puts out the shape "
            f"{output.shape} for one row, but a classifier of {n_classes} classes needs (1, "
            f"{n_classes}). Set its width, or let it follow the data: "
            "shape_params={'module__<name>': 'n_classes'}."
        )
    check_probabilities(net, output)


def classes_of_outputs(n_outputs: int, y: np.ndarray) -> np.ndarray:
    """Return the labels of a trained net's outputs.

    To skorch a label is the number of an output, so whole numbers that can be
    such numbers are; other labels are taken in sorted order, if their count fits.
    """
    classes = np.unique(y)
    if y.dtype.kind in "iu" and classes[0] >= 0 and classes[-1] < n_outputs:
        return np.arange(n_outputs)
    if len(classes) == n_outputs:
        return classes
    raise ValueError(
        f"The net in FrozenEstimator has {n_outputs} outputs, but y has the {len(classes)} labels "
        f"{classes!r}, so they cannot be matched. Number the classes 0 to {n_outputs - 1}."
    )


def n_classes_of(net: NeuralNet, X: Any) -> int:
    """Return how many classes the outputs of a trained net distinguish."""
    return 2 if is_binary(net) else int(predict_raw(net, first_row(X)).shape[-1])
