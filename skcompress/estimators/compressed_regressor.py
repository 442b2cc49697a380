"""A regressor that trains a net on the fold and predicts with its compressed form."""

from __future__ import annotations

from typing import Any

from sklearn.callback import with_callbacks

from ._base import NetRegressorMixin, OptionalSampleWeight
from ._compression.base import BaseCompressed


class CompressedRegressor(NetRegressorMixin, BaseCompressed):
    """Train a skorch net, compress it, and predict numbers with the result.

    Use it wherever scikit-learn takes a regressor. `fit` trains the net on the
    rows it is given, runs the compression steps on the trained net, and keeps
    what they return. With `memory`, a sweep over compression settings trains
    each fold's net once, at any ``n_jobs``.

    Parameters
    ----------
    estimator : skorch.NeuralNet or FrozenEstimator
        The net to train and compress, unfitted; its module must be given as a
        class. ``FrozenEstimator(fitted_net)`` is compressed without training. Its
        module puts out one column for each target.
    compressor : transformer of nets, "passthrough" or None, default=None
        A compression step or a Pipeline of them. None and "passthrough" keep the dense
        net, which makes it a candidate of a sweep.
    memory : None, str, path-like or joblib.Memory, default=None
        Where trained nets are kept. Of a joblib.Memory the location is used.
    shape_params : dict of str to str, default=None
        Parameters of the net that follow the data: ``{"module__n_in":
        "n_features", "module__n_out": "n_outputs"}``.
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
        The net that predicts.
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
    n_features_in_ : int
        Length of the second axis of X. Not set for dict inputs.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, where X has string ones.

    See Also
    --------
    CompressedClassifier : The same for classification.

    Notes
    -----
    skorch's nets set ``train_split=ValidSplit(5)`` by default: a fifth of the rows
    given to `fit` is only used to score epochs. Targets are not scaled: put the
    estimator into scikit-learn's TransformedTargetRegressor for that.

    Parametrized weights (``weight_norm``, ``spectral_norm``, ``orthogonal``, a maximal
    norm by ``register_parametrization``) stay so without a compressor. Steps are given
    a copy of the net in which they are plain, see CompressedClassifier.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import make_regression
    >>> from skorch import NeuralNetRegressor
    >>> from skcompress import CompressedRegressor, MagnitudePruner
    >>> X, y = make_regression(n_features=4, n_informative=2, random_state=0)
    >>> net = NeuralNetRegressor(
    ...     torch.nn.Linear,
    ...     module__in_features=4,
    ...     module__out_features=1,
    ...     lr=0.1,
    ...     train_split=None,
    ...     verbose=0,
    ...     max_epochs=50,
    ... )
    >>> reg = CompressedRegressor(net, MagnitudePruner(sparsity=0.5), random_state=0)
    >>> bool(reg.fit(X, y).score(X, y) > 0.9)
    True
    """

    @OptionalSampleWeight
    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> CompressedRegressor:
        """Train the net, compress it, and keep the result.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or dict of arrays
            Training rows; more axes are allowed.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
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
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> CompressedRegressor:
        """Train the compressed net further; what was pruned and quantized stays so.

        An estimator that is not fitted yet is fitted as by `fit`. A fitted one, or one
        that was loaded, trains its net for the net's ``max_epochs`` more: weights that
        are zero stay zero, codes stay codes (their scales train), removed units stay
        removed. Optimizer and callbacks start afresh. The steps do not run again, and of
        a distilled student only the targets of y are learned. After an error the estimator is
        what it was.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or dict of arrays
            Rows as in `fit`, known or new ones.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets, as many as in `fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            As in `fit`.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._partial_fit(X, y, sample_weight)
