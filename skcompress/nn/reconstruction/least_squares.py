r"""Weights with which the outputs of a layer come near to those it had before a compression.

A layer with the outputs :math:`y = W x + b` has lost some of its inputs, or is to have zeros among
its weights, or weights on a grid; and its inputs, now :math:`x'`, may have changed as well. New
weights bring it near to y,

.. math:: \min_{W', b'} \sum_i \lVert y_i - W' x'_i - b' \rVert^2
          + \lambda \bar a \lVert W' - W_0 \rVert^2

over samples i (rows, and positions of a convolution) and over the weights of the form that is asked
for, with :math:`W_0` what is left of W, and
:math:`\bar a = \mathrm{mean}_j \sum_i (x_{ij}' - \bar x_j')^2`, so that :math:`\lambda` has no unit
and an offset of the inputs does not count. It is chosen on samples that are held out of the
solution. The weights that the constraint alone gives are one of the choices, so nothing is lost
where nothing can be gained.

For one :math:`\lambda`, the minimum above over the samples that are solved for never grows if fewer
of the weights have to be zero. The error on held-out samples, by which :math:`\lambda` is chosen
and new weights are accepted, may grow.

For lost inputs this is the second half of He et al. (2017), "Channel Pruning for
Accelerating Very Deep Neural Networks"; for the other forms see :mod:`.constraints`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..codes.grids import Grid
from .constraints import ConstrainedWeights, Constraint
from .layer_samples import n_inputs

__all__ = ["LayerFit", "LeastSquares"]

# Values of lambda: the larger, the nearer to the weights that are there.
_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)


class LayerFit(NamedTuple):
    r"""The error of a layer before and after it was solved for.

    Attributes
    ----------
    before, after : float
        :math:`\sum \lVert y - W x - b \rVert^2 / \sum \lVert y - \bar y \rVert^2` over the
        samples that were held out; equal if nothing was gained.
    grid : Grid or None
        The grid of the new weights, if the constraint has one.
    """

    before: float
    after: float
    grid: Grid | None = None

    @property
    def is_better(self) -> bool:
        """Whether there are new weights."""
        return self.after < self.before


class LeastSquares:
    """Sums over samples, and the new weights of a layer that follow from them.

    Parameters
    ----------
    layer : torch.nn.Linear or convolution
        Its weights, and its bias if it has one, are where the search begins.
    constraint : Constraint
        The condition on the new weights.

    Examples
    --------
    The second input of this layer is always twice the first, so the first alone will do:

    >>> from torch import nn
    >>> from skcompress.nn.reconstruction.constraints import Zeros
    >>> dense, layer = nn.Linear(2, 1), nn.Linear(2, 1)
    >>> state = {"weight": torch.tensor([[1.0, 1.0]]), "bias": torch.ones(1)}
    >>> _ = dense.load_state_dict(state), layer.load_state_dict(state)
    >>> x = torch.linspace(-1, 1, 50)[:, None] * torch.tensor([1.0, 2.0])
    >>> sums = LeastSquares(layer, Zeros(torch.tensor([[False, True]])))
    >>> sums.add(x, dense(x), held_out=False)
    >>> sums.add(x, dense(x), held_out=True)
    >>> before, after, _ = sums.solve_()
    >>> layer.weight.round(decimals=2), after < before / 100
    (tensor([[3., 0.]], grad_fn=<RoundBackward1>), True)
    """

    def __init__(self, layer: Any, constraint: Constraint) -> None:
        self.layer = layer
        self.constraint = constraint
        weight = layer.weight.detach().flatten(1)
        bias = [] if layer.bias is None else [layer.bias.detach()[:, None]]
        self._start = torch.cat([weight, *bias], 1).double().cpu()
        n_outputs, n = weight.shape
        # With a bias, sums are about means: offsets would take the digits of what varies. Those of
        # the first samples will do.
        self._means = self._start.new_zeros(n), self._start.new_zeros(n_outputs)
        self._anchor = self._start.clone()  # residuals are from here
        self._anchor[:, n:] = 0.0
        self._parts = [_Sums(n_outputs, self._start.shape[1]) for _ in range(2)]

    def add(self, inputs: Tensor, outputs: Tensor, *, held_out: bool) -> None:
        """Add samples: to solve for, or to choose the penalty on."""
        if not len(inputs):
            return
        x, y = inputs.detach().cpu().double(), outputs.detach().cpu().double()
        if self.layer.bias is not None and not any(part.n for part in self._parts):
            self._means = x.mean(0), y.mean(0)
        x, y = x - self._means[0], y - self._means[1]
        if self.layer.bias is not None:
            x = torch.cat([x, x.new_ones(len(x), 1)], 1)
        self._parts[held_out].add(x, y, self._anchor)

    def solve_(self) -> LayerFit:
        """Give the layer the nearest weights, if they have a smaller error than the plain ones."""
        known, held = self._parts
        if not all(part.n and bool(part.gram.isfinite().all()) for part in self._parts):
            return self.leave_()
        unit = held.spread()
        plain = self.constraint.plain(self._start)
        best = None
        before = least = held.error(self._about_means(plain.weights) - self._anchor)
        for penalty in _PENALTIES:
            found = self._nearest(known, penalty)
            if found is not None and (error := held.error(found.weights - self._anchor)) < least:
                best, least = penalty, error
        found = None if best is None else self._nearest(known + held, best)
        if found is None:
            self._set(plain.weights)
            return LayerFit(before / unit, before / unit, plain.grid)
        self._set(self._about_zero(found.weights))
        return LayerFit(before / unit, least / unit, found.grid)

    def leave_(self) -> LayerFit:
        """Give the layer the plain weights."""
        self._set(self.constraint.plain(self._start).weights)
        return LayerFit(1.0, 1.0)

    def _nearest(self, sums: _Sums, penalty: float) -> ConstrainedWeights | None:
        """Return the best weights by these sums, with a bias about the means.

        None if the penalty is too small for the precision of the sums.
        """
        penalties = torch.full_like(sums.gram[0], penalty * self._unit(sums))
        if self.layer.bias is not None:
            penalties[-1] = 1e-9 * sums.n
        try:
            curvature, step = sums.solve(penalties)
            return self.constraint.nearest(self._anchor + step, curvature)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            return None

    def _unit(self, sums: _Sums) -> float:
        """Return what the penalty is a multiple of: mean sum of squares of an input."""
        mean = sums.inputs[: n_inputs(self.layer)] / sums.n
        squares = sums.gram.diagonal()[: len(mean)]
        varying = (squares - sums.n * mean.square()).clamp_min(0.0)
        total = varying + sums.n * (mean + self._means[0]).square()
        # A millionth of an input is rounding. With inputs that are all zero any penalty will do.
        return max(float(varying.mean()), 1e-12 * float(total.mean())) or 1.0

    def _about_means(self, weights: Tensor) -> Tensor:
        """Return the weights with the bias for inputs and outputs about their means."""
        if self.layer.bias is None:
            return weights
        own, bias = weights[:, :-1], weights[:, -1:]
        x, y = self._means
        return torch.cat([own, bias + (own @ x - y)[:, None]], 1)

    def _about_zero(self, weights: Tensor) -> Tensor:
        """Undo `_about_means`; the bias makes up for the rounding of the weights, too."""
        if self.layer.bias is None:
            return weights
        own = weights[:, :-1].to(self.layer.weight.dtype).double()
        x, y = self._means
        return torch.cat([own, weights[:, -1:] - (own @ x - y)[:, None]], 1)

    def _set(self, solution: Tensor) -> None:
        weight, bias = self.layer.weight, self.layer.bias
        n = n_inputs(self.layer)
        with torch.inference_mode(False), torch.no_grad():
            weight.copy_(solution[:, :n].reshape(weight.shape))
            if bias is not None:
                bias.copy_(solution[:, n])


class _Sums:
    """Sums over samples: of products of inputs, and of inputs with the residuals."""

    def __init__(self, n_outputs: int, n_inputs: int) -> None:
        self.n = 0
        self.gram = torch.zeros(n_inputs, n_inputs, dtype=torch.float64)
        self.missing = torch.zeros(n_inputs, n_outputs, dtype=torch.float64)
        self.squares = 0.0
        self.inputs = torch.zeros(n_inputs, dtype=torch.float64)
        self.outputs = torch.zeros(2, n_outputs, dtype=torch.float64)

    def add(self, inputs: Tensor, outputs: Tensor, base: Tensor) -> None:
        missed = outputs - inputs @ base.T
        self.n += len(inputs)
        self.gram += inputs.T @ inputs
        self.missing += inputs.T @ missed
        self.squares += float(missed.square().sum())
        self.inputs += inputs.sum(0)
        self.outputs += torch.stack([outputs.sum(0), outputs.square().sum(0)])

    def __add__(self, other: _Sums) -> _Sums:
        both = _Sums(self.missing.shape[1], len(self.gram))
        for name in vars(both):
            setattr(both, name, getattr(self, name) + getattr(other, name))
        return both

    def solve(self, penalties: Tensor) -> tuple[Tensor, Tensor]:
        """Return the products of inputs with the penalties, and what to add to the weights."""
        curvature = self.gram + penalties.diag()
        factor = torch.linalg.cholesky(curvature)
        return curvature, torch.cholesky_solve(self.missing, factor).T

    def error(self, step: Tensor) -> float:
        """Return the sum of squared residuals after a step."""
        change = ((step @ self.gram) * step).sum() - 2 * (step.T * self.missing).sum()
        return max(self.squares + float(change), 0.0)

    def spread(self) -> float:
        """Return the sum of squares around the mean of the outputs."""
        total, squares = self.outputs
        return float((squares - total.square() / self.n).sum()) or 1.0
