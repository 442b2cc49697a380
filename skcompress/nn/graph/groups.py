"""The result of a trace: groups of units, and the rows and columns that each unit is made of."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from .kept_indices import KeptIndices
from .labels import AxisKey

__all__ = ["Graph", "Group", "Protected"]


@dataclass(frozen=True)
class Group:
    """Units made by the same rows of the same layers.

    Attributes
    ----------
    name : str
        The parameter that makes them; the first one, where layers are coupled.
    units : tuple of int
        Numbers of the units that may be removed, see `Graph.axes`.
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
    """Groups of units that may be removed, and protected units.

    Attributes
    ----------
    groups : tuple of Group
        In the order of the parameters.
    protected : tuple of Protected
        The units that stay.
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

    def kept(self, removed: Collection[int]) -> KeptIndices:
        """Return the indices that stay of each parameter when some units are removed.

        Examples
        --------
        >>> axes = {("a.weight", 0): (1, 2), ("b.weight", 1): (1, 2)}
        >>> Graph((), (), axes).kept({1})
        {'a.weight': [[1]], 'b.weight': [None, [1]]}
        """
        removed = set(removed)
        kept: KeptIndices = {}
        for (name, axis), units in self.axes.items():
            if removed.isdisjoint(units):
                continue
            per_axis = kept.setdefault(name, [])
            per_axis += [None] * (axis + 1 - len(per_axis))
            per_axis[axis] = [i for i, unit in enumerate(units) if unit not in removed]
        return kept

    def columns(self, removed: Collection[int]) -> list[tuple[AxisKey, list[int]]]:
        """Return the axes that read some units, and the indices at which they do."""
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


def _names(keys: Iterable[AxisKey], but: str = "") -> str:
    names = list(dict.fromkeys(name for name, _ in keys if name != but))
    shown = ", ".join(names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
