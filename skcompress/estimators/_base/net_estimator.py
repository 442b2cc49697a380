"""Base of all estimators: parameters, inputs of predictions, reports, pickles."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.callback import CallbackSupportMixin
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Bunch
from skorch import NeuralNet

from ..._caching.store import Store
from ..._file import describe_inputs, measure
from ..._nets import FrozenNet, Predictor, first_row, history_rows, is_fitted, n_rows
from ..._sklearn import StrOptions, check_sample_weight
from ...base._report import DenseFacts, Reporting, compare, recount
from ...base._shares import ChecksShares
from .rows import check_prediction_inputs, input_dtypes, n_features_of
from .training import TrainedNet


class _Unmeasured(NamedTuple):
    """The dense net and its facts, from which `report_` is computed when it is first read."""

    dense_net: NeuralNet
    dense_facts: DenseFacts


class _Changed(NamedTuple):
    """A measured `report_` whose net has been trained further since."""

    known: Bunch


class BaseNetEstimator(
    Reporting,
    ChecksShares,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    CallbackSupportMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """Base of the estimators; subclasses add how the net is made, mixins the kind of targets."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "memory": "no_validation",  # Store.from_memory checks it
        "shape_params": [dict, None],
        "dtype": [StrOptions({"float32"}), None],
        "random_state": ["random_state"],
    }
    # The values that `shape_params` may have.
    _sizes: ClassVar[tuple[str, ...]]
    # The parameter that holds the net, or an estimator of it, and others that may hold nets.
    _net_param: ClassVar[str]
    _other_nets: ClassVar[tuple[str, ...]] = ()

    memory: Any
    shape_params: dict[str, str] | None
    dtype: str | None
    random_state: Any

    @abstractmethod
    def _check_targets(
        self, X: Any, y: Any, *, classes: Any = None, reset: bool = True
    ) -> tuple[Any, np.ndarray, int]:
        """Return X and y as nets take them, and the number of outputs for them.

        `classes` are all that there may be, also those that y lacks; None: those of y. With
        ``reset=False`` X and y must be such as those of the fit.
        """

    @abstractmethod
    def _targets_for_net(
        self, y: np.ndarray, net: NeuralNet, output: np.ndarray | None
    ) -> np.ndarray:
        """Check the net's output for one row (None: unknown); return y in its shape."""

    @property
    def _dtype(self) -> str | None:
        """The dtype that inputs are cast to."""
        return self.dtype

    def _check_shape_params(self) -> None:
        for param, size in (self.shape_params or {}).items():
            if size not in self._sizes:
                raise ValueError(
                    f"The 'shape_params' parameter of {type(self).__name__} maps parameters of "
                    f"the net to {' or '.join(map(repr, self._sizes))}. Got {param!r}: {size!r} "
                    "instead."
                )

    def _sized_clone(self, net: NeuralNet, X: Any, n_outputs: int) -> NeuralNet:
        """Return an unfitted clone of the net with the sizes of the data, see `shape_params`."""
        sizes = {
            param: n_features_of(X, param) if size == "n_features" else n_outputs
            for param, size in (self.shape_params or {}).items()
        }
        net = clone(net)
        return net.set_params(**sizes) if sizes else net

    def _finish_fit(self, X: Any, dense: TrainedNet, net: NeuralNet, **facts: Any) -> None:
        """Set the fitted attributes of a net that is ready to predict."""
        self.net_ = net
        self._predictor = Predictor(net)
        self._kinds = input_dtypes(X)
        self._inputs = describe_inputs(X)
        self._n_features_out = flatten_rows(self._predictor.raw(first_row(X))).shape[1]
        self._report = Bunch(history=history_rows(net), **facts)
        self._unmeasured = _Unmeasured(dense.net, dense.data._dense_facts())

    def _replace_net(self, net: NeuralNet) -> None:
        """Predict with another state of the net from now on, and measure it when asked."""
        n_known = len(history_rows(self.net_))
        new_rows = history_rows(net)[n_known:]
        self.net_ = net
        self._predictor = Predictor(net)
        # Whoever holds the report of the earlier state keeps it as it is.
        self._report = Bunch(**{**self._report, "history": [*self._report["history"], *new_rows]})
        if "_unmeasured" not in vars(self):
            self._unmeasured = _Changed(self._report)

    def _measure(self, todo: _Unmeasured | _Changed) -> dict[str, Any]:
        if isinstance(todo, _Changed):
            self._report.update(recount(self.net_, todo.known))
            return {"nbytes": measure(self)}
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
        X = check_prediction_inputs(self, X)
        return flatten_rows(self._predictor.raw(X)).astype(np.float32, copy=False)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        for name in ("net_", self._net_param, *self._other_nets):
            if name in state:
                state[name] = _freeze_nets(state[name])
        state.pop("_predictor", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        for name in ("net_", self._net_param, *self._other_nets):
            if name in state:
                state[name] = _thaw_nets(state[name])
        if "net_" in state:
            state["_predictor"] = Predictor(state["net_"])
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


class NestableEstimator(BaseNetEstimator):
    """An estimator that a compressing one may take as its `estimator`, to compress its net."""

    @abstractmethod
    def _check_params(self) -> None:
        """Raise on bad parameters, before any work."""

    @abstractmethod
    def _fit_net(
        self,
        X: Any,
        y: np.ndarray,
        sample_weight: Any,
        n_outputs: int,
        *,
        store: Store,
        context: Any,
        check: Any = None,
        given: Any = None,
    ) -> tuple[TrainedNet, dict[str, Any]]:
        """Return the trained net, and facts for the report.

        X and y are as `_check_targets` returns them; `check` is called with the
        untrained net (or None) before any training; `given` is X as it came.
        """


def check_weight(sample_weight: Any, X: Any) -> np.ndarray | None:
    """Return the weights of the rows as float32, or None."""
    if sample_weight is None:
        return None
    rows = np.empty((n_rows(X), 1), np.float32)
    return check_sample_weight(sample_weight, rows, dtype=np.float32)


def flatten_rows(output: np.ndarray) -> np.ndarray:
    """Return outputs with all axes of a row flattened into one."""
    return output.reshape(len(output), -1)


def _freeze_nets(value: Any) -> Any:
    """Return fitted nets, also in a FrozenEstimator or a list, in the form that pickles anywhere.

    A parameter may be a fitted net as well, if the user has trained that net before:
    searches send it to their workers.
    """
    if isinstance(value, NeuralNet) and is_fitted(value):
        return FrozenNet(value)
    if isinstance(value, FrozenEstimator):
        return FrozenEstimator(_freeze_nets(value.estimator))
    return [_freeze_nets(item) for item in value] if isinstance(value, list) else value


def _thaw_nets(value: Any) -> Any:
    if isinstance(value, FrozenNet):
        return value.thaw()
    if isinstance(value, FrozenEstimator):
        return FrozenEstimator(_thaw_nets(value.estimator))
    return [_thaw_nets(item) for item in value] if isinstance(value, list) else value
