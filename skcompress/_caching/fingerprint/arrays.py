"""numpy: arrays, scalars, dtypes; random number generators, also that of Python."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from .graph import Content, Opaque, Part, token

_BLOCK = 1 << 20  # bytes copied at once of an array that does not lie in one piece
# What `numpy.random.rand` and `random.shuffle` are methods of. Code that names them draws from
# whatever state the process has by then, which is no content of the code.
_GLOBAL_GENERATORS = (np.random.mtrand._rand, random._inst)
_PLAIN_KINDS = frozenset("biufcmMSUV")


def _dtype(dtype: np.dtype) -> bytes:
    """Return the token of a dtype; where its fields lie in memory is no content."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return token("subdtype", _dtype(base), *shape)
    if dtype.names is not None:
        fields = [token("field", name, _dtype(dtype[name])) for name in dtype.names]
        return token("record", *fields)
    # An extension dtype such as bfloat16 has a name, but only its size in ``str``.
    return token("dtype", dtype.str, str(dtype) if dtype.kind == "V" else "")


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the elements in C order, in pieces, without a copy where they lie in that order."""
    if array.flags.c_contiguous:
        yield array
        return
    if array.ndim == 0 or array.nbytes <= _BLOCK:
        yield np.ascontiguousarray(array)
        return
    if array[0].nbytes > _BLOCK:
        for row in array:
            yield from _blocks(row)
        return
    step = max(1, _BLOCK // max(1, array[0].nbytes))
    for start in range(0, len(array), step):
        yield np.ascontiguousarray(array[start : start + step])


def _bytes(block: np.ndarray) -> np.ndarray:
    """Return the bytes of a contiguous array that carry its values."""
    flat = block.reshape(-1).view(np.uint8)
    if block.dtype.kind in "fc" and np.finfo(block.dtype).nmant == 63:
        # The extended precision of x86 fills 10 of 16 bytes and leaves the others as they were.
        return np.ascontiguousarray(flat.reshape(-1, 16)[:, :10]).reshape(-1)
    return flat


def _plain_array(array: np.ndarray) -> bytes:
    state = hashlib.sha256()
    if array.nbytes:
        for block in _blocks(array):
            state.update(_bytes(block).data)
    return token("array", _dtype(array.dtype), token("shape", *array.shape), state.digest())


def array_content(array: np.ndarray) -> bytes | Content:
    """Return the token of an array, or its content if it holds objects."""
    array = array.view(np.ndarray)
    if array.dtype.names is not None:
        label = token("record array", _dtype(array.dtype), *array.shape)
        return Content(label, [Part(f"[{name!r}]", array[name]) for name in array.dtype.names])
    if array.dtype.kind in _PLAIN_KINDS and not array.dtype.hasobject:
        return _plain_array(array)
    label = token("object array", _dtype(array.dtype), *array.shape)
    elements = array.reshape(-1).tolist()
    return Content(label, [Part(f"[{i}]", element) for i, element in enumerate(elements)])


def _subclass(array: np.ndarray) -> Content:
    parts = [Part(".__class__", type(array)), Part("", array.view(np.ndarray))]
    if isinstance(array, np.ma.MaskedArray):
        parts = [
            Part(".__class__", type(array)),
            Part(".data", np.asarray(array.data)),
            Part(".mask", np.asarray(array.mask)),
        ]
    return Content(b"array subclass", parts)


def _generator(value: np.random.Generator | np.random.BitGenerator) -> Content:
    bits = value.bit_generator if isinstance(value, np.random.Generator) else value
    seeds = getattr(bits, "seed_seq", None)
    return Content(
        token("random", type(value).__name__),
        [Part(".state", dict(bits.state)), Part(".seed_seq", seeds)],
    )


def _ufunc(value: np.ufunc) -> bytes:
    if value.__name__.endswith("(vectorized)"):
        raise Opaque("a numpy.frompyfunc does not tell which function it calls")
    return token("ufunc", value.__name__, np.__version__, *value.types)


def _seed_sequence(value: np.random.SeedSequence) -> Content:
    state = {
        "entropy": value.entropy,
        "spawn_key": tuple(value.spawn_key),
        "pool_size": value.pool_size,
        "n_children_spawned": value.n_children_spawned,
    }
    return Content(b"seed sequence", [Part("", state)])


def expand_array(value: Any) -> bytes | Content | None:
    """Return token or content of what numpy defines, None for the rest."""
    if isinstance(value, np.ndarray):
        if type(value) in (np.ndarray, np.memmap):
            return array_content(value)
        return _subclass(value)
    if isinstance(value, np.generic):
        return Content(b"scalar", [Part("", np.asarray(value))])
    if isinstance(value, np.ufunc):
        return _ufunc(value)
    if isinstance(value, np.dtype):
        return _dtype(value)
    if any(value is generator for generator in _GLOBAL_GENERATORS):
        return token("global generator", type(value).__module__)
    if isinstance(value, np.random.RandomState):
        return Content(b"random state", [Part("", dict(value.get_state(legacy=False)))])
    if isinstance(value, np.random.Generator | np.random.BitGenerator):
        return _generator(value)
    if isinstance(value, np.random.SeedSequence):
        return _seed_sequence(value)
    return None
