"""What containers, estimators and all other objects are made of."""

from __future__ import annotations

import copyreg
import enum
import functools
import math
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from sklearn.frozen import FrozenEstimator
from sklearn.utils import Bunch

from .arrays import expand_array
from .code import expand_code, table
from .graph import ARGUMENT, Content, Part, token
from .origin import package_of_module, version_of
from .state import reduced
from .tables import expand_table
from .tensors import expand_tensor


def _float(value: float) -> bytes:
    return b"float|nan" if math.isnan(value) else b"float|" + struct.pack(">d", value)


# By exact type: a bool is an int, and a subclass may be anything.
_SCALARS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda value: b"None",
    bool: lambda value: b"bool|%d" % value,
    int: lambda value: b"int|%x" % value,
    float: _float,
    complex: lambda value: b"complex|" + _float(value.real) + b"|" + _float(value.imag),
    str: lambda value: b"str|" + value.encode("utf-8", "surrogatepass"),
    bytes: lambda value: b"bytes|" + value,
    type(...): lambda value: b"Ellipsis",
}


def argument(value: Any, number: int) -> Part | Content:
    """Return the part for an argument of `fingerprint`; a dict of strings is keyword arguments."""
    if type(value) is dict and _is_attributes(value):
        return table(value, full=False)
    return Part(f"{ARGUMENT} {number}>", value)


def expand(value: Any, full: bool) -> bytes | Content:
    """Return the token or content of any value.

    Raises
    ------
    Opaque
        If there is nothing to read.
    """
    if (scalar := _SCALARS.get(type(value))) is not None:
        return scalar(value)
    if (container := _CONTAINERS.get(type(value))) is not None:
        return container(value, full)
    for room in (expand_array, expand_tensor, expand_table, expand_code):
        if (found := room(value)) is not None:
            return found
    if isinstance(value, enum.Enum):
        parts = [Part(".__class__", type(value)), Part(".value", value._value_, True)]
        return Content(b"member", parts)
    if (found := _estimator(value, full)) is not None:
        return found
    return _object(value)


def _sequence(value: Any, full: bool) -> Content:
    # Tokens at once where possible: rows may come as lists of a million numbers.
    parts = [
        scalar(item) if (scalar := _SCALARS.get(type(item))) else Part(f"[{i}]", item, full)
        for i, item in enumerate(value)
    ]
    return Content(type(value).__name__.encode(), parts)


def _set(value: Any, full: bool) -> Content:
    parts = [Part(".<element>", item, full) for item in value]
    return Content(type(value).__name__.encode(), parts, ordered=False)


def _dict(value: Mapping[Any, Any], full: bool) -> Content:
    parts: list[Part] = []
    for key, item in value.items():
        parts += [Part(".<key>", key, full), Part(_key_step(key), item, full)]
    return Content(b"dict", parts)


def _key_step(key: Any) -> str:
    return f"[{key!r}]" if isinstance(key, str | int) else "[...]"


def _partial(value: Any, full: bool) -> Content:
    parts = [Part(".func", value.func, True), Part(".args", value.args, True)]
    named = table(value.keywords, full=True, step=".keywords[{!r}]")
    return Content(b"partial", [*parts, named, table(vars(value), full=True)])


# An estimator in a list, tuple, set or dict is taken without what it has learned, because
# `sklearn.base.clone` goes into these; into all other objects it does not: it copies them.
_CONTAINERS: dict[type, Callable[[Any, bool], Content]] = {
    list: _sequence,
    tuple: _sequence,
    set: _set,
    frozenset: _set,
    dict: _dict,
    MappingProxyType: lambda value, full: Content(b"proxy", [Part("", dict(value), True)]),
    functools.partial: _partial,
    # Its attributes are about deprecated keys, and lost when it is pickled.
    Bunch: lambda value, full: Content(b"bunch", [Part("", dict(value), True)]),
    struct.Struct: lambda value, full: Content(token("struct", value.format), []),
}


_SETTINGS = frozenset({"_metadata_request", "_sklearn_output_config", "_skl_callbacks"})


def _estimator(value: Any, full: bool) -> Content | None:
    """Return class and parameters of whatever has scikit-learn's ``get_params``.

    With ``full`` everything the instance holds, so what it has learned too: code
    that uses a fitted estimator does not fit it again.
    """
    if not hasattr(type(value), "get_params"):
        return None
    kind = Part(".__class__", type(value))
    if isinstance(value, FrozenEstimator):
        return Content(b"frozen", [kind, Part(".estimator", value.estimator, True)])
    if full and hasattr(value, "__dict__"):
        return Content(b"fitted", [kind, table(learned(value), full=True), _settings(value)])
    try:
        params = value.get_params(deep=False)
    except (AttributeError, RuntimeError, TypeError):
        return None  # does not keep to scikit-learn's conventions: an object like any other
    if not isinstance(params, dict) or not all(isinstance(name, str) for name in params):
        return None
    return Content(b"estimator", [kind, table(params, full=False), _settings(value)])


def _settings(value: Any) -> Content:
    """Return what `sklearn.base.clone` copies besides parameters: routing, output containers."""
    requests = getattr(value, "_metadata_request", None)
    routing = {
        method: dict(asked.requests)
        for method, asked in getattr(requests, "__dict__", {}).items()
        if hasattr(asked, "requests")  # next to them is the estimator itself
    }
    output = getattr(value, "_sklearn_output_config", None)
    return table({"routing": routing, "output": output}, full=False)


def attributes_of(value: Any) -> dict[str, Any]:
    """Return the attributes of an estimator, without those that `_settings` is about."""
    return {name: item for name, item in vars(value).items() if name not in _SETTINGS}


@functools.singledispatch
def learned(value: Any) -> dict[str, Any]:
    """Return the attributes that a fitted estimator predicts with: all of them.

    Estimators that also keep how their training went register a function for their class.
    """
    return attributes_of(value)


def _object(value: Any) -> Content:
    """Return class and state of any other object, as the object itself hands them out."""
    if isinstance(value, set | frozenset):
        own = table(getattr(value, "__dict__", {}), full=True)
        elements = Part("", frozenset(value), True)
        return Content(b"set subclass", [Part(".__class__", type(value)), elements, own])
    rebuilt = reduced(value)
    kind = Part(".__class__", type(value))
    if isinstance(rebuilt, str):  # the name of a global: a singleton of its module
        module = getattr(value, "__module__", None) or type(value).__module__
        package = package_of_module(module)
        version = "" if package is None else version_of(package)
        return Content(token("global", module, rebuilt, version), [kind])
    function, arguments, state, items, pairs = (*rebuilt, None, None, None)[:5]
    parts: list[bytes | Part | Content] = [kind]
    if function is not getattr(copyreg, "__newobj__", None):
        parts.append(Part(".<function>", function))
    parts += [Part(f".<argument {i}>", argument, True) for i, argument in enumerate(arguments)]
    parts.append(_state(value, state))
    if items is not None:
        parts.append(_sequence(list(items), True))
    if pairs is not None:
        parts.append(_dict(dict(pairs), True))
    return Content(b"object", parts)


def _state(value: Any, state: Any) -> Content:
    """Return the state of an object; attributes are named values without an order."""
    tables = [state]
    if isinstance(state, tuple) and len(state) == 2 and _is_attributes(state[1]):
        tables = list(state)  # attributes and slots
    if all(_is_attributes(one) for one in tables):
        return Content(b"state", [table(_set_by_hand(value, one), full=True) for one in tables])
    return Content(b"state", [Part(".<state>", state, True)])


def _set_by_hand(value: Any, state: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return attributes without the cached properties, which are there only once asked for."""
    return {
        name: item
        for name, item in (state or {}).items()
        if not isinstance(getattr(type(value), name, None), functools.cached_property)
    }


def _is_attributes(state: Any) -> bool:
    return state is None or (type(state) is dict and all(type(name) is str for name in state))
