"""What both estimators do: check, train the dense net, compress it, predict with the result."""

from __future__ import annotations

import warnings
from abc import ABCMeta, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.callback import CallbackSupportMixin
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted
from skorch import NeuralNet

from .._file import measure
from .._nets import FrozenNet, Predictor, check_net, check_unfitted_net, predict_raw
from .._report import compare, first_row
from .._store import Store
from ..base import BaseCompressor, epoch_tick, steps_of
from ._data import check_same_kind, check_X, is_ready, kinds_of, size_of_rows
from ._dense import Dense, blank_net, take_frozen, train_dense, try_out


class BaseCompressed(
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    CallbackSupportMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """Base of the estimators; a subclass says what targets are and reads outputs."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "estimator": [HasMethods(["fit"])],
        "compressor": [HasMethods(["fit_transform"]), None],
        "memory": "no_validation",  # Store.from_memory checks it
        "shape_params": [dict, None],
        "dtype": [StrOptions({"float32"}), None],
        "random_state": ["random_state"],
    }
    _sizes: tuple[str, ...]

    def __init__(
        self,
        estimator: Any,
        compressor: Any = None,
        *,
        memory: Any = None,
        shape_params: dict[str, str] | None = None,
        dtype: str | None = "float32",
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.compressor = compressor
        self.memory = memory
        self.shape_params = shape_params
        self.dtype = dtype
        self.random_state = random_state

    @abstractmethod
    def _check_targets(self, X: Any, y: Any) -> tuple[Any, np.ndarray, int]:
        """Return X and y as nets take them, and how many outputs that makes."""

    @abstractmethod
    def _fit_targets(self, y: np.ndarray, net: NeuralNet, output: np.ndarray | None) -> np.ndarray:
        """Check the net's output for one row (None: unknown) and return y in its shape."""

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> Any:
        context = self._init_callback_context(max_subtasks=2)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        self._check_params()
        store = Store.from_memory(self.memory)
        compressor = None if self.compressor is None else clone(self.compressor)
        X, y, n_outputs = self._check_targets(X, y)
        if sample_weight is not None:
            rows = next(iter(X.values())) if isinstance(X, dict) else X
            sample_weight = _check_sample_weight(sample_weight, rows, dtype=np.float32)
        dense = self._fit_dense(X, y, sample_weight, n_outputs, compressor, store, context)
        net = self._compress(compressor, dense, context)
        self.net_, self.compressor_ = net, compressor
        self._predictor = Predictor(net)
        self._kinds = kinds_of(X)
        self._n_features_out = _as_columns(self._predictor.raw(first_row(X))).shape[1]
        self.report_ = compare(net, dense.net, first_row(X))
        self.report_.update(history=[dict(row) for row in net.history_])
        self.report_.update(dense_trained=dense.trained)
        self.report_.update(dense_nbytes=measure(self, dense.net))
        self.report_.update(nbytes=measure(self))
        context.call_on_fit_task_end(estimator=self, X=X, y=y)
        return self

    def _check_params(self) -> None:
        self._validate_params()
        name = type(self).__name__
        if isinstance(self.estimator, FrozenEstimator):
            check_net(self.estimator.estimator, name)
        else:
            check_unfitted_net(self.estimator, name)
        for param, size in (self.shape_params or {}).items():
            if size not in self._sizes:
                raise ValueError(
                    f"The 'shape_params' parameter of {name} maps parameters of the net to "
                    f"{' or '.join(map(repr, self._sizes))}. Got {param!r}: {size!r} instead."
                )
        if getattr(self.compressor, "memory", None) is not None:
            raise ValueError(
                f"The 'compressor' parameter of {name} is a Pipeline with memory="
                f"{self.compressor.memory!r}, which cannot cache nets. Leave it None there and "
                f"give `memory` to {name}, which keeps the trainings of all steps."
            )
        for step in steps_of(self.compressor):
            # scikit-learn's own transform data; FunctionTransformer transforms anything.
            of_data = type(step).__module__.startswith("sklearn.")
            of_data = of_data and not isinstance(step, FunctionTransformer)
            if of_data or not hasattr(step, "fit_transform"):
                raise TypeError(
                    f"The 'compressor' parameter of {name} must be a transformer of nets or a "
                    f"Pipeline of them. Got the step {step!r} instead; steps for data belong "
                    f"into the Pipeline before {name}."
                )

    def _fit_dense(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        n_outputs: int,
        compressor: Any,
        store: Store,
        context: Any,
    ) -> Dense:
        options = {"store": store, "random_state": self.random_state}
        if isinstance(self.estimator, FrozenEstimator):
            warnings.warn(
                "FrozenEstimator: the net was trained outside of this fit. If its training rows "
                "are among the rows it is scored on, the scores are too good.",
                UserWarning,
                stacklevel=4,
            )
            net = self.estimator.estimator
            y = self._fit_targets(y, net, predict_raw(net, first_row(X)))
            _check_steps(compressor, net)
            with _task(context, "train", self, X, y):
                return take_frozen(self.estimator, X, y, sample_weight, **options)
        net = blank_net(self.estimator, self._sizes_of(X, n_outputs))
        untrained, output = try_out(net, X)
        y = self._fit_targets(y, untrained or net, output)
        _check_steps(compressor, untrained)
        task = _task(context, "train", self, X, y, n_epochs=net.max_epochs)
        with task as progress, _explained(output is None, X):
            return train_dense(net, X, y, sample_weight, progress=progress, **options)

    def _sizes_of(self, X: Any, n_outputs: int) -> dict[str, int]:
        return {
            param: size_of_rows(X, param) if size == "n_features" else n_outputs
            for param, size in (self.shape_params or {}).items()
        }

    def _compress(self, compressor: Any, dense: Dense, context: Any) -> NeuralNet:
        task = context.subcontext(task_name="compress")
        supports = hasattr(compressor, "set_callbacks")
        with task.propagate_callback_context(compressor) if supports else nullcontext():
            task.call_on_fit_task_begin(estimator=self)
            net = dense.net
            if compressor is not None:
                net = compressor.fit_transform(net, dense.data)
                check_net(net, f"The compressor {type(compressor).__name__} returned a net that")
            task.call_on_fit_task_end(estimator=self)
        return net

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
        return _as_columns(self._predictor.raw(X)).astype(np.float32, copy=False)

    def _checked(self, X: Any) -> Any:
        if "_predictor" not in self.__dict__:
            check_is_fitted(self, "net_")
        if is_ready(self, X):
            return X
        return check_same_kind(check_X(self, X, self.dtype, reset=False), self._kinds)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        for name in ("net_", "estimator"):
            state[name] = _pack(state.get(name))
        state.pop("_predictor", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        for name in ("net_", "estimator"):
            state[name] = _unpack(state.get(name))
        if state["net_"] is None:
            del state["net_"]
        else:
            state["_predictor"] = Predictor(state["net_"])
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _pack(value: Any) -> Any:
    """Put a fitted net, also in a FrozenEstimator, into the form that pickles anywhere.

    The `estimator` parameter is fitted, too, when the user has trained that very
    net before: searches send themselves to their workers with it.
    """
    if isinstance(value, NeuralNet) and value.initialized_:
        return FrozenNet(value)
    if isinstance(value, FrozenEstimator):
        return FrozenEstimator(_pack(value.estimator))
    return value


def _unpack(value: Any) -> Any:
    if isinstance(value, FrozenNet):
        return value.thaw()
    if isinstance(value, FrozenEstimator):
        return FrozenEstimator(_unpack(value.estimator))
    return value


@contextmanager
def _task(
    context: Any, name: str, estimator: Any, X: Any, y: Any, n_epochs: int = 0
) -> Iterator[Any]:
    """Tell scikit-learn's callbacks about the training; yields the tick for one epoch."""
    task = context.subcontext(task_name=name, max_subtasks=n_epochs)
    task.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
    yield epoch_tick(task, estimator)
    task.call_on_fit_task_end(estimator=estimator, X=X, y=y)


@contextmanager
def _explained(could_not_run: bool, X: Any) -> Iterator[None]:
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


def _check_steps(compressor: Any, net: NeuralNet | None) -> None:
    """Let every step of ours refuse its parameters before the training they would waste."""
    for step in steps_of(compressor):
        if isinstance(step, BaseCompressor):
            step._check(net)


def _as_columns(output: np.ndarray) -> np.ndarray:
    return output.reshape(len(output), -1)
