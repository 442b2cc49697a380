"""A classifier that trains a net on the fold and predicts with its compressed form."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.callback import with_callbacks
from sklearn.frozen import FrozenEstimator

from ._base import NetClassifierMixin, OptionalSampleWeight, classes_of_outputs, n_classes_of
from ._compression.base import BaseCompressed


class CompressedClassifier(NetClassifierMixin, BaseCompressed):
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
        logit with BCEWithLogitsLoss, for two classes, or one for each of several labels.
    compressor : transformer of nets, "passthrough" or None, default=None
        A compression step or a Pipeline of them. None and "passthrough" keep the dense
        net, which makes it a candidate of a sweep.
    memory : None, str, path-like or joblib.Memory, default=None
        Where trained nets are kept. Of a joblib.Memory the location is used.
    shape_params : dict of str to str, default=None
        Parameters of the net that follow the data: ``{"module__n_in":
        "n_features", "module__n_out": "n_classes"}``; of an indicator matrix
        "n_classes" is the number of labels.
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
        was in `memory`). Of a net with parametrized weights, once it is compressed, also
        ``parametrizations_removed``, see the notes. Counted and measured when it is
        first looked at.
    classes_ : ndarray of shape (n_classes,)
        Class labels; of an indicator matrix the numbers of its columns.
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
    changes that. A ``torch.autocast`` around `fit` or a prediction has no effect, as
    worker processes would lack it; one in the module's ``forward`` has.

    Parametrized weights (``weight_norm``, ``spectral_norm``, ``orthogonal``, a maximal
    norm by ``register_parametrization``) stay so without a compressor. Steps are given
    a copy of the net in which they are plain, with the values they have in evaluation
    mode: a FineTuner trains the plain weights, and the constraint does not hold any
    more. ``report_.parametrizations_removed`` names them. All counts, those of the
    dense net too, are of plain weights. Masks of ``torch.nn.utils.prune``, compiled and
    scripted layers are refused before the training.

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

    @OptionalSampleWeight
    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> CompressedClassifier:
        """Train the net, compress it, and keep the result.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or dict of arrays
            Training rows; more axes are allowed.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Class labels, of any type. Or an indicator matrix of 0 and 1, where a row may
            have several of n_labels labels, for nets with BCEWithLogitsLoss or BCELoss and
            one output for each label.
        sample_weight : array-like of shape (n_samples,), default=None
            Only for nets that use weights: `forward` names ``sample_weight``, or
            the net has :class:`SampleWeightMixin`.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._fit(X, y, sample_weight)

    @OptionalSampleWeight
    @with_callbacks
    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> CompressedClassifier:
        """Train the compressed net further; what was pruned and quantized stays so.

        An estimator that is not fitted yet is fitted as by `fit`. A fitted one, or one
        that was loaded, trains its net for the net's ``max_epochs`` more: weights that
        are zero stay zero, codes stay codes (their scales train), removed units stay
        removed. Optimizer and callbacks start afresh. The steps do not run again, and of
        a distilled student only the labels are learned. After an error the estimator is
        what it was.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or dict of arrays
            Rows as in `fit`, known or new ones.
        y : array-like of shape (n_samples,)
            Class labels.
        classes : array-like of shape (n_classes,), default=None
            All classes, for a first call whose y lacks some. None: those of y. Later
            calls need none.
        sample_weight : array-like of shape (n_samples,), default=None
            As in `fit`.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._partial_fit(X, y, sample_weight, classes)

    def _find_classes(self, X: Any, y: np.ndarray) -> np.ndarray:
        if isinstance(self.estimator, FrozenEstimator):
            return classes_of_outputs(n_classes_of(self.estimator.estimator, X), y)
        return super()._find_classes(X, y)
