"""What a trace has found: groups of units, printable, and which rows and columns a unit is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn

from .labels import AxisKey, Labels

__all__ = ["Graph", "Group", "Kept", "Protected", "build_graph", "pack_kept", "unpack_kept"]

Kept = dict[str, list[list[int] | None]]
"""What stays: for each parameter and buffer, for each axis the kept indices, None for all."""


PackedKept = dict[str, list[tuple[int, bytes] | None]]
"""The same with one bit for each index, so that a pickled plan is small."""


def pack_kept(kept: Kept) -> PackedKept:
    r"""Return what stays in a form that takes little space.

    Examples
    --------
    >>> packed = pack_kept({"a.weight": [None, [0, 2]]})
    >>> packed, unpack_kept(packed)
    ({'a.weight': [None, (3, b'\xa0')]}, {'a.weight': [None, [0, 2]]})
    """
    return {name: [None if k is None else _to_bits(k) for k in axes] for name, axes in kept.items()}


def unpack_kept(packed: PackedKept) -> Kept:
    """Return what `pack_kept` was given."""
    return {
        name: [None if bits is None else _from_bits(bits) for bits in axes]
        for name, axes in packed.items()
    }


def _to_bits(kept: Sequence[int]) -> tuple[int, bytes]:
    """One bit for each index up to the last one that is kept."""
    mask = np.zeros(max(kept) + 1, dtype=bool)
    mask[list(kept)] = True
    return len(mask), np.packbits(mask).tobytes()


def _from_bits(bits: tuple[int, bytes]) -> list[int]:
    mask = np.unpackbits(np.frombuffer(bits[1], dtype=np.uint8), count=bits[0])
    return [int(i) for i in np.flatnonzero(mask)]


@dataclass(frozen=True)
class Group:
    """Units made by the same rows of the same layers.

    Attributes
    ----------
    name : str
        The parameter that makes them; the first one, where layers are coupled.
    units : tuple of int
        Numbers of the units that may go, see `Graph.axes`.
    producers, consumers, followers : tuple of AxisKey
        Axes of parameters that make the units, that read them, and that belong to them
        otherwise (biases, norm layers, statistics).
    scales : tuple of AxisKey
        Those of the followers that are scales of norm layers.
    """

    name: str
    units: tuple[int, ...]
    producers: tuple[AxisKey, ...]
    consumers: tuple[AxisKey, ...]
    followers: tuple[AxisKey, ...]
    scales: tuple[AxisKey, ...]

    @property
    def n_units(self) -> int:
        """How many units there are."""
        return len(self.units)

    def __str__(self) -> str:
        parts = [f"{self.name}: {self.n_units} units"]
        if len(self.producers) > 1:
            parts.append(f"coupled with {_names(self.producers, self.name)}")
        if self.followers:
            parts.append(f"followed by {_names(self.followers)}")
        parts.append(f"read by {_names(self.consumers)}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Protected:
    """Units that stay, and why.

    Attributes
    ----------
    name : str
        The parameter that makes them.
    n_units : int
        How many.
    reason : str
        Why.
    """

    name: str
    n_units: int
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.n_units} units stay: {self.reason}"


@dataclass(frozen=True)
class Graph:
    """Groups of units that may be removed, and what is protected.

    Attributes
    ----------
    groups : tuple of Group
        In the order of the parameters.
    protected : tuple of Protected
        What stays.
    axes : dict of AxisKey to tuple of int
        For each index of an axis the number of its unit; 0 if it stays.
    """

    groups: tuple[Group, ...]
    protected: tuple[Protected, ...]
    axes: Mapping[AxisKey, tuple[int, ...]] = field(repr=False)

    @property
    def n_units(self) -> int:
        """How many units may be removed."""
        return sum(group.n_units for group in self.groups)

    def kept(self, removed: Collection[int]) -> Kept:
        """Return what stays of each parameter when some units go.

        Examples
        --------
        >>> axes = {("a.weight", 0): (1, 2), ("b.weight", 1): (1, 2)}
        >>> Graph((), (), axes).kept({1})
        {'a.weight': [[1]], 'b.weight': [None, [1]]}
        """
        removed = set(removed)
        kept: Kept = {}
        for (name, axis), units in self.axes.items():
            if removed.isdisjoint(units):
                continue
            per_axis = kept.setdefault(name, [])
            per_axis += [None] * (axis + 1 - len(per_axis))
            per_axis[axis] = [i for i, unit in enumerate(units) if unit not in removed]
        return kept

    def columns(self, removed: Collection[int]) -> list[tuple[AxisKey, list[int]]]:
        """Return the axes that read removed units, and at which indices."""
        removed = set(removed)
        keys = dict.fromkeys(key for group in self.groups for key in group.consumers)
        found = [(key, [i for i, u in enumerate(self.axes[key]) if u in removed]) for key in keys]
        return [(key, indices) for key, indices in found if indices]

    def protecting(self, groups: Mapping[int, str]) -> Graph:
        """Return the graph with some groups (by position) protected, for the given reasons."""
        stay = {unit for number in groups for unit in self.groups[number].units}
        more = [
            Protected(self.groups[n].name, self.groups[n].n_units, why) for n, why in groups.items()
        ]
        axes = {
            key: tuple(0 if unit in stay else unit for unit in units)
            for key, units in self.axes.items()
        }
        left = tuple(g for n, g in enumerate(self.groups) if n not in groups)
        return replace(self, groups=left, protected=(*self.protected, *more), axes=axes)

    def __repr__(self) -> str:
        n = len(self.groups)
        head = f"Graph({n} group{'s' * (n != 1)}, {self.n_units} units)"
        lines = [f"  {part}" for part in (*self.groups, *self.protected)]
        return "\n".join([head, *lines])


def build_graph(module: nn.Module, labels: Labels, ignored: Collection[str]) -> Graph:
    """Make a graph of what the labels have learned.

    Parameters
    ----------
    module : torch.nn.Module
        As it was traced.
    labels : Labels
        After the traces.
    ignored : collection of str
        Names of layers, as in ``module.named_modules()``, of which nothing may go.
    """
    for layer_name, layer in module.named_modules():
        prefix = layer_name + "." if layer_name else ""
        if isinstance(layer, nn.RNNBase):
            _couple_layers(prefix, layer, labels)
        if layer_name in ignored:
            _ignore(prefix, layer, labels)
    members: dict[int, list[AxisKey]] = {}
    for key, span in labels.ranges.items():
        for label in span:
            members.setdefault(labels.find(label), []).append(key)
    groups: dict[tuple[AxisKey, ...], list[int]] = {}
    stay: dict[tuple[str, str], int] = {}
    for root, keys in members.items():
        producers = tuple(k for k in dict.fromkeys(keys) if "out" in labels.roles[k])
        if not producers:
            continue
        reason = labels.reason(root)
        if reason is None and not any("in" in labels.roles[k] for k in keys):
            reason = "no layer was seen to read it"
        if reason is None:
            groups.setdefault(producers, []).append(root)
        else:
            stay[producers[0][0], reason] = stay.get((producers[0][0], reason), 0) + 1
    _name_the_unread(labels, stay)
    return _numbered(groups, stay, members, labels)


def _name_the_unread(labels: Labels, stay: dict[tuple[str, str], int]) -> None:
    """Say why weights stay that go through what no rule knows, and so make no units at all."""
    known = {name for (name, _), roles in labels.roles.items() if roles}
    matrices = {name for name, axis in labels.ranges if axis > 0}
    for (name, axis), span in labels.ranges.items():
        if axis > 0 or name not in matrices or name in known:
            continue
        for why in filter(None, map(labels.reason, span)):
            stay[name, why] = stay.get((name, why), 0) + 1


def _numbered(
    groups: dict[tuple[AxisKey, ...], list[int]],
    stay: dict[tuple[str, str], int],
    members: dict[int, list[AxisKey]],
    labels: Labels,
) -> Graph:
    for producers, roots in list(groups.items()):
        if len(roots) == 1:  # never fewer than one, so never any
            name = producers[0][0]
            stay[name, "all of it is one unit"] = stay.get((name, "all of it is one unit"), 0) + 1
            del groups[producers]
    numbers = {root: n for n, root in enumerate((r for g in groups.values() for r in g), start=1)}
    axes = {}
    for key, span in labels.ranges.items():
        units = tuple(numbers.get(labels.find(label), 0) for label in span)
        if any(units):
            axes[key] = units
    built = [
        _group(p, [numbers[r] for r in roots], labels, [k for r in roots for k in members[r]])
        for p, roots in groups.items()
    ]
    protected = tuple(Protected(name, n, why) for (name, why), n in stay.items())
    return Graph(tuple(built), protected, axes)


def _group(
    producers: tuple[AxisKey, ...], units: list[int], labels: Labels, keys: Iterable[AxisKey]
) -> Group:
    own = list(dict.fromkeys(keys))
    consumers = tuple(k for k in own if "in" in labels.roles[k])
    followers = tuple(k for k in own if k not in producers and k not in consumers)
    return Group(
        name=producers[0][0],
        units=tuple(units),
        producers=producers,
        consumers=consumers,
        followers=followers,
        scales=tuple(k for k in followers if "scale" in labels.roles[k]),
    )


def _couple_layers(prefix: str, layer: nn.RNNBase, labels: Labels) -> None:
    """One recurrent module has one width: its layers and directions lose the same units."""
    first: torch.Tensor | None = None
    for attr in [name for names in layer._all_weights for name in names]:
        span = labels.ranges.get((prefix + attr, 1))
        if attr.startswith("weight_hh") and span is not None:
            own = torch.arange(span.start, span.stop)
            first = own if first is None else first
            labels.unify(first, own, "")
        for axis in (0, 1) if layer.proj_size else ():
            span = labels.ranges.get((prefix + attr, axis))
            if span is not None and not attr.startswith("weight_ih"):
                labels.protect(
                    torch.arange(span.start, span.stop),
                    "torch takes no projection that is not smaller than the state",
                )


def _ignore(prefix: str, layer: nn.Module, labels: Labels) -> None:
    for attr, tensor in [
        *layer.named_parameters(recurse=False),
        *layer.named_buffers(recurse=False),
    ]:
        for axis in range(tensor.dim()):
            span = labels.ranges.get((prefix + attr, axis))
            if span is not None:
                labels.protect(torch.arange(span.start, span.stop), "it is in ignored_layers")


def _names(keys: Iterable[AxisKey], but: str = "") -> str:
    names = list(dict.fromkeys(name for name, _ in keys if name != but))
    shown = ", ".join(names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
