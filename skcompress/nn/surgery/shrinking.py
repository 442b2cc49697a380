"""Remove units from a module for good, and record how, so that it can be done again.

A cut is described by the indices that stay, for each axis of each parameter and buffer
(`KeptIndices`, plain lists that any format can store). `shrink` carries it out on a copy; sizes
that layers keep as attributes (``out_features``, ``num_heads``, …) follow. Whether the cut was
right is proven in `skcompress.nn.surgery.proof`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..codes.coded_layers import PackedWeight, packed_weights
from ..codes.quantization import Codes
from ..graph import Graph, KeptIndices
from ..modules.copying import copy_module, plain_copy
from ..modules.sizes import note_uncut_, sizes, uncut_sizes
from .resizing import resize_

__all__ = ["cut_to", "masked", "shapes_of", "shrink", "uncut_shapes"]

_Cut = Sequence[Sequence[int] | None]


def shrink(module: nn.Module, kept: KeptIndices) -> nn.Module:
    """Return a copy of a module in which only some indices of its tensors are left.

    Parameters
    ----------
    module : torch.nn.Module
        Not modified. Of the structure that the cut was made for; layers may be stored as codes.
    kept : dict of str to list
        See `Graph.kept`: for each parameter and buffer, for each axis the kept indices or None.

    Returns
    -------
    torch.nn.Module
        Whatever was shared is shared. Nothing is proven yet.

    Raises
    ------
    ValueError
        If the module has no such tensor, or not of that size.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> shrink(net, {"0.weight": [[0, 2]], "0.bias": [[0, 2]], "2.weight": [None, [0, 2]]})
    Sequential(
      (0): Linear(in_features=4, out_features=2, bias=True)
      (1): ReLU()
      (2): Linear(in_features=2, out_features=2, bias=True)
    )
    """
    copied = copy_module(module)
    # The cut tensors by the ids of the old ones: one that several layers hold is cut once.
    made: dict[int, Any] = {}
    touched: dict[int, tuple[nn.Module, dict[str, torch.Size]]] = {}
    for name, cut in kept.items():
        layer, attr = _find(copied, name)
        for owner, own_attr in _uses_of(copied, layer, attr):
            before = touched.setdefault(id(owner), (owner, sizes(owner)))[1]
            _check(name, before[own_attr], cut)
            _replace(owner, own_attr, cut, made)
    for layer, before in touched.values():
        resize_(layer, before)
        note_uncut_(layer, before)
    return copied


def masked(module: nn.Module, graph: Graph, removed: Sequence[int]) -> nn.Module:
    """Return a copy of a module, of unchanged size, in which some units are not read any more.

    Parameters
    ----------
    module : torch.nn.Module
        Not modified. Layers stored as codes are plain in the copy.
    graph : Graph
        Of the module.
    removed : sequence of int
        Numbers of units.
    """
    copied = plain_copy(module)
    for (name, axis), indices in graph.columns(removed):
        layer, attr = _find(copied, name)
        with torch.no_grad():
            getattr(layer, attr).index_fill_(axis, torch.tensor(indices), 0.0)
    return copied


def shapes_of(module: nn.Module) -> dict[str, list[int]]:
    """Return the shapes of all parameters and buffers of a module, stored as codes or not.

    Examples
    --------
    >>> shapes_of(nn.Sequential(nn.Linear(3, 2)))
    {'0.weight': [2, 3], '0.bias': [2]}
    """
    return {
        f"{path}.{name}" if path else name: list(shape)
        for path, layer in module.named_modules()
        if not isinstance(layer, PackedWeight)
        for name, shape in sizes(layer).items()
    }


def uncut_shapes(module: nn.Module) -> dict[str, list[int]]:
    """Return, for each tensor that `shrink` has made smaller, the shape it had before.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> cut = {"0.weight": [[0, 2]], "0.bias": [[0, 2]], "2.weight": [None, [0, 2]]}
    >>> uncut_shapes(shrink(net, cut))
    {'0.weight': [3, 4], '0.bias': [3], '2.weight': [2, 3]}
    """
    return {
        f"{path}.{name}" if path else name: list(shape)
        for path, layer in module.named_modules()
        for name, shape in uncut_sizes(layer).items()
    }


def cut_to(module: nn.Module, shapes: Mapping[str, Sequence[int]]) -> KeptIndices:
    """Return a cut that gives a fresh module the recorded shapes, ready for recorded values.

    All values are loaded afterwards, so it does not matter which indices are kept: the first ones.

    Parameters
    ----------
    module : torch.nn.Module
        As its definition makes it.
    shapes : mapping of str to sequence of int
        Of the pruned module, as `shapes_of` returns them.

    Examples
    --------
    >>> cut_to(nn.Sequential(nn.Linear(3, 2)), {"0.weight": [2, 1], "0.bias": [2]})
    {'0.weight': [None, [0]]}
    """
    kept: KeptIndices = {}
    for name, now in shapes_of(module).items():
        then = shapes.get(name, now)
        if list(then) == now:
            continue
        if len(then) != len(now) or any(not 0 < a <= b for a, b in zip(then, now, strict=True)):
            what = "larger" if all(a > 0 for a in then) else "empty"
            raise ValueError(
                f"The tensor {name!r} has the shape {now} in this net, but {list(then)} was "
                f"recorded, which is {what}. Use it on a net of the structure it was made for."
            )
        axes = zip(then, now, strict=True)
        kept[name] = [None if a == b else list(range(a)) for a, b in axes]
    return kept


def _find(root: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, attr = name.rpartition(".")
    try:
        layer = root.get_submodule(path)
    except AttributeError:
        layer = None
    if layer is None or attr not in sizes(layer):
        raise ValueError(
            f"The cut names the tensor {name!r}, which this net does not have. Use it on a net "
            "of the structure it was made for."
        )
    return layer, attr


def _uses_of(root: nn.Module, layer: nn.Module, attr: str) -> list[tuple[nn.Module, str]]:
    """Return the layers that hold a tensor, and as what: a cut names tied tensors once."""
    stored = _stored(layer)[attr]
    return [
        (owner, own_attr)
        for owner in root.modules()
        for own_attr, tensor in _stored(owner).items()
        if tensor is stored
    ]


def _stored(layer: nn.Module) -> dict[str, Any]:
    return {**layer._parameters, **layer._buffers, **packed_weights(layer)}


def _check(name: str, shape: torch.Size, cut: _Cut) -> None:
    too_long = len(cut) > len(shape)
    if too_long or any(k is not None and max(k) >= n for k, n in zip(cut, shape, strict=False)):
        raise ValueError(
            f"The cut keeps {[k and len(k) for k in cut]!r} of the axes of {name!r}, which has "
            f"the shape {tuple(shape)} in this net. Use it on a net of the structure it was made "
            "for."
        )


def _replace(layer: nn.Module, attr: str, cut: _Cut, made: dict[int, Any]) -> None:
    """Put the cut tensor or codes into a layer.

    `made` holds the old object beside the new one, or its id could be given to another object.
    """
    packed = packed_weights(layer).get(attr)
    if packed is not None:
        if id(packed) not in made:
            made[id(packed)] = (packed, _cut_codes(packed, cut))
        layer._modules[_name_of(layer, packed)] = made[id(packed)][1]
        return
    table = layer._parameters if attr in layer._parameters else layer._buffers
    tensor = cast(Tensor, table[attr])
    if id(tensor) not in made:
        made[id(tensor)] = (tensor, _cut_tensor(tensor, cut))
    table[attr] = made[id(tensor)][1]


def _name_of(layer: nn.Module, part: nn.Module) -> str:
    return next(name for name, own in layer._modules.items() if own is part)


def _cut_tensor(tensor: Tensor, cut: _Cut) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():
        values = tensor.detach()
        for axis, indices in enumerate(cut):
            if indices is not None:
                values = values.index_select(axis, torch.tensor(indices, device=tensor.device))
        values = values.clone()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(values, requires_grad=tensor.requires_grad)
    return values


def _cut_codes(packed: PackedWeight, cut: _Cut) -> PackedWeight:
    """Cut a weight that is stored as codes, without a change of the values that stay.

    Codes are cut like floats. A channel that stays keeps its scale and zero point, so nothing is
    rounded again: if it has lost its largest weight, its grid is wider than it needs.
    """
    codes = packed.codes()
    channels: slice | Tensor = slice(None)
    groups = codes.groups
    if codes.axis is not None:
        kept = _kept_channels(codes, packed.shape, cut)
        channels, groups = kept.reshape(-1), len(kept)
    points = codes.zero_point
    sliced = Codes(
        values=_cut_tensor(codes.values, cut),
        scale=codes.scale[channels],
        zero_point=None if points is None else points[channels],
        bits=codes.bits,
        scheme=codes.scheme,
        axis=codes.axis,
        groups=groups,
    )
    trained = all(gain.requires_grad for gain in packed.parameters())
    return PackedWeight(sliced, trained).train(packed.training)


def _kept_channels(codes: Codes, shape: torch.Size, cut: _Cut) -> Tensor:
    """Return the numbers of the scales that a cut leaves, of shape (groups, channels).

    Scales are ordered by group, then by channel along ``codes.axis``. Only transposed convolutions
    have codes with groups: equal blocks of axis 0, which are removed as wholes.
    """
    axis = cast(int, codes.axis)
    numbers = torch.arange(shape[axis] * codes.groups).view(codes.groups, shape[axis])
    if codes.groups > 1 and cut[0] is not None:
        block = shape[0] // codes.groups
        numbers = numbers[sorted({i // block for i in cut[0]})]
    along = cut[axis] if axis < len(cut) else None
    return numbers if along is None else numbers[:, along]
