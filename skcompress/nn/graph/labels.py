"""Which units belong together: one label for each index of each parameter axis.

A label stands for one row, column or channel of one parameter. The tracer finds out which labels
are the same *unit*: row 3 of a layer, entry 3 of its bias, column 7 of the layer that reads it.
`unify` joins them in a union-find, whose classes are the units in the end. `protect` marks a class
that must stay, with the reason; a class that is joined to a protected one is protected, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

__all__ = ["FIXED", "WILD", "AxisKey", "Labels", "without_repeats"]

FIXED = 0
"""Label of values that belong to no unit, such as the net's inputs."""
WILD = -1
"""Label of constants that the forward makes itself (`torch.zeros`): they fit any unit."""

AxisKey = tuple[str, int]
"""Name of a parameter or buffer, and one of its axes."""


class Labels:
    """Union-find over the labels of all parameter axes.

    Attributes
    ----------
    ranges : dict of AxisKey to range
        The labels of each axis.
    roles : dict of AxisKey to set of str
        What the axis does: ``"out"`` (makes units), ``"in"`` (reads them), ``"scale"``
        (scale of a norm layer).

    Examples
    --------
    >>> labels = Labels()
    >>> rows, columns = labels.add(("0.weight", 0), 2), labels.add(("1.weight", 1), 2)
    >>> labels.unify(rows, columns, "linear")
    >>> labels.find(int(rows[1])) == labels.find(int(columns[1]))
    True
    >>> labels.protect(columns[:1], "it is an output")
    >>> labels.reason(int(rows[0]))
    'it is an output'
    """

    def __init__(self) -> None:
        self.ranges: dict[AxisKey, range] = {}
        self.roles: dict[AxisKey, set[str]] = {}
        self._keys: list[AxisKey] = []
        # Both lists are indexed by label. Label 0 is FIXED, which is of no axis and never joined.
        self._parent = [FIXED]
        self._range_of = [-1]
        self._reasons: dict[int, str] = {}  # by root: a reason holds for the whole class
        self._deferred: dict[int, tuple[Tensor, str]] = {}

    def add(self, key: AxisKey, size: int) -> Tensor:
        """Return new labels for an axis, one for each index."""
        start = len(self._parent)
        self.ranges[key] = range(start, start + size)
        self._parent += self.ranges[key]
        self._range_of += [len(self._keys)] * size
        self._keys.append(key)
        self.roles[key] = set()
        return torch.arange(start, start + size)

    def defer(self, labels: Tensor, why: str) -> int:
        """Return a label for a value computed from several units, which stay if it is used.

        To protect them at once would be too much where the value is dropped: attention returns
        the mean of its heads, and most modules ignore it. Only once an operation protects this
        label, or couples it with another one, its units are protected.
        """
        number = int(self.add(("", len(self._deferred)), 1)[0])
        self._deferred[number] = (labels, why)
        return number

    def find(self, label: int) -> int:
        """Return the root of a label, the smallest label of its class."""
        root = label
        while self._parent[root] != root:
            root = self._parent[root]
        # Path compression: whatever was passed points to the root from now on.
        while self._parent[label] != root:
            self._parent[label], label = root, self._parent[label]
        return root

    def range_of(self, label: int) -> int:
        """Return the number of the axis that a label is of."""
        return self._range_of[label]

    def reason(self, label: int) -> str | None:
        """Why a label is protected; None if it is not."""
        return self._reasons.get(self.find(label))

    def protect(self, labels: Tensor, why: str) -> None:
        """Say that units must stay. The first reason is kept."""
        for label in _distinct(labels):
            self._stay(label, why)

    def mark(self, labels: Tensor, role: str) -> None:
        """Note what the axes of these labels do."""
        for number in {self._range_of[label] for label in _distinct(labels)}:
            self.roles[self._keys[number]].add(role)

    def unify(self, a: Tensor, b: Tensor, why: str, *, merging: bool = True) -> None:
        """Say that two tensors of labels stand, element by element, for the same units.

        Parameters
        ----------
        a, b : torch.Tensor
            Of one shape. Where one is FIXED, the other is protected. Where one is WILD, nothing
            changes.
        why : str
            Reason for what becomes protected.
        merging : bool
            Whether two units of one axis may become one. If not, both are protected: the
            operation mixes units, as a sum over an axis does, and does not repeat them.
        """
        for one, two in _pairs(a, b):
            if one == FIXED or two == FIXED:
                self._stay(one or two, why)
            elif (
                (not merging and self._range_of[one] == self._range_of[two])
                or one in self._deferred
                or two in self._deferred
            ):
                self._stay(one, why)
                self._stay(two, why)
            else:
                self._join(one, two)

    def mixes(self, a: Tensor, b: Tensor) -> bool:
        """Whether anywhere two units of one axis meet, or a unit and FIXED."""
        return any(
            FIXED in (one, two) or self._range_of[one] == self._range_of[two]
            for one, two in _pairs(a, b)
        )

    def _stay(self, label: int, why: str) -> None:
        if label in self._deferred:
            labels, first = self._deferred[label]
            for unit in _distinct(labels):
                self._stay(unit, first)
        else:
            self._reasons.setdefault(self.find(label), why)

    def _join(self, a: int, b: int) -> None:
        # The smaller root stays one, so the numbers of units do not depend on the order of joins.
        a, b = sorted((self.find(a), self.find(b)))
        if a == b:
            return
        self._parent[b] = a
        if (reason := self._reasons.pop(b, None)) is not None:
            self._reasons.setdefault(a, reason)


def without_repeats(*tensors: Tensor) -> list[Tensor]:
    """Return tensors of one shape without repetitions that all of them have.

    An axis of stride 0 repeats one slice, which is all that is taken. Labels of an axis are
    expanded to whole weights and batches, so that millions of elements shrink to one vector.
    """
    repeated = [all(t.stride(axis) == 0 for t in tensors) for axis in range(tensors[0].dim())]
    once = tuple(slice(0, 1) if again else slice(None) for again in repeated)
    return [t[once] for t in tensors]


def _distinct(labels: Tensor) -> list[int]:
    """Every label of a unit in a tensor, once."""
    return [label for label in torch.unique(*without_repeats(labels)).tolist() if label > FIXED]


def _pairs(a: Tensor, b: Tensor) -> Iterable[Sequence[int]]:
    """Every unordered pair of different labels at one position, once, without WILD."""
    a, b = without_repeats(*torch.broadcast_tensors(a, b))
    differ = (a != b) & (a != WILD) & (b != WILD)
    if not bool(differ.any()):
        return []
    a, b = a[differ], b[differ]
    # Both numbers of a pair in one, the smaller first: `unique` of numbers is faster than of rows.
    width = int(torch.maximum(a.max(), b.max())) + 1
    codes = torch.unique(torch.minimum(a, b) * width + torch.maximum(a, b)).tolist()
    return [divmod(code, width) for code in codes]
