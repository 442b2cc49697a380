"""The shapes of a layer's tensors: now, and before units were removed.

A file needs the latter: the net of the definition must have just these before it is cut to what
was saved. Nothing else would tell them, so a layer carries them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from ..codes.coded_layers import packed_weights

__all__ = ["note_uncut_", "sizes", "uncut_sizes"]

_UNCUT = "_uncut_sizes"


def sizes(layer: nn.Module) -> dict[str, torch.Size]:
    """Return the shapes of a layer's own parameters and buffers, stored as codes or not.

    Examples
    --------
    >>> sizes(nn.Linear(3, 2))
    {'weight': torch.Size([2, 3]), 'bias': torch.Size([2])}
    """
    tensors = {**layer._parameters, **layer._buffers, **packed_weights(layer)}
    return {name: tensor.shape for name, tensor in tensors.items() if tensor is not None}


def uncut_sizes(layer: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shapes before the first cut, of those tensors that have become smaller.

    Examples
    --------
    >>> layer = nn.Linear(3, 2)
    >>> note_uncut_(layer, {"weight": (2, 5), "bias": (2,)})
    >>> uncut_sizes(layer)
    {'weight': (2, 5)}
    """
    return dict(getattr(layer, _UNCUT, {}))


def note_uncut_(layer: nn.Module, before: Mapping[str, Sequence[int]]) -> None:
    """Note what tensors of a layer were, unless an earlier cut has.

    Parameters
    ----------
    layer : torch.nn.Module
        As it is now.
    before : mapping of str to sequence of int
        Shapes by the names of its tensors. Of a tensor that is new on a layer that was cut: what
        it would have been. A net is loaded in this order: made, changed, cut.
    """
    now = sizes(layer)
    changed = {name: tuple(s) for name, s in before.items() if tuple(s) != tuple(now[name])}
    if changed:
        setattr(layer, _UNCUT, {**changed, **uncut_sizes(layer)})
