"""What a compressing estimator takes as its net and its compressor, checked before any work."""

from __future__ import annotations

from inspect import isroutine
from typing import Any

from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch import NeuralNet

from ..._nets import check_net, instead_of
from ...base._order import steps_of
from .._base import BaseNetEstimator


def is_dropped(compressor: Any) -> bool:
    """Whether there is no compressor, in scikit-learn's words for it."""
    return compressor is None or (isinstance(compressor, str) and compressor == "passthrough")


def check_frozen_net(net: Any, caller: str) -> None:
    """Refuse anything but a fitted net in a FrozenEstimator."""
    if not isinstance(net, NeuralNet):
        raise TypeError(
            f"The 'estimator' parameter of {caller} is a FrozenEstimator, which must hold a fitted "
            f"skorch net. Got {net!r:.300} instead.{instead_of(net, caller)}"
        )
    check_net(net, caller)


def check_compressor(compressor: Any, caller: str) -> None:
    """Refuse anything but transformers of nets."""
    if is_dropped(compressor):
        return
    if getattr(compressor, "memory", None) is not None:
        raise ValueError(
            f"The 'compressor' parameter of {caller} is a Pipeline with memory="
            f"{compressor.memory!r}, which cannot cache nets. Leave it None there and "
            f"give `memory` to {caller}, which keeps the trainings of all steps."
        )
    if not isinstance(compressor, Pipeline):
        _check_step(compressor, caller)
    for step in steps_of(compressor):
        _check_step(step, caller)


def _check_step(step: Any, caller: str) -> None:
    # scikit-learn's own transform data; FunctionTransformer transforms anything.
    of_data = type(step).__module__.startswith("sklearn.")
    of_data = of_data and not isinstance(step, FunctionTransformer)
    trains = isinstance(step, BaseNetEstimator)
    if isinstance(step, type) or of_data or trains or not hasattr(step, "fit_transform"):
        raise TypeError(
            f"The 'compressor' parameter of {caller} must be a compression step, a Pipeline of "
            f"steps, or None. Got {step!r:.300} instead{_remedy(step, caller, of_data)}"
        )


def _remedy(step: Any, caller: str, of_data: bool) -> str:
    if isinstance(step, type):
        return f": write {step.__name__}(...)."
    if isinstance(step, list | tuple):
        return ": write Pipeline([('prune', MagnitudePruner(0.8)), ...]) with a name for each step."
    if of_data:
        return f"; steps for data belong into the Pipeline before {caller}."
    if isroutine(step):
        return ": write FunctionTransformer(function) for a function of a net."
    return "; steps such as MagnitudePruner(0.8) or Quantizer() are."
