"""Copies of modules, which torch has no function for."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from ..codes.coded_layers import decode_layer, is_coded, packed_weights
from .parametrizations import give_own_classes_

__all__ = ["copy_module", "plain_copy"]


def copy_module(module: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """Copy a module; tensors it kept from its last forward come along detached.

    Parameters
    ----------
    module : torch.nn.Module
        Not modified.
    memo : dict, default=None
        What was copied already, as for :func:`copy.deepcopy`: what several modules share
        they go on sharing if they are copied with the same one.

    Examples
    --------
    >>> layer = nn.Linear(3, 2)
    >>> copied = copy_module(layer)
    >>> torch.equal(copied.weight, layer.weight), copied.weight is layer.weight
    (True, False)
    """
    memo = {} if memo is None else memo
    with torch.inference_mode(False):
        for layer in module.modules():
            for value in vars(layer).values():
                # deepcopy refuses tensors that are part of a graph, such as activations which a
                # module stores for inspection, or parametrized weights in the list of an LSTM.
                for item in value if type(value) is list else (value,):
                    if isinstance(item, Tensor) and not item.is_leaf:
                        memo.setdefault(id(item), item.detach().clone())
                # A layer has a dozen empty dicts for hooks: half of the time of deepcopy.
                if type(value) in (dict, OrderedDict) and not value:
                    memo.setdefault(id(value), type(value)())
        copied = copy.deepcopy(module, memo)
        give_own_classes_(copied)
        return copied


def plain_copy(module: nn.Module) -> nn.Module:
    """Copy a module; layers stored as codes become plain layers with the decoded weights."""
    copied = copy_module(module)
    made: dict[int, nn.Parameter] = {}
    for layer in list(copied.modules()):
        if is_coded(layer):
            _decode_in_place(layer, made)
    return copied


def _decode_in_place(layer: nn.Module, made: dict[int, nn.Parameter]) -> None:
    """Make a coded layer plain; weights that share their codes go on sharing them."""
    shared = {attr: id(packed) for attr, packed in packed_weights(layer).items()}
    plain = decode_layer(layer)
    for attr, key in shared.items():
        plain._parameters[attr] = made.setdefault(key, plain._parameters[attr])  # type: ignore[arg-type]
    children = {name: own for name, own in layer._modules.items() if name in plain._modules}
    layer.__class__ = plain.__class__
    layer.__dict__ = plain.__dict__
    layer._modules = children  # its own ones, not their copies
    if isinstance(layer, nn.RNNBase):
        layer._init_flat_weights()
