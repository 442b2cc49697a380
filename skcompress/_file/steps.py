"""Steps of a Pipeline that have no net to a header and streams, and back."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from .._nets import NotPlainError
from .checks import check_same
from .coding.byte_streams import Coding, Reader
from .plain import from_plain, to_plain

# Parameters of a step that do not change what it computes.
_NOT_LEARNED = {"_sklearn_output_config"}
_NEUTRAL = {"copy", "memory", "n_jobs", "random_state", "verbose"}


def _class_name(step: Any) -> str:
    return f"{type(step).__module__}.{type(step).__qualname__}"


def step_to_header(step: Any, streams: list[Coding], where: str) -> dict[str, Any]:
    name = f"The step {where.rstrip('.')!r} ({type(step).__name__})"
    if step is None or step == "passthrough":
        return {"kind": "step", "class": "passthrough", "params": {}, "state": {}}
    if not isinstance(step, BaseEstimator):
        raise NotPlainError(f"{name} is not a scikit-learn estimator")
    check_is_fitted(step)
    if len(step.get_params(deep=True)) > len(step.get_params(deep=False)):
        raise NotPlainError(f"{name} cannot be stored: it has estimators inside")
    own = step.get_params(deep=False)
    state = {}
    for key, value in sorted(vars(step).items()):  # as the header sorts them
        if key not in own and key not in _NOT_LEARNED:
            _check_attribute(step, key)
            where = f"{name} cannot be stored: its attribute {key!r}"
            state[key] = to_plain(value, streams, where)
    params = _step_params(step)
    return {"kind": "step", "class": _class_name(step), "params": params, "state": state}


def _step_params(step: Any) -> dict[str, Any]:
    """Return the parameters that are not at their defaults, as far as JSON has words for them."""
    defaults = inspect.signature(type(step).__init__).parameters
    described = {}
    for name, value in step.get_params(deep=False).items():
        default = defaults[name].default if name in defaults else inspect.Parameter.empty
        if name not in _NEUTRAL and value is not default:
            text = value if isinstance(value, str | bool | int | None) else None
            named = getattr(value, "__qualname__", None) or repr(value)[:200]
            described[name] = text if text is not None else named
    return described


def step_from_header(header: Mapping[str, Any], step: Any, streams: Reader) -> Any:
    is_none = step is None or step == "passthrough"
    given = "passthrough" if is_none else _class_name(step)
    check_same("the class of a step", header["class"], given)
    if is_none:
        return step
    check_same(f"the parameters of {type(step).__name__}", header["params"], _step_params(step))
    fitted = clone(step)
    for key, value in header["state"].items():
        _check_attribute(fitted, key)
        fitted.__dict__[key] = from_plain(value, streams)
    return fitted


def _check_attribute(step: Any, name: str) -> None:
    """Refuse attributes that are not learned ones, such as methods."""
    taken = name in step.get_params(deep=False) or hasattr(type(step), name)
    if not name.isidentifier() or name.startswith("__") or taken or name in _NOT_LEARNED:
        raise NotPlainError(
            f"{type(step).__name__} has {name!r:.80}, which is no learned attribute"
        )
