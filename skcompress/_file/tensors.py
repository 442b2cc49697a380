"""What a net has learned, tensors and weights stored as codes, to streams and back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from .._nets import Names, NotPlainError, Stored, is_trained
from ..nn.codes.coded_layers import PackedWeight
from ..nn.codes.grids import channel_views
from ..nn.codes.quantization import Codes
from .coding.arrays import code_levels, code_values, read_levels, read_values
from .coding.byte_streams import Coding, Reader

# Smaller tensors of one dtype are coded together: alone, each would need a table of its own.
_POOLED = 4096
_NUMPY = {
    **{f"float{n}": f"<f{n // 8}" for n in (16, 32, 64)},
    **{f"int{n}": f"<i{n // 8}" for n in (16, 32, 64)},
    "int8": "|i1",
    "uint8": "|u1",
    "bool": "|u1",
    "bfloat16": "<i2",
    "complex64": "<c8",
    "complex128": "<c16",
}
_OPTIONS = {"codes", "dense", "frozen"}


class Grid(NamedTuple):
    """How a weight is stored as codes; see `skcompress.nn.codes.quantization.Codes`."""

    bits: int
    scheme: str
    axis: int | None
    groups: int
    affine: bool


class Entry(NamedTuple):
    """What a file says of a tensor, besides its numbers.

    Attributes
    ----------
    names : tuple of str
        Tied tensors have several.
    dtype : str
        As torch names it.
    shape : list of int
        What is left of it.
    codes : Grid or None
        None: its numbers are stored.
    dense : list of int or None
        The shape before units were removed; None: it is as its definition makes it.
    frozen : bool
        Whether it does not train.
    """

    names: Names
    dtype: str
    shape: list[int]
    codes: Grid | None
    dense: list[int] | None
    frozen: bool


def entry_of(names: Names, own: Stored, uncut: Mapping[str, list[int]]) -> Entry:
    """Describe a tensor or a weight stored as codes.

    Parameters
    ----------
    names : tuple of str
        All that it has.
    own : Tensor or PackedWeight
        From `stored`.
    uncut : mapping of str to list
        Shapes before units were removed, by name.
    """
    grid = None
    if isinstance(own, PackedWeight):
        affine = own.zero_point is not None
        grid = Grid(own.bits, own.scheme, own.axis, own.groups, affine)
    floats = own.scale if isinstance(own, PackedWeight) else own
    dtype = str(floats.dtype).removeprefix("torch.")
    if dtype not in _NUMPY:
        raise NotPlainError(f"its state has a tensor of dtype {floats.dtype}, which no file holds")
    dense = next((uncut[name] for name in names if name in uncut), None)
    return Entry(names, dtype, list(own.shape), grid, dense, not is_trained(own))


def to_json(entry: Entry) -> list[Any]:
    """Return an entry as it stands in the header."""
    options: dict[str, Any] = {"codes": entry.codes, "dense": entry.dense, "frozen": entry.frozen}
    told = {name: value for name, value in options.items() if value}
    return [list(entry.names), entry.dtype, entry.shape, *([told] if told else [])]


def from_json(described: Any) -> Entry:
    """Check what `to_json` returned; ValueError if it is not an entry."""
    names, dtype, shape, *rest = described
    (told,) = rest or [{}]
    dense, codes = told.get("dense"), told.get("codes")
    known = (
        _is_list(names, str)
        and names
        and dtype in _NUMPY
        and _is_list(shape, int)
        and (dense is None or _is_list(dense, int))
        and set(told) <= _OPTIONS
        and type(told.get("frozen", False)) is bool
    )
    if not known:
        raise ValueError(f"it has the unknown kind of tensor {described!r:.160}")
    grid = None if codes is None else _grid(codes, dtype, shape)
    return Entry(tuple(names), dtype, shape, grid, dense, told.get("frozen", False))


def code_arrays(entries: Sequence[Entry], owns: Iterable[Stored], level: str) -> list[Coding]:
    """Return the streams of a net: codes and large tensors, then a pool of each dtype."""
    pools: dict[str, list[np.ndarray]] = {}
    streams = []
    for entry, own in zip(entries, owns, strict=True):
        if isinstance(own, PackedWeight):
            streams.append(_code_weight(own, pools, level))
        elif own.numel() < _POOLED:
            pools.setdefault(entry.dtype, []).append(_to_numpy(own).reshape(-1))
        else:
            streams.append(code_values(_to_numpy(own)))
    return streams + [code_values(np.concatenate(pools[dtype])) for dtype in sorted(pools)]


def read_arrays(entries: Sequence[Entry], streams: Reader) -> dict[Names, Stored]:
    """Read what `code_arrays` returned; ValueError if it is something else."""
    read: dict[Names, np.ndarray] = {}
    sizes: dict[str, int] = {}
    for entry in entries:
        for dtype, size in _pooled(entry):
            sizes[dtype] = sizes.get(dtype, 0) + size
        shape = tuple(entry.shape)
        if entry.codes is not None:
            read[entry.names] = read_levels(streams.stream(), shape, entry.codes.bits)
        elif math.prod(shape) >= _POOLED:
            read[entry.names] = read_values(streams.stream(), np.dtype(_NUMPY[entry.dtype]), shape)
    pools = {
        dtype: read_values(streams.stream(), np.dtype(_NUMPY[dtype]), (sizes[dtype],))
        for dtype in sorted(sizes)
    }
    found: dict[Names, Stored] = {}
    for entry in entries:
        pooled = [_take(pools, dtype, size) for dtype, size in _pooled(entry)]
        if entry.codes is not None:
            found[entry.names] = _packed_weight(entry, read[entry.names], pooled)
        else:
            array = read[entry.names] if entry.names in read else pooled[0].reshape(entry.shape)
            found[entry.names] = _to_tensor(entry.dtype, array)
    return found


def _is_list(value: Any, kind: type) -> bool:
    return type(value) is list and all(type(item) is kind for item in value)


def _grid(codes: Any, dtype: str, shape: list[int]) -> Grid:
    bits, scheme, axis, groups, affine = codes
    known = (
        type(bits) is int
        and 2 <= bits <= 8
        and scheme in ("uniform", "fixed_point")
        and (axis is None or (type(axis) is int and 0 <= axis < len(shape)))
        and type(groups) is int
        and groups >= 1
        and (groups == 1 or (axis and math.prod(shape[:axis]) % groups == 0))
        and type(affine) is bool
        and not (affine and scheme == "fixed_point")
        and dtype in ("float16", "bfloat16", "float32", "float64")
    )
    if not known:
        raise ValueError(f"it has codes of the unknown kind {codes!r:.160} for {dtype}")
    return Grid(*codes)


def _pooled(entry: Entry) -> list[tuple[str, int]]:
    """Return the dtypes of which a tensor has numbers in the pools, and how many."""
    if entry.codes is None:
        size = math.prod(entry.shape)
        return [(entry.dtype, size)] if size < _POOLED else []
    _, scheme, axis, groups, affine = entry.codes
    n_channels = math.prod(channel_views(tuple(entry.shape), axis, groups)[1])
    scales = "int16" if scheme == "fixed_point" else entry.dtype
    return [(scales, n_channels), ("uint8", n_channels)] if affine else [(scales, n_channels)]


def _take(pools: dict[str, np.ndarray], dtype: str, n: int) -> np.ndarray:
    first, pools[dtype] = pools[dtype][:n], pools[dtype][n:]
    return first


def _to_numpy(tensor: Tensor) -> np.ndarray:
    """Return a tensor as numbers of the same width."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:  # which numpy does not know
        tensor = tensor.view(torch.int16)
    array = tensor.numpy()
    return array.view(np.uint8) if array.dtype == bool else array


def _to_tensor(dtype: str, array: np.ndarray) -> Tensor:
    """Return the tensor that `_to_numpy` was given."""
    if dtype == "bool":
        if array.size and array.max() > 1:
            raise ValueError("it holds truth values that are neither true nor false")
        return torch.from_numpy(array.astype(bool))
    tensor = torch.from_numpy(array.copy())
    return tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor


def _code_weight(packed: PackedWeight, pools: dict[str, list[np.ndarray]], level: str) -> Coding:
    """Code the levels of a weight, and put its scales and zero points into the pools."""
    codes = packed.codes()
    if codes.scheme == "fixed_point":
        # Powers of two: the exponents say it all.
        exponents = np.frexp(codes.scale.double().cpu().numpy())[1] - 1
        pools.setdefault("int16", []).append(exponents.astype("<i2"))
    else:
        dtype = str(codes.scale.dtype).removeprefix("torch.")
        pools.setdefault(dtype, []).append(_to_numpy(codes.scale))
    values = codes.values.cpu().numpy().astype(np.int16)
    if codes.zero_point is not None:
        points = codes.zero_point.cpu().numpy()
        pools.setdefault("uint8", []).append(points)
        values = values - _spread(points, codes.values.shape, codes.axis, codes.groups)
    half = 1 << (codes.bits - 1)
    # Modulo 2**bits, so that it fits; and 0 is the level of zero.
    levels = ((values + half) & (2 * half - 1)) - half
    return code_levels(levels.astype(np.int8), codes.bits, level)


def _packed_weight(entry: Entry, levels: np.ndarray, pooled: list[np.ndarray]) -> PackedWeight:
    """Build the weight of these levels, scales and zero points."""
    grid, dtype = cast(Grid, entry.codes), getattr(torch, entry.dtype)
    if grid.scheme == "fixed_point":
        scale = torch.from_numpy(np.ldexp(1.0, pooled[0].astype(np.int32))).to(dtype)
    else:
        scale = _to_tensor(entry.dtype, pooled[0])
    values, points = levels.astype(np.int16), None
    if grid.affine:
        values = values + _spread(pooled[1], levels.shape, grid.axis, grid.groups)
        points = torch.from_numpy(pooled[1].copy())
    if not bool(torch.isfinite(scale).all()) or not bool((scale > 0).all()):
        raise ValueError("a scale in it is not a positive number")
    return PackedWeight(
        Codes(
            values=torch.from_numpy((values & ((1 << grid.bits) - 1)).astype(np.uint8)),
            scale=scale,
            zero_point=points,
            bits=grid.bits,
            scheme=grid.scheme,
            axis=grid.axis,
            groups=grid.groups,
        )
    )


def _spread(points: np.ndarray, shape: Any, axis: int | None, groups: int) -> np.ndarray:
    """Give every weight the zero point of its channel."""
    view, point_view = channel_views(tuple(shape), axis, groups)
    spread = np.broadcast_to(points.astype(np.int16).reshape(point_view), view)
    return spread.reshape(tuple(shape))
