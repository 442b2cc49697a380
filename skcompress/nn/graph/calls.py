"""One watched call of an operation, and what all rules need.

A rule is told one call (`Call`) and what it returned. It reads the labels of the arguments, says
which of them have to be the same, and puts labels over the result. An operation without a rule
protects whatever flows into it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .dispatch import tensors_in
from .labels import WILD, Labels
from .memory_labels import MemoryLabels, TensorLabels

__all__ = [
    "RULES",
    "Call",
    "Rule",
    "labels_of",
    "merge_along",
    "merge_positions",
    "protect_all",
    "rule",
    "varies",
]


@dataclass
class Call:
    """One call of an operation.

    Attributes
    ----------
    func : torch._ops.OpOverload
        What was called.
    args : dict of str to object
        All arguments by their names in the schema.
    out : object
        What it returned.
    labels : Labels
        Of all parameters, the same in the whole trace.
    memory : MemoryLabels
        Of the tensors of this forward pass.
    where : str
        The operation and the layer it stands in, for reasons.
    """

    func: Any
    args: dict[str, Any]
    out: Any
    labels: Labels
    memory: MemoryLabels
    where: str

    def tensor_labels(self, name: str) -> TensorLabels | None:
        """Labels of an argument."""
        value = self.args.get(name)
        return self.memory.get(value) if isinstance(value, Tensor) else None

    def single(self, name: str) -> Tensor | None:
        """Labels of an argument as those of an activation: one for each element."""
        value = self.args.get(name)
        return None if value is None else labels_of(self, value)

    def put(self, labels: Tensor | None, out: Any = None) -> None:
        """Put labels over the result, or over one of several."""
        out = self.out if out is None else out
        if labels is None:
            self.memory.clear(out)
        else:
            self.memory.set(out, TensorLabels([labels.expand(out.shape)]))


Rule = Callable[[Call], None]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for operations, by their names without overload and final underscore."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def labels_of(call: Call, tensor: Tensor) -> Tensor | None:
    """Labels of a tensor, one for each element; a weight's axes are protected instead."""
    found = call.memory.get(tensor)
    if found is None:
        return None
    if len(found.labels) == 1:
        return found.labels[0]
    for labels in found.labels:
        call.labels.protect(labels, f"a weight is used in {call.where}")
    return None


def protect_all(call: Call) -> None:
    """What an unknown operation does: all that flows into it stays, what comes out is fixed."""
    for tensor in tensors_in(call.args.values()):
        found = call.memory.get(tensor)
        for labels in found.labels if found is not None else ():
            call.labels.protect(labels, f"it flows into {call.where}")
    for tensor in tensors_in([call.out]):
        call.memory.clear(tensor)


def varies(labels: Tensor, axis: int) -> bool:
    """Whether units differ along an axis."""
    if labels.numel() == 0:
        return False
    first = labels.amax(axis, keepdim=True)
    return bool(((labels != first) & (labels != WILD)).any())


def merge_along(call: Call, labels: Tensor, axes: Sequence[int], what: str) -> Tensor:
    """Demand that a unit fills all places along some axes; return labels with these of length 1."""
    axes = [axis % labels.dim() for axis in axes] if labels.dim() else []
    if not axes:
        return labels
    if labels.numel() == 0:
        return nothing(labels, axes)
    one = labels.amax(axes, keepdim=True)
    call.labels.unify(labels, one.expand_as(labels), what, merging=False)
    return one


def nothing(labels: Tensor, axes: Sequence[int]) -> Tensor:
    """Labels, with some axes of length 1, of a tensor without elements."""
    shape = list(labels.shape)
    for axis in axes:
        shape[axis] = 1
    return torch.full(shape, WILD)


def merge_positions(call: Call, labels: Tensor, channels: int, axes: Sequence[int]) -> Tensor:
    """Like `merge_along` for what reads channels at many positions.

    One channel may be made by several rows, each for some positions: they become one unit.
    """
    if labels.numel() == 0:
        return nothing(labels, axes)
    one = labels
    for axis in axes:
        one = one.narrow(axis, 0, 1)
    if not varies(one, channels):
        return merge_along(call, labels, axes, f"{call.where} reads it at several places")
    one = labels.amax(list(axes), keepdim=True)
    call.labels.unify(labels, one.expand_as(labels), f"{call.where} reads it beside what stays")
    return one
