r"""Numbers to integer codes and back.

Every scheme maps a weight :math:`w` of a channel to a *level* :math:`q`, an integer, and back
to :math:`q s`, where :math:`s` is the channel's scale. Level 0 decodes to exactly 0.0 in all of
them, so that a pruned weight stays pruned. It is stored as an unsigned *code* of ``bits``
bits: the level modulo :math:`2^b` (two's complement), or the level plus the zero point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .grids import Floats, Grid, channel_views, check_weight, fit_grid, level_range

__all__ = ["Codes", "dequantize", "encode", "levels", "quantize"]


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


def encode(weight: Tensor, grid: Grid) -> Codes:
    """Round a weight to the levels of a grid: the second half of `quantize`.

    Values outside the grid are clipped to its ends, which happens only to weights that the grid was
    not made for.

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
    check_weight(weight, grid.axis or 0, grid.groups)
    view, scale_view = channel_views(tuple(weight.shape), grid.axis, grid.groups)
    if math.prod(scale_view) != grid.scale.numel():
        raise ValueError(
            f"Got a grid with {grid.scale.numel()} scale(s) for a weight of shape "
            f"{tuple(weight.shape)}, which needs {math.prod(scale_view)}: it is of another weight."
        )
    scale = grid.scale.detach().cpu().reshape(scale_view).to(weight.dtype)
    points = torch.zeros(scale_view) if grid.zero_point is None else grid.zero_point
    zero_point = points.cpu().double().reshape(scale_view).numpy()
    first, last = level_range(grid.bits, grid.scheme, grid.zero_point is None)
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


def _kept_finite(q: Floats, scale: Tensor) -> Floats:
    """Saturate: a weight at the very end of the dtype must not decode to infinity."""
    decoded = torch.from_numpy(q).to(scale.dtype) * scale
    return np.where(torch.isinf(decoded).numpy(), q - np.sign(q), q)
