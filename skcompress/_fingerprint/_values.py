"""What containers, estimators and all other objects are made of."""

from __future__ import annotations

import copyreg
import enum
import functools
import math
import struct
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ._arrays import expand_array
from ._code import expand_code, table
from ._graph import ARGUMENT, Content, Part, token
from ._origin import package_of_module, version_of
from ._state import reduced
from ._tables import expand_table
from ._tensors import expand_tensor


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
    for room in (expand_array, expand_table, expand_code):
        if (found := room(value)) is not None:
            return found
    if (found := expand_tensor(value, full)) is not None:
        return found
    if isinstance(value, enum.Enum):
        return Content(
            b"member", [Part(".__class__", type(value)), Part(".value", value._value_, full)]
        )
    if (found := _estimator(value, full)) is not None:
        return found
    return _object(value, full)


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
    parts = [Part(".func", value.func, full), Part(".args", value.args, full)]
    named = table(value.keywords, full=full, step=".keywords[{!r}]")
    return Content(b"partial", [*parts, named, table(vars(value), full=full)])


_CONTAINERS: dict[type, Callable[[Any, bool], Content]] = {
    list: _sequence,
    tuple: _sequence,
    set: _set,
    frozenset: _set,
    dict: _dict,
    MappingProxyType: _dict,
    functools.partial: _partial,
    struct.Struct: lambda value, full: Content(token("struct", value.format), []),
}


# What a fitted skorch net keeps of its training, next to its optimizers.
_TRAINING_ONLY = frozenset(
    {"callbacks_", "history_", "virtual_params_", "prefixes_", "cuda_dependent_attributes_"}
)


def _estimator(value: Any, full: bool) -> Content | None:
    """Return class and parameters of whatever has scikit-learn's ``get_params``.

    With ``full`` everything the instance holds, so what it has learned too: code
    that uses a fitted estimator does not fit it again.
    """
    if not hasattr(type(value), "get_params"):
        return None
    kind = Part(".__class__", type(value))
    frozen = sys.modules.get("sklearn.frozen")
    if frozen is not None and isinstance(value, frozen.FrozenEstimator):
        return Content(b"frozen", [kind, Part(".estimator", value.estimator, True)])
    if full and hasattr(value, "__dict__"):
        return Content(b"fitted", [kind, table(_learned(value), full=True)])
    try:
        params = value.get_params(deep=False)
    except (AttributeError, RuntimeError, TypeError):
        return None  # does not keep to scikit-learn's conventions: an object like any other
    if not isinstance(params, dict) or not all(isinstance(name, str) for name in params):
        return None
    return Content(b"estimator", [kind, table(params, full=False)])


def _learned(value: Any) -> dict[str, Any]:
    """Return the attributes of a fitted estimator, of a skorch net those it predicts with.

    How long its epochs took is different in every training, and a copy of it
    starts with fresh callbacks and optimizers.
    """
    attributes = vars(value)
    if "virtual_params_" not in attributes:
        return attributes
    dropped = {f"{name}_" for name in attributes.get("_optimizers", ())} | _TRAINING_ONLY
    return {name: item for name, item in attributes.items() if name not in dropped}


def _object(value: Any, full: bool) -> Content:
    """Return class and state of any other object, as the object itself hands them out."""
    if isinstance(value, set | frozenset):
        own = table(getattr(value, "__dict__", {}), full=full)
        elements = Part("", frozenset(value), full)
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
    parts += [Part(f".<argument {i}>", argument, full) for i, argument in enumerate(arguments)]
    parts.append(_state(value, state, full))
    if items is not None:
        parts.append(_sequence(list(items), full))
    if pairs is not None:
        parts.append(_dict_items(list(pairs), full))
    return Content(b"object", parts)


def _state(value: Any, state: Any, full: bool) -> Content:
    """Return the state of an object; attributes are named values without an order."""
    tables = [state]
    if isinstance(state, tuple) and len(state) == 2 and _is_attributes(state[1]):
        tables = list(state)  # attributes and slots
    if all(_is_attributes(one) for one in tables):
        return Content(b"state", [table(one or {}, full=full) for one in tables])
    return Content(b"state", [Part(".<state>", state, full)])


def _is_attributes(state: Any) -> bool:
    return state is None or (type(state) is dict and all(type(name) is str for name in state))


def _dict_items(pairs: list[tuple[Any, Any]], full: bool) -> Content:
    parts: list[Part] = []
    for key, item in pairs:
        parts += [Part(".<key>", key, full), Part(_key_step(key), item, full)]
    return Content(b"items", parts)
