r"""Folding: a norm layer into the layer before it, a constant unit into the layers that read it.

In evaluation mode batch norm is a scale and a shift of each channel,

.. math:: y = x\,s + t, \quad s = \gamma / \sqrt{\sigma^2 + \epsilon}, \quad t = \beta - \mu s

with the running mean :math:`\mu` and variance :math:`\sigma^2`, and a layer that computes
:math:`x = W u + b` right before it may as well compute :math:`(s W) u + (s b + t)`. A unit with the
constant value c that a layer reads with the column :math:`w` adds :math:`w c` to all its outputs,
as a bias does.

These functions rely on conditions that they cannot see, such as that nothing else reads the output
of the layer: `skcompress.nn.surgery` looks for them, and proves each folding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..codes.coded_layers import is_coded
from .parametrizations import note_made_plain_, tensors_made_plain
from .sizes import note_uncut_, uncut_sizes

__all__ = [
    "FoldedNorm",
    "add_bias_",
    "can_fold",
    "fold_constants_",
    "fold_norm_",
    "has_new_bias",
    "norm_factors",
    "remove_norm_",
]

_LAYERS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class FoldedNorm(nn.Identity):
    """Takes the position of a norm layer that has been folded into the layer before it.

    Examples
    --------
    >>> norm = nn.BatchNorm1d(3)
    >>> remove_norm_(norm)
    >>> norm
    FoldedNorm()
    """


def can_fold(layer: nn.Module, kind: str) -> bool:
    """Tell whether a module is of a type that can be folded, and not of a subclass.

    A subclass may override ``forward`` and compute something else. Coded layers are subclasses
    that do not, so their base counts. A weight that is a plain parameter may be scaled; one that
    is computed, as by a parametrization, may not.

    Parameters
    ----------
    layer : torch.nn.Module
        Any.
    kind : {"layer", "norm"}
        A layer with a weight, stored as codes or not, or batch norm.
    """
    if kind == "norm":
        return type(layer) in _NORMS
    own = getattr(type(layer), "_coded_base", type(layer))
    weight = layer._parameters.get("weight")
    return own in _LAYERS and (
        is_coded(layer) or (weight is not None and weight.is_floating_point())
    )


def norm_factors(norm: Any) -> tuple[Tensor, Tensor]:
    """Return scale and shift of batch norm in evaluation mode, in double precision.

    Examples
    --------
    >>> norm = nn.BatchNorm1d(1, eps=0.0)
    >>> _ = norm.running_mean.fill_(3.0), norm.running_var.fill_(4.0)
    >>> norm_factors(norm)
    (tensor([0.5000], dtype=torch.float64), tensor([-1.5000], dtype=torch.float64))
    """
    mean, variance = (getattr(norm, n).detach().double() for n in ("running_mean", "running_var"))
    scale = (variance + float(norm.eps)).rsqrt()
    shift = torch.zeros_like(mean)
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    if norm.bias is not None:
        shift = norm.bias.detach().double()
    return scale, shift - mean * scale


def fold_norm_(layer: Any, norm: Any) -> None:
    """Fold a batch norm into the layer before it, in place; `norm` becomes a `FoldedNorm`.

    Parameters
    ----------
    layer : torch.nn.Module
        Linear or a convolution, transposed or not, with groups or not. Not stored as codes.
    norm : torch.nn.Module
        BatchNorm1d, BatchNorm2d or BatchNorm3d with running statistics.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 3, bias=False), nn.BatchNorm1d(3)).eval()
    >>> expected = net(torch.ones(1, 2))
    >>> fold_norm_(*net)
    >>> net
    Sequential(
      (0): Linear(in_features=2, out_features=3, bias=True)
      (1): FoldedNorm()
    )
    >>> torch.allclose(net(torch.ones(1, 2)), expected)
    True
    """
    scale, shift = norm_factors(norm)
    add_bias_(layer)
    with torch.inference_mode(False), torch.no_grad():
        weight, bias = layer.weight, layer.bias
        weight.copy_(weight.double() * _along_outputs(layer, scale))
        bias.copy_(bias.double() * scale + shift)
    remove_norm_(norm)


def _along_outputs(layer: Any, scale: Tensor) -> Tensor:
    """Return one number for each output channel in a shape that broadcasts with the weight."""
    spread = [1] * (layer.weight.dim() - 2)
    if not getattr(layer, "transposed", False):
        return scale.view(-1, 1, *spread)
    # (inputs, outputs of one group, ...): the inputs of a group make the outputs of that group.
    along = scale.view(layer.groups, -1).repeat_interleave(layer.in_channels // layer.groups, 0)
    return along.view(*along.shape, *spread)


def remove_norm_(norm: nn.Module) -> None:
    """Make a norm layer a `FoldedNorm`, in place, so that references to it stay valid."""
    training, made_plain = norm.training, tensors_made_plain(norm)
    norm.__class__ = FoldedNorm
    norm.__dict__ = nn.Identity().train(training).__dict__
    note_made_plain_(norm, made_plain)


def add_bias_(layer: Any) -> None:
    """Give a layer that has no bias one of zeros."""
    if layer.bias is not None:
        return
    size = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    trained = all(p.requires_grad for p in layer.parameters())  # a frozen layer stays frozen
    with torch.inference_mode(False), torch.no_grad():
        zeros = torch.zeros(size, dtype=layer.weight.dtype, device=layer.weight.device)
        layer.bias = nn.Parameter(zeros, requires_grad=trained)
    layer.bias_is_new = True
    # A net is loaded by building it, adding biases, then cutting: if this layer was cut already,
    # the size that the bias had before is that of the uncut weight.
    if "weight" in (before := uncut_sizes(layer)):
        axis = 1 if getattr(layer, "transposed", False) else 0
        n = before["weight"][axis] * (getattr(layer, "groups", 1) if axis else 1)
        note_uncut_(layer, {"bias": (n,)})


def has_new_bias(layer: nn.Module) -> bool:
    """Tell whether `add_bias_` gave a layer its bias, which its definition does not have."""
    return bool(getattr(layer, "bias_is_new", False))


def fold_constants_(layer: Any, constants: Mapping[int, float]) -> None:
    """Add the contribution of constant inputs to the bias of a layer.

    Parameters
    ----------
    layer : torch.nn.Module
        Linear, or a convolution without groups and padding.
    constants : mapping of int to float
        The value of each input that is a constant, by its number.

    Examples
    --------
    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = nn.init.ones_(layer.weight)
    >>> fold_constants_(layer, {1: 0.5})
    >>> layer.bias
    Parameter containing:
    tensor([0.5000], requires_grad=True)
    """
    add_bias_(layer)
    with torch.inference_mode(False), torch.no_grad():
        columns = layer.weight[:, list(constants)].double()
        if columns.dim() > 2:
            columns = columns.sum(tuple(range(2, columns.dim())))
        values = torch.tensor(list(constants.values()), dtype=torch.float64, device=columns.device)
        layer.bias.copy_(layer.bias.double() + columns @ values)
