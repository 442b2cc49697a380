"""Which numbers of a net are weights, and how they are read and set to zero.

A weight is a matrix or kernel that multiplies activations: of torch's layers by their type, and of
the parameters of a user's own module those that were seen to be used so (`uses`). Biases and the
scales of norm layers are not weights: they are few, and setting them to zero disables a unit
instead of one connection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..codes.coded_layers import PackedWeight, channel_axis, packed_weights
from .uses import uses_of

__all__ = [
    "Weight",
    "attributes_by_type",
    "code_modules",
    "find_weights",
    "resolve_ignored",
    "same_weights",
    "weight_attributes",
    "weight_uses",
]

_PLAIN = (
    nn.Linear,
    nn.Bilinear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Embedding,
    nn.EmbeddingBag,
)
_ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_MODULE_PREFIX = "module."


def weight_attributes(layer: nn.Module) -> tuple[str, ...]:
    """Attribute names under which a layer keeps weights, present or not.

    Those of its kind, of which subclasses count as their base, then those that were noted.

    Examples
    --------
    >>> weight_attributes(nn.GRUCell(2, 3))
    ('weight_ih', 'weight_hh')
    >>> weight_attributes(nn.LayerNorm(3))
    ()
    """
    known = attributes_by_type(layer)
    uses = uses_of(layer) or {}
    return (*known, *(attr for attr, use in uses.items() if use and attr not in known))


def attributes_by_type(layer: nn.Module) -> tuple[str, ...]:
    """Attribute names under which this kind of layer keeps weights, present or not.

    Examples
    --------
    >>> attributes_by_type(nn.Conv1d(2, 3, 1))
    ('weight',)
    """
    if isinstance(layer, _PLAIN):
        return ("weight",)
    if isinstance(layer, nn.RNNBase):
        return tuple(n for n in layer._flat_weights_names if n.startswith("weight_"))
    if isinstance(layer, nn.RNNCellBase):
        return ("weight_ih", "weight_hh")
    if isinstance(layer, nn.MultiheadAttention):
        return _ATTENTION
    return ()


@dataclass(frozen=True, eq=False)
class Weight:
    """One prunable weight and where it lives, stored as floats or as codes.

    Attributes
    ----------
    name : str
        Dotted path of the layer, a dot, and ``attr``: ``"module.layers.0.weight"``.
    layer_name : str
        Dotted path of the layer.
    layer : torch.nn.Module
        The layer that holds the weight.
    attr : str
        Attribute of the layer: ``"weight"``, ``"weight_ih_l0"``, …

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 1, bias=False))
    >>> weight = find_weights(net)[0]
    >>> weight.name
    '0.weight'
    >>> weight.zero_(torch.tensor([[True, False]]))
    >>> weight.zeros()
    tensor([[ True, False]])
    """

    name: str
    layer_name: str
    layer: nn.Module
    attr: str

    def values(self) -> Tensor:
        """The weight as floats, detached. Shares memory with the net: read only."""
        with torch.no_grad():
            return getattr(self.layer, self.attr).detach()

    def zeros(self) -> Tensor:
        """Boolean tensor: which numbers are exactly zero."""
        codes = _codes(self.layer, self.attr)
        return self.values() == 0 if codes is None else codes.zero_mask()

    def zero_(self, mask: Tensor) -> None:
        """Set the weight to exactly zero, in place, where ``mask`` is True."""
        if mask.dtype != torch.bool or mask.shape != self.shape:
            raise ValueError(
                f"Got a mask of dtype {mask.dtype} and shape {tuple(mask.shape)} for "
                f"{self.name!r}, but expected torch.bool and {tuple(self.shape)}."
            )
        codes = _codes(self.layer, self.attr)
        if codes is not None:
            codes.zero_(mask)
            return
        with torch.no_grad():
            values = getattr(self.layer, self.attr)
            values.masked_fill_(mask.to(values.device), 0)

    def channels(self) -> tuple[int | None, int]:
        """Axis of the output channels (None: there is one), and groups, as of `channel_axis`."""
        use = (uses_of(self.layer) or {}).get(self.attr)
        return channel_axis(self.layer) if use is None else use.channels(self.shape)

    @property
    def shape(self) -> torch.Size:
        """Shape of the weight."""
        codes = _codes(self.layer, self.attr)
        return torch.Size(getattr(self.layer, self.attr).shape if codes is None else codes.shape)

    @property
    def numel(self) -> int:
        """How many numbers the weight has."""
        return self.shape.numel()


def find_weights(root: nn.Module, ignored_layers: Sequence[str] = ()) -> list[Weight]:
    """List the prunable weights below ``root``, each once, in ``named_modules`` order.

    Parameters
    ----------
    root : torch.nn.Module
        Usually ``nn.ModuleDict({"module": net.module_})``.
    ignored_layers : sequence of str
        Names of layers to leave out with everything below them, see `resolve_ignored`.

    Returns
    -------
    list of Weight
        Tied weights (one Parameter used by two layers) are listed under their first name. If
        *any* of the layers that share one is ignored, the weight is: an ignored layer must
        not change through the back door.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.LSTM(3, 2))
    >>> [w.name for w in find_weights(net)]
    ['0.weight', '2.weight_ih_l0', '2.weight_hh_l0']
    >>> [w.name for w in find_weights(net, ["2"])]
    ['0.weight']
    """
    ignored = resolve_ignored(root, ignored_layers)
    found: dict[int, Weight] = {}
    dropped: set[int] = set()
    for weight, storage in _all_weights(root):
        if weight.layer_name in ignored:
            dropped.add(id(storage))
        found.setdefault(id(storage), weight)
    return [weight for key, weight in found.items() if key not in dropped]


def same_weights(
    root: nn.Module, shapes: Mapping[str, tuple[int, ...]], caller: str
) -> dict[str, Weight]:
    """Return the weights below ``root`` by name, of a net with these ones.

    Raises
    ------
    ValueError
        If one of them is not there, or has another shape.

    Examples
    --------
    >>> list(same_weights(nn.Sequential(nn.Linear(2, 1)), {"0.weight": (1, 2)}, "Pruner"))
    ['0.weight']
    """
    weights = {weight.name: weight for weight in find_weights(root)}
    for name, shape in shapes.items():
        given = tuple(weights[name].shape) if name in weights else None
        if given != shape:
            raise ValueError(
                f"{caller} was fitted on a net with the weight {name!r} of shape {shape}, but this "
                f"net has {given} there. Fit it on this net, or on one of the same structure."
            )
    return weights


def weight_uses(root: nn.Module) -> dict[str, list[Weight]]:
    """Map the name of each weight that `find_weights` lists to all layers that use it.

    Examples
    --------
    >>> net = nn.Sequential(nn.Embedding(5, 2), nn.Linear(2, 5))
    >>> net[1].weight = net[0].weight
    >>> [use.name for use in weight_uses(net)["0.weight"]]
    ['0.weight', '1.weight']
    """
    uses: dict[int, list[Weight]] = {}
    for weight, storage in _all_weights(root):
        uses.setdefault(id(storage), []).append(weight)
    return {tied[0].name: tied for tied in uses.values()}


def resolve_ignored(root: nn.Module, ignored_layers: Sequence[str]) -> set[str]:
    """Names, as ``root.named_modules()`` spells them, of all layers that are to be left alone.

    A name may be given with or without a leading ``"module."`` and covers everything below
    it. A layer that is reachable under several names may be given by any of them.

    Raises
    ------
    ValueError
        If a name is not that of a layer.

    Examples
    --------
    >>> root = nn.ModuleDict({"module": nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))})
    >>> resolve_ignored(root, ["1"]), resolve_ignored(root, ["module.1"])
    ({'module.1'}, {'module.1'})
    """
    if isinstance(ignored_layers, str):
        raise ValueError(
            f"Got ignored_layers={ignored_layers!r}, but expected a sequence of layer names. "
            f"Write ignored_layers=[{ignored_layers!r}]."
        )
    by_name = dict(root.named_modules(remove_duplicate=False))
    covered: set[int] = set()
    unknown = []
    for name in ignored_layers:
        layer = _look_up(by_name, name)
        if layer is None:
            unknown.append(name)
        else:
            covered.update(id(module) for module in layer.modules())
    if unknown:
        raise ValueError(
            f"Got ignored_layers={ignored_layers!r}, but the net has no layer named "
            f"{', '.join(map(repr, unknown))}. Available names: {_available(root)!r}."
        )
    return {name for name, module in root.named_modules() if id(module) in covered}


def _look_up(by_name: dict[str, nn.Module], name: object) -> nn.Module | None:
    if not isinstance(name, str) or not name:  # "" is the root: ignoring it is a slip
        return None
    return by_name.get(name, by_name.get(_MODULE_PREFIX + name))


def _available(root: nn.Module) -> list[str]:
    hidden = {id(module) for module in code_modules(root)}
    return [name for name, module in root.named_modules() if name and id(module) not in hidden]


def code_modules(root: nn.Module) -> list[PackedWeight]:
    """Return the modules below ``root`` that store a weight as codes, each once."""
    found = {id(c): c for layer in root.modules() for c in packed_weights(layer).values()}
    return list(found.values())


def _all_weights(root: nn.Module) -> Iterator[tuple[Weight, object]]:
    """Every weight with the object that stores it, tied ones once for each use."""
    for layer_name, layer in root.named_modules():
        packed = packed_weights(layer)
        for attr in weight_attributes(layer):
            storage = packed.get(attr, layer._parameters.get(attr))
            if storage is not None:
                name = f"{layer_name}.{attr}" if layer_name else attr
                yield Weight(name, layer_name, layer, attr), storage


def _codes(layer: nn.Module, attr: str) -> PackedWeight | None:
    return packed_weights(layer).get(attr)
