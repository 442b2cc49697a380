"""Labels of tensors, kept for each memory block.

Beside each storage that holds labelled values lie labels in the same order. The labels of a tensor
are found by its shape, strides and offset, applied to the labels of its storage. So no view needs
a rule of its own, and a write through a view changes the labels of its base, too.

Invariant: an element of a storage has the label of the unit that its value belongs to, or `FIXED`.
An activation has one such label. An element of a weight lies in one row and in one column, so it
has as many as the weight has axes longer than 1; each set of labels is called a channel here.
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
        Of the tensor's shape. Activations have one, as an element belongs to one unit.
        Parameters have one for each axis longer than 1.
    is_parameter : bool
        Whether the values come from parameters and buffers alone, not from the rows.
    """

    labels: list[Tensor]
    is_parameter: bool = False


@dataclass
class _Block:
    """A storage and its labels.

    They are in one of two forms. Those of a parameter that is used as it is, or transposed, are
    vectors expanded to its shape (`axes`): they take no memory, however large the weight.
    `labels` is empty then. The first other use lays them out (`labels`), one number for each
    element of the storage and each channel, and from then on these alone are valid.
    """

    storage: Any  # alive as long as its labels, as the address of a freed one is given away again
    itemsize: int
    labels: list[Tensor]
    is_parameter: bool
    whole: Tensor | None = None
    axes: list[Tensor] | None = None

    def laid_out(self) -> list[Tensor]:
        """Return the labels of each channel in the order of the memory."""
        if not self.labels and self.whole is not None and self.axes is not None:
            place = (self.whole.shape, self.whole.stride(), self.whole.storage_offset())
            size = self.storage.nbytes() // self.itemsize
            for vector in self.axes:
                blank = torch.full((size,), FIXED)
                blank.as_strided(*place).copy_(vector)
                self.labels.append(blank)
        return self.labels

    def permuted(self, tensor: Tensor) -> list[Tensor] | None:
        """Return the labels of a parameter with its axes in any order; None of another view."""
        if self.labels or self.whole is None or self.axes is None:
            return None
        if tensor.storage_offset() != self.whole.storage_offset():
            return None
        # A permutation has the same pairs of size and stride in another order. Where two axes have
        # equal pairs, these do not tell which is which.
        own = list(zip(self.whole.shape, self.whole.stride(), strict=True))
        seen = list(zip(tensor.shape, tensor.stride(), strict=True))
        if len(set(own)) < len(own) or sorted(own) != sorted(seen):
            return None
        order = [own.index(axis) for axis in seen]
        return [labels.permute(order) for labels in self.axes]


class MemoryLabels:
    """Labels of all storages that are met in one forward pass.

    Parameters
    ----------
    labels : Labels
        Of all parameters; outlives the pass, as labels are the same in each of them.
    """

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self._blocks: dict[int, _Block] = {}

    def add_parameter(self, name: str, tensor: Tensor) -> None:
        """Label a parameter or buffer: each index of an axis, the same in every forward pass."""
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
        """Return the labels of a tensor; None if its values belong to no unit."""
        if tensor.layout != torch.strided:
            return None
        block = self._blocks.get(tensor.untyped_storage()._cdata)
        if block is None:
            return None
        # Strides count elements, so those of a view with another item size do not fit the labels.
        if block.itemsize != tensor.element_size():
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
        """Give labels to a tensor that was made, or written to in place.

        What else lies in its storage keeps its labels.
        """
        storage = tensor.untyped_storage()
        block = self._blocks.get(storage._cdata)
        # With another number of channels the old labels cannot be kept beside the new ones, so
        # their units must not be removed.
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
        """Forget the labels of a tensor whose values now belong to no unit."""
        if tensor.layout != torch.strided:
            return  # sparse tensors never have labels
        block = self._blocks.get(tensor.untyped_storage()._cdata)
        if block is not None:
            place = (tensor.shape, tensor.stride(), tensor.storage_offset())
            for own in block.laid_out():
                own.as_strided(*place).fill_(FIXED)

    def _forget(self, block: _Block | None) -> None:
        for labels in block.laid_out() if block is not None else ():
            self.labels.protect(labels, "it is overwritten in the forward pass")


def axis_labels(parameter: TensorLabels | None, axis: int) -> Tensor | None:
    """Return the vector of labels along one axis of a parameter, or None if it has none.

    Such a vector has another label for each index, and the same at all positions along the other
    axes: then, and only then, removing a unit removes an index of this axis. A weight that was
    reshaped may have no such axis.
    """
    for labels in parameter.labels if parameter is not None else ():
        if labels.size(axis) > 1 and labels.stride(axis) == 0:
            continue
        moved = labels.movedim(axis, 0)
        # Expanded labels are known to be equal along the other axes; others have to be read.
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
