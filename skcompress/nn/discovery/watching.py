"""Watch a net run: which of the user's own parameters does a product read with the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..._torch import tree_map_only
from ..graph.dispatch import address_of, is_alias, tensors_in
from ..modules.decomposed import OperationMode, decomposed
from ..modules.uses import Use
from .candidates import OwnParameter, own_parameters

__all__ = ["find_uses"]

# Where the two factors stand among the arguments.
_PRODUCTS = {
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "vdot", "matmul"), 0),
    **dict.fromkeys(("addmm", "_addmm_activation", "baddbmm", "addbmm", "addmv"), 1),
    "_sparse_addmm": 1,
}
# Operations that hand a parameter on as it is, in other memory.
_COPIES = {"clone", "_to_copy", "index_select", "index"}
_LOOK_UPS = {"index_select": 2, "index": 1}


def find_uses(root: nn.Module, run: Callable[[], object]) -> dict[str, dict[str, Use | None]]:
    """Find out how the parameters that users' modules have registered are used.

    Parameters
    ----------
    root : torch.nn.Module
        A copy of one's own: its parameters are replaced, and `run` may change it.
    run : callable
        Does one forward pass of `root` in evaluation mode, the same at each call.

    Returns
    -------
    uses : dict of str to dict of str to Use or None
        For each module with such parameters, by the names of those that were read: how a product
        uses it, or None if none does.

    Examples
    --------
    >>> net = nn.ParameterList([torch.ones(3, 2), torch.ones(2)])
    >>> find_uses(net, lambda: torch.ones(4, 3) @ net[0] + net[1])
    {'': {'0': Use(axis=1, leading=0, by_name=True), '1': None}}
    """
    own = own_parameters(root)
    watch = _Watch(root, own)
    with decomposed(), torch.no_grad(), ExitStack() as stack:
        for child in root.children():
            handle = child.register_forward_pre_hook(watch.enter, with_kwargs=True)
            stack.callback(handle.remove)
        with watch:
            run()
    found = {key: watch.products.get(key, watch.look_ups.get(key)) for key in watch.read}
    weights = {id(o.parameter): o.parameter for o in own if found.get(id(o.parameter))}
    aliased = _read_past_names(root, run, weights)
    uses: dict[str, dict[str, Use | None]] = {}
    for layer_name, _, attr, parameter in own:
        of_layer = uses.setdefault(layer_name, {})
        if id(parameter) in found:
            use = found[id(parameter)]
            by_name = id(parameter) not in aliased
            of_layer[attr] = use and Use(use.axis, use.leading, by_name)
    return uses


def _read_past_names(
    root: nn.Module, run: Callable[[], object], weights: dict[int, nn.Parameter]
) -> set[int]:
    """Return which weights are read although all modules that hold them have other ones now."""
    made = {key: nn.Parameter(p.detach().clone()) for key, p in weights.items()}
    for module in root.modules() if made else ():
        for attr, parameter in module._parameters.items():
            if id(parameter) in made:
                module._parameters[attr] = made[id(parameter)]
    watch = _Reads({address_of(p): key for key, p in weights.items()})
    if made:
        with decomposed(), torch.no_grad(), watch:
            run()
    return watch.read


class _Reads(OperationMode):
    """Notes which memory is read, of that which is given with a key."""

    def __init__(self, keys: Mapping[int, int]) -> None:
        super().__init__()
        self._keys = keys
        self.read: set[int] = set()

    def see(self, name: str, func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        inputs = [t for t in tensors_in([args, kwargs]) if _is_strided(t)]
        self.read |= {self._keys[a] for t in inputs if (a := address_of(t)) in self._keys}


class _Origin(NamedTuple):
    """Memory that holds numbers of one parameter.

    Attributes
    ----------
    key : int
        Of the parameter.
    shape : torch.Size
        Of the parameter.
    positions : Tensor
        For each element of the memory which number of the parameter it is, counted row by row.
    """

    key: int
    shape: torch.Size
    positions: Tensor

    def axes_along(self, view: Tensor, axes: Iterable[int]) -> set[int]:
        """Return the axes of the parameter that lie along some axes of a tensor in this memory."""
        found: set[int] = set()
        seen = self.positions.as_strided(view.shape, view.stride(), view.storage_offset())
        for axis in axes:
            line = seen[tuple(slice(None) if a == axis else 0 for a in range(seen.dim()))]
            indices = torch.unravel_index(line, self.shape)
            found |= {n for n, own in enumerate(indices) if bool((own != own[0]).any())}
        return found


class _Watch(OperationMode):
    """Follows parameters through views and copies to the products that read them.

    Attributes
    ----------
    read : set of int
        Parameters that an operation other than a view has read, by id.
    products, look_ups : dict of int to Use
        How the first product, or the first look-up, uses a parameter.
    """

    def __init__(self, root: nn.Module, own: Sequence[OwnParameter]) -> None:
        super().__init__()
        self.read: set[int] = set()
        self.products: dict[int, Use] = {}
        self.look_ups: dict[int, Use] = {}
        every = [p for p in root.parameters() if _is_strided(p)]
        self._fixed = {address_of(p) for p in (*every, *(o.parameter for o in own))}
        # Memory computed from parameters alone, and memory that follows from the inputs.
        self._pure, self._data = set(self._fixed), set[int]()
        self._origins = {address_of(o.parameter): _whole(o.parameter) for o in own}
        self._alive: list[Any] = []  # or their addresses would be given away again

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Take the arguments of the net for data."""
        self._alive.append((args, kwargs))
        self._data |= {address_of(t) for t in tensors_in([args, kwargs]) if _is_strided(t)}

    def see(self, name: str, func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        inputs = [t for t in tensors_in([args, kwargs]) if _is_strided(t)]
        if not func.is_view:
            self.read |= {origin.key for t in inputs if (origin := self._origin(t))}
            self._look(name, args)
        for made in (t for t in tensors_in([out]) if _is_strided(t)):
            self._alive.append(made)
            if func._schema.is_mutable or not (func.is_view or is_alias(args, made)):
                self._follow(name, func, args, inputs, made)

    def _origin(self, tensor: Any) -> _Origin | None:
        known = isinstance(tensor, Tensor) and _is_strided(tensor) and tensor.numel() > 0
        origin = self._origins.get(address_of(tensor)) if known else None
        if origin is None:
            return None
        n = tensor.untyped_storage().nbytes() // tensor.element_size()
        return origin if n == len(origin.positions) else None  # else read as another dtype

    def _look(self, name: str, args: Any) -> None:
        """Note the parameters that an operation multiplies with something, or looks up in."""
        for operand, others, channels in _roles(name, args):
            origin = self._origin(operand)
            if origin is None or not any(self._is_other(t) for t in others):
                continue
            axes = origin.axes_along(operand, channels)
            leading = next((n for n in range(len(origin.shape)) if n not in axes), len(axes))
            axis = max(axes, default=None)
            use = Use(axis, 0 if axis is None else min(leading, axis))
            if name not in _LOOK_UPS:
                self.products.setdefault(origin.key, use)
            elif any(address_of(t) in self._data for t in others):
                self.look_ups.setdefault(origin.key, use)

    def _is_other(self, tensor: Any) -> bool:
        """Whether a factor is anything but computed from parameters alone."""
        return isinstance(tensor, Tensor) and not (
            _is_strided(tensor) and address_of(tensor) in self._pure
        )

    def _follow(self, name: str, func: Any, args: Any, inputs: list[Tensor], made: Tensor) -> None:
        """Say of new or overwritten memory where its content comes from."""
        address = address_of(made)
        if address in self._fixed:
            return
        own = [t for t in inputs if address_of(t) != address]
        origin = self._origin(args[0]) if name in _COPIES else None
        self._origins.pop(address, None)
        if origin is not None:
            self._origins[address] = _copied(origin, func, args, made)
        _mark(self._pure, address, bool(own) and all(address_of(t) in self._pure for t in own))
        _mark(self._data, address, any(address_of(t) in self._data for t in inputs))


def _roles(name: str, args: Any) -> Iterator[tuple[Any, list[Any], list[int]]]:
    """Yield operands that may be weights, the others, and which axes tell channels apart."""
    if name in _PRODUCTS:
        a, b = args[_PRODUCTS[name] : _PRODUCTS[name] + 2]
        yield b, [a], [n for n in range(b.dim()) if n != b.dim() - 2] if b.dim() > 1 else []
        yield a, [b], list(range(a.dim() - 1))
    elif name == "linear":  # whole for nested tensors alone
        yield args[1], [args[0]], [0]
    elif name == "convolution":
        yield args[1], [args[0]], [1 if args[6] else 0]
    elif name == "conv_tbc":
        yield args[1], [args[0]], [2]
    elif name == "_trilinear":
        yield args[1], [args[0], args[2]], [0]
    elif name.startswith(("embedding", "_embedding_bag")) and not name.startswith(
        "embedding_renorm"
    ):
        yield args[0], [args[1]], [0]
    elif name == "index_select":
        yield args[0], [args[2]], [args[1]]
    elif name == "index":
        numbers = {n: i for n, i in enumerate(args[1]) if i is not None and i.dtype != torch.bool}
        yield args[0], list(numbers.values()), list(numbers)


def _whole(parameter: nn.Parameter) -> _Origin:
    positions = torch.arange(parameter.numel()).view(parameter.shape)
    return _Origin(id(parameter), parameter.shape, _laid_out(positions, parameter))


def _copied(origin: _Origin, func: Any, args: Any, made: Tensor) -> _Origin:
    """Return the origin of a copy, or of a selection by numbers."""
    source = args[0]
    seen = origin.positions.as_strided(source.shape, source.stride(), source.storage_offset())
    if func._overloadpacket.__name__ in _LOOK_UPS:
        seen = func(seen, *tree_map_only(Tensor, Tensor.cpu, args[1:]))
    return _Origin(origin.key, origin.shape, _laid_out(seen, made))


def _laid_out(positions: Tensor, tensor: Tensor) -> Tensor:
    """Return the positions of a tensor's elements in the order of its memory."""
    n = tensor.untyped_storage().nbytes() // tensor.element_size()
    if tensor.is_contiguous() and tensor.numel() == n:
        return positions.reshape(-1)
    blank = torch.zeros(n, dtype=torch.long)
    blank.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).copy_(positions)
    return blank


def _is_strided(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_nested


def _mark(addresses: set[int], address: int, wanted: bool) -> None:
    if wanted:
        addresses.add(address)
    else:
        addresses.discard(address)
