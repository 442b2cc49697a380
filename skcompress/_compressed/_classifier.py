"""A classifier that trains a net on the fold and predicts with its compressed form."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.callback import with_callbacks
from sklearn.frozen import FrozenEstimator
from sklearn.utils.multiclass import check_classification_targets
from skorch import NeuralNet

from .._nets import check_probabilities, is_binary, predict_raw
from .._report import first_row
from ._base import BaseCompressed
from ._data import check_X_y
from ._signature import OptionalSampleWeight


class CompressedClassifier(ClassifierMixin, BaseCompressed):
    """Train a skorch net, compress it, and classify with the result.

    Use it wherever scikit-learn takes a classifier. `fit` trains the net on the
    rows it is given, runs the compression steps on the trained net, and keeps
    what they return. With `memory`, a sweep over compression settings trains
    each fold's net once, at any ``n_jobs``.

    Parameters
    ----------
    estimator : skorch.NeuralNet or FrozenEstimator
        The net to train and compress, unfitted; its module must be given as a
        class. ``FrozenEstimator(fitted_net)`` is compressed without training. Nets
        end in logits with CrossEntropyLoss, in probabilities with NLLLoss, in one
        logit with BCEWithLogitsLoss.
    compressor : transformer of nets, default=None
        A compression step or a Pipeline of them. None keeps the dense net, which
        makes it a candidate of a sweep.
    memory : None, str, path-like or joblib.Memory, default=None
        Where trained nets are kept. Of a joblib.Memory the location is used.
    shape_params : dict of str to str, default=None
        Parameters of the net that follow the data: ``{"module__n_in":
        "n_features", "module__n_out": "n_classes"}``.
    dtype : {"float32", None}, default="float32"
        What inputs are cast to. None keeps whole numbers, as int64 (token ids);
        other numbers become float32.
    random_state : int, RandomState instance or None, default=None
        Seeds initialization, shuffling, dropout and the steps. None: drawn from
        numpy's global RNG; with `memory`, derived from the data and the net
        instead, so it then behaves as if fixed.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The net that predicts. Its targets are class numbers, see `classes_`.
    compressor_ : transformer of nets or None
        The fitted compressor.
    report_ : Bunch
        ``n_params``, ``n_nonzero``, ``sparsity``, ``macs`` and their ``dense_``
        twins, ``nbytes`` (size of the file that :func:`skcompress.io.save` writes of
        this estimator; None if it cannot be saved) and ``dense_nbytes`` (the same if
        its net were the dense one), ``history`` (a dict for each epoch of each
        stage), ``dense_trained`` (whether this fit trained the dense net; False: it
        was in `memory`).
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    n_features_in_ : int
        Length of the second axis of X. Not set for dict inputs.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, where X has string ones.

    See Also
    --------
    CompressedRegressor : The same for regression.

    Notes
    -----
    skorch's classifiers set ``train_split=ValidSplit(5)`` by default: a fifth of
    the rows given to `fit` is only used to score epochs. Set ``train_split=None``
    to train on all of them. Training runs on one torch thread, so that weights do
    not depend on ``n_jobs``; the environment variable ``SKCOMPRESS_NUM_THREADS``
    changes that.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from skorch import NeuralNetClassifier
    >>> from skcompress import CompressedClassifier, MagnitudePruner
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(
    ...     torch.nn.Linear,
    ...     module__in_features=4,
    ...     module__out_features=3,
    ...     criterion=torch.nn.CrossEntropyLoss,
    ...     train_split=None,
    ...     verbose=0,
    ... )
    >>> clf = CompressedClassifier(net, MagnitudePruner(sparsity=0.5), random_state=0)
    >>> clf.fit(X, y).report_.sparsity
    0.5
    >>> clf.predict(X[:2]).shape
    (2,)
    """

    _sizes = ("n_features", "n_classes")

    @OptionalSampleWeight
    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> CompressedClassifier:
        """Train the net, compress it, and keep the result.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or dict of arrays
            Training rows; more axes are allowed.
        y : array-like of shape (n_samples,)
            Class labels, of any type.
        sample_weight : array-like of shape (n_samples,), default=None
            Only for nets that use weights: `forward` names ``sample_weight``, or
            the net has :class:`SampleWeightMixin`.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._fit(X, y, sample_weight)

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
        X = self._checked(X)
        if self._predictor.has_own_predict:
            return self.classes_[np.asarray(self.net_.predict(X)).astype(int)]
        probabilities = self._probabilities(X)
        threshold = getattr(self.net_, "threshold", None) if is_binary(self.net_) else None
        if threshold is not None and len(self.classes_) == 2:
            return self.classes_[(probabilities[:, 1] > threshold).astype(int)]
        return self.classes_[probabilities.argmax(axis=1)]

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
        return self._probabilities(self._checked(X))

    def _probabilities(self, X: Any) -> np.ndarray:
        probabilities = self._predictor.probabilities(X)
        n_classes = len(self.classes_)
        if probabilities.shape[1] == n_classes:
            return probabilities
        # Outputs that no training label had: what they say is not about `classes_`.
        known = probabilities[:, :n_classes]
        return known / np.maximum(known.sum(axis=1, keepdims=True), np.finfo(known.dtype).tiny)

    def _check_targets(self, X: Any, y: Any) -> tuple[Any, np.ndarray, int]:
        X, y = check_X_y(self, X, y, self.dtype, multi_output=False)
        check_classification_targets(y)
        if isinstance(self.estimator, FrozenEstimator):
            self.classes_ = _classes_of_frozen(self.estimator.estimator, X, y)
        else:
            self.classes_ = np.unique(y)
        return X, np.searchsorted(self.classes_, y), len(self.classes_)

    def _fit_targets(self, y: np.ndarray, net: NeuralNet, output: np.ndarray | None) -> np.ndarray:
        n_classes = len(self.classes_)
        if is_binary(net):
            if n_classes > 2:
                raise ValueError(
                    f"{type(net).__name__} with {net.criterion!r} tells 2 classes apart, but y has "
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
            f"The module {getattr(net.module, '__name__', net.module)} puts out the shape "
            f"{output.shape} for one row, but a classifier of {n_classes} classes needs (1, "
            f"{n_classes}). Set its width, or let it follow the data: "
            "shape_params={'module__<name>': 'n_classes'}."
        )
    check_probabilities(net, output)


def _classes_of_frozen(net: NeuralNet, X: Any, y: np.ndarray) -> np.ndarray:
    """Return the labels of a trained net's outputs.

    To skorch a label is the number of an output, so whole numbers that can be
    such numbers are; other labels are taken in sorted order, if their count fits.
    """
    n_outputs = 2 if is_binary(net) else predict_raw(net, first_row(X)).shape[-1]
    classes = np.unique(y)
    if y.dtype.kind in "iu" and classes[0] >= 0 and classes[-1] < n_outputs:
        return np.arange(n_outputs)
    if len(classes) == n_outputs:
        return classes
    raise ValueError(
        f"The net in FrozenEstimator has {n_outputs} outputs, but y has the {len(classes)} labels "
        f"{classes!r}, so they cannot be matched. Number the classes 0 to {n_outputs - 1}."
    )
