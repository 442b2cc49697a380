"""The rows that a step may learn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from skorch import NeuralNet

from .._caching.fingerprint import fingerprint
from .._caching.store import Record, Store
from .._nets import (
    cast_rows,
    copy_net,
    key_of,
    n_rows,
    net_state_digest,
    some_rows,
    take_rows,
    training_rows,
    training_threads,
    with_plain_weights,
)
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
        Inputs as the net takes them, first axis = rows. Floats are cast to the dtype
        of its weights; whole numbers stay whole (token ids).
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

    def _training_rows(self, net: NeuralNet, n: int | None = None) -> np.ndarray:
        """Return up to n of the rows that have trained the net, from all over them.

        Rows that its `train_split` has kept for validation are left out. That is known where an
        estimator has trained it; a step used alone is given the rows that it may use.
        """
        split_seed = self._fold.split_seed
        if split_seed is None:
            rows = np.arange(len(self))
        else:
            rows = training_rows(net, self.X, self.y, split_seed)
        return rows if n is None else rows[some_rows(rows, n)]

    def _training_X(self, net: NeuralNet, n: int) -> Any:
        """Return the inputs of up to n of these rows."""
        return take_rows(self.X, self._training_rows(net, n))

    def _with_plain_weights(self, caller: str) -> TrainingData:
        """Return the same rows with a dense net whose weights are plain."""
        if self.dense_net is None:
            return self
        net = with_plain_weights(self.dense_net, caller)
        if net is self.dense_net:
            return self
        data = TrainingData(self.X, self.y, self.sample_weight, dense_net=net)
        data._fold = self._fold
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


def data_for_net(data: TrainingData, net: NeuralNet) -> TrainingData:
    """Return a caller's rows in the dtypes and shapes that a net computes in."""
    weight = data.sample_weight
    for name, value in (("X", data.X), ("sample_weight", weight)):
        if value is not None and n_rows(value) != len(data.y):
            raise ValueError(
                f"TrainingData has {n_rows(value)} rows of {name}, but y has {len(data.y)}. Give "
                "one of each for every row."
            )
    cast = TrainingData(*cast_rows(net, data.X, data.y), weight, dense_net=data.dense_net)
    cast._fold = data._fold
    return cast


def check_data(data: Any, caller: str) -> bool:
    """Return whether there are rows; raise if `data` is something else."""
    if data is not None and not isinstance(data, TrainingData):
        raise TypeError(
            f"{caller} takes the rows to learn from as `y`: a TrainingData or None. Got "
            f"{type(data).__name__} instead: write fit(net, TrainingData(X, y))."
        )
    return data is not None
