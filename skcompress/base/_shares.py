"""Shares are given as numbers up to 1, not as percentages or under other libraries' names."""

from __future__ import annotations

import functools
from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

from .._sklearn import Interval


class ChecksShares:
    """Mixin before scikit-learn's base class, whose checks do not know of percentages."""

    _parameter_constraints: ClassVar[dict[str, Any]]

    def _validate_params(self) -> None:
        for name, allowed in self._parameter_constraints.items():
            share = next((c for c in allowed if _is_share(c)), None)
            value: Any = getattr(self, name)
            if share is not None and _is_percentage(value):
                raise ValueError(
                    f"The {name!r} parameter of {type(self).__name__} must be {share}. Got "
                    f"{value!r} instead: {value} % is {value / 100:g}."
                )
        super()._validate_params()  # type: ignore[misc]


def explain_keywords(**own: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate an `__init__`: name its parameter for a keyword of another library.

    Parameters
    ----------
    **own : str
        Its parameter, by the other library's keyword.
    """

    def decorate(init: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(init)
        def explained(self: Any, *args: Any, **params: Any) -> None:
            for name in own.keys() & params.keys():
                raise TypeError(
                    f"{type(self).__name__} has no parameter {name!r}. Got {name}="
                    f"{params[name]!r}: write {own[name]} instead."
                )
            init(self, *args, **params)

        return explained

    return decorate


def _is_share(constraint: Any) -> bool:
    if not isinstance(constraint, Interval) or constraint.type is not Real:
        return False
    return constraint.left == 0 and constraint.right == 1


def _is_percentage(value: Any) -> bool:
    return isinstance(value, Real) and 1 < float(value) <= 100
