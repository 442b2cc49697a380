"""Samples of a layer: pairs of an input and an output vector, one for each output position."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

__all__ = ["LayerSamples", "can_reconstruct", "n_inputs", "n_samples_of"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def can_reconstruct(layer: nn.Module) -> bool:
    """Whether a layer is a linear map of its input whose weights may change freely.

    False for layers that are stored as codes, override ``forward``, have groups, or are frozen.

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
    )


def n_inputs(layer: Any) -> int:
    """Return the number of inputs of each output: of a convolution, channels times kernel size."""
    return int(layer.weight[0].numel())


def n_samples_of(layer: Any, y: Tensor) -> int:
    """Return how many samples an output of a layer holds: its rows times its positions."""
    return _with_rows(layer, y)[..., 0].numel()


@dataclass(frozen=True)
class LayerSamples:
    """Which samples of a layer are used: random pairs of a row and a position in its output.

    Drawn once from an output of the dense layer. The same rows and positions are then taken from
    the inputs that the layer has in the changed net.

    Attributes
    ----------
    shape : tuple of int
        Rows and spatial axes of the output.
    at : tuple of Tensor
        For each of these axes the index of each sample.

    Examples
    --------
    >>> layer, x = nn.Conv2d(2, 3, 3, padding=1), torch.rand(4, 2, 5, 5)
    >>> samples = LayerSamples.draw(layer, layer(x), share=0.1, seed=0)
    >>> inputs, outputs = samples.inputs(layer, x), samples.outputs(layer, layer(x))
    >>> inputs.shape, outputs.shape
    (torch.Size([10, 18]), torch.Size([10, 3]))
    >>> torch.allclose(inputs @ layer.weight.flatten(1).T + layer.bias, outputs, atol=1e-5)
    True
    """

    shape: tuple[int, ...]
    at: tuple[Tensor, ...]

    @classmethod
    def draw(cls, layer: Any, y: Tensor, share: float, seed: int) -> LayerSamples:
        """Draw a share of the samples that an output of a layer holds; 1: all of them."""
        shape = tuple(_with_rows(layer, y)[..., 0].shape)
        drawn = torch.arange(math.prod(shape))
        if share < 1:
            n, draw = math.ceil(share * len(drawn)), torch.Generator().manual_seed(seed)
            drawn = torch.randperm(len(drawn), generator=draw)[:n].sort()[0]
        return cls(shape, torch.unravel_index(drawn, shape))

    def outputs(self, layer: Any, y: Tensor) -> Tensor:
        """Return their outputs, of shape (n_samples, n_outputs)."""
        return _with_rows(layer, y)[self.at]

    def inputs(self, layer: Any, x: Tensor) -> Tensor:
        """Return their inputs, of shape (n_samples, n_inputs), in the order of the weights.

        Raises
        ------
        ValueError
            If the input has other rows or positions than the output that they were drawn from.
        """
        patches = _patches(layer, x)
        if patches.shape[: len(self.shape)] != self.shape:
            raise ValueError(
                f"An input of shape {tuple(x.shape)} does not give outputs at {self.shape}."
            )
        return patches[self.at].flatten(1)


def _with_rows(layer: Any, tensor: Tensor) -> Tensor:
    """Move channels to the end, and add the axis of rows to a single row."""
    if isinstance(layer, nn.Linear):
        return torch.atleast_2d(tensor)
    tensor = tensor if tensor.dim() > len(layer.kernel_size) + 1 else tensor[None]
    return tensor.movedim(1, -1)


def _patches(layer: Any, x: Tensor) -> Tensor:
    """Return a view whose last axes hold the inputs of each output, as `F.unfold` would copy."""
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
