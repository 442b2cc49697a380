"""The levels that a quantized weight may take: scales and zero points, chosen for each channel."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .finite import all_finite

__all__ = [
    "Grid",
    "channel_views",
    "check_weight",
    "fit_grid",
    "level_bounds",
    "level_range",
]


Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Grid:
    """The levels that a weight may take.

    Attributes
    ----------
    scale : torch.Tensor of shape (n_channels,)
        In the dtype of the weight. Powers of two if ``scheme`` is ``"fixed_point"``.
    zero_point : torch.Tensor of uint8 and shape (n_channels,), or None
        The codes that mean zero. None: symmetric, the codes are two's complement.
    bits : int
        Width of a code.
    scheme : {"uniform", "fixed_point"}
        How the scale was chosen.
    axis : int or None
        Axis of the weight along which scales differ; None if there is one scale for all.
    groups : int
        Into how many runs the axes before ``axis`` are cut, each with scales of its own
        (grouped transposed convolutions).
    """

    scale: Tensor
    zero_point: Tensor | None
    bits: int
    scheme: str
    axis: int | None
    groups: int = 1


def fit_grid(
    weight: Tensor,
    *,
    bits: int,
    scheme: str = "uniform",
    granularity: str = "per_channel",
    symmetric: bool = True,
    axis: int = 0,
    groups: int = 1,
) -> Grid:
    """Choose scales and zero points for a weight: the first half of `quantize`.

    Parameters are those of `quantize`.

    Examples
    --------
    >>> fit_grid(torch.tensor([[0.0, 1.3, -6.0]]), bits=3).scale
    tensor([2.])
    """
    _check_options(bits, scheme, granularity, symmetric)
    check_weight(weight, axis, groups)
    used_axis = None if granularity == "per_tensor" else axis
    used_groups = 1 if used_axis is None else groups
    view, _ = channel_views(tuple(weight.shape), used_axis, used_groups)
    values = weight.detach().reshape(view).cpu().double().numpy()
    scale, zero_point = _fit(values, bits, scheme, symmetric, weight.dtype)
    points = torch.from_numpy(zero_point.astype(np.uint8).reshape(-1)).to(weight.device)
    return Grid(
        scale=torch.from_numpy(scale).to(weight.dtype).reshape(-1).to(weight.device),
        zero_point=None if symmetric else points,
        bits=int(bits),
        scheme=scheme,
        axis=used_axis,
        groups=used_groups,
    )


def level_bounds(grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
    """Return the scale of each channel, and its first and last level.

    Examples
    --------
    >>> level_bounds(fit_grid(torch.tensor([[0.0, 1.3, -6.0]]), bits=3))
    (tensor([2.]), tensor([-3.]), tensor([3.]))
    """
    first, last = level_range(grid.bits, grid.scheme, grid.zero_point is None)
    points = 0 * grid.scale if grid.zero_point is None else grid.zero_point.to(grid.scale)
    return grid.scale, first - points, last - points


View = tuple[int, int, int, int]


def channel_views(shape: tuple[int, ...], axis: int | None, groups: int = 1) -> tuple[View, View]:
    """Shapes in which a weight and the scales of its channels broadcast.

    Only reshapes, no transposition: channel :math:`c` of group :math:`g` is element
    ``[g, :, c, :]`` of the first view and ``[g, 0, c, 0]`` of the second.

    Examples
    --------
    >>> channel_views((6, 4, 3), axis=0)
    ((1, 1, 6, 12), (1, 1, 6, 1))
    >>> channel_views((6, 4, 3), axis=1, groups=2)
    ((2, 3, 4, 3), (2, 1, 4, 1))
    """
    if axis is None:
        return (1, 1, 1, math.prod(shape)), (1, 1, 1, 1)
    before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    return (groups, before // groups, shape[axis], after), (groups, 1, shape[axis], 1)


def _fit(
    values: Floats, bits: int, scheme: str, symmetric: bool, dtype: torch.dtype
) -> tuple[Floats, Floats]:
    """Scale and zero point of each channel."""
    low, high = _ranges(values)
    none = np.zeros_like(low)
    if scheme == "fixed_point":
        return _power_of_two(low, high, bits, dtype), none
    _, last = level_range(bits, scheme, symmetric)
    if symmetric:
        return _step(none, np.maximum(-low, high), last, dtype), none
    scale = _step(low, high, last, dtype)
    return scale, np.round(-low / scale).clip(0, last)


def level_range(bits: int, scheme: str, symmetric: bool) -> tuple[int, int]:
    """Return the first and the last level, before the zero point is subtracted."""
    half = 2 ** (bits - 1)
    if scheme == "fixed_point":
        return -half, half - 1
    return (1 - half, half - 1) if symmetric else (0, 2 * half - 1)


def _ranges(values: Floats) -> tuple[Floats, Floats]:
    """Smallest and largest weight of each channel, 0 included."""
    low = np.min(values, axis=(1, 3), keepdims=True, initial=0.0)
    return low, np.max(values, axis=(1, 3), keepdims=True, initial=0.0)


def _step(low: Floats, high: Floats, n_steps: int, dtype: torch.dtype) -> Floats:
    """Divide each range into steps, in numbers that ``dtype`` has."""
    # Not (high - low) / n: the difference of the largest float64 numbers is infinite.
    exact = high / n_steps - low / n_steps
    step = torch.from_numpy(exact).to(dtype).double().numpy()
    # Among subnormal numbers rounding may shorten the step so far that the range does not fit
    # any more, down to 0. The next number up is one smallest number away.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        short = high / step - low / step > n_steps + 0.5
    step = np.where(short, step + _smallest(dtype), step)
    return np.where(high == low, 1.0, np.maximum(step, _smallest(dtype)))


def _power_of_two(low: Floats, high: Floats, bits: int, dtype: torch.dtype) -> Floats:
    """Smallest power of two with which no rounded weight clips."""
    half = 2 ** (bits - 1)
    _, exponent = np.frexp(np.maximum(-low, high))
    # Two more than always fit, and one more than the formula; at most three come off again.
    fraction = bits - exponent + 1
    for _ in range(3):
        with np.errstate(over="ignore"):
            clips = np.round(np.ldexp(low, fraction)) < -half
            clips |= np.round(np.ldexp(high, fraction)) > half - 1
        fraction = fraction - clips
    # ... within the powers of two that the dtype has
    finest = 1 - math.frexp(_smallest(dtype))[1]
    coarsest = 1 - math.frexp(torch.finfo(dtype).max)[1]
    scale = np.ldexp(1.0, -np.clip(fraction, coarsest, finest))
    return np.where(high == low, 1.0, scale)


def _smallest(dtype: torch.dtype) -> float:
    """Smallest positive number: a subnormal one, where these can be relied on."""
    info = torch.finfo(dtype)
    # Processors with instructions for bfloat16 round its subnormal numbers to zero.
    return info.smallest_normal * (1.0 if dtype == torch.bfloat16 else info.eps)


def _check_options(bits: Any, scheme: str, granularity: str, symmetric: bool) -> None:
    whole: bool = isinstance(bits, numbers.Integral)  # numpy's integers too
    if not whole or not 2 <= bits <= 8:
        raise ValueError(f"Got bits={bits!r}, but expected an integer from 2 to 8.")
    if scheme not in ("uniform", "fixed_point"):
        raise ValueError(f"Got scheme={scheme!r}, but expected 'uniform' or 'fixed_point'.")
    if granularity not in ("per_channel", "per_tensor"):
        raise ValueError(
            f"Got granularity={granularity!r}, but expected 'per_channel' or 'per_tensor'."
        )
    if scheme == "fixed_point" and not symmetric:
        raise ValueError(
            f"Got symmetric={symmetric!r} with scheme={scheme!r}, but fixed point numbers have no "
            "zero point: leave symmetric=True, or use scheme='uniform' for affine codes."
        )


def check_weight(weight: Tensor, axis: int, groups: int) -> None:
    """Raise ValueError for a weight that has no codes, or no such channels."""
    if not weight.is_floating_point():
        raise ValueError(f"Got a weight of dtype {weight.dtype}, but expected floating point.")
    if not 0 <= axis < weight.dim() or math.prod(weight.shape[:axis]) % groups:
        raise ValueError(
            f"Got axis={axis!r} and groups={groups!r} for a weight of shape "
            f"{tuple(weight.shape)}, which has no such channels."
        )
    if not all_finite(weight):
        raise ValueError(
            "Got a weight with nan or infinite values, which have no code. Training diverged: "
            "lower the learning rate or clip gradients before quantizing."
        )
