"""Tensors and coded weights as numpy arrays that are coded, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..nn.codes.coded_layers import PackedWeight
from ..nn.codes.grids import channel_views
from ..nn.codes.quantization import Codes
from .coding.arrays import code_levels
from .coding.byte_streams import Coding
from .inventory import Names
from .plain import NotPlainError

NUMPY = {
    **{f"float{n}": f"<f{n // 8}" for n in (16, 32, 64)},
    **{f"int{n}": f"<i{n // 8}" for n in (16, 32, 64)},
    "int8": "|i1",
    "uint8": "|u1",
    "bool": "|u1",
    "bfloat16": "<i2",
    "complex64": "<c8",
    "complex128": "<c16",
}


def spec_of(tensor: Tensor) -> list[Any]:
    """Return the name of a tensor's dtype, and its shape."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in NUMPY:
        raise NotPlainError(f"its state has a tensor of dtype {tensor.dtype}, which no file holds")
    return [dtype, list(tensor.shape)]


def packed_spec(packed: PackedWeight) -> list[Any]:
    """Return the same of the tensor that codes stand for."""
    return [spec_of(packed.scale)[0], list(packed.shape)]


def to_numpy(tensor: Tensor) -> tuple[str, np.ndarray]:
    """Return the name of a tensor's dtype, and its content as numbers of the same width."""
    name, _ = spec_of(tensor)
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:  # which numpy does not know
        tensor = tensor.view(torch.int16)
    array = tensor.numpy()
    return name, array.view(np.uint8) if array.dtype == bool else array


def to_tensor(name: str, array: np.ndarray) -> Tensor:
    """Return the tensor that `to_numpy` was given."""
    if name == "bool":
        if array.size and array.max() > 1:
            raise ValueError("it holds truth values that are neither true nor false")
        return torch.from_numpy(array.astype(bool))
    tensor = torch.from_numpy(array.copy())
    return tensor.view(torch.bfloat16) if name == "bfloat16" else tensor


def code_entry(names: Names, packed: PackedWeight) -> list[Any]:
    """Describe a weight that is stored as codes: all of it but the numbers."""
    dtype, shape = packed_spec(packed)
    affine = packed.zero_point is not None
    grid = [packed.bits, packed.scheme, packed.axis, packed.groups, affine]
    return [list(names), shape, *grid, dtype]


def code_weight(packed: PackedWeight, pools: dict[str, list[np.ndarray]], level: str) -> Coding:
    """Code the levels of a weight, and put its scales and zero points into the pools."""
    codes = packed.codes()
    if codes.scheme == "fixed_point":
        # Powers of two: the exponents say it all.
        exponents = np.frexp(codes.scale.double().cpu().numpy())[1] - 1
        pools.setdefault("int16", []).append(exponents.astype("<i2"))
    else:
        name, scales = to_numpy(codes.scale)
        pools.setdefault(name, []).append(scales)
    values = codes.values.cpu().numpy().astype(np.int16)
    if codes.zero_point is not None:
        points = codes.zero_point.cpu().numpy()
        pools.setdefault("uint8", []).append(points)
        values = values - _spread(points, codes.values.shape, codes.axis, codes.groups)
    half = 1 << (codes.bits - 1)
    # Modulo 2**bits, so that it fits; and 0 is the level of zero.
    levels = ((values + half) & (2 * half - 1)) - half
    return code_levels(levels.astype(np.int8), codes.bits, level)


def read_code_entry(entry: list[Any]) -> dict[str, Any]:
    """Check what `code_entry` wrote and name its parts."""
    names, shape, bits, scheme, axis, groups, affine, dtype = entry
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
        raise ValueError(f"the codes of {names!r:.80} are of the unknown kind {entry[2:]!r:.80}")
    return {
        "shape": shape,
        "bits": bits,
        "scheme": scheme,
        "axis": axis,
        "groups": groups,
        "affine": affine,
        "dtype": dtype,
    }


def grid_dtypes(code: Mapping[str, Any]) -> list[str]:
    """Return in which pools the scales and the zero points of a weight are."""
    scales = "int16" if code["scheme"] == "fixed_point" else code["dtype"]
    return [scales, "uint8"] if code["affine"] else [scales]


def n_scales(code: Mapping[str, Any]) -> int:
    """Return how many scales a weight has."""
    return math.prod(channel_views(tuple(code["shape"]), code["axis"], code["groups"])[1])


def packed_weight(
    code: Mapping[str, Any], levels: np.ndarray, grid: list[np.ndarray]
) -> PackedWeight:
    """Build the weight of these levels, scales and zero points."""
    dtype = getattr(torch, code["dtype"])
    if code["scheme"] == "fixed_point":
        scale = torch.from_numpy(np.ldexp(1.0, grid[0].astype(np.int32))).to(dtype)
    else:
        scale = to_tensor(code["dtype"], grid[0])
    values, points = levels.astype(np.int16), None
    if code["affine"]:
        values = values + _spread(grid[1], levels.shape, code["axis"], code["groups"])
        points = torch.from_numpy(grid[1].copy())
    if not bool(torch.isfinite(scale).all()) or not bool((scale > 0).all()):
        raise ValueError("a scale in it is no positive number")
    return PackedWeight(
        Codes(
            values=torch.from_numpy((values & ((1 << code["bits"]) - 1)).astype(np.uint8)),
            scale=scale,
            zero_point=points,
            bits=code["bits"],
            scheme=code["scheme"],
            axis=code["axis"],
            groups=code["groups"],
        )
    )


def _spread(points: np.ndarray, shape: Any, axis: int | None, groups: int) -> np.ndarray:
    """Give every weight the zero point of its channel."""
    view, point_view = channel_views(tuple(shape), axis, groups)
    spread = np.broadcast_to(points.astype(np.int16).reshape(point_view), view)
    return spread.reshape(tuple(shape))
