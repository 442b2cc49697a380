"""Several labels for each row: indicator matrices as targets, and outputs as indicator matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.multiclass import is_multilabel
from skorch import NeuralNet

from ..._nets import module_name


def is_indicator(y: Any) -> bool:
    """Whether targets have the form of an indicator matrix: two axes, at most two values."""
    return y is not None and bool(is_multilabel(y))


def indicator_matrix(y: Any) -> np.ndarray:
    """Return an indicator matrix, which may be sparse, as whole numbers 0 and 1."""
    dense = np.asarray(y.toarray() if issparse(y) else y)
    if not np.isin(dense, (0, 1)).all():
        raise ValueError(
            f"y has two axes and the values {np.unique(dense).tolist()!r}, but an indicator matrix "
            "of several labels has 0 and 1. Encode it with sklearn.preprocessing."
            "MultiLabelBinarizer, or pass one label for each row."
        )
    return dense.astype(np.int64)


def label_targets(y: np.ndarray, net: NeuralNet, output: np.ndarray | None) -> np.ndarray:
    """Check a net's output for one row (None: unknown); return an indicator matrix as it takes it.

    Parameters
    ----------
    y : array of shape (n_samples, n_labels)
        An indicator matrix.
    net : skorch.NeuralNet
        With the criterion and the split of the training.
    output : array or None
        Of its module.
    """
    n_labels = y.shape[1]
    if output is not None and output.shape != (1, n_labels):
        raise ValueError(
            f"The module {module_name(net)} puts out the shape {output.shape} for one row, but an "
            f"indicator matrix of {n_labels} labels needs (1, {n_labels}). Set its width, or let "
            "it follow the data: shape_params={'module__<name>': 'n_classes'}."
        )
    return y.astype(np.float32)


def label_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Return a net's probabilities of the labels, of shape (n_samples, n_labels).

    skorch stacks those of no and yes along the second axis.
    """
    return probabilities[:, 1] if probabilities.ndim == 3 else probabilities
