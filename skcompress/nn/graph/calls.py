"""One call of an operation, the registry of rules, and functions that several rules need.

A rule gets one call (`Call`) with its result. It reads the labels of the arguments, unifies those
that have to be the same, and gives labels to the result. An operation without a rule protects all
that flows into it.
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
        The operation.
    args : dict of str to object
        All arguments by their names in the schema.
    out : object
        The result.
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
        """Labels of an argument, one for each element, see `labels_of`."""
        value = self.args.get(name)
        return None if value is None else labels_of(self, value)

    def put(self, labels: Tensor | None, out: Any = None) -> None:
        """Give labels to the result, or to one of several; None: it belongs to no unit."""
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
    """Return the labels of an activation, one for each element, or None if it has none.

    For rules that handle activations only. A weight has labels for each of its axes; which of
    them the operation would follow is not known, so all are protected.
    """
    found = call.memory.get(tensor)
    if found is None:
        return None
    if len(found.labels) == 1:
        return found.labels[0]
    for labels in found.labels:
        call.labels.protect(labels, f"a weight is used in {call.where}")
    return None


def protect_all(call: Call) -> None:
    """Protect all that flows into an operation; its results belong to no unit."""
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
    """Demand one unit along some axes; return labels in which these have length 1.

    Several units of one axis of a parameter, or units beside what stays, are protected.
    """
    axes = [axis % labels.dim() for axis in axes] if labels.dim() else []
    if not axes:
        return labels
    if labels.numel() == 0:
        return nothing(labels, axes)
    one = labels.amax(axes, keepdim=True)
    call.labels.unify(labels, one.expand_as(labels), what, merging=False)
    return one


def nothing(labels: Tensor, axes: Sequence[int]) -> Tensor:
    """Return labels of a tensor without elements, in which some axes have length 1."""
    shape = list(labels.shape)
    for axis in axes:
        shape[axis] = 1
    return torch.full(shape, WILD)


def merge_positions(call: Call, labels: Tensor, channels: int, axes: Sequence[int]) -> Tensor:
    """Demand one unit for each channel, whatever the position; return labels of the channels.

    For layers that read channels at many positions. Unlike in `merge_along`, different units at
    different positions of one channel are joined instead of protected: after a pixel shuffle
    several rows make one channel, each for some of its positions, and are removed together.
    If units do not differ along the channels at the first position, they lie along the positions:
    then nothing is joined.
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
