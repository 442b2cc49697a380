"""Which units belong together: one label for each index of each parameter axis.

A label stands for one row, column or channel of one parameter. The tracer finds out which of
them are the same *unit*: row 3 of a layer, entry 3 of its bias, column 7 of the layer that reads
it. It says so by `unify`; a union-find keeps the classes. What must stay is said by `protect`,
with the reason.
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
        What the axis was seen doing: ``"out"`` (makes units), ``"in"`` (reads them), ``"scale"``
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
        self._parent = [FIXED]
        self._range_of = [-1]
        self._reasons: dict[int, str] = {}
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
        """Return a label for a value that needs units as they are; they stay if it is used.

        Attention hands out the mean of its heads, which hardly anybody looks at.
        """
        number = int(self.add(("", len(self._deferred)), 1)[0])
        self._deferred[number] = (labels, why)
        return number

    def find(self, label: int) -> int:
        """Return the class of a label."""
        root = label
        while self._parent[root] != root:
            root = self._parent[root]
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
            Of one shape. Where one is FIXED, the other is protected; where one is WILD, nothing
            follows.
        why : str
            Reason for what becomes protected.
        merging : bool
            Whether two units of one axis may become one. If not, both are protected: then the
            operation mixes units rather than to repeat them.
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
        """Whether several units of one axis meet, or units and what stays."""
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
        a, b = sorted((self.find(a), self.find(b)))
        if a == b:
            return
        self._parent[b] = a
        if (reason := self._reasons.pop(b, None)) is not None:
            self._reasons.setdefault(a, reason)


def without_repeats(*tensors: Tensor) -> list[Tensor]:
    """Take once what all tensors, of one shape, repeat along an axis without memory of its own.

    Labels of an axis are laid over whole weights and batches that way: what is left is small.
    """
    repeated = [all(t.stride(axis) == 0 for t in tensors) for axis in range(tensors[0].dim())]
    once = tuple(slice(0, 1) if again else slice(None) for again in repeated)
    return [t[once] for t in tensors]


def _distinct(labels: Tensor) -> list[int]:
    """Every real label in a tensor, once."""
    return [label for label in torch.unique(*without_repeats(labels)).tolist() if label > FIXED]


def _pairs(a: Tensor, b: Tensor) -> Iterable[Sequence[int]]:
    """Every pair of different labels at one place, once, without constants."""
    a, b = without_repeats(*torch.broadcast_tensors(a, b))
    differ = (a != b) & (a != WILD) & (b != WILD)
    if not bool(differ.any()):
        return []
    a, b = a[differ], b[differ]
    width = int(torch.maximum(a.max(), b.max())) + 1
    codes = torch.unique(torch.minimum(a, b) * width + torch.maximum(a, b)).tolist()
    return [divmod(code, width) for code in codes]
