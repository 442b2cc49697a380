"""`fit` and `partial_fit` show `sample_weight` only where the net can use it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import MethodType
from typing import Any

from ..._nets import given_net, takes_sample_weight


class OptionalSampleWeight:
    """Descriptor for such a method: on an instance, `sample_weight` depends on its net.

    scikit-learn reads the signature in two places that want different answers.
    The class-level one decides whether metadata routing is built, so it must
    have `sample_weight`; on an instance it is a promise that weights work, which
    only some nets keep.

    Parameters
    ----------
    method : callable
        ``fit(self, X, y, ..., sample_weight=None)``, or `partial_fit`.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method = method
        self.__doc__ = method.__doc__

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self.method
        bound = MethodType(self.method, instance)
        if takes_sample_weight(given_net(instance)):
            return bound
        return _hide_sample_weight(bound)


def _hide_sample_weight(bound: MethodType) -> Callable[..., Any]:
    signature = inspect.signature(bound)
    shown = [p for p in signature.parameters.values() if p.name != "sample_weight"]

    @functools.wraps(bound)
    def fit(X: Any, y: Any = None, *args: Any, **params: Any) -> Any:
        given = signature.bind(X, y, *args, **params).arguments
        if given.pop("sample_weight", None) is not None:
            raise TypeError(
                f"{type(bound.__self__).__name__}.{bound.__name__} got sample_weight, but its net "
                "cannot use it. Name `sample_weight` in the module's forward, or put "
                "skcompress.SampleWeightMixin before the net's class."
            )
        return bound(**given)

    fit.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    return fit
