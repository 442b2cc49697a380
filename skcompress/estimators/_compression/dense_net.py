"""The dense net that a compressing estimator starts from: trained, frozen, or of an estimator."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Bunch
from skorch import NeuralNet

from ..._caching.store import Store
from ..._nets import (
    Progress,
    copy_net,
    first_row,
    max_epochs_of,
    net_state_digest,
    output_for_row,
    predict_raw,
)
from .._base import (
    NestableEstimator,
    TrainedNet,
    TrainingSpec,
    data_for_steps,
    explain_shape_errors,
    run_untrained,
    train_net,
    train_once,
    training_spec,
    training_task,
)

# Fitted attributes of an estimator that the estimator inside it needs as well.
_ATTRIBUTES_OF_ROWS = ("classes_", "_target_shape", "n_features_in_", "feature_names_in_")


def dense_net(
    estimator: Any, rows: Bunch, *, store: Store, context: Any, check: Any
) -> tuple[TrainedNet, dict[str, Any]]:
    """Return the dense net of a compressing estimator, and facts about it for the report.

    Parameters
    ----------
    estimator : BaseCompressed
        Its `estimator` parameter decides the net.
    rows : Bunch
        ``X``, ``y``, ``sample_weight`` as nets take them, ``n_outputs``, and ``given``, X as it
        came.
    store : Store
        Where trainings are kept.
    context : CallbackContext
        Of the estimator's fit.
    check : callable
        Called with the untrained net, or None, before any training; with the trained net
        if it was in the store.
    """
    if isinstance(estimator.estimator, FrozenEstimator):
        return _copy_of_frozen(estimator, rows, store, context, check), {}
    if isinstance(estimator.estimator, NestableEstimator):
        return _fit_nested(estimator, rows, store, context, check)
    net = estimator._sized_clone(estimator.estimator, rows.X, rows.n_outputs)
    options = {"store": store, "random_state": estimator.random_state}
    task = training_task(context, "train", estimator, rows.X, rows.y, n_epochs=max_epochs_of(net))
    with task as progress:
        spec = training_spec(net, rows.X, rows.y, rows.sample_weight, **options)
        return _train(estimator, spec, progress, check), {}


def _train(estimator: Any, spec: TrainingSpec, progress: Progress, check: Any) -> TrainedNet:
    """Return the net trained on the labels of `spec`, or read from the store."""
    net, X, labels = spec.net, spec.X, spec.y

    def train_checked() -> NeuralNet:
        # Only here: a net in the store has passed these checks.
        untrained, output = run_untrained(net, X)
        y = estimator._targets_for_net(labels, untrained or net, output)
        check(untrained)
        with explain_shape_errors(output is None, X):
            return train_net(replace(spec, y=y), stage="dense", progress=progress)

    key = spec.key()
    trained, trained_now = train_once(spec, key, "dense", train_checked)
    # The targets of the steps: the same whether the net was trained now or read.
    y = estimator._targets_for_net(labels, trained, predict_raw(trained, first_row(X)))
    if not trained_now:
        check(trained)
    data = data_for_steps(replace(spec, y=y), trained, key)
    return TrainedNet(trained, data, trained_now)


def _copy_of_frozen(
    estimator: Any, rows: Bunch, store: Store, context: Any, check: Any
) -> TrainedNet:
    """Return a copy of a net that the user has trained, with the rows for the steps."""
    warnings.warn(
        "FrozenEstimator: the net was trained outside of this fit. If its training rows "
        "are among the rows it is scored on, the scores are too good.",
        UserWarning,
        stacklevel=5,
    )
    frozen: NeuralNet = estimator.estimator.estimator
    y = estimator._targets_for_net(rows.y, frozen, output_for_row(frozen, rows.X))
    check(frozen)
    with training_task(context, "train", estimator, rows.X, y):
        net = copy_net(frozen)
        options = {"store": store, "random_state": estimator.random_state}
        spec = training_spec(net, rows.X, y, rows.sample_weight, digest=net_state_digest, **options)
        return TrainedNet(net, data_for_steps(spec, net, spec.identity), False)


def _fit_nested(
    estimator: Any, rows: Bunch, store: Store, context: Any, check: Any
) -> tuple[TrainedNet, dict[str, Any]]:
    """Return the net that the estimator inside fits to the same rows.

    Parameters that are not set there (memory, seed, sizes) are those of the outer one.
    """
    nested = clone(estimator.estimator)
    for name in ("random_state", "shape_params"):
        if getattr(nested, name) is None:
            setattr(nested, name, getattr(estimator, name))
    for name in _ATTRIBUTES_OF_ROWS:
        if name in vars(estimator):
            setattr(nested, name, getattr(estimator, name))
    own = Store.from_memory(nested.memory)
    return nested._fit_net(
        rows.X,
        np.asarray(rows.y),
        rows.sample_weight,
        rows.n_outputs,
        store=store if own.location is None else own,
        context=context,
        check=check,
        given=rows.given,
    )
