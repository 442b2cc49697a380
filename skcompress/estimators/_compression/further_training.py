"""More training of a compressed net, on rows that may be new: `partial_fit`."""

from __future__ import annotations

from typing import Any

from skorch import NeuralNet

from ..._caching.fingerprint import seed_from
from ..._caching.store import Store
from ..._nets import (
    check_net,
    copy_net,
    history_rows,
    max_epochs_of,
    net_state_digest,
    output_for_row,
    train,
)
from .._base import training_spec, training_task

_STAGE = "partial_fit"


def train_further(
    estimator: Any, X: Any, y: Any, sample_weight: Any, *, store: Store, context: Any
) -> NeuralNet:
    """Return a copy of an estimator's net that was trained for its `max_epochs` more.

    Zeros stay zero and codes stay codes. The split of the rows is that of `fit` where rows
    and seed are; shuffling and dropout differ from call to call.

    Parameters
    ----------
    estimator : BaseCompressed
        Fitted; it is not changed.
    X, y, sample_weight : data
        Rows as nets take them; class numbers or values.
    store : Store
        With it, and without a `random_state`, the seed is derived from net and rows.
    context : CallbackContext
        Of this call.
    """
    net = estimator.net_
    y = estimator._targets_for_net(y, net, output_for_row(net, X))
    options = {"store": store, "random_state": estimator.random_state}
    spec = training_spec(net, X, y, sample_weight, digest=net_state_digest, **options)
    task = training_task(context, "train", estimator, X, y, n_epochs=max_epochs_of(net))
    with task as progress:
        trained = train(
            copy_net(net),
            X,
            y,
            seed=seed_from(spec.seed, _STAGE, len(history_rows(net))),
            split_seed=spec.split_seed,
            sample_weight=sample_weight,
            keep_zeros=True,
            progress=progress,
            stage=_STAGE,
        )
    return check_net(trained, "The training")
