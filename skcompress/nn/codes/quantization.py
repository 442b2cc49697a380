r"""Numbers to integer codes and back.

Every scheme maps a weight :math:`w` of a channel to a *level* :math:`q`, an integer, and back
to :math:`q s`, where :math:`s` is the channel's scale. Level 0 decodes to exactly 0.0 in all of
them, so that a pruned weight stays pruned. What is stored is an unsigned *code* of ``bits``
bits: the level modulo :math:`2^b` (two's complement), or the level plus the zero point.
"""

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
    "Codes",
    "Grid",
    "channel_views",
    "dequantize",
    "encode",
    "fit_grid",
    "level_bounds",
    "levels",
    "quantize",
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


@dataclass(frozen=True, eq=False, kw_only=True)
class Codes(Grid):
    """A weight as integers, and the grid that is needed to read them.

    Attributes
    ----------
    values : torch.Tensor of uint8
        Codes below ``2**bits``, in the shape of the weight.
    scale, zero_point, bits, scheme, axis, groups
        See `Grid`.
    """

    values: Tensor


def quantize(
    weight: Tensor,
    *,
    bits: int,
    scheme: str = "uniform",
    granularity: str = "per_channel",
    symmetric: bool = True,
    axis: int = 0,
    groups: int = 1,
) -> Codes:
    r"""Round a weight to integer codes.

    With :math:`b` bits, for each channel:

    * ``"uniform"``, symmetric: :math:`s = \max|w| / (2^{b-1} - 1)` and
      :math:`q = \mathrm{clamp}(\mathrm{round}(w / s), -2^{b-1} + 1, 2^{b-1} - 1)`.
    * ``"uniform"``, affine: the range :math:`[l, h]` of the weights is extended to contain 0,
      :math:`s = (h - l) / (2^b - 1)`, zero point :math:`z = \mathrm{round}(-l / s)` and
      :math:`q = \mathrm{clamp}(\mathrm{round}(w / s), -z, 2^b - 1 - z)`.
    * ``"fixed_point"``: :math:`s = 2^{-f}` with the largest integer :math:`f` for which no
      rounded weight leaves :math:`[-2^{b-1}, 2^{b-1} - 1]`, that is :math:`f = b - 1 - \lceil
      \log_2 \max|w| \rceil` and at most one off. It may be negative or above :math:`b`; codes
      saturate where the dtype ends before :math:`f` does.

    Decoded values are off by at most :math:`s / 2`, plus the rounding of :math:`s` and of
    :math:`q s` to the dtype of the weight. A channel of zeros has scale 1.

    Parameters
    ----------
    weight : torch.Tensor
        Floating point, without nan and infinity. Not modified.
    bits : int
        From 2 to 8.
    scheme : {"uniform", "fixed_point"}
        See above.
    granularity : {"per_channel", "per_tensor"}
        One scale for each output channel, or one for all.
    symmetric : bool
        False: affine codes. Not for ``"fixed_point"``, which is symmetric by nature.
    axis : int
        Axis of the output channels: 0, but 1 for transposed convolutions.
    groups : int
        Groups of a transposed convolution; otherwise 1.

    Examples
    --------
    >>> weight = torch.tensor([[0.0, 1.3, -6.0]])
    >>> codes = quantize(weight, bits=3)
    >>> codes.values, codes.scale
    (tensor([[0, 1, 5]], dtype=torch.uint8), tensor([2.]))
    >>> dequantize(codes)
    tensor([[ 0.,  2., -6.]])
    >>> dequantize(quantize(weight, bits=3, symmetric=False))
    tensor([[ 0.0000,  1.0429, -6.2571]])
    >>> quantize(weight, bits=5, scheme="fixed_point").scale
    tensor([0.5000])
    """
    grid = fit_grid(
        weight,
        bits=bits,
        scheme=scheme,
        granularity=granularity,
        symmetric=symmetric,
        axis=axis,
        groups=groups,
    )
    return encode(weight, grid)


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
    _check_weight(weight, axis, groups)
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


def encode(weight: Tensor, grid: Grid) -> Codes:
    """Round a weight to the levels of a grid: the second half of `quantize`.

    What lies outside the grid is clipped to its ends, which happens only to weights that the
    grid was not made for.

    Parameters
    ----------
    weight : torch.Tensor
        Floating point, without nan and infinity. Not modified.
    grid : Grid
        Of a weight of the same shape.

    Examples
    --------
    >>> grid = fit_grid(torch.tensor([[0.0, 1.3, -6.0]]), bits=3)
    >>> dequantize(encode(torch.tensor([[2.3, 0.4, 9.0]]), grid))
    tensor([[2., 0., 6.]])
    """
    _check_weight(weight, grid.axis or 0, grid.groups)
    view, scale_view = channel_views(tuple(weight.shape), grid.axis, grid.groups)
    if math.prod(scale_view) != grid.scale.numel():
        raise ValueError(
            f"Got a grid with {grid.scale.numel()} scale(s) for a weight of shape "
            f"{tuple(weight.shape)}, which needs {math.prod(scale_view)}: it is of another weight."
        )
    scale = grid.scale.detach().cpu().reshape(scale_view).to(weight.dtype)
    points = torch.zeros(scale_view) if grid.zero_point is None else grid.zero_point
    zero_point = points.cpu().double().reshape(scale_view).numpy()
    first, last = _level_range(grid.bits, grid.scheme, grid.zero_point is None)
    values = weight.detach().reshape(view).cpu().double().numpy()
    q = np.round(values / scale.double().numpy()).clip(first - zero_point, last - zero_point)
    q = _kept_finite(q, scale)
    whole = (q + zero_point).astype(np.int16) & (2**grid.bits - 1)
    codes = whole.astype(np.uint8).reshape(weight.shape)
    return Codes(
        values=torch.from_numpy(codes).to(weight.device),
        scale=grid.scale.detach().to(weight.device, weight.dtype),
        zero_point=None if grid.zero_point is None else grid.zero_point.to(weight.device),
        bits=grid.bits,
        scheme=grid.scheme,
        axis=grid.axis,
        groups=grid.groups,
    )


def dequantize(codes: Codes) -> Tensor:
    """Decode: the level of each code times the scale of its channel.

    Examples
    --------
    >>> dequantize(quantize(torch.tensor([[3.0, 0.0]]), bits=8))
    tensor([[3., 0.]])
    """
    q = levels(codes)
    view, scale_view = channel_views(tuple(q.shape), codes.axis, codes.groups)
    return (q.reshape(view) * codes.scale.reshape(scale_view)).reshape(q.shape)


def levels(codes: Codes) -> Tensor:
    """Signed levels of the codes, as floats in the dtype of the scale: exact in every dtype.

    Examples
    --------
    >>> levels(quantize(torch.tensor([[1.0, 0.0, -1.0]]), bits=8))
    tensor([[ 127.,    0., -127.]])
    """
    wide = codes.values.to(torch.int16)
    if codes.zero_point is None:
        half = 2 ** (codes.bits - 1)
        return ((wide ^ half) - half).to(codes.scale.dtype)
    view, scale_view = channel_views(tuple(wide.shape), codes.axis, codes.groups)
    points = codes.zero_point.to(torch.int16).reshape(scale_view)
    return (wide.reshape(view) - points).to(codes.scale.dtype).reshape(wide.shape)


def level_bounds(grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
    """Return the scale of each channel, and its first and last level.

    Examples
    --------
    >>> level_bounds(fit_grid(torch.tensor([[0.0, 1.3, -6.0]]), bits=3))
    (tensor([2.]), tensor([-3.]), tensor([3.]))
    """
    first, last = _level_range(grid.bits, grid.scheme, grid.zero_point is None)
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
    _, last = _level_range(bits, scheme, symmetric)
    if symmetric:
        return _step(none, np.maximum(-low, high), last, dtype), none
    scale = _step(low, high, last, dtype)
    return scale, np.round(-low / scale).clip(0, last)


def _level_range(bits: int, scheme: str, symmetric: bool) -> tuple[int, int]:
    """First and last level, before the zero point is taken off."""
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


def _kept_finite(q: Floats, scale: Tensor) -> Floats:
    """Saturate: a weight at the very end of the dtype must not decode to infinity."""
    decoded = torch.from_numpy(q).to(scale.dtype) * scale
    return np.where(torch.isinf(decoded).numpy(), q - np.sign(q), q)


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


def _check_weight(weight: Tensor, axis: int, groups: int) -> None:
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
