"""The net of a fold: made from the definition, tried out, trained once per key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state
from skorch import NeuralNet

from ..._caching.fingerprint import fingerprint, library_versions, seed_from
from ..._caching.store import Store
from ..._nets import (
    Lesson,
    Progress,
    check_net,
    fetch_trained,
    initialize,
    key_of,
    net_identity,
    predict_raw,
    seeded,
    train,
    training_threads,
)
from ...base import TrainingData
from ...base._report import first_row

# Raise it when the same net, rows and seed would train to other weights.
_TRAINING_RULES = 1


@dataclass(frozen=True)
class Dense:
    """A fold's net before compression, with the rows and seeds for what follows."""

    net: NeuralNet
    data: TrainingData
    trained: bool


@dataclass(frozen=True)
class Fold:
    """What a training starts from: the rows, and the seeds.

    `identity` names net and rows, without the seed; None where nothing is kept or
    where they cannot be named.
    """

    net: NeuralNet
    X: Any
    y: Any
    sample_weight: Any
    store: Store
    identity: str | None
    seed: int

    @property
    def split_seed(self) -> int:
        """Seed of `train_split`, the same in every stage."""
        return seed_from(self.seed, "split")

    def with_rows(self, X: Any, y: Any, sample_weight: Any) -> Fold:
        """Return the same net and seed with other rows."""
        identity = identity_of(self.store, net_identity, self.net, X, y, sample_weight)
        return replace(self, X=X, y=y, sample_weight=sample_weight, identity=identity)


@dataclass(frozen=True)
class Trial:
    """What a net must pass before it is trained; one that was kept has passed it.

    Parameters
    ----------
    shape : callable
        Called with the net and its output for one row (None: unknown); returns the
        targets in the shape that the net takes.
    check : callable
        Called with the net, or None where it cannot run untrained.
    """

    shape: Callable[[NeuralNet, np.ndarray | None], Any]
    check: Callable[[NeuralNet | None], None]


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
        with seeded(0, net.device):
            initialize(net)
            return net, predict_raw(net, first_row(X))
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):
        return None, None


def start_fold(
    net: NeuralNet,
    X: Any,
    y: Any,
    sample_weight: Any,
    *,
    store: Store,
    random_state: Any,
    digest: Any = net_identity,
) -> Fold:
    """Name what a training starts from and draw its seed.

    Parameters
    ----------
    net : skorch.NeuralNet
        The unfitted definition; it is not changed.
    X, y, sample_weight : data
        The fold's training rows; targets in the net's shape, unless a `Trial` finds it.
    store : Store
        Where trainings are kept.
    random_state : int, RandomState instance or None
        With a store, None is a seed derived from everything else.
    digest : callable
        Names the net.
    """
    identity = identity_of(store, digest, net, X, y, sample_weight)
    seed = _seed(random_state, identity)
    return Fold(net, X, y, sample_weight, store, identity, seed)


def train_once(
    fold: Fold,
    *,
    trial: Trial | None = None,
    progress: Progress | None = None,
    lesson: Lesson | None = None,
    stage: str = "dense",
) -> Dense:
    """Train the fold's net, or take it from the store.

    Parameters
    ----------
    fold : Fold
        Net, rows and seeds.
    trial : Trial or None
        None: the net has been tried out, and the targets of `fold` have its shape.
    progress : callable or None
        Called after each epoch.
    lesson : Lesson or None
        What a teacher has said about the rows. None: ordinary training.
    stage : str
        Name of the training in the history and of its entry in the store.
    """
    net, seed = fold.net, fold.seed
    key = key_of(fold.identity, seed) if fold.identity is not None else None
    if key is not None and lesson is not None:
        key = fingerprint(key, lesson.digest())

    def blank() -> NeuralNet:
        fresh = clone(net)
        with seeded(seed, net.device):
            return initialize(fresh)

    def trainer() -> NeuralNet:
        y, could_not_run = fold.y, False
        if trial is not None:
            untrained, output = try_out(net, fold.X)
            y, could_not_run = trial.shape(untrained or net, output), output is None
            trial.check(untrained)
        with explained(could_not_run, fold.X):
            return train(
                clone(net),
                fold.X,
                y,
                seed=seed,
                split_seed=fold.split_seed,
                sample_weight=fold.sample_weight,
                progress=progress,
                lesson=lesson,
                stage=stage,
            )

    dense, trained = fetch_trained(
        fold.store,
        key,
        stage,
        blank=blank,
        train=trainer,
        probe=first_row(fold.X),
        describe=f"{type(net).__name__} on {len(fold.y)} rows",
    )
    check_net(dense, "The training")
    if trial is not None:
        # What the steps train on: the same whether the net was trained now or read.
        fold = replace(fold, y=trial.shape(dense, predict_raw(dense, first_row(fold.X))))
        if not trained:
            trial.check(dense)
    return Dense(dense, data_for_steps(fold, dense, key), trained)


def data_for_steps(fold: Fold, dense: NeuralNet, key: str | None) -> TrainingData:
    """Return the fold's rows as the compression steps take them."""
    data = TrainingData(fold.X, fold.y, fold.sample_weight, dense_net=dense)
    # What cannot be named itself gives no name to what is made of it.
    store = fold.store if key is not None else Store(None)
    return data._with_fold(store=store, data_key=key, seed=fold.seed, split_seed=fold.split_seed)


def identity_of(store: Store, digest: Any, net: NeuralNet, *rows: Any) -> str | None:
    """Return the name of a net and its rows, None where nothing is kept."""
    if store.location is None:
        return None
    rules = (library_versions(), training_threads(), _TRAINING_RULES)
    return key_of(lambda: digest(net), rows, rules)


@contextmanager
def explained(could_not_run: bool, X: Any) -> Iterator[None]:
    """Add to torch's error what the net was given, if it could not process a single row."""
    try:
        yield
    except RuntimeError as error:
        if could_not_run:
            row = first_row(X)
            inputs = row if isinstance(row, dict) else {"X": row}
            given = ", ".join(f"{k} of shape {a.shape}, {a.dtype}" for k, a in inputs.items())
            error.add_note(
                f"The module could not process a single row: {given}. Set its widths on the "
                "net, or let them follow the data with shape_params={'module__<name>': "
                "'n_features'}; dtype=None keeps whole numbers."
            )
        raise


def _seed(random_state: Any, identity: str | None) -> int:
    if random_state is None and identity is not None:
        return seed_from(identity)
    return int(check_random_state(random_state).randint(2**31 - 1))
