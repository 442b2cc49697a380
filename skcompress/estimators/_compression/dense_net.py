"""The dense net that a compressing estimator starts from: trained, frozen, or made by another."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Bunch
from skorch import NeuralNet

from ..._caching.store import Store
from ..._nets import copy_net, max_epochs_of, net_state_digest, predict_raw
from ...base._report import first_row
from .._base import (
    Dense,
    NetMaker,
    Trial,
    blank_net,
    data_for_steps,
    start_fold,
    task_of,
    train_once,
)

# What an estimator knows of the rows that a net maker inside it has to know, too.
_FACTS = ("classes_", "_target_shape", "n_features_in_", "feature_names_in_")


def dense_net(
    estimator: Any, rows: Bunch, *, store: Store, context: Any, check: Any
) -> tuple[Dense, dict[str, Any]]:
    """Return the dense net of a fold, and facts about it for the report.

    Parameters
    ----------
    estimator : BaseCompressed
        Whose `estimator` parameter says what the net is.
    rows : Bunch
        ``X``, ``y``, ``sample_weight`` as nets take them, and ``n_outputs``.
    store : Store
        Where trainings are kept.
    context : CallbackContext
        Of the estimator's fit.
    check : callable
        Called with the untrained net, or None, before any training; with the trained net
        where it was kept.
    """
    if isinstance(estimator.estimator, FrozenEstimator):
        return _frozen(estimator, rows, store, context, check), {}
    if isinstance(estimator.estimator, NetMaker):
        return _made(estimator, rows, store, context, check)
    net = blank_net(estimator.estimator, estimator._sizes_of(rows.X, rows.n_outputs))
    trial = Trial(partial(estimator._fit_targets, rows.y), check)
    options = {"store": store, "random_state": estimator.random_state}
    with task_of(
        context, "train", estimator, rows.X, rows.y, n_epochs=max_epochs_of(net)
    ) as progress:
        fold = start_fold(net, rows.X, rows.y, rows.sample_weight, **options)
        return train_once(fold, trial=trial, progress=progress), {}


def _frozen(estimator: Any, rows: Bunch, store: Store, context: Any, check: Any) -> Dense:
    """Return a copy of a net that the user has trained, with the rows for the steps."""
    warnings.warn(
        "FrozenEstimator: the net was trained outside of this fit. If its training rows "
        "are among the rows it is scored on, the scores are too good.",
        UserWarning,
        stacklevel=5,
    )
    frozen: NeuralNet = estimator.estimator.estimator
    y = estimator._fit_targets(rows.y, frozen, predict_raw(frozen, first_row(rows.X)))
    check(frozen)
    with task_of(context, "train", estimator, rows.X, y):
        net = copy_net(frozen)
        options = {"store": store, "random_state": estimator.random_state}
        fold = start_fold(net, rows.X, y, rows.sample_weight, digest=net_state_digest, **options)
        return Dense(net, data_for_steps(fold, net, fold.identity), False)


def _made(
    estimator: Any, rows: Bunch, store: Store, context: Any, check: Any
) -> tuple[Dense, dict[str, Any]]:
    """Return the net that another estimator makes of the same rows.

    What is not set there (memory, seed, sizes) is taken from the compressing one.
    """
    maker = clone(estimator.estimator)
    for name in ("random_state", "shape_params"):
        if getattr(maker, name) is None:
            setattr(maker, name, getattr(estimator, name))
    for name in _FACTS:
        if name in vars(estimator):
            setattr(maker, name, getattr(estimator, name))
    own = Store.from_memory(maker.memory)
    return maker._make_net(
        rows.X,
        np.asarray(rows.y),
        rows.sample_weight,
        rows.n_outputs,
        store=store if own.location is None else own,
        context=context,
        check=check,
    )
