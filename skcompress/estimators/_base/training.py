"""The training of an estimator's net: seed and key, a run of the untrained net, once per key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    ROW_ERRORS,
    Progress,
    SoftTargets,
    check_layers,
    check_net,
    fetch_trained,
    first_row,
    has_final_sizes,
    initialize,
    key_of,
    net_identity,
    output_for_row,
    seeded,
    train,
    training_threads,
)
from ...base import TrainingData
from ...base._own_weights import examine_
from ...base._training import epoch_tick

# Raise it when the same net, rows and seed would train to other weights.
_TRAINING_RULES = 1


@dataclass(frozen=True)
class TrainedNet:
    """A trained net, and the rows and seeds for the steps that follow.

    `trained_now` is False if the net was in the store, or was trained outside.
    """

    net: NeuralNet
    data: TrainingData
    trained_now: bool


@dataclass(frozen=True)
class TrainingSpec:
    """The unfitted net of a training, its rows, seeds and store.

    `identity` is the digest of net and rows, without the seed; None if nothing is
    kept or if they have no digest.
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

    def key(self, soft_targets: SoftTargets | None = None) -> str | None:
        """Return the key of the training in the store; None: it is not kept."""
        key = None if self.identity is None else key_of(self.identity, self.seed)
        if key is None or soft_targets is None:
            return key
        return fingerprint(key, soft_targets.digest())

    def with_rows(self, X: Any, y: Any, sample_weight: Any) -> TrainingSpec:
        """Return the same net and seed with other rows."""
        identity = training_identity(self.store, net_identity, self.net, X, y, sample_weight)
        return replace(self, X=X, y=y, sample_weight=sample_weight, identity=identity)


def run_untrained(net: NeuralNet, X: Any) -> tuple[NeuralNet | None, np.ndarray | None]:
    """Return an untrained net and its output for one row, or None twice if it cannot run.

    A net whose size is set by a callback at the start of the training cannot run
    before it; then nothing is checked. Any other net that cannot run is refused.

    Raises
    ------
    ValueError
        If the net cannot run, or has layers that no step could change.
    """
    net = clone(net)
    with seeded(0, net.device):
        try:
            initialize(net)
        except ROW_ERRORS:
            return None, None
        check_layers(net, "The training")
        try:
            return net, output_for_row(net, X)
        except ValueError:
            if has_final_sizes(net):
                raise
            return None, None


def training_spec(
    net: NeuralNet,
    X: Any,
    y: Any,
    sample_weight: Any,
    *,
    store: Store,
    random_state: Any,
    digest: Any = net_identity,
) -> TrainingSpec:
    """Return the specification of a training: digest what it starts from and draw its seed.

    Parameters
    ----------
    net : skorch.NeuralNet
        The unfitted net; it is not changed.
    X, y, sample_weight : data
        The training rows; targets as given or in the net's shape.
    store : Store
        Where trainings are kept.
    random_state : int, RandomState instance or None
        With a store, None is a seed derived from everything else.
    digest : callable
        Returns the digest of the net.
    """
    identity = training_identity(store, digest, net, X, y, sample_weight)
    seed = _draw_seed(random_state, identity)
    return TrainingSpec(net, X, y, sample_weight, store, identity, seed)


def train_net(
    spec: TrainingSpec,
    *,
    stage: str,
    progress: Progress | None = None,
    soft_targets: SoftTargets | None = None,
) -> NeuralNet:
    """Return a trained clone of the net; the targets of `spec` are in the net's shape.

    Parameters
    ----------
    spec : TrainingSpec
        Net, rows and seeds.
    stage : str
        Name of the training in the history.
    progress : callable or None
        Called after each epoch.
    soft_targets : SoftTargets or None
        Targets of a teacher for the rows. None: ordinary training.
    """
    return train(
        clone(spec.net),
        spec.X,
        spec.y,
        seed=spec.seed,
        split_seed=spec.split_seed,
        sample_weight=spec.sample_weight,
        progress=progress,
        soft_targets=soft_targets,
        stage=stage,
    )


def train_once(
    spec: TrainingSpec, key: str | None, stage: str, train_now: Callable[[], NeuralNet]
) -> tuple[NeuralNet, bool]:
    """Return the trained net, from the store or else of `train_now`, and whether it is new.

    Parameters
    ----------
    spec : TrainingSpec
        Net, rows, seeds and store.
    key : str or None
        Of `spec`. None: the net is trained and not kept.
    stage : str
        Name of its entry in the store.
    train_now : callable
        Returns the trained net.
    """

    def blank() -> NeuralNet:
        fresh = clone(spec.net)
        with seeded(spec.seed, fresh.device):
            return initialize(fresh)

    net, trained_now = fetch_trained(
        spec.store,
        key,
        stage,
        blank=blank,
        train=train_now,
        probe=first_row(spec.X),
        describe=f"{type(spec.net).__name__} on {len(spec.y)} rows",
    )
    return check_net(net, "The training"), trained_now


def data_for_steps(spec: TrainingSpec, net: NeuralNet, key: str | None) -> TrainingData:
    """Return the training rows as the compression steps take them; `net` is one of ours."""
    examine_(net, spec.X)
    data = TrainingData(spec.X, spec.y, spec.sample_weight, dense_net=net)
    # A net without a key gives no key to the trainings that start from it.
    store = spec.store if key is not None else Store(None)
    return data._with_fold(store=store, data_key=key, seed=spec.seed, split_seed=spec.split_seed)


def training_identity(store: Store, digest: Any, net: NeuralNet, *rows: Any) -> str | None:
    """Return the digest of a net and its rows, None if nothing is kept."""
    if store.location is None:
        return None
    rules = (library_versions(), training_threads(), _TRAINING_RULES)
    return key_of(lambda: digest(net), rows, rules)


@contextmanager
def training_task(
    context: Any, name: str, estimator: Any, X: Any = None, y: Any = None, n_epochs: int = 0
) -> Iterator[Any]:
    """Report a training to scikit-learn's callbacks; yield the callable for each epoch."""
    task = context.subcontext(task_name=name, max_subtasks=n_epochs)
    task.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
    yield epoch_tick(task, estimator)
    task.call_on_fit_task_end(estimator=estimator, X=X, y=y)


@contextmanager
def explain_shape_errors(could_not_run: bool, X: Any) -> Iterator[None]:
    """Add the shapes of the inputs to torch's error, if the net could not process a single row."""
    try:
        yield
    except IndexError as error:
        if "out of range in self" in str(error):  # of torch's Embedding
            error.add_note("Token ids must be smaller than the `num_embeddings` of the module.")
        raise
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


def _draw_seed(random_state: Any, identity: str | None) -> int:
    if random_state is None and identity is not None:
        return seed_from(identity)
    return int(check_random_state(random_state).randint(2**31 - 1))
