"""Which inputs of a net's weights are constants, found by following what depends on the rows.

A module is run on rows, and for each element of each tensor it is noted whether its value depends
on them (in compilers: constant propagation; in security: taint analysis). A zero weight passes no
dependence on, and neither does a product with a constant zero. So a unit whose incoming weights
are all zero is found to be a constant, whatever follows it: a bias, a norm layer, an activation, a
gate. That the values were equal on these rows is not enough, as they may differ on others.

Invariant: an element that is not marked has the same value for all rows. In doubt it is marked:
an operation without a rule marks all it returns if anything it was given is marked, and once a
marked value becomes a Python number, no input of any weight counts as constant any more, as that
number may have gone anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..._torch import TorchDispatchMode, tree_map_only
from ..graph.dispatch import Inputs, bind, is_alias, tensors_in
from ..graph.labels import AxisKey
from ..graph.layer_rules import operands
from ..modules.copying import plain_copy
from ..modules.precision import call_in, module_in
from ..modules.unfused import decomposed
from .row_dependence import PRODUCTS, marks_of

__all__ = ["WeightInputs", "weight_inputs"]


@dataclass
class WeightInputs:
    """The values that the columns of a weight were multiplied with, over all uses.

    Attributes
    ----------
    varies : torch.Tensor
        For each column whether these values depend on the rows.
    low, high : torch.Tensor
        The smallest and the largest value, in double precision.
    even : bool
        Whether a column adds the same to every position of the output if its input is constant.
        Not so with zero padding, whose borders see fewer of the inputs, nor in a transposed
        convolution, where positions sum over different numbers of inputs.
    """

    varies: Tensor
    low: Tensor
    high: Tensor
    even: bool

    def is_zero(self) -> Tensor:
        """Return which columns are multiplied with zeros only."""
        return ~self.varies & (self.low == 0) & (self.high == 0)

    def is_constant(self) -> Tensor:
        """Return which columns are multiplied with one and the same value everywhere."""
        spread = self.high - self.low
        # Equal up to single precision: kernels may round the same sum differently by position.
        return ~self.varies & (spread <= 1e-6 * self.high.abs())

    def _merge(self, other: WeightInputs) -> None:
        self.varies = self.varies | other.varies
        self.low = torch.minimum(self.low, other.low)
        self.high = torch.maximum(self.high, other.high)
        self.even &= other.even


def weight_inputs(module: nn.Module, calls: Sequence[Inputs]) -> dict[AxisKey, WeightInputs]:
    """Return the inputs of each weight in evaluation mode.

    Parameters
    ----------
    module : torch.nn.Module
        Not modified. Weights stored as codes are decoded.
    calls : sequence of (args, kwargs)
        Real inputs.

    Returns
    -------
    dict of AxisKey to WeightInputs
        By the name of the weight and the axis of its columns. Only of weights that are used in
        products and in convolutions without groups.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> with torch.no_grad():
    ...     _ = net[0].weight[0].zero_()
    ...     _ = net[0].bias[0].fill_(0.5)
    >>> found = weight_inputs(net, [((torch.randn(5, 4),), {})])["2.weight", 1]
    >>> found.varies.tolist(), round(float(found.low[0]), 6)
    ([False, True], 0.5)
    """
    # Constants are computed from these values: in double precision, if the module runs in it.
    for dtype in (torch.float64, torch.float32):
        copied = module_in(dtype, plain_copy(module)).eval()
        for parameter in copied.parameters():
            parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
        try:
            return _run(copied, calls, dtype)
        except Exception:
            if dtype == torch.float32:
                raise
    raise AssertionError("unreachable")  # pragma: no cover


def _run(
    module: nn.Module, calls: Sequence[Inputs], dtype: torch.dtype
) -> dict[AxisKey, WeightInputs]:
    found: dict[AxisKey, WeightInputs] = {}
    hidden = False
    for call in calls:
        # Clones, as a forward may write into its inputs.
        args, kwargs = call_in(dtype, tree_map_only(Tensor, Tensor.clone, call))
        dependence = _RowDependence(module, found)
        with decomposed(), ExitStack() as stack:
            torch.manual_seed(0)  # `decomposed` restores the state
            # With gradients torch takes operations apart that it would fuse otherwise.
            stack.enter_context(torch.enable_grad())
            stack.enter_context(_PythonExits(dependence))
            stack.enter_context(dependence)
            module(*args, **kwargs)
        hidden |= dependence.hidden
    if hidden:
        for inputs in found.values():
            inputs.varies = torch.ones_like(inputs.varies)
    return found


class _RowDependence(TorchDispatchMode):
    """Marks the elements that depend on the rows, through every operation while it is active.

    Attributes
    ----------
    hidden : bool
        Whether a marked value has left torch, see `_PythonExits`.
    """

    def __init__(self, module: nn.Module, found: dict[AxisKey, WeightInputs]) -> None:
        super().__init__()
        self.hidden = False
        self._found = found
        # The storage at each address, and which of its elements are marked; None: none of them.
        # Marks lie beside memory, as labels do in `MemoryLabels`, so views need no rule. Storages
        # are kept alive, as the address of a freed one is given away again. A storage that is not
        # known counts as marked: these are the inputs of the net, and all that torch made unseen.
        self._blocks: dict[int, tuple[Any, Tensor | None]] = {}
        self._weights: dict[int, tuple[str, Tensor]] = {}
        for name, parameter in module.named_parameters():
            self._weights[_address(parameter)] = (name, parameter)
        for tensor in [*module.parameters(), *module.buffers()]:
            self._blocks[_address(tensor)] = (tensor.untyped_storage(), None)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._overloadpacket.__name__
        mutable = func._schema.is_mutable
        bound = bind(func, args, kwargs)
        is_view = not mutable and func.is_view
        # Marks are found before the call, as an operation in place overwrites its inputs.
        marks = None if is_view else self._marks(func, name.rstrip("_"), bound)
        out = func(*args, **kwargs)
        if is_view or (not mutable and is_alias(args, out)):
            return out
        self._put(func, out, marks)
        return out

    # --- marks of tensors ---

    def depends(self, tensor: Tensor) -> Tensor:
        """Return which elements of a tensor depend on the rows."""
        block = None
        if tensor.layout == torch.strided:
            block = self._blocks.get(_address(tensor))
        if block is None:
            return torch.ones(tensor.shape, dtype=torch.bool)
        memory = block[1]
        if memory is None:
            return torch.zeros(tensor.shape, dtype=torch.bool)
        # Viewed as a dtype of another size, its strides do not fit the marks: any one marks all.
        if memory.numel() * tensor.element_size() != block[0].nbytes():
            return memory.any().expand(tensor.shape)
        return memory.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    def nonzero(self, tensor: Tensor) -> Tensor:
        """Return which elements may differ from zero, on these rows or on others."""
        return self.depends(tensor) | (tensor.detach() != 0)

    def _set(self, tensor: Tensor, marks: Tensor) -> None:
        """Mark elements of a tensor; other elements of its storage keep their marks."""
        if tensor.layout != torch.strided:
            return
        storage, address = tensor.untyped_storage(), _address(tensor)
        size = storage.nbytes() // max(tensor.element_size(), 1)
        memory = self._blocks[address][1] if address in self._blocks else None
        if memory is None:
            memory = torch.zeros(size, dtype=torch.bool)
        elif memory.numel() != size:  # written to as a dtype of another size
            memory, marks = torch.ones(size, dtype=torch.bool), torch.tensor(True)
        place = (tensor.shape, tensor.stride(), tensor.storage_offset())
        memory.as_strided(*place).copy_(marks.expand(tensor.shape))
        self._blocks[address] = (storage, memory)

    def _put(self, func: Any, out: Any, marks: Any) -> None:
        outs = tensors_in([out])
        if callable(marks):
            marks = marks(out)
        if isinstance(marks, Tensor):
            marks = [marks] * len(outs)
        for tensor, own in zip(outs, marks, strict=True):
            try:
                own = own.expand(tensor.shape)
            except RuntimeError:  # of several results only one has this form
                own = own.any()
            self._set(tensor, own)

    # --- marks of results ---

    def _marks(self, func: Any, name: str, args: dict[str, Any]) -> Any:
        """Return the marks of the results of a call, or a function that makes them of these."""
        tensors = tensors_in(args.values())
        any_varies = any(bool(self.depends(t).any()) for t in tensors)
        if name == "_local_scalar_dense" and any_varies:
            self.hidden = True
        self._note(name, args)
        # Noise has no fixed value, even where nothing in it comes from the rows.
        if torch.Tag.nondeterministic_seeded in func.tags:
            return torch.tensor(True)
        if not any_varies:
            return torch.tensor(False)
        try:
            marks = marks_of(self, func, args)
        except Exception:  # shapes or arguments that the rule was not made for
            marks = None
        if marks is None:
            # Without a rule it is unknown which argument is written to, so all are marked.
            for tensor in tensors if func._schema.is_mutable else ():
                self._set(tensor, torch.tensor(True))
            return torch.tensor(True)
        return marks

    def _note(self, name: str, args: dict[str, Any]) -> None:
        """Note the inputs of a weight in this call, if it is a product or convolution."""
        if name == "convolution":
            weight, x = args["weight"], args["input"]
            columns, positions = (0 if args["transposed"] else 1), [0, *range(2, x.dim())]
            even = not args["transposed"] and not any(args["padding"])
            if args["groups"] == 1:
                self._read(weight, columns, x, positions, even)
        elif name in PRODUCTS:
            a, b = (args[n] for n in operands(args))
            if _address(b) in self._weights:
                self._read(b, -2, a, list(range(a.dim() - 1)), True)
            if _address(a) in self._weights:
                self._read(a, -1, b.mT, list(range(b.dim() - 1)), True)

    def _read(self, weight: Tensor, axis: int, x: Tensor, positions: list[int], even: bool) -> None:
        if _address(weight) not in self._weights or weight.dim() < 2:
            return
        name, whole = self._weights[_address(weight)]
        # The factor may be a view of the parameter: transposed, or some of its rows. Its columns
        # are the axis of the parameter with the same size and stride, from its first index on.
        size, stride = weight.shape[axis], weight.stride(axis)
        axes = [
            k
            for k in range(whole.dim())
            if whole.shape[k] == size
            and whole.stride(k) == stride
            and (weight.storage_offset() // max(stride, 1)) % max(size, 1) == 0
        ]
        if x.numel() == 0:
            return
        # Where no axis or several fit, and for complex numbers, which have no order: every axis
        # counts as one that reads values of the rows.
        if len(axes) != 1 or x.is_complex():
            for k in range(whole.dim()):
                n = whole.shape[k]
                self._add(
                    (name, k), WeightInputs(torch.ones(n) > 0, -torch.ones(n), torch.ones(n), even)
                )
            return
        varies, values = self.depends(x), x.detach().double()
        if positions:
            varies = varies.any(dim=tuple(positions)) if x.dim() > 1 else varies
            values, top = values.amin(positions), values.amax(positions)
        else:
            top = values
        self._add((name, axes[0]), WeightInputs(varies, values, top, even))

    def _add(self, key: AxisKey, inputs: WeightInputs) -> None:
        if key in self._found:
            self._found[key]._merge(inputs)
        else:
            self._found[key] = inputs


class _PythonExits(TorchFunctionMode):
    """Notes when a marked value leaves torch by a method that dispatches no operation."""

    def __init__(self, dependence: _RowDependence) -> None:
        super().__init__()
        self._dependence = dependence

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") in _EXITS and not self._dependence.hidden:
            self._dependence.hidden = any(
                bool(self._dependence.depends(t).any()) for t in tensors_in(args)
            )
        return func(*args, **(kwargs or {}))


_EXITS = {"tolist", "numpy", "__array__", "__dlpack__", "data_ptr", "__reduce_ex__"}


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata if tensor.layout == torch.strided else 0
