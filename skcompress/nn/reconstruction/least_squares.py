r"""Weights with which the outputs of a layer come near to those it had before a compression.

A layer with the outputs :math:`y = W x + b` has lost some of its inputs, or is to have zeros among
its weights, or weights on a grid; and its inputs, now :math:`x'`, may have changed as well. New
weights bring it near to y,

.. math:: \min_{W', b'} \sum_i \lVert y_i - W' x'_i - b' \rVert^2
          + \lambda \bar a \lVert W' - W_0 \rVert^2

over samples i (rows, and positions of a convolution) and over the weights of the form that is asked
for, with :math:`W_0` what is left of W, and :math:`\bar a = \mathrm{mean}_j \sum_i x_{ij}'^2`, so
that :math:`\lambda` has no unit. It is chosen on samples that are held out of the solution. The
weights that the constraint alone gives are one of the choices, so nothing is lost where nothing can
be gained. For lost inputs this is the second half of He et al. (2017), "Channel Pruning for
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
        self._parts = [_Sums(*self._start.shape), _Sums(*self._start.shape)]

    def add(self, inputs: Tensor, outputs: Tensor, *, held_out: bool) -> None:
        """Add samples: to solve for, or to choose the penalty on."""
        inputs, outputs = inputs.detach().cpu(), outputs.detach().cpu()
        if self.layer.bias is not None:
            inputs = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], 1)
        self._parts[held_out].add(inputs, outputs, self._start)

    def solve_(self) -> LayerFit:
        """Give the layer the nearest weights, if they have a smaller error than the plain ones."""
        known, held = self._parts
        if not (known.n and held.n) or not bool(known.gram.isfinite().all()):
            return self.leave_()
        unit = held.spread()
        plain = self.constraint.plain(self._start)
        best, found = None, plain
        before = least = held.error(plain.weights - self._start)
        for penalty in _PENALTIES:
            error = held.error(self._nearest(known, penalty, plain).weights - self._start)
            if error < least:
                best, least = penalty, error
        if best is not None:
            found = self._nearest(known + held, best, plain)
        self._set(found.weights)
        after = before if found is plain else least
        return LayerFit(before / unit, after / unit, found.grid)

    def leave_(self) -> LayerFit:
        """Give the layer the plain weights."""
        self._set(self.constraint.plain(self._start).weights)
        return LayerFit(1.0, 1.0)

    def _nearest(
        self, sums: _Sums, penalty: float, plain: ConstrainedWeights
    ) -> ConstrainedWeights:
        """Return the best weights by these sums; the plain ones if they cannot be solved."""
        curvature, step = sums.solve(penalty, self.layer.bias is not None)
        try:
            return self.constraint.nearest(self._start + step, curvature)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            return plain  # the penalty is too small for the precision of the sums

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
        self.outputs = torch.zeros(2, n_outputs, dtype=torch.float64)

    def add(self, inputs: Tensor, outputs: Tensor, start: Tensor) -> None:
        missed = outputs - inputs @ start.to(inputs.dtype).T
        self.n += len(inputs)
        # Products in the precision of the net: of a few thousand samples at once, added up in
        # float64. They are as exact as its own outputs, and take half of the time.
        self.gram += inputs.T @ inputs
        self.missing += inputs.T @ missed
        self.squares += float(missed.double().square().sum())
        self.outputs += torch.stack([outputs.double().sum(0), outputs.double().square().sum(0)])

    def __add__(self, other: _Sums) -> _Sums:
        both = _Sums(self.missing.shape[1], len(self.gram))
        both.n = self.n + other.n
        both.gram, both.missing = self.gram + other.gram, self.missing + other.missing
        both.squares, both.outputs = self.squares + other.squares, self.outputs + other.outputs
        return both

    def solve(self, penalty: float, has_bias: bool) -> tuple[Tensor, Tensor]:
        """Return the products of inputs with the penalty, and what to add to the weights."""
        penalties = torch.full_like(self.gram[0], penalty * self._scale(has_bias))
        if has_bias:
            penalties[-1] = 1e-9 * self.n
        curvature = self.gram + penalties.diag()
        return curvature, torch.linalg.solve(curvature, self.missing).T

    def _scale(self, has_bias: bool) -> float:
        squares = self.gram.diagonal()
        mean = float((squares[:-1] if has_bias else squares).mean())
        return mean or 1.0  # with inputs that are all zero any penalty gives the same weights

    def error(self, step: Tensor) -> float:
        """Return the sum of squared residuals after a step."""
        change = ((step @ self.gram) * step).sum() - 2 * (step.T * self.missing).sum()
        return max(self.squares + float(change), 0.0)

    def spread(self) -> float:
        """Return the sum of squares around the mean of the outputs."""
        total, squares = self.outputs
        return float((squares - total.square() / self.n).sum()) or 1.0
