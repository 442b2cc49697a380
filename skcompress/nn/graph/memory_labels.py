"""Labels of tensors, kept for each memory block.

Each storage that holds labelled values has labels in the same order. A tensor's
labels are its strides laid over these, so views need no rule at all, whatever they do, and
a write through a view is seen by whoever reads the base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .labels import FIXED, Labels

__all__ = ["MemoryLabels", "TensorLabels", "axis_labels"]


@dataclass
class TensorLabels:
    """Labels of one tensor.

    Attributes
    ----------
    labels : list of torch.Tensor
        Of the tensor's shape. Activations have one: an element belongs to one unit. Parameters
        have one for each axis longer than 1.
    is_parameter : bool
        Whether the values come from a parameter or buffer alone.
    """

    labels: list[Tensor]
    is_parameter: bool = False


@dataclass
class _Block:
    storage: Any  # kept alive, or another could get its address
    itemsize: int
    labels: list[Tensor]
    is_parameter: bool
    whole: Tensor | None = None  # the parameter that fills it, and
    axes: list[Tensor] | None = None  # its labels in its shape, which take no memory

    def laid_out(self) -> list[Tensor]:
        """Labels in the order of the memory."""
        if not self.labels and self.whole is not None and self.axes is not None:
            place = (self.whole.shape, self.whole.stride(), self.whole.storage_offset())
            size = self.storage.nbytes() // self.itemsize
            for vector in self.axes:
                blank = torch.full((size,), FIXED)
                blank.as_strided(*place).copy_(vector)
                self.labels.append(blank)
        return self.labels

    def permuted(self, tensor: Tensor) -> list[Tensor] | None:
        """Labels of a tensor that is the whole parameter, or its transposed."""
        if self.labels or self.whole is None or self.axes is None:
            return None
        if tensor.storage_offset() != self.whole.storage_offset():
            return None
        own = list(zip(self.whole.shape, self.whole.stride(), strict=True))
        seen = list(zip(tensor.shape, tensor.stride(), strict=True))
        if len(set(own)) < len(own) or sorted(own) != sorted(seen):
            return None
        order = [own.index(axis) for axis in seen]
        return [labels.permute(order) for labels in self.axes]


class MemoryLabels:
    """TensorLabels of every labelled storage of one forward pass."""

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self._blocks: dict[int, _Block] = {}

    def add_parameter(self, name: str, tensor: Tensor) -> None:
        """Give a parameter or buffer labels, the same in every forward pass."""
        vectors = []
        for axis, size in enumerate(tensor.shape):
            if size > 1:
                known = self.labels.ranges.get((name, axis))
                if known is None:
                    vector = self.labels.add((name, axis), size)
                else:
                    vector = torch.arange(known.start, known.stop)
                view = [-1 if a == axis else 1 for a in range(tensor.dim())]
                vectors.append(vector.view(view).expand(tensor.shape))
        if not vectors or tensor.layout != torch.strided:
            return
        storage = tensor.untyped_storage()
        if (other := self._blocks.get(storage._cdata)) is not None:
            for labels in (*vectors, *(other.axes or ())):
                self.labels.protect(labels, "it shares its memory with another parameter")
            return
        self._blocks[storage._cdata] = _Block(
            storage, tensor.element_size(), [], True, tensor, vectors
        )

    def get(self, tensor: Tensor) -> TensorLabels | None:
        """Return the labels of a tensor; None if it belongs to no unit."""
        if tensor.layout != torch.strided:
            return None
        block = self._blocks.get(tensor.untyped_storage()._cdata)
        if block is None:
            return None
        if block.itemsize != tensor.element_size():  # seen as another dtype: places do not match
            for labels in block.laid_out():
                self.labels.protect(labels, "its values are read as another dtype")
            return None
        if (permuted := block.permuted(tensor)) is not None:
            return TensorLabels(permuted, block.is_parameter)
        place = (tensor.shape, tensor.stride(), tensor.storage_offset())
        return TensorLabels(
            [labels.as_strided(*place) for labels in block.laid_out()], block.is_parameter
        )

    def set(self, tensor: Tensor, given: TensorLabels) -> None:
        """Put labels over a tensor: a new one, or one that was written to in place."""
        storage = tensor.untyped_storage()
        block = self._blocks.get(storage._cdata)
        if block is None or len(block.laid_out()) != len(given.labels):
            self._forget(block)
            size = storage.nbytes() // tensor.element_size()
            blank = [torch.full((size,), FIXED) for _ in given.labels]
            block = _Block(storage, tensor.element_size(), blank, given.is_parameter)
            self._blocks[storage._cdata] = block
        block.is_parameter &= given.is_parameter
        place = (tensor.shape, tensor.stride(), tensor.storage_offset())
        for own, labels in zip(block.laid_out(), given.labels, strict=True):
            own.as_strided(*place).copy_(labels)

    def clear(self, tensor: Tensor) -> None:
        """Forget the labels of a tensor that was overwritten with what belongs to no unit."""
        if tensor.layout != torch.strided:
            return  # it has no memory of its own to lay labels over, and so never any
        block = self._blocks.get(tensor.untyped_storage()._cdata)
        if block is not None:
            place = (tensor.shape, tensor.stride(), tensor.storage_offset())
            for own in block.laid_out():
                own.as_strided(*place).fill_(FIXED)

    def _forget(self, block: _Block | None) -> None:
        for labels in block.laid_out() if block is not None else ():
            self.labels.protect(labels, "it is overwritten in the forward pass")


def axis_labels(parameter: TensorLabels | None, axis: int) -> Tensor | None:
    """Return the labels along one axis of a parameter, if there are such.

    They differ from index to index and are the same at all places of the other axes.
    """
    for labels in parameter.labels if parameter is not None else ():
        if labels.size(axis) > 1 and labels.stride(axis) == 0:
            continue
        moved = labels.movedim(axis, 0)
        if all(
            n == 1 or step == 0 for n, step in zip(moved.shape[1:], moved.stride()[1:], strict=True)
        ):
            vector = moved.as_strided((len(moved),), (moved.stride(0),), moved.storage_offset())
            if len(torch.unique(vector)) == len(vector):
                return vector
            continue
        vector = moved.reshape(len(moved), -1)[:, 0]
        distinct = len(torch.unique(vector)) == len(vector)
        if distinct and bool((moved == vector.view(-1, *[1] * (moved.dim() - 1))).all()):
            return vector
    return None
