"""The rows that a step may learn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from skorch import NeuralNet

from .._caching.fingerprint import fingerprint
from .._caching.store import Record, Store
from .._nets import copy_net, key_of, net_state_digest, training_threads
from ._own_weights import examine_
from ._report import DenseFacts

_NO_STORE = Store(None)


@dataclass(frozen=True)
class _Fold:
    """What an estimator tells its steps besides the rows."""

    store: Store = _NO_STORE
    data_key: str | None = None
    seed: int | None = None
    split_seed: int | None = None


class TrainingData:
    """The rows a compression step may learn from, passed as a Pipeline's `y`.

    The estimators make it from the training rows of the fold. Make one yourself
    to run a step that learns (fine-tuning, gradual pruning) on a fitted net.

    Parameters
    ----------
    X : array or dict of arrays
        Inputs as the net takes them, first axis = rows.
    y : array of shape (n_samples,) or (n_samples, n_outputs)
        Targets as the net takes them (class numbers for a classifier).
    sample_weight : array of shape (n_samples,), default=None
        For nets that take weights.
    dense_net : skorch.NeuralNet, default=None
        The fitted net before compression: teacher of ``FineTuner(alpha > 0)``
        and reference of reports. None: the net a step is given.

    Examples
    --------
    >>> import numpy as np
    >>> from skcompress import TrainingData
    >>> TrainingData(np.zeros((4, 2), dtype="float32"), np.array([0, 1, 0, 1]))
    TrainingData(4 rows)
    """

    def __init__(
        self, X: Any, y: Any, sample_weight: Any = None, *, dense_net: NeuralNet | None = None
    ) -> None:
        self.X = X
        self.y = y
        self.sample_weight = sample_weight
        self.dense_net = dense_net
        self._fold = _Fold()
        self._facts: DenseFacts | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.y)

    def __repr__(self) -> str:
        return f"TrainingData({len(self)} rows)"

    def _with_fold(self, **changes: Any) -> TrainingData:
        """Return the same rows with other facts about the fold."""
        data = TrainingData(self.X, self.y, self.sample_weight, dense_net=self.dense_net)
        data._fold = replace(self._fold, **changes)
        return data

    @property
    def _of_estimator(self) -> bool:
        """Whether an estimator has made this, and the dense net: then nobody else has them."""
        return self._fold.seed is not None

    def _dense_facts(self) -> DenseFacts:
        """What reports say of the dense net, the same object for all steps."""
        if self._facts is None:
            own = self._of_estimator
            net = self.dense_net if own else examine_(copy_net(self.dense_net), self.X)
            self._facts = DenseFacts(net, self.X)
        return self._facts

    def _key(self) -> str:
        """Digest of the rows and of the dense net they have trained."""
        if self._fold.data_key is not None:
            return self._fold.data_key
        return fingerprint(self.X, self.y, self.sample_weight)

    def _fetch(
        self, kind: str, net: NeuralNet, compute: Callable[[], Record], *facts: Any
    ) -> Record:
        """Return what is computed of a net, these rows and `facts`; kept in the store."""
        store = self._fold.store
        if store.location is None:
            return compute()
        key = key_of(lambda: net_state_digest(net), self._key(), training_threads(), *facts)
        return store.fetch(key, kind, compute)[0]


def check_data(data: Any, caller: str) -> bool:
    """Return whether there are rows; raise if `data` is something else."""
    if data is not None and not isinstance(data, TrainingData):
        raise TypeError(
            f"{caller} takes the rows to learn from as `y`: a TrainingData or None. Got "
            f"{type(data).__name__} instead: write fit(net, TrainingData(X, y))."
        )
    return data is not None
