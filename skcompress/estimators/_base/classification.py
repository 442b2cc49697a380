"""Classes: labels to targets of a net, and outputs of a net to labels."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from skorch import NeuralNet

from ..._nets import (
    Predictor,
    check_multilabel,
    check_probabilities,
    criterion_name,
    given_net,
    is_binary,
    module_name,
    output_for_row,
    takes_indicators,
)
from .multilabel import indicator_matrix, is_indicator, label_probabilities, label_targets
from .rows import check_prediction_inputs, check_X_y


class NetClassifierMixin(ClassifierMixin):
    """Mixin of the classifiers; `_check_targets` sets `classes_`, of labels `_target_shape` too."""

    _sizes: ClassVar[tuple[str, ...]] = ("n_features", "n_classes")
    _dtype: Any
    _predictor: Predictor
    net_: NeuralNet
    classes_: np.ndarray

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of every row, or each of several labels that is likely.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or dict of arrays
            Rows as in `fit`.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
            Labels out of `classes_`; an indicator matrix if `y` was one in `fit`.
        """
        X, predictor, classes = check_prediction_inputs(self, X), self._predictor, self.classes_
        if self._is_multilabel:
            if predictor.has_own_predict:
                return np.asarray(self.net_.predict(X)).astype(int)
            probabilities = label_probabilities(predictor.probabilities(X))
            return (probabilities > predictor.threshold).astype(int)
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
            Columns in the order of `classes_`. Of several labels each has a probability
            of its own, so rows do not sum to 1.
        """
        X = check_prediction_inputs(self, X)
        if self._is_multilabel:
            return label_probabilities(self._predictor.probabilities(X))
        return restrict_to_classes(self._predictor.probabilities(X), len(self.classes_))

    def _check_targets(
        self, X: Any, y: Any, *, classes: Any = None, reset: bool = True
    ) -> tuple[Any, np.ndarray, int]:
        if reset:
            self.__dict__.pop("_target_shape", None)  # of an earlier fit
        several = is_indicator(y)
        X, y = check_X_y(self, X, y, self._dtype, multi_output=several, reset=reset)
        if several:
            return X, *self._check_labels(indicator_matrix(y), reset)
        if self._is_multilabel:
            raise ValueError(
                f"partial_fit got y of shape {y.shape}, but the net was fitted with an indicator "
                f"matrix of {len(self.classes_)} labels. Pass one, or call fit anew."
            )
        check_classification_targets(y)
        if reset:
            known = self._find_classes(X, y if classes is None else np.unique(classes))
            check_labels(y, known, "classes")
            self.classes_ = known
        else:
            check_same_classes(classes, self.classes_)
            check_labels(y, self.classes_, "classes_")
        return X, np.searchsorted(self.classes_, y), len(self.classes_)

    def _check_labels(self, y: np.ndarray, reset: bool) -> tuple[np.ndarray, int]:
        check_multilabel(given_net(self))
        n_labels = y.shape[1]
        if reset:
            self.classes_, self._target_shape = np.arange(n_labels), y.shape[1:]
        elif not self._is_multilabel or len(self.classes_) != n_labels:
            raise ValueError(
                f"partial_fit got y of shape {y.shape}, an indicator matrix of {n_labels} labels, "
                f"but the net was fitted with {self.classes_!r:.200}. Call fit anew."
            )
        return y, n_labels

    def _find_classes(self, X: Any, y: np.ndarray) -> np.ndarray:
        return np.unique(y)

    def _targets_for_net(
        self, y: np.ndarray, net: NeuralNet, output: np.ndarray | None
    ) -> np.ndarray:
        if self._is_multilabel:
            return label_targets(y, net, output)
        return class_targets(y, net, output, len(self.classes_))

    @property
    def _is_multilabel(self) -> bool:
        return "_target_shape" in self.__dict__

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        net = given_net(self)
        if isinstance(net, NeuralNet):
            tags.classifier_tags.multi_class = not is_binary(net)
            tags.classifier_tags.multi_label = takes_indicators(net)
        return tags


def check_labels(y: np.ndarray, classes: np.ndarray, name: str) -> None:
    """Refuse labels that are not among the classes."""
    unknown = sorted(set(y.tolist()) - set(classes.tolist()))
    if unknown:
        raise ValueError(
            f"y has the labels {unknown!r:.80}, which are not among {name}, {classes!r:.200}. Name "
            "all classes when the net is fitted: partial_fit(X, y, classes=...), or call fit anew."
        )


def check_same_classes(given: Any, classes: np.ndarray) -> None:
    """Refuse other classes than those that the net was fitted with."""
    if given is not None and not np.array_equal(np.unique(given), classes):
        raise ValueError(
            f"partial_fit got classes={given!r:.200}, but the net was fitted with "
            f"{classes!r:.200}. Leave `classes` out, or call fit anew."
        )


def restrict_to_classes(probabilities: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the probabilities of the first classes, without outputs beyond them."""
    if probabilities.shape[2:] == (1,):  # skorch's for a single output that has an axis
        probabilities = probabilities[:, :, 0]
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
                f"Only binary classification is supported. {type(net).__name__} with "
                f"{criterion_name(net)} tells 2 classes apart, but y has {n_classes}. Use "
                f"CrossEntropyLoss with {n_classes} outputs."
            )
        if output is not None and output.size != 1:
            raise ValueError(
                f"The module {module_name(net)} puts out the shape {output.shape} for one row, but "
                f"{criterion_name(net)} needs one output to tell 2 classes apart. Set its width to "
                "1, or pass an indicator matrix as y where a row has several labels."
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
    return 2 if is_binary(net) else int(output_for_row(net, X).shape[-1])
