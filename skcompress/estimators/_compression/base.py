"""Base of the compressing estimators: check, train the dense net, compress it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Bunch
from skorch import NeuralNet

from ..._caching.store import Store
from ..._nets import (
    check_kind,
    check_net,
    check_trainable,
    check_unfitted_net,
    with_plain_weights,
)
from ...base import BaseCompressor
from ...base._order import check_order, steps_of
from .._base import BaseNetEstimator, NestableEstimator, TrainedNet, check_weight
from .compressors import check_compressor, check_frozen_net, is_dropped
from .dense_net import dense_net
from .further_training import train_further


class BaseCompressed(BaseNetEstimator):
    """Base of the compressing estimators; mixins add the kind of targets."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "estimator": "no_validation",  # both have checks with messages of their own
        "compressor": "no_validation",
        **BaseNetEstimator._parameter_constraints,
    }
    _net_param = "estimator"

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

    def _fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Any:
        context = self._init_callback_context(max_subtasks=2)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        self._check_params()
        store = Store.from_memory(self.memory)
        compressor = None if is_dropped(self.compressor) else clone(self.compressor)
        given = X
        X, y, n_outputs = self._check_targets(X, y, classes=classes)
        weight = check_weight(sample_weight, X)
        rows = Bunch(X=X, y=y, sample_weight=weight, n_outputs=n_outputs, given=given)
        check = partial(_check_steps, compressor)
        dense, facts = dense_net(self, rows, store=store, context=context, check=check)
        if compressor is not None:
            dense = replace(dense, data=dense.data._with_plain_weights(type(self).__name__))
        net = self._compress(compressor, dense, context)
        self.compressor_ = compressor
        self._finish_fit(X, dense, net, **{"dense_trained": dense.trained_now, **facts})
        context.call_on_fit_task_end(estimator=self, X=X, y=y)
        return self

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Any:
        if "net_" not in vars(self):
            return self._fit(X, y, sample_weight, classes)
        self._validate_params()
        check_trainable(self.net_, f"{type(self).__name__}.partial_fit")
        context = self._init_callback_context(max_subtasks=1)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        store = Store.from_memory(self.memory)
        X, y, _ = self._check_targets(X, y, classes=classes, reset=False)
        weight = check_weight(sample_weight, X)
        self._replace_net(train_further(self, X, y, weight, store=store, context=context))
        context.call_on_fit_task_end(estimator=self, X=X, y=y)
        return self

    @property
    def _dtype(self) -> str | None:
        # An estimator inside that takes whole numbers shall get them.
        nested = isinstance(self.estimator, NestableEstimator)
        inner = self.estimator.dtype if nested else self.dtype
        return None if inner is None else self.dtype

    def _check_params(self) -> None:
        self._validate_params()
        name = type(self).__name__
        self._check_estimator(name)
        self._check_shape_params()
        check_compressor(self.compressor, name)

    def _check_estimator(self, name: str) -> None:
        if isinstance(self.estimator, FrozenEstimator):
            check_frozen_net(self.estimator.estimator, name)
            check_kind(self.estimator.estimator, name, "estimator", classifies=is_classifier(self))
        elif not isinstance(self.estimator, NestableEstimator):
            net = check_unfitted_net(self.estimator, name)
            check_kind(net, name, "estimator", classifies=is_classifier(self))
        elif is_classifier(self.estimator) == is_classifier(self):
            self.estimator._check_params()
        else:
            raise TypeError(
                f"The 'estimator' parameter of {name} is a {type(self.estimator).__name__}, which "
                "is for the other kind of targets. Pair classifiers with classifiers, regressors "
                "with regressors."
            )

    def _compress(self, compressor: Any, dense: TrainedNet, context: Any) -> NeuralNet:
        task = context.subcontext(task_name="compress")
        supports = hasattr(compressor, "set_callbacks")
        with task.propagate_callback_context(compressor) if supports else nullcontext():
            task.call_on_fit_task_begin(estimator=self)
            net = dense.net
            if compressor is not None:
                net = compressor.fit_transform(dense.data.dense_net, dense.data)
                check_net(net, f"The compressor {type(compressor).__name__} returned a net that")
            task.call_on_fit_task_end(estimator=self)
        return net


def _check_steps(compressor: Any, net: NeuralNet | None) -> None:
    """Let each step of this package refuse its parameters before any training."""
    check_order(compressor)
    if net is not None and compressor is not None:
        net = with_plain_weights(net, f"The compressor {type(compressor).__name__}")
    for step in steps_of(compressor):
        if isinstance(step, BaseCompressor):
            step._check(net)
