"""Plain values to JSON and streams, and back: numbers, strings, arrays, lists and dicts of them.

What JSON has no word for is an object with one of these keys: ``t`` a tuple, ``d`` a dict as pairs,
``f`` a float that is not finite, ``n`` a numpy scalar, ``y`` a dtype, ``a`` an array (its dtype, or
"O" for strings of any length) of shape ``s`` with its values in ``v``, in ``i`` if they are of
several kinds, or else in the next stream, or of the whole numbers below ``r``. Other objects have
their kind in ``o`` and the values that they are made from in ``v``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from .._nets import NotPlainError
from .coding.arrays import code_values, read_values
from .coding.byte_streams import Coding, Reader
from .values import from_parts, parts_of

Write = Callable[[Any, str], Any]
Read = Callable[[dict[str, Any]], Any]

_KINDS = "biufcmM"
_DTYPE = re.compile(r"\|[biu]1|<[iufc]\d{1,2}|<[mM]8(\[\d{0,9}[a-zA-Z]{1,2}\])?")
_TEXT = re.compile(r"<U\d{1,9}|\|S\d{1,9}")
_INLINE = 64  # up to so many integers and strings stand in the header
_LONGEST_RANGE = 1 << 10
# An array in a stream may be this many times larger than the stream, and this much besides.
_MOST_RATIO, _FREE = 64, 1 << 16
_MOST_ITEMS = 1 << 16  # of an array of values of several kinds
_MOST_TEXT = 1 << 22  # characters of an array of strings of one width


def to_plain(value: Any, streams: list[Coding], where: str, write: Write | None = None) -> Any:
    """Return a value as JSON knows it, and append what does not fit there to `streams`.

    Parameters
    ----------
    value : object
        None, bool, int, float, str, dtype, numpy scalar, array of numbers or strings, or a list,
        tuple or dict (with plain keys) of these; or an object that is made from such.
    streams : list of Coding
        Arrays are appended to it.
    where : str
        Name of the value, for the message.
    write : callable, default=None
        Gets each value of another kind, and its name; returns JSON with the key
        ``e``, or None.

    Raises
    ------
    NotPlainError
        If it is, or holds, anything else.
    """
    # Exact types only: a subclass may be more than its base.
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"f": repr(value)}
    if type(value) in (list, tuple):
        items = [to_plain(item, streams, f"{where}[{i}]", write) for i, item in enumerate(value)]
        return items if type(value) is list else {"t": items}
    if type(value) is dict:
        pairs = [
            [
                to_plain(key, streams, f"a key of {where}"),
                to_plain(v, streams, f"{where}[{key!r}]", write),
            ]
            for key, v in value.items()
        ]
        return {"d": pairs}
    if isinstance(value, np.dtype) and value.kind in _KINDS + "US":
        return {"y": value.str}
    if isinstance(value, type) and issubclass(value, np.generic):
        # The class of a dtype, which means the same to numpy.
        return to_plain(np.dtype(value), streams, where)
    if isinstance(value, np.generic) and value.dtype.kind in _KINDS:
        array = np.asarray(value)
        return {"n": _little(array).dtype.str, "v": _little(array).tobytes().hex()}
    if isinstance(value, np.str_):
        return str(value)
    if type(value) is np.ndarray:
        return _array_to_plain(value, streams, where)
    if (found := parts_of(value)) is not None:
        return {"o": found[0], "v": to_plain(found[1], streams, where, write)}
    if write is not None and (described := write(value, where)) is not None:
        return described
    raise NotPlainError(f"{where} is a {type(value).__name__}")


def from_plain(value: Any, streams: Reader, read: Read | None = None) -> Any:
    """Return the value that `to_plain` was given; ValueError if there is no such value."""
    if value is None or type(value) in (bool, int, str, float):
        return value
    if type(value) is list:
        return [from_plain(item, streams, read) for item in value]
    if type(value) is not dict:
        raise ValueError(f"a value in its header is a {type(value).__name__}")
    if read is not None and "e" in value:
        return read(value)
    for key, make in _READERS.items():
        if key in value:
            return make(value, streams, read)
    raise ValueError(f"a value in its header has the unknown keys {sorted(value)!r:.80}")


def _array_to_plain(array: np.ndarray, streams: list[Coding], where: str) -> dict[str, Any]:
    flat = array.reshape(-1)
    shape = list(array.shape)
    if array.dtype.kind == "U" or (
        array.dtype.kind == "O" and all(type(item) is str for item in flat)
    ):
        kind = "O" if array.dtype.kind == "O" else _little(array).dtype.str
        if kind != "O" and array.nbytes > 4 * _MOST_TEXT:
            raise NotPlainError(f"{where} is an array of strings of {array.nbytes} bytes")
        return {"a": kind, "s": shape, "v": flat.tolist()}
    if array.dtype.kind == "O" and flat.size <= _MOST_ITEMS and not _has_objects(flat):
        items = [to_plain(item, streams, where) for item in flat]
        return {"a": "O", "s": shape, "i": items}
    if array.dtype.kind not in _KINDS:
        raise NotPlainError(f"{where} is an array of dtype {array.dtype}")
    array = _little(array)
    if _is_range(array):
        return {"a": array.dtype.str, "r": array.size}
    if array.dtype.kind in "iu" and flat.size <= _INLINE:
        return {"a": array.dtype.str, "s": shape, "v": flat.tolist()}
    coding = code_values(array)
    if not coding.size < array.nbytes <= _MOST_RATIO * coding.size + _FREE:
        # As it is: nobody could tell the short stream of a long array from an attack. What is as
        # long as the array is the array.
        coding = Coding(array.nbytes, array.tobytes)
    streams.append(coding)
    return {"a": array.dtype.str, "s": shape}


def _has_objects(flat: np.ndarray) -> bool:
    kinds = (type(None), bool, int, float, str, np.generic, np.ndarray)
    return not all(isinstance(item, kinds) for item in flat)


def _is_range(array: np.ndarray) -> bool:
    known = array.dtype.kind in "iu" and array.ndim == 1 and 0 < array.size <= _LONGEST_RANGE
    return known and np.array_equal(array, np.arange(array.size))


def _little(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _read_array(value: dict[str, Any], streams: Reader, _: Read | None) -> np.ndarray:
    if "r" in value:
        return _read_range(value["a"], value["r"])
    shape, kind = value["s"], value["a"]
    if not isinstance(shape, list) or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"an array in it has the shape {shape!r:.80}")
    size = math.prod(shape)
    if "i" in value:
        return _read_items(value["i"], shape, size, streams)
    if "v" in value:
        return _read_inline(value["v"], kind, shape, size)
    dtype = _read_dtype(kind)
    stream = streams.stream()
    if size * dtype.itemsize > _MOST_RATIO * len(stream) + _FREE:
        raise ValueError("an array in it would take up too much memory")
    if len(stream) == size * dtype.itemsize:
        return np.frombuffer(stream, dtype).reshape(shape).copy()
    return read_values(stream, dtype, tuple(shape))


def _read_items(items: Any, shape: list[int], size: int, streams: Reader) -> np.ndarray:
    if type(items) is not list or len(items) != size:
        raise ValueError("an array in its header has not as many values as its shape says")
    array = np.empty(size, dtype=object)
    for i, item in enumerate(items):
        array[i] = from_plain(item, streams)
    return array.reshape(shape)


def _read_range(kind: Any, stop: Any) -> np.ndarray:
    dtype = _read_dtype(kind)
    if type(stop) is not int or not 0 < stop <= _LONGEST_RANGE or dtype.kind not in "iu":
        raise ValueError(f"an array in it is the range of {stop!r:.80}, {kind!r:.80}")
    return np.arange(stop).astype(dtype)


def _read_inline(items: Any, kind: Any, shape: list[int], size: int) -> np.ndarray:
    is_text = isinstance(kind, str) and kind[:2] == "<U" and _TEXT.fullmatch(kind) is not None
    wanted = str if kind == "O" or is_text else int
    if not isinstance(items, list) or len(items) != size:
        raise ValueError("an array in its header has not as many values as its shape says")
    if any(type(item) is not wanted for item in items):
        raise ValueError("an array in its header holds values of another kind than it says")
    if wanted is int:
        return np.array(items, dtype=_read_dtype(kind)).reshape(shape)
    if kind == "O":
        return np.array([*items, None], dtype=object)[:-1].reshape(shape)
    width = int(kind[2:])
    if size * width > _MOST_TEXT or any(len(item) > width for item in items):
        raise ValueError(f"an array of strings in its header has the dtype {kind!r}")
    return np.array(items, dtype=kind).reshape(shape)


def _read_dtype(name: Any) -> np.dtype:
    # Not everything that numpy takes for one: it evaluates texts with commas.
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        raise ValueError(f"an array in it has the dtype {name!r:.80}")
    return np.dtype(name)


def _read_scalar(value: dict[str, Any], _: Reader, __: Read | None) -> Any:
    return np.frombuffer(bytes.fromhex(value["v"]), _read_dtype(value["n"])).reshape(())[()]


def _read_named_dtype(value: dict[str, Any], _: Reader, __: Read | None) -> np.dtype:
    name = value["y"]
    is_text = isinstance(name, str) and _TEXT.fullmatch(name)
    return np.dtype(name) if is_text else _read_dtype(name)


def _read_dict(value: dict[str, Any], streams: Reader, read: Read | None) -> dict[Any, Any]:
    return {from_plain(key, streams): from_plain(item, streams, read) for key, item in value["d"]}


def _read_object(value: dict[str, Any], streams: Reader, read: Read | None) -> Any:
    return from_parts(value["o"], from_plain(value["v"], streams, read))


def _read_float(value: dict[str, Any], _: Reader, __: Read | None) -> float:
    if value["f"] not in ("nan", "inf", "-inf"):
        raise ValueError(f"a number in its header is {value['f']!r:.80}")
    return float(value["f"])


_READERS: dict[str, Callable[[dict[str, Any], Reader, Read | None], Any]] = {
    "a": _read_array,
    "d": _read_dict,
    "f": _read_float,
    "n": _read_scalar,
    "o": _read_object,
    "t": lambda value, streams, read: tuple(from_plain(value["t"], streams, read)),
    "y": _read_named_dtype,
}
