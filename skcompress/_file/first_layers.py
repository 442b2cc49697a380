"""Inputs that a bare net may take: skorch nets do not keep the shape of the rows they have seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from skorch import NeuralNet
from torch import nn

from .._nets import layers, module_root
from .._torch import ConvNd, NormBase
from .inputs import Input, Inputs

_LENGTHS = (7, 16, 32)  # of sequences and signals
# Of images, and what a net takes whose last layer counts on one size.
_SIDES = (28, 32, 8, 16, 64, 224)
_MOST_LAYERS = 3


def possible_inputs(net: NeuralNet) -> Iterator[Inputs]:
    """Yield inputs that the first layers of a net could be made for, likely ones first."""
    seen: list[list[Input]] = []
    for layer in layers(dict(module_root(net).items())).values():
        if len(seen) < _MOST_LAYERS and (found := list(_inputs_of(layer))):
            seen.append(found)
    for found in seen:
        for each in found:
            yield {"": each}


def _inputs_of(layer: Any) -> Iterator[Input]:
    dtype = next((str(p.dtype).removeprefix("torch.") for p in layer.parameters()), "float32")
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        ids = ((0, layer.num_embeddings - 1),)
        yield from (Input("int64", shape, ids) for shape in ((_LENGTHS[0],), ()))
    for shape in _shapes(layer):
        yield from (Input(kind, shape) for kind in dict.fromkeys((dtype, "float32")) if kind in _OK)


_OK = ("float16", "float32", "float64")


def _shapes(layer: Any) -> Iterator[tuple[int, ...]]:
    if isinstance(layer, nn.Linear):
        yield from ((layer.in_features,), (_LENGTHS[0], layer.in_features))
    elif isinstance(layer, nn.RNNBase):
        yield (_LENGTHS[0], layer.input_size)
    elif isinstance(layer, nn.MultiheadAttention):
        yield (_LENGTHS[0], layer.embed_dim)
    elif isinstance(layer, ConvNd):
        sizes = _LENGTHS if len(layer.kernel_size) == 1 else _SIDES
        for size in sizes:
            yield (layer.in_channels, *[size] * len(layer.kernel_size))
        yield from ((side * side,) for side in _SIDES)
    elif isinstance(layer, NormBase) and layer.num_features:
        yield (layer.num_features,)
    elif isinstance(layer, nn.LayerNorm):
        yield tuple(layer.normalized_shape)
    elif isinstance(layer, nn.Unflatten) and isinstance(layer.unflattened_size, tuple):
        size = 1
        for n in layer.unflattened_size:
            size *= n
        yield (size,)
