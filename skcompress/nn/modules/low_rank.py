r"""Layers whose weight is a product of two thin ones.

A weight of shape (out, in, kernel ...) is read as a matrix W with one row for each output. Its
singular value decomposition :math:`W = \sum_i s_i u_i v_i^T`, cut after r terms, is the matrix of
rank r that is nearest to W (Eckart & Young, 1936). A layer with W is then two layers: one of the
same kind with the rows :math:`\sqrt{s_i}\, v_i^T`, and one with the columns
:math:`\sqrt{s_i}\, u_i`, that is Linear or a convolution with a kernel of one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .folding import has_new_bias
from .parametrizations import note_made_plain_, tensors_made_plain
from .sizes import note_uncut_, uncut_sizes

__all__ = [
    "LowRank",
    "blank_factors_",
    "can_factorize",
    "factorize_",
    "factors",
    "full_rank",
    "is_smaller",
    "rank_for_energy",
    "singular_values",
    "split_off_identity_",
]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class LowRank(nn.Module):
    """A layer in two: `first` makes `rank` values, `second` makes the outputs of them.

    Both are ordinary layers, which can be trained, pruned and quantized like others. Whoever asks
    the layer for its weight is given the product.

    Attributes
    ----------
    first : torch.nn.Linear or convolution
        As the layer it comes from, with `rank` outputs and no bias.
    second : torch.nn.Linear or convolution
        With a kernel of one, and the bias of the layer.

    Examples
    --------
    >>> layer = nn.Linear(20, 10)
    >>> factorize_(layer, 2)
    >>> layer
    LowRank(
      (first): Linear(in_features=20, out_features=2, bias=False)
      (second): Linear(in_features=2, out_features=10, bias=True)
    )
    >>> layer(torch.ones(1, 20)).shape
    torch.Size([1, 10])
    """

    first: Any
    second: Any

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # as torch names it
        """Compute what the layer did, as far as the rank goes."""
        return self.second(self.first(input))

    @property
    def rank(self) -> int:
        """How many terms there are."""
        return int(self.first.weight.shape[0])

    @property
    def uncut_rank(self) -> int:
        """How many terms there were before some were removed."""
        return int(uncut_sizes(self.first).get("weight", self.first.weight.shape)[0])

    @property
    def weight(self) -> Tensor:
        """The weight that both layers make together."""
        left, right = self.second.weight, self.first.weight
        return (left.flatten(1) @ right.flatten(1)).unflatten(1, right.shape[1:])

    @property
    def bias(self) -> Tensor | None:
        """The bias of the layer."""
        return self.second.bias

    @property
    def in_features(self) -> int:
        """Number of inputs, of a Linear layer."""
        return self.first.in_features

    @property
    def out_features(self) -> int:
        """Number of outputs, of a Linear layer."""
        return self.second.out_features

    @property
    def in_channels(self) -> int:
        """Number of input channels, of a convolution."""
        return self.first.in_channels

    @property
    def out_channels(self) -> int:
        """Number of output channels, of a convolution."""
        return self.second.out_channels


def can_factorize(layer: nn.Module) -> bool:
    """Tell whether a layer can become two: Linear or a convolution without groups, no subclass.

    Examples
    --------
    >>> can_factorize(nn.Conv2d(4, 4, 3)), can_factorize(nn.Conv2d(4, 4, 3, groups=2))
    (True, False)
    """
    known = type(layer) is nn.Linear
    known = known or (type(layer) in _CONVOLUTIONS and getattr(layer, "groups", 1) == 1)
    weight = layer._parameters.get("weight")
    return known and weight is not None and weight.is_floating_point() and weight.numel() > 0


def singular_values(weight: Tensor) -> Tensor:
    """Return the singular values of a weight, largest first, in double precision.

    Examples
    --------
    >>> singular_values(torch.tensor([[0.0, 2.0], [1.0, 0.0]]))
    tensor([2., 1.], dtype=torch.float64)
    """
    return torch.linalg.svdvals(weight.detach().cpu().double().flatten(1))


def rank_for_energy(values: Tensor, energy: float) -> int:
    r"""Return the smallest rank that keeps a share of the squared singular values.

    The smallest r with :math:`\sum_{i \le r} s_i^2 \ge e \sum_i s_i^2`, at least 1.

    Parameters
    ----------
    values : torch.Tensor
        Singular values s, largest first.
    energy : float in (0, 1]
        The share e.

    Examples
    --------
    >>> rank_for_energy(torch.tensor([3.0, 1.0, 0.0]), 0.9)
    1
    >>> rank_for_energy(torch.tensor([3.0, 1.0, 0.0]), 1.0)
    2
    """
    kept = values.double().square().cumsum(0)
    if len(kept) == 0 or float(kept[-1]) == 0:
        return 1
    return int(torch.searchsorted(kept, energy * kept[-1])) + 1


def factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the thin weights whose product is the nearest of that rank.

    Computed in double precision. Of each pair of vectors the left one has a positive largest
    entry, so the same weight gives the same factors. Rows and columns of zeros stay so exactly.

    Parameters
    ----------
    weight : torch.Tensor of shape (n_out, n_in, ...)
        Not modified.
    rank : int
        At most min(n_out, n_in * ...).

    Returns
    -------
    first : torch.Tensor of shape (rank, n_in, ...)
    second : torch.Tensor of shape (n_out, rank)
        In double precision, on the CPU.

    Examples
    --------
    >>> first, second = factors(torch.tensor([[2.0, 0.0], [4.0, 0.0]]), 1)
    >>> second @ first
    tensor([[2., 0.],
            [4., 0.]], dtype=torch.float64)
    """
    matrix = weight.detach().cpu().double().flatten(1)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    left, values, right = left[:, :rank], values[:rank], right[:rank]
    largest = left.gather(0, left.abs().argmax(0, keepdim=True))
    signs = torch.where(largest < 0, -1.0, 1.0)
    root = values.sqrt()
    second, first = left * signs * root, right * signs.T * root[:, None]
    second[(matrix == 0).all(1)] = 0
    first[:, (matrix == 0).all(0)] = 0
    return first.unflatten(1, weight.shape[1:]), second


def is_smaller(weight: Tensor, rank: int) -> bool:
    """Tell whether the factors have fewer numbers than the weight, and fewer that are not zero.

    Examples
    --------
    >>> is_smaller(torch.ones(4, 4), 1), is_smaller(torch.eye(4), 1)
    (True, False)
    """
    used = weight.detach().flatten(1) != 0
    n_rows, n_columns = used.shape
    n_used = int(used.any(1).sum()) + int(used.any(0).sum())
    return rank * (n_rows + n_columns) < used.numel() and rank * n_used < int(used.sum())


def factorize_(layer: Any, rank: int) -> None:
    """Make a layer two, in place: it becomes a `LowRank`.

    Parameters
    ----------
    layer : torch.nn.Module
        See `can_factorize`.
    rank : int
        At least 1; what is more than the weight has is cut off.

    Examples
    --------
    >>> layer = nn.Conv2d(4, 6, 3, padding=1)
    >>> factorize_(layer, 2)
    >>> layer.first.weight.shape, layer.second.weight.shape
    (torch.Size([2, 4, 3, 3]), torch.Size([6, 2, 1, 1]))
    """
    first, second = factors(layer.weight, min(rank, full_rank(layer)))
    blank_factors_(layer, len(first))
    with torch.inference_mode(False), torch.no_grad():
        layer.first.weight.copy_(first)
        layer.second.weight.copy_(second.view(layer.second.weight.shape))


def split_off_identity_(layer: Any) -> None:
    """Make a layer two that compute just what it did: itself, and one that changes nothing.

    Where a net computes something else then, it uses the layer in another way than by calling it.

    Examples
    --------
    >>> layer, x = nn.Linear(3, 2), torch.ones(1, 3)
    >>> expected = layer(x)
    >>> split_off_identity_(layer)
    >>> layer.rank, torch.equal(layer(x), expected)
    (2, True)
    """
    weight = layer.weight.detach()
    blank_factors_(layer, len(weight))
    with torch.inference_mode(False), torch.no_grad():
        layer.first.weight.copy_(weight)
        layer.second.weight.copy_(torch.eye(len(weight)).view(layer.second.weight.shape))


def full_rank(layer: Any) -> int:
    """Return the largest rank that the weight of a layer can have."""
    return min(len(layer.weight), layer.weight[0].numel())


def blank_factors_(layer: Any, rank: int) -> None:
    """Make a layer two like `factorize_`, but for the values: these are to be loaded."""
    weight, bias, training = layer.weight, layer.bias, layer.training
    before, bias_is_new = uncut_sizes(layer), has_new_bias(layer)
    made_plain = tensors_made_plain(layer)
    with torch.inference_mode(False):
        first, second = _halves(layer, rank)
        for half in (first, second):
            half.to(device=weight.device, dtype=weight.dtype).requires_grad_(weight.requires_grad)
        second.bias = bias
        second.bias_is_new = bias_is_new
        layer.__class__ = LowRank
        layer.__dict__ = nn.Module().__dict__
        layer.first, layer.second = first, second
    note_made_plain_(layer, made_plain)
    layer.train(training)
    if "weight" in before:
        n_out, *inputs = before["weight"]
        note_uncut_(first, {"weight": (rank, *inputs)})
        note_uncut_(second, {"weight": (n_out, rank, *[1] * (weight.dim() - 2))})
        if bias is not None:
            note_uncut_(second, {"bias": (n_out,)})


def _halves(layer: Any, rank: int) -> tuple[Any, Any]:
    if isinstance(layer, nn.Linear):
        first: Any = nn.Linear(layer.in_features, rank, bias=False)
        return first, nn.Linear(rank, layer.out_features, bias=False)
    kind = type(layer)
    first = kind(
        layer.in_channels,
        rank,
        layer.kernel_size,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        padding_mode=layer.padding_mode,
        bias=False,
    )
    return first, kind(rank, layer.out_channels, 1, bias=False)
