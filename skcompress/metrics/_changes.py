"""What a compressed model is, and what it does differently from the one before."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.utils import Bunch
from sklearn.utils.multiclass import is_multilabel
from sklearn.utils.validation import check_consistent_length, column_or_1d

from ._finding import report_of
from ._table import report_lines


class CompressionReport(Bunch):
    """A Bunch that prints as a table."""

    def __repr__(self) -> str:
        return "\n".join(report_lines(self))


def compression_report(est: Any, X: Any, y: Any, baseline: Any = None) -> Bunch:
    r"""Report what a compressed model is worth, and what changed for whom.

    Mean accuracy hides who pays for a smaller net: it may stay the same while one
    class is given up, or while many rows change sides [1]_ [2]_. With a `baseline`,
    mostly the dense net, the report shows both.

    Parameters
    ----------
    est : estimator
        A fitted compressed estimator, or a Pipeline or other meta-estimator that
        holds one.
    X : array-like of shape (n_samples, n_features) or dict of arrays
        Rows that nothing was fitted on.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Their true labels or targets.
    baseline : estimator, default=None
        A fitted estimator of the same kind to compare with. It need not be one of
        ours.

    Returns
    -------
    report : Bunch
        It prints as a table. All of `report_`, and `n_rows`.

        For classifiers `accuracy` and `recall`, a dict with the labels in the
        order of `classes_`: the fraction of the label's rows that are predicted as
        such, nan where `y` has none; `support`, the numbers of these rows. With a
        baseline also `baseline_accuracy`, `baseline_recall`, `recall_change`
        (recall minus the baseline's), `changed` (the fraction of rows whose
        predicted label is another one), `newly_wrong` and `newly_right` (numbers of
        rows). If `y` is an indicator matrix of several labels, a row is right if all of
        them are, and the labels of `recall` are the numbers of its columns.

        For regressors `r2` and `mae` (mean absolute error). With a baseline also
        `baseline_r2`, `baseline_mae`, `mean_abs_change` and `max_abs_change` of
        the predictions.

    Notes
    -----
    With predictions :math:`\hat y` and the baseline's :math:`\tilde y`, `changed`
    is :math:`\frac{1}{n} \sum_i [\hat y_i \ne \tilde y_i]`, `newly_wrong`
    is :math:`\sum_i [\hat y_i \ne y_i = \tilde y_i]`, and accuracy changes by
    (`newly_right` - `newly_wrong`) / n. The recall of a class with few rows moves a
    lot by chance: one row of ten is 0.1. The order of the rows does not matter.

    References
    ----------
    .. [1] Hooker, Courville, Clark, Dauphin, Frome (2019). What Do Compressed Deep
       Neural Networks Forget? arXiv:1911.05248
    .. [2] Milani Fard, Cormier, Canini, Gupta (2016). Launch and Iterate: Reducing
       Prediction Churn. NeurIPS 29.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import train_test_split
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skcompress import CompressedClassifier, Quantizer
    >>> from skcompress.metrics import compression_report
    >>> X, X_test, y, y_test = train_test_split(*load_iris(return_X_y=True), random_state=0)
    >>> net = NeuralNetClassifier(
    ...     nn.Linear,
    ...     module__in_features=4,
    ...     module__out_features=3,
    ...     criterion=nn.CrossEntropyLoss,
    ...     train_split=None,
    ...     verbose=0,
    ... )
    >>> dense = CompressedClassifier(net, random_state=0).fit(X, y)
    >>> small = CompressedClassifier(net, Quantizer(bits=2), random_state=0).fit(X, y)
    >>> report = compression_report(small, X_test, y_test, baseline=dense)
    >>> sorted(report.recall_change)
    [0, 1, 2]
    >>> 0 <= report.changed <= 1
    True

    ``print(report)`` shows all of it as a table.
    """
    facts = report_of(est)
    for name, model in [("est", est), ("baseline", baseline)]:
        if model is not None and is_classifier(model) == is_regressor(model):
            raise TypeError(
                f"Got {name}={type(model).__name__}(...), but expected a classifier or a regressor."
            )
    if baseline is not None and is_classifier(est) != is_classifier(baseline):
        raise TypeError(
            f"Got a {_kind(est)} and a baseline that is a {_kind(baseline)}, but expected two of "
            "the same kind."
        )
    compare = _classification if is_classifier(est) else _regression
    found = compare(est, X, y, baseline)
    return CompressionReport(**{**facts, **found})


def _classification(est: Any, X: Any, y: Any, baseline: Any) -> dict[str, Any]:
    y = np.asarray(y) if is_multilabel(y) else column_or_1d(y)
    predicted = _predictions(est, X, y)
    of_labels = _rows_of_labels(est, y)
    right = _all_right(predicted == y)
    recall = _recall(of_labels, predicted == y)
    found = {
        "n_rows": len(y),
        "accuracy": float(right.mean()),
        "support": {label: int(rows.sum()) for label, rows in of_labels.items()},
        "recall": recall,
    }
    if baseline is None:
        return found
    before = _predictions(baseline, X, y)
    was_right = _all_right(before == y)
    recall_before = _recall(of_labels, before == y)
    return {
        **found,
        "baseline_accuracy": float(was_right.mean()),
        "baseline_recall": recall_before,
        "recall_change": {label: value - recall_before[label] for label, value in recall.items()},
        "changed": float((~_all_right(predicted == before)).mean()),
        "newly_wrong": int((was_right & ~right).sum()),
        "newly_right": int((right & ~was_right).sum()),
    }


def _regression(est: Any, X: Any, y: Any, baseline: Any) -> dict[str, Any]:
    y = np.asarray(y, dtype=float)
    predicted = _predictions(est, X, y)
    found = {"n_rows": len(y), **_errors(y, predicted)}
    if baseline is None:
        return found
    before = _predictions(baseline, X, y)
    changes = np.abs(predicted - before)
    return {
        **found,
        **{f"baseline_{name}": value for name, value in _errors(y, before).items()},
        "mean_abs_change": float(changes.mean()),
        "max_abs_change": float(changes.max()),
    }


def _errors(y: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    return {
        "r2": float(r2_score(y, predicted)) if len(y) > 1 else float("nan"),
        "mae": float(mean_absolute_error(y, predicted)),
    }


def _predictions(model: Any, X: Any, y: np.ndarray) -> np.ndarray:
    """Return the predictions in the shape of `y`: (n,) and (n, 1) would make (n, n)."""
    predicted = np.asarray(model.predict(X))
    check_consistent_length(predicted, y)
    if not predicted.size or predicted.size != y.size:
        raise ValueError(
            f"{type(model).__name__} predicts the shape {predicted.shape}, but y has {y.shape}; "
            "expected the same number of values, at least one."
        )
    return predicted.reshape(y.shape)


def _labels(est: Any, y: np.ndarray) -> list[Any]:
    """Return the classes of the estimator, then the labels of `y` that it does not know."""
    known = list(np.asarray(getattr(est, "classes_", [])).tolist())
    return [*known, *(label for label in np.unique(y).tolist() if label not in known)]


def _rows_of_labels(est: Any, y: np.ndarray) -> dict[Any, np.ndarray]:
    """Return which rows have each label; of an indicator matrix the labels are its columns."""
    if y.ndim == 2:
        return {label: y[:, label] == 1 for label in range(y.shape[1])}
    return {label: y == label for label in _labels(est, y)}


def _all_right(right: np.ndarray) -> np.ndarray:
    """Return which rows are right: of several labels, all have to be."""
    return np.asarray(right.reshape(len(right), -1).all(axis=1))


def _recall(of_labels: dict[Any, np.ndarray], right: np.ndarray) -> dict[Any, float]:
    several = right.ndim == 2
    return {
        label: float((right[rows, label] if several else right[rows]).mean())
        if rows.any()
        else float("nan")
        for label, rows in of_labels.items()
    }


def _kind(model: Any) -> str:
    return "classifier" if is_classifier(model) else "regressor"
