r"""Weights of a certain form, with zeros or on a grid, that come nearest to others.

The distance is that of the layer's outputs on its samples. The sum of squares of
:mod:`.least_squares` rises around its minimum :math:`W^*` by

.. math:: \operatorname{tr} \, (W - W^*) \, H \, (W - W^*)^\top

with :math:`H` the sum of products of inputs, plus the penalty. So an error in the weight of a large
input costs more than that of a small one, and it can be compensated by weights whose inputs are
correlated with its own.

Matrices have the shape (n_outputs, n_inputs), H has (n_inputs, n_inputs). A last column that a
constraint does not cover, the bias, is free.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ..codes.grids import Grid, fit_grid, level_bounds
from ..codes.quantization import dequantize, encode

__all__ = [
    "ConstrainedWeights",
    "Constraint",
    "Levels",
    "Zeros",
    "fit_clipped_grid",
    "round_in_turn",
]

# Ranges of a grid: shares of the one that all weights are in.
_RANGES = tuple(1 - 0.05 * i for i in range(17))
_BLOCK = 128
# Zeros are solved for output by output where that is not more work than so many steps of
# conjugate gradients.
_MOST_STEPS = 256
# Those end where the squared slope is this share of what it was.
_TOLERANCE = 1e-14


class ConstrainedWeights(NamedTuple):
    """Weights that satisfy a constraint, and the grid that they are on, if there is one."""

    weights: Tensor
    grid: Grid | None = None


class Constraint(Protocol):
    """A condition on the weights of a layer."""

    def plain(self, weights: Tensor) -> ConstrainedWeights:
        """Return the weights changed one by one, without any compensation."""

    def nearest(self, weights: Tensor, curvature: Tensor) -> ConstrainedWeights:
        """Return the weights closest to others in the metric of H, or nearly so."""


class Zeros:
    r"""Some weights are zero, and the others are optimal given these zeros.

    With S the inputs that an output keeps, and w* its row of :math:`W^*`, they are

    .. math:: w_S = H_{SS}^{-1} (H w^*)_S.

    Where many outputs keep many different inputs, conjugate gradients for all outputs at once reach
    them sooner than a Cholesky factor for each. The cost

    .. math:: \operatorname{tr} \, (W - W^*) \, H \, (W - W^*)^\top

    is therefore never larger with fewer zeros, if the weights, H and the other zeros are the same.

    Parameters
    ----------
    zeros : boolean Tensor of shape (n_outputs, n_inputs)
        Which weights are zero.

    Examples
    --------
    Two inputs that are nearly the same: one weight can replace both.

    >>> constraint = Zeros(torch.tensor([[False, True]]))
    >>> weights, curvature = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 0.9], [0.9, 1.0]])
    >>> constraint.plain(weights).weights, constraint.nearest(weights, curvature).weights
    (tensor([[1., 0.]]), tensor([[1.9000, 0.0000]]))
    """

    def __init__(self, zeros: Tensor) -> None:
        self.zeros = zeros

    def plain(self, weights: Tensor) -> ConstrainedWeights:
        """Return the weights with these zeros."""
        return ConstrainedWeights(torch.where(_widened(self.zeros, weights), 0.0, weights))

    def nearest(self, weights: Tensor, curvature: Tensor) -> ConstrainedWeights:
        """Return the optimal weights with these zeros."""
        if not self.zeros.any():
            return ConstrainedWeights(weights)
        kept = ~_widened(self.zeros, weights)
        kinds = kept.unique(dim=0)
        if int(kinds.sum(1).pow(3).sum()) <= _MOST_STEPS * weights.numel() * len(curvature):
            return ConstrainedWeights(_solve_by_outputs(weights, curvature, kept))
        found, is_done = _solve_at_once(weights, curvature, kept)
        if not is_done.all():
            rest = ~is_done
            found[rest] = _solve_by_outputs(weights[rest], curvature, kept[rest])
        return ConstrainedWeights(found)


class Levels:
    """All weights are on the grid of a quantization.

    Parameters
    ----------
    zeros : boolean Tensor of shape (n_outputs, n_inputs)
        Which weights are zero, whichever level is nearest.
    dtype : torch.dtype
        Of the scales.
    **options
        Of :func:`skcompress.nn.codes.grids.fit_grid`.

    Examples
    --------
    Two inputs that are nearly the same, and levels -1, 0 and 1:

    >>> constraint = Levels(torch.tensor([[False, False, False]]), torch.float32, bits=2)
    >>> weights = torch.tensor([[1.0, 0.4, 0.4]])
    >>> curvature = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.9], [0.0, 0.9, 1.0]])
    >>> constraint.plain(weights).weights, constraint.nearest(weights, curvature).weights
    (tensor([[1., 0., 0.]]), tensor([[1., 0., 1.]]))
    """

    def __init__(self, zeros: Tensor, dtype: torch.dtype, **options: Any) -> None:
        self.zeros = zeros
        self.dtype = dtype
        self.options = options

    def plain(self, weights: Tensor) -> ConstrainedWeights:
        """Return the nearest level of each weight."""
        own, bias = self._parts(weights)
        grid = fit_grid(own.to(self.dtype), **self.options)
        return ConstrainedWeights(
            torch.cat([dequantize(encode(own.to(self.dtype), grid)).to(bias), bias], 1)
        )

    def nearest(self, weights: Tensor, curvature: Tensor) -> ConstrainedWeights:
        """Return levels whose errors compensate each other, see `round_in_turn`."""
        n = self.zeros.shape[1]
        own, _ = self._parts(weights)
        grid = fit_clipped_grid(own.to(self.dtype), curvature.diagonal()[:n], **self.options)
        scale, first, last = (bound.to(weights) for bound in level_bounds(grid))

        def rounded(column: int, values: Tensor) -> Tensor:
            if column >= n:
                return values
            levels = (values / scale).round().clamp(first, last) * scale
            return torch.where(self.zeros[:, column], 0.0, levels)

        order = curvature.diagonal()[:n].argsort(descending=True, stable=True)
        order = torch.cat([order, torch.arange(n, len(curvature))])
        return ConstrainedWeights(round_in_turn(weights, curvature, rounded, order), grid)

    def _parts(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        n = self.zeros.shape[1]
        return torch.where(self.zeros, 0.0, weights[:, :n]), weights[:, n:]


def _solve_by_outputs(weights: Tensor, curvature: Tensor, kept: Tensor) -> Tensor:
    """Return the nearest weights of which only some are kept, by a factor for each choice."""
    right = weights @ curvature
    found = torch.zeros_like(weights)
    # Outputs that keep the same inputs are solved for together.
    kinds, kind_of = kept.unique(dim=0, return_inverse=True)
    for number, own in enumerate(kinds):
        inputs, outputs = own.nonzero()[:, 0], (kind_of == number).nonzero()
        factor = torch.linalg.cholesky(curvature[inputs][:, inputs])
        found[outputs, inputs] = torch.cholesky_solve(right[outputs, inputs].T, factor).T
    return found


def _solve_at_once(weights: Tensor, curvature: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same by conjugate gradients, and for which outputs they have converged.

    From the weights that are kept as they are, with the diagonal of H as preconditioner.
    """
    scale, tiny = curvature.diagonal(), torch.finfo(weights.dtype).tiny
    found = torch.where(kept, weights, 0.0)
    left = torch.where(kept, (weights - found) @ curvature, 0.0)
    step = left / scale
    size = (left * step).sum(1, keepdim=True)
    enough = _TOLERANCE * size
    for _ in range(len(curvature)):
        if bool((size <= enough).all()):
            break
        change = torch.where(kept, step @ curvature, 0.0)
        length = size / (step * change).sum(1, keepdim=True).clamp_min(tiny)
        found = found + length * step
        left = left - length * change
        before, size = size, (left.square() / scale).sum(1, keepdim=True)
        step = left / scale + size / before.clamp_min(tiny) * step
    return found, (size <= enough)[:, 0]


def _widened(zeros: Tensor, weights: Tensor) -> Tensor:
    return F.pad(zeros, (0, weights.shape[1] - zeros.shape[1]))


def fit_clipped_grid(weights: Tensor, importance: Tensor, **options: Any) -> Grid:
    r"""Choose the scales with the smallest rounding error, for which a few weights may be clipped.

    Of the ranges :math:`[f l, f h]`, with :math:`[l, h]` the range of a channel's weights and
    f from 0.2 to 1, each channel gets that with the smallest :math:`\sum_j a_j (w_j - q_j s)^2`.

    Parameters
    ----------
    weights : Tensor of shape (n_outputs, n_inputs)
        Not modified.
    importance : Tensor of shape (n_inputs,)
        The a above.
    **options
        Of :func:`skcompress.nn.codes.grids.fit_grid`.

    Examples
    --------
    Of two bits there is one level on each side of zero, which one large weight would take alone:

    >>> weights = torch.cat([torch.ones(1, 50), torch.tensor([[2.1]])], 1)
    >>> fit_grid(weights, bits=2).scale, fit_clipped_grid(weights, torch.ones(51), bits=2).scale
    (tensor([2.1000]), tensor([1.0500]))
    """
    each = options.get("granularity", "per_channel") == "per_channel"
    axes = (1,) if each else (0, 1)
    high = weights.clamp_min(0).amax(axes, keepdim=True)
    low = weights.clamp_max(0).amin(axes, keepdim=True)
    best, least = fit_grid(weights, **options), torch.tensor(torch.inf)
    for share in _RANGES:
        grid = fit_grid(weights.clamp(share * low, share * high), **options)
        missed = (dequantize(encode(weights, grid)) - weights).double().square() * importance
        error = missed.sum(axes)
        best, least = _better(best, grid, error < least), torch.minimum(error, least)
    return best


def _better(old: Grid, new: Grid, which: Tensor) -> Grid:
    scale = torch.where(which, new.scale, old.scale)
    if old.zero_point is None or new.zero_point is None:
        return replace(old, scale=scale)
    return replace(old, scale=scale, zero_point=torch.where(which, new.zero_point, old.zero_point))


def round_in_turn(
    weights: Tensor,
    curvature: Tensor,
    rounded: Callable[[int, Tensor], Tensor],
    order: Tensor,
) -> Tensor:
    r"""Round one column after the other; those that follow compensate for its error.

    The error of column j moves the columns F that are still to come by

    .. math:: \delta_F = - \frac{w_j - q_j}{(H_{RR}^{-1})_{jj}} \, (H_{RR}^{-1})_{jF},
        \quad R = \{j\} \cup F,

    which is optimal if they stay unrounded. All of these inverses are rows of one Cholesky factor
    of the inverse of H.

    Parameters
    ----------
    weights : Tensor of shape (n_outputs, n_columns)
        Not modified.
    curvature : Tensor of shape (n_columns, n_columns)
        H, positive definite.
    rounded : callable
        Called with the number of a column and its values; returns them rounded.
    order : Tensor of int
        The columns in their turn.

    Raises
    ------
    torch.linalg.LinAlgError
        If H is not positive definite.

    References
    ----------
    Frantar et al. (2023), "OPTQ: Accurate Quantization for Generative Pre-trained
    Transformers"; Hassibi, Stork (1993), "Optimal Brain Surgeon".

    Examples
    --------
    The first column is rounded down, so the second, whose input is much the same, goes up:

    >>> weights, curvature = torch.tensor([[0.4, 0.4]]), torch.tensor([[1.0, 0.9], [0.9, 1.0]])
    >>> round_in_turn(weights, curvature, lambda column, values: values.round(), torch.arange(2))
    tensor([[0., 1.]])
    """
    left, n = weights[:, order], len(order)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(curvature[order][:, order]))
    factor = torch.linalg.cholesky(inverse, upper=True)
    done = torch.zeros_like(left)
    for begin in range(0, n, _BLOCK):
        end = min(begin + _BLOCK, n)
        missed = left.new_zeros(len(left), end - begin)
        for j in range(begin, end):
            done[:, j] = rounded(int(order[j]), left[:, j])
            missed[:, j - begin] = (left[:, j] - done[:, j]) / factor[j, j]
            left[:, j:end] -= missed[:, j - begin, None] * factor[j, j:end]
        # Columns after the block are moved at once, in one product.
        left[:, end:] -= missed @ factor[begin:end, end:]
    return torch.empty_like(done).index_copy_(1, order, done)
