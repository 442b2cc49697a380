r"""Weights that make up for inputs that a layer has lost.

A layer with the outputs :math:`y = W x + b` is left with some of its inputs, :math:`x'`, whose
values may have changed as well. With what it has left it can still come near to y,

.. math:: \min_{W', b'} \sum_i \lVert y_i - W' x'_i - b' \rVert^2
          + \lambda \bar a \lVert W' - W_0 \rVert^2

over samples i (rows, and places of a convolution), with :math:`W_0` the columns of W that are
left, and :math:`\bar a = \mathrm{mean}_j \sum_i x_{ij}'^2`, so that :math:`\lambda` has no unit.
It is chosen on samples that had no part in the solution, and :math:`W_0` itself is one of the
choices: nothing changes where nothing is gained. This is the second half of He et al. (2017),
"Channel Pruning for Accelerating Very Deep Neural Networks".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

__all__ = ["LeastSquares", "Places", "can_reconstruct", "n_inputs", "n_places"]

# Values of lambda: the larger, the nearer to the weights that are there.
_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def can_reconstruct(layer: nn.Module) -> bool:
    """Whether a layer is a linear map of its input that may change freely.

    Not so where it is stored as codes, computes in a way of its own, has groups, is not trained,
    or has weights that are zero: those may have been pruned, and would not be zero any more.

    Examples
    --------
    >>> can_reconstruct(nn.Linear(3, 2)), can_reconstruct(nn.Conv2d(4, 4, 3, groups=4))
    (True, False)
    """
    kind = next((kind for kind in (nn.Linear, *_CONVOLUTIONS) if isinstance(layer, kind)), None)
    if kind is None or getattr(layer, "groups", 1) != 1:
        return False
    methods = ("forward", "_conv_forward")
    if any(getattr(type(layer), m, None) is not getattr(kind, m, None) for m in methods):
        return False
    weight = layer._parameters.get("weight")
    return (
        weight is not None
        and weight.dtype in (torch.float32, torch.float64)
        and weight.numel() > 0
        and all(parameter.requires_grad for parameter in layer.parameters())
        and bool((weight != 0).all())
    )


def n_inputs(layer: Any) -> int:
    """Return how many numbers an output of the layer is made of."""
    return int(layer.weight[0].numel())


def n_places(layer: Any, y: Tensor) -> int:
    """Return how many rows, or places of images, an output of the layer is of."""
    return _with_rows(layer, y)[..., 0].numel()


@dataclass(frozen=True)
class Places:
    """Some of the places of an output: rows, and where in a row, drawn by a seed.

    Examples
    --------
    >>> layer, x = nn.Conv2d(2, 3, 3, padding=1), torch.rand(4, 2, 5, 5)
    >>> places = Places.draw(layer, layer(x), share=0.1, seed=0)
    >>> inputs, outputs = places.inputs(layer, x), places.outputs(layer, layer(x))
    >>> inputs.shape, outputs.shape
    (torch.Size([10, 18]), torch.Size([10, 3]))
    >>> torch.allclose(inputs @ layer.weight.flatten(1).T + layer.bias, outputs, atol=1e-5)
    True
    """

    shape: tuple[int, ...]
    at: tuple[Tensor, ...]

    @classmethod
    def draw(cls, layer: Any, y: Tensor, share: float, seed: int) -> Places:
        """Return a share of the places of an output of a layer; 1: all of them."""
        shape = tuple(_with_rows(layer, y)[..., 0].shape)
        drawn = torch.arange(math.prod(shape))
        if share < 1:
            n, draw = math.ceil(share * len(drawn)), torch.Generator().manual_seed(seed)
            drawn = torch.randperm(len(drawn), generator=draw)[:n].sort()[0]
        return cls(shape, torch.unravel_index(drawn, shape))

    def outputs(self, layer: Any, y: Tensor) -> Tensor:
        """Return an output there, of shape (n_places, n_outputs)."""
        return _with_rows(layer, y)[self.at]

    def inputs(self, layer: Any, x: Tensor) -> Tensor:
        """Return what an input of a layer has for it there, in the order of its weights.

        Raises
        ------
        ValueError
            If the input is of other places.
        """
        patches = _patches(layer, x)
        if patches.shape[: len(self.shape)] != self.shape:
            raise ValueError(f"An input of {tuple(x.shape)} is not of the places {self.shape}.")
        return patches[self.at].flatten(1)


def _with_rows(layer: Any, tensor: Tensor) -> Tensor:
    """Move channels to the end; give what is one row alone an axis of rows."""
    if isinstance(layer, nn.Linear):
        return torch.atleast_2d(tensor)
    tensor = tensor if tensor.dim() > len(layer.kernel_size) + 1 else tensor[None]
    return tensor.movedim(1, -1)


def _patches(layer: Any, x: Tensor) -> Tensor:
    """Return a view of what each output is made of, the last axes."""
    if isinstance(layer, nn.Linear):
        return torch.atleast_2d(x)
    n_axes = len(layer.kernel_size)
    x = x if x.dim() > n_axes + 1 else x[None]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    for axis in range(2, 2 + n_axes):
        kernel, dilation = layer.kernel_size[axis - 2], layer.dilation[axis - 2]
        x = x.unfold(axis, (kernel - 1) * dilation + 1, layer.stride[axis - 2])[..., ::dilation]
    return x.movedim(1, 1 + n_axes)


class LeastSquares:
    """The sums that new weights of a layer are computed from.

    Parameters
    ----------
    layer : torch.nn.Linear or convolution
        Its weights, and its bias if it has one, are where the search begins.

    Examples
    --------
    The second input of this layer is always twice the first, so the first alone will do:

    >>> dense, layer = nn.Linear(2, 1), nn.Linear(1, 1)
    >>> _ = dense.load_state_dict({"weight": torch.tensor([[1.0, 1.0]]), "bias": torch.ones(1)})
    >>> _ = layer.load_state_dict({"weight": torch.tensor([[1.0]]), "bias": torch.ones(1)})
    >>> x = torch.linspace(-1, 1, 50)[:, None]
    >>> sums = LeastSquares(layer)
    >>> sums.add(x, dense(torch.cat([x, 2 * x], 1)), held_out=False)
    >>> sums.add(x, dense(torch.cat([x, 2 * x], 1)), held_out=True)
    >>> before, after = sums.solve_()
    >>> round(layer.weight.item(), 2), after < before / 100
    (3.0, True)
    """

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        weight = layer.weight.detach().flatten(1)
        bias = [] if layer.bias is None else [layer.bias.detach()[:, None]]
        self._start = torch.cat([weight, *bias], 1).double().cpu()
        self._parts = [_Sums(*self._start.shape), _Sums(*self._start.shape)]

    def add(self, inputs: Tensor, outputs: Tensor, *, held_out: bool) -> None:
        """Take in samples: to solve for, or to choose the penalty on."""
        inputs, outputs = inputs.detach().cpu(), outputs.detach().cpu()
        if self.layer.bias is not None:
            inputs = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], 1)
        self._parts[held_out].add(inputs, outputs, self._start)

    def solve_(self) -> tuple[float, float]:
        r"""Give the layer the weights that come nearest, if they do better than its own.

        Returns
        -------
        before, after : float
            :math:`\sum \lVert y - W x - b \rVert^2 / \sum \lVert y - \bar y \rVert^2` over the
            samples that were held out; equal if the weights are left as they were.
        """
        known, held = self._parts
        if not (known.n and held.n) or not bool(known.gram.isfinite().all()):
            return 1.0, 1.0
        unit = held.spread()
        best, best_error = None, held.error(torch.zeros_like(self._start))
        before = best_error
        for penalty in _PENALTIES:
            error = held.error(known.step(penalty, self.layer.bias is not None))
            if error < best_error:
                best, best_error = penalty, error
        if best is not None:
            self._set(self._start + (known + held).step(best, self.layer.bias is not None))
        return before / unit, best_error / unit

    def _set(self, solution: Tensor) -> None:
        weight, bias = self.layer.weight, self.layer.bias
        n = n_inputs(self.layer)
        with torch.inference_mode(False), torch.no_grad():
            weight.copy_(solution[:, :n].reshape(weight.shape))
            if bias is not None:
                bias.copy_(solution[:, n])


class _Sums:
    """Sums over samples: of products of inputs, and of inputs with what the layer misses."""

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

    def step(self, penalty: float, has_bias: bool) -> Tensor:
        """Return what to add to the weights."""
        penalties = torch.full_like(self.gram[0], penalty * self._scale(has_bias))
        if has_bias:
            penalties[-1] = 1e-9 * self.n
        return torch.linalg.solve(self.gram + penalties.diag(), self.missing).T

    def _scale(self, has_bias: bool) -> float:
        squares = self.gram.diagonal()
        mean = float((squares[:-1] if has_bias else squares).mean())
        return mean or 1.0  # inputs that are all zero say nothing: any penalty will do

    def error(self, step: Tensor) -> float:
        """Return the sum of squares that is missed after a step."""
        change = ((step @ self.gram) * step).sum() - 2 * (step.T * self.missing).sum()
        return max(self.squares + float(change), 0.0)

    def spread(self) -> float:
        """Return the sum of squares around the mean of the outputs."""
        total, squares = self.outputs
        return float((squares - total.square() / self.n).sum()) or 1.0
