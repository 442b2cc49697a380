"""Sizes that layers keep as attributes, set to those of their tensors after a cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ..._torch import ConvNd, NormBase
from ..codes.coded_layers import is_coded
from ..modules.attention import prune_attention_
from ..modules.sizes import sizes

__all__ = ["resize_"]


def resize_(layer: nn.Module, before: Mapping[str, torch.Size]) -> None:
    """Set the sizes that a layer keeps as attributes to those of its tensors.

    Layers of other kinds than those in the tables of this module keep no sizes, or none that
    their ``forward`` needs.

    Parameters
    ----------
    layer : torch.nn.Module
        Its tensors are cut already.
    before : mapping of str to torch.Size
        Shapes of its tensors before the cut.

    Examples
    --------
    >>> layer = nn.Linear(3, 2)
    >>> before = sizes(layer)
    >>> layer.weight = nn.Parameter(layer.weight[:, :1])
    >>> resize_(layer, before)
    >>> layer
    Linear(in_features=1, out_features=2, bias=True)
    """
    now = sizes(layer)
    # A parametrized weight is not a tensor of the layer itself, and leaves its sizes as they are.
    if "weight" in now:
        for kind, resize_by_weight in _BY_WEIGHT.items():
            if isinstance(layer, kind):
                return resize_by_weight(layer, now["weight"], before["weight"])
    for kind, resize in _BY_TENSORS.items():
        if isinstance(layer, kind):
            return resize(layer, now)
    return None


def _linear(layer: Any, weight: torch.Size, _: torch.Size) -> None:
    layer.out_features, layer.in_features = weight


def _bilinear(layer: Any, weight: torch.Size, _: torch.Size) -> None:
    layer.out_features, layer.in1_features, layer.in2_features = weight


def _convolution(layer: Any, weight: torch.Size, before: torch.Size) -> None:
    first, second = weight[:2]
    # Groups are removed as wholes, and each has an equal part of axis 0, transposed or not.
    if layer.groups > 1:
        layer.groups = layer.groups * first // before[0]
    if layer.transposed:
        layer.in_channels, layer.out_channels = first, second * layer.groups
    else:
        layer.in_channels, layer.out_channels = second * layer.groups, first


def _group_norm(layer: Any, weight: torch.Size, _: torch.Size) -> None:
    layer.num_groups = layer.num_groups * weight[0] // layer.num_channels
    layer.num_channels = weight[0]


def _embedding(layer: Any, weight: torch.Size, _: torch.Size) -> None:
    layer.num_embeddings, layer.embedding_dim = weight


def _prelu(layer: Any, weight: torch.Size, _: torch.Size) -> None:
    layer.num_parameters = weight[0]


def _batch_norm(layer: Any, now: Mapping[str, torch.Size]) -> None:
    # Without ``affine`` there is no weight; without running statistics as well no size matters.
    names = [name for name in ("weight", "running_mean") if name in now]
    layer.num_features = now[names[0]][0] if names else layer.num_features


def _attention(layer: Any, now: Mapping[str, torch.Size]) -> None:
    if "in_proj_weight" in now:
        n_rows, n_columns = now["in_proj_weight"]
        prune_attention_(layer, n_rows // 3, n_columns)
    else:
        prune_attention_(layer, *now["q_proj_weight"])


def _recurrent(layer: Any, now: Mapping[str, torch.Size]) -> None:
    gates = {"LSTM": 4, "GRU": 3}.get(layer.mode, 1)
    layer.input_size = now["weight_ih_l0"][1]
    layer.hidden_size = now["weight_hh_l0"][0] // gates
    if layer.proj_size:
        layer.proj_size = now["weight_hr_l0"][0]
    if not is_coded(layer):
        layer._init_flat_weights()


def _recurrent_cell(layer: Any, now: Mapping[str, torch.Size]) -> None:
    layer.input_size, layer.hidden_size = now["weight_ih"][1], now["weight_hh"][1]


# No type in these tables is a subclass of another one, so that their order does not matter.
_BY_WEIGHT: dict[type[nn.Module], Callable[[Any, torch.Size, torch.Size], None]] = {
    nn.Linear: _linear,
    nn.Bilinear: _bilinear,
    ConvNd: _convolution,
    nn.GroupNorm: _group_norm,
    nn.Embedding: _embedding,
    nn.EmbeddingBag: _embedding,
    nn.PReLU: _prelu,
}
_BY_TENSORS: dict[type[nn.Module], Callable[[Any, Mapping[str, torch.Size]], None]] = {
    NormBase: _batch_norm,
    nn.MultiheadAttention: _attention,
    nn.RNNBase: _recurrent,
    nn.RNNCellBase: _recurrent_cell,
}
