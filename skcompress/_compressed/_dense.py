"""The dense net of a fold: made from the definition, checked, trained once per key."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state
from skorch import NeuralNet

from .._fingerprint import seed_from
from .._nets import (
    Progress,
    check_net,
    copy_net,
    fetch_trained,
    key_of,
    net_identity,
    net_state_digest,
    predict_raw,
    quiet,
    seeded,
    train,
    training_threads,
)
from .._report import first_row
from .._store import Store
from ..base import TrainingData

# Raise it when the same net, rows and seed would train to other weights.
_TRAINING_RULES = 1
_LIBRARIES = ("torch", "skorch", "numpy")


@dataclass(frozen=True)
class Dense:
    """A fold's dense net with the rows and seeds for what follows."""

    net: NeuralNet
    data: TrainingData
    trained: bool


def blank_net(estimator: NeuralNet, sizes: Mapping[str, int]) -> NeuralNet:
    """Return an unfitted clone with the sizes that the data asks for."""
    net = clone(estimator)
    return net.set_params(**sizes) if sizes else net


def try_out(net: NeuralNet, X: Any) -> tuple[NeuralNet | None, np.ndarray | None]:
    """Return an untrained net and its output for one row, or None where it has none yet.

    A net whose size is set by a callback at the start of the training cannot run
    before it; then there is nothing to check.
    """
    net = clone(net)
    try:
        with seeded(0, net.device), quiet(net):
            net.initialize()
            return net, predict_raw(net, first_row(X))
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):
        return None, None


def train_dense(
    net: NeuralNet,
    X: Any,
    y: Any,
    sample_weight: Any,
    *,
    store: Store,
    random_state: Any,
    progress: Progress | None,
) -> Dense:
    """Train the fold's dense net, or take it from the store.

    Parameters
    ----------
    net : skorch.NeuralNet
        The unfitted definition; it is not changed.
    X, y, sample_weight : data
        The fold's training rows, as the net takes them.
    store : Store
        Where trainings are kept.
    random_state : int, RandomState instance or None
        With a store, None is a seed derived from everything else.
    progress : callable or None
        Called after each epoch.
    """
    identity = _identity(store, net_identity, net, X, y, sample_weight)
    seed = _seed(random_state, identity)
    split_seed = seed_from(seed, "split")
    key = key_of(identity, seed) if identity is not None else None

    def blank() -> NeuralNet:
        fresh = clone(net)
        with seeded(seed, net.device), quiet(fresh):
            return fresh.initialize()

    def trainer() -> NeuralNet:
        return train(
            clone(net),
            X,
            y,
            seed=seed,
            split_seed=split_seed,
            sample_weight=sample_weight,
            progress=progress,
            stage="dense",
        )

    dense, trained = fetch_trained(
        store,
        key,
        "dense",
        blank=blank,
        train=trainer,
        probe=first_row(X),
        describe=f"{type(net).__name__} on {len(y)} rows",
    )
    check_net(dense, "The training")
    return Dense(dense, _data(dense, X, y, sample_weight, store, key, seed, split_seed), trained)


def take_frozen(
    frozen: FrozenEstimator, X: Any, y: Any, sample_weight: Any, *, store: Store, random_state: Any
) -> Dense:
    """Return a copy of a net that the user has trained, with the rows for the steps."""
    net = copy_net(frozen.estimator)
    identity = _identity(store, net_state_digest, net, X, y, sample_weight)
    seed = _seed(random_state, identity)
    split_seed = seed_from(seed, "split")
    return Dense(net, _data(net, X, y, sample_weight, store, identity, seed, split_seed), False)


def _data(
    net: NeuralNet,
    X: Any,
    y: Any,
    sample_weight: Any,
    store: Store,
    key: str | None,
    seed: int,
    split_seed: int,
) -> TrainingData:
    data = TrainingData(X, y, sample_weight, dense_net=net)
    # What cannot be named itself gives no name to what is made of it.
    store = store if key is not None else Store(None)
    return data._with_fold(store=store, data_key=key, seed=seed, split_seed=split_seed)


def _identity(store: Store, digest: Any, net: NeuralNet, *rows: Any) -> str | None:
    if store.location is None:
        return None
    versions = [importlib.metadata.version(name) for name in _LIBRARIES]
    return key_of(lambda: digest(net), rows, versions, training_threads(), _TRAINING_RULES)


def _seed(random_state: Any, identity: str | None) -> int:
    if random_state is None and identity is not None:
        return seed_from(identity)
    return int(check_random_state(random_state).randint(2**31 - 1))
