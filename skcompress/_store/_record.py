"""A record as bytes and back: plain arrays and facts, checked before anything is read into memory.

An entry is, in this order: magic and format number; sha256 of all that follows;
the lengths of header and arrays; a header of JSON; the arrays' bytes one after
the other. Nothing in it can be executed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MAGIC = b"SKCR\r\n\x1a\n"  # as in PNG: a transfer that translates line ends does not go unseen
FORMAT = 1

_START = struct.Struct("<8sI32s")
_LENGTHS = struct.Struct("<QQ")
_PREFIX = _START.size + _LENGTHS.size
_KINDS = frozenset("biufcSUmM")  # numbers, strings and dates: what bytes alone describe


class Damaged(Exception):  # noqa: N818 - a state of an entry, never seen by a user
    """An entry is not what was once written."""


class OtherFormat(Exception):  # noqa: N818 - a state of an entry, never seen by a user
    """An entry was written by another version, in a form this one does not read."""


@dataclass(frozen=True, eq=False)
class Record:
    """What a computation results in: arrays by name, and facts about them.

    Attributes
    ----------
    arrays : dict of str to ndarray
        Numbers, booleans, strings or dates of any shape; the order is kept.
    meta : dict
        What JSON can say: str, int, float (nan and inf too), bool, None, list and
        dict with str keys. A tuple comes back as a list.
    """

    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]


def encode(record: Record, facts: Mapping[str, Any]) -> bytes:
    """Return a record as the bytes of an entry.

    Parameters
    ----------
    record : Record
        What to write.
    facts : mapping
        What the entry says about itself: kind, key and so on.

    Raises
    ------
    TypeError
        If the record holds something that has no place in an entry.
    """
    arrays = {name: _checked_array(name, array) for name, array in record.arrays.items()}
    _check_json(record.meta, "record.meta")
    header = {
        **facts,
        "meta": record.meta,
        "arrays": [[name, a.dtype.str, list(a.shape)] for name, a in arrays.items()],
    }
    text = json.dumps(header).encode()
    payload = b"".join(array.tobytes() for array in arrays.values())
    body = _LENGTHS.pack(len(text), len(payload)) + text + payload
    return _START.pack(MAGIC, FORMAT, hashlib.sha256(body).digest()) + body


def decode(blob: bytes) -> tuple[Record, dict[str, Any]]:
    """Return the record and the facts that the bytes of an entry hold.

    Raises
    ------
    Damaged, OtherFormat
    """
    checksum, n_header, n_payload = _lengths(blob[:_PREFIX], len(blob))
    if hashlib.sha256(blob[_START.size :]).digest() != checksum:
        raise Damaged("the checksum does not fit the content")
    header = _header(blob[_PREFIX : _PREFIX + n_header])
    try:
        arrays = _arrays(header.pop("arrays"), blob[_PREFIX + n_header :], n_payload)
        meta = header.pop("meta")
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"the header does not describe the content ({error})") from None
    return Record(arrays, meta), header


def read(path: Path) -> tuple[Record, dict[str, Any]]:
    """Return the record and the facts of an entry on disk.

    Raises
    ------
    Damaged, OtherFormat
    OSError
        If the file is not there or cannot be read.
    """
    with path.open("rb") as file:
        prefix, n_header, n_payload = _read_prefix(file)
        return decode(prefix + file.read(n_header + n_payload))


def read_facts(path: Path) -> dict[str, Any]:
    """Return what an entry says about itself, without reading or checking its arrays.

    Raises
    ------
    Damaged, OtherFormat
    OSError
        If the file is not there or cannot be read.
    """
    with path.open("rb") as file:
        _, n_header, _ = _read_prefix(file)
        return _header(file.read(n_header))


def _read_prefix(file: BinaryIO) -> tuple[bytes, int, int]:
    prefix = file.read(_PREFIX)
    _, n_header, n_payload = _lengths(prefix, os.fstat(file.fileno()).st_size)
    return prefix, n_header, n_payload


def _lengths(prefix: bytes, size: int) -> tuple[bytes, int, int]:
    """Return checksum and lengths; they must add up to the size before memory is taken for them."""
    if len(prefix) < _PREFIX:
        raise Damaged(f"it ends after {size} bytes")
    magic, version, checksum = _START.unpack_from(prefix)
    if magic != MAGIC:
        raise Damaged("it does not begin as an entry does")
    if version != FORMAT:
        raise OtherFormat(f"it has the format {version}, not {FORMAT}")
    n_header, n_payload = _LENGTHS.unpack_from(prefix, _START.size)
    if _PREFIX + n_header + n_payload != size:
        raise Damaged(f"it has {size} bytes, not {_PREFIX + n_header + n_payload}")
    return checksum, n_header, n_payload


def _header(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except ValueError as error:
        raise Damaged(f"its header is not JSON ({error})") from None
    if not isinstance(header, dict):
        raise Damaged("its header is not a JSON object")
    return header


def _arrays(described: list[Any], payload: bytes, n_payload: int) -> dict[str, np.ndarray]:
    arrays = {}
    start = 0
    for name, dtype_text, shape in described:
        dtype = np.dtype(dtype_text)
        if dtype.kind not in _KINDS or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"{name!r} is not an array of numbers")
        size = math.prod(shape) * dtype.itemsize
        if start + size > n_payload:
            raise ValueError(f"{name!r} goes beyond the end")
        # A copy owns its memory and can be written to, like an array that was just computed.
        flat = np.frombuffer(payload[start : start + size], dtype) if size else np.empty(0, dtype)
        arrays[name] = flat.reshape(shape).copy()
        start += size
    if start != n_payload:
        raise ValueError(f"{n_payload - start} bytes belong to no array")
    return arrays


def _checked_array(name: Any, array: Any) -> np.ndarray:
    if not isinstance(name, str):
        raise TypeError(f"record.arrays must have str names, got {name!r}")
    if not isinstance(array, np.ndarray | np.generic):
        raise TypeError(
            f"record.arrays[{name!r}] must be a numpy array, got {array!r}: convert it first"
        )
    array = np.asarray(array)
    if array.dtype.kind not in _KINDS:
        raise TypeError(
            f"record.arrays[{name!r}] must hold numbers, booleans, strings or dates, got the "
            f"dtype {array.dtype!r}: give it one of these dtypes first"
        )
    return array


def _check_json(value: Any, path: str) -> None:
    """Raise a TypeError that names what JSON would refuse or change."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{path} must have str keys, got {key!r}")
            _check_json(item, f"{path}[{key!r}]")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _check_json(item, f"{path}[{i}]")
    elif not isinstance(value, str | int | float | None):
        raise TypeError(
            f"{path} must be a str, int, float, bool, None, list or dict, got {value!r}: convert "
            "it first"
        )
