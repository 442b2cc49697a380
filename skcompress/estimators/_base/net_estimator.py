"""What all estimators around a net share: parameters, predictions' inputs, reports, pickles."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.callback import CallbackSupportMixin
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet

from ..._caching.store import Store
from ..._file import measure
from ..._nets import FrozenNet, Predictor, history_rows, is_fitted, n_rows
from ..._sklearn import StrOptions, check_sample_weight
from ...base._report import DenseFacts, Reporting, compare, first_row
from ...base._training import epoch_tick
from .rows import check_same_kind, check_X, kinds_of, ready, size_of_rows
from .training import Dense


class _Unmeasured(NamedTuple):
    """What the first look at a report needs besides the net."""

    dense_net: NeuralNet
    dense_facts: DenseFacts


class BaseNetEstimator(
    Reporting,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    CallbackSupportMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """Base of the estimators; a family says how the net comes about, a mixin what targets are."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "memory": "no_validation",  # Store.from_memory checks it
        "shape_params": [dict, None],
        "dtype": [StrOptions({"float32"}), None],
        "random_state": ["random_state"],
    }
    # What `shape_params` may refer to.
    _sizes: ClassVar[tuple[str, ...]]
    # The parameter that holds the net, or what makes it, and others that may hold nets.
    _net_param: ClassVar[str]
    _other_nets: ClassVar[tuple[str, ...]] = ()

    memory: Any
    shape_params: dict[str, str] | None
    dtype: str | None
    random_state: Any

    @abstractmethod
    def _check_targets(self, X: Any, y: Any) -> tuple[Any, np.ndarray, int]:
        """Return X and y as nets take them, and how many outputs that makes."""

    @abstractmethod
    def _fit_targets(self, y: np.ndarray, net: NeuralNet, output: np.ndarray | None) -> np.ndarray:
        """Check the net's output for one row (None: unknown) and return y in its shape."""

    @property
    def _dtype(self) -> str | None:
        """What inputs are cast to."""
        return self.dtype

    def _check_shape_params(self) -> None:
        for param, size in (self.shape_params or {}).items():
            if size not in self._sizes:
                raise ValueError(
                    f"The 'shape_params' parameter of {type(self).__name__} maps parameters of "
                    f"the net to {' or '.join(map(repr, self._sizes))}. Got {param!r}: {size!r} "
                    "instead."
                )

    def _sizes_of(self, X: Any, n_outputs: int) -> dict[str, int]:
        return {
            param: size_of_rows(X, param) if size == "n_features" else n_outputs
            for param, size in (self.shape_params or {}).items()
        }

    def _finish(self, X: Any, dense: Dense, net: NeuralNet, **facts: Any) -> None:
        """Keep what predicts, and report what it costs."""
        self.net_ = net
        self._predictor = Predictor(net)
        self._kinds = kinds_of(X)
        self._n_features_out = as_columns(self._predictor.raw(first_row(X))).shape[1]
        self._report = Bunch(history=history_rows(net), **facts)
        self._unmeasured = _Unmeasured(dense.net, dense.data._dense_facts())

    def _measure(self, todo: _Unmeasured) -> dict[str, Any]:
        facts = compare(self.net_, todo.dense_facts(), todo.dense_facts.row)
        self._report.update(facts)  # they are part of the file
        return {"dense_nbytes": measure(self, todo.dense_net), "nbytes": measure(self)}

    def transform(self, X: Any) -> np.ndarray:
        """Return the net's raw outputs, so that the net can feed another estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or dict of arrays
            Rows as in `fit`.

        Returns
        -------
        outputs : ndarray of shape (n_samples, n_outputs), float32
            What the module puts out, without any nonlinearity of the net; outputs
            with more axes are flattened.
        """
        X = self._checked(X)
        return as_columns(self._predictor.raw(X)).astype(np.float32, copy=False)

    def _checked(self, X: Any) -> Any:
        if "_predictor" not in self.__dict__:
            check_is_fitted(self, "net_")
        array = ready(self, X)
        if array is not None:
            return array
        return check_same_kind(check_X(self, X, self._dtype, reset=False), self._kinds)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        for name in ("net_", self._net_param, *self._other_nets):
            if name in state:
                state[name] = _pack(state[name])
        state.pop("_predictor", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        for name in ("net_", self._net_param, *self._other_nets):
            if name in state:
                state[name] = _unpack(state[name])
        if "net_" in state:
            state["_predictor"] = Predictor(state["net_"])
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


class NetMaker(BaseNetEstimator):
    """An estimator whose net another estimator may go on from, as if it had trained it itself."""

    @abstractmethod
    def _check_all(self) -> None:
        """Raise on bad parameters, before any work."""

    @abstractmethod
    def _make_net(
        self,
        X: Any,
        y: np.ndarray,
        sample_weight: Any,
        n_outputs: int,
        *,
        store: Store,
        context: Any,
        check: Any = None,
    ) -> tuple[Dense, dict[str, Any]]:
        """Return the trained net, and facts for the report.

        X and y are checked and of this estimator's kind, `check` is called with the
        untrained net (or None) before anything is trained.
        """


def definition_of(estimator: Any) -> Any:
    """Return the skorch net that an estimator was given, through whatever it stands in."""
    if isinstance(estimator, FrozenEstimator):
        return definition_of(estimator.estimator)
    if isinstance(estimator, BaseNetEstimator):
        return definition_of(getattr(estimator, estimator._net_param, None))
    return estimator


def checked_weight(sample_weight: Any, X: Any) -> np.ndarray | None:
    """Return the weights of the rows as float32, or None."""
    if sample_weight is None:
        return None
    rows = np.empty((n_rows(X), 1), np.float32)
    return check_sample_weight(sample_weight, rows, dtype=np.float32)


def as_columns(output: np.ndarray) -> np.ndarray:
    """Return outputs with one axis for all that a row has."""
    return output.reshape(len(output), -1)


@contextmanager
def task_of(
    context: Any, name: str, estimator: Any, X: Any = None, y: Any = None, n_epochs: int = 0
) -> Iterator[Any]:
    """Tell scikit-learn's callbacks about a training; yields the tick for one epoch."""
    task = context.subcontext(task_name=name, max_subtasks=n_epochs)
    task.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
    yield epoch_tick(task, estimator)
    task.call_on_fit_task_end(estimator=estimator, X=X, y=y)


def _pack(value: Any) -> Any:
    """Put a fitted net, also in a FrozenEstimator or a list, into the form that pickles anywhere.

    A parameter is fitted, too, when the user has trained that very net before:
    searches send themselves to their workers with it.
    """
    if isinstance(value, NeuralNet) and is_fitted(value):
        return FrozenNet(value)
    if isinstance(value, FrozenEstimator):
        return FrozenEstimator(_pack(value.estimator))
    return [_pack(item) for item in value] if isinstance(value, list) else value


def _unpack(value: Any) -> Any:
    if isinstance(value, FrozenNet):
        return value.thaw()
    if isinstance(value, FrozenEstimator):
        return FrozenEstimator(_unpack(value.estimator))
    return [_unpack(item) for item in value] if isinstance(value, list) else value
