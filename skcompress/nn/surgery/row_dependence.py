"""Which elements of an operation's results depend on the rows, given that for its arguments.

The rules of `skcompress.nn.surgery.constants`. A rule may mark too many elements, and never too
few: an element that depends on the rows but is not marked would be taken for a constant. The
proof of a removal would find it only if it happened to differ on the rows at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from ..._torch import tree_map_only
from ..graph.calls import RULES
from ..graph.dispatch import tensors_in
from ..graph.layer_rules import POOLS, operands
from ..graph.rules import along, elementwise, move, reduce

__all__ = ["PRODUCTS", "marks_of"]

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")


class Dependence(Protocol):
    """Marks of the arguments."""

    def depends(self, tensor: Tensor) -> Tensor:
        """Return which elements of a tensor depend on the rows."""

    def nonzero(self, tensor: Tensor) -> Tensor:
        """Return which elements may differ from zero."""


def marks_of(known: Dependence, func: Any, args: dict[str, Any]) -> Any:
    """Return which elements of the results depend on the rows.

    Parameters
    ----------
    known : Dependence
        Of the arguments.
    func : torch._ops.OpOverload
        The operation.
    args : dict of str to object
        All arguments by their names in the schema.

    Returns
    -------
    Tensor, list of Tensor, callable or None
        Marks of all results, or of each, of a shape that expands to theirs; a function that makes
        them of the results; None: there is no rule, so all may depend on the rows.
    """
    if "out" in args:
        return None
    name = _name(func)
    if name in _BY_NAME:
        return _BY_NAME[name](known, func, args)
    kind = RULES.get(name)
    if kind is reduce and "other" in args:  # the larger or smaller of two tensors
        kind = elementwise
    if kind in _BY_KIND:
        return _BY_KIND[kind](known, func, args)
    if torch.Tag.pointwise in func.tags:
        return _elementwise(known, func, args)
    return None


def _name(func: Any) -> str:
    """Return the name of an operation, in place or not."""
    return str(func._overloadpacket.__name__).rstrip("_")


def _times(known: Dependence, func: Any, args: dict[str, Any]) -> Tensor:
    """Mark a product where one factor depends on the rows and the other may not be zero."""
    a, b = args["self"], args["other"]
    if not isinstance(b, Tensor):
        return known.depends(a)
    return (known.depends(a) & known.nonzero(b)) | (known.depends(b) & known.nonzero(a))


def _product(known: Dependence, func: Any, args: dict[str, Any]) -> Tensor:
    """Mark a sum of products if one of them is marked, see `_times`.

    Products of marks as numbers count the marked terms of each sum.
    """
    names = operands(args)
    a, b = (args[n] for n in names)
    passed = known.depends(a).float() @ known.nonzero(b).float()
    passed += known.nonzero(a).float() @ known.depends(b).float()
    marks = passed > 0
    has_summand = "self" in args and "self" not in names
    return marks | known.depends(args["self"]) if has_summand else marks


def _convolution(known: Dependence, func: Any, args: dict[str, Any]) -> Tensor:
    """Mark outputs that sum over a marked product: the convolution of marks counts these."""
    x, weight, bias = args["input"], args["weight"], args["bias"]

    def convolved(a: Tensor, b: Tensor) -> Tensor:
        return func(**{**args, "input": a.float(), "weight": b.float(), "bias": None}) > 0

    marks = convolved(known.depends(x), known.nonzero(weight))
    if bool(known.depends(weight).any()):
        marks = marks | convolved(known.nonzero(x), known.depends(weight))
    if bias is not None:
        marks = marks | known.depends(bias).view(1, -1, *[1] * (marks.dim() - 2))
    return marks


def _batch_norm(known: Dependence, func: Any, args: dict[str, Any]) -> Tensor | None:
    """Pass marks on where the statistics are fixed; there is no rule for those of the batch."""
    return None if args.get("training") else known.depends(args["input"])


def _layer_norm(known: Dependence, func: Any, args: dict[str, Any]) -> Tensor:
    """Mark all that shares its statistics with a marked element."""
    axes = tuple(-1 - k for k in range(len(args["normalized_shape"])))
    return known.depends(args["input"]).any(dim=axes, keepdim=True)


def _group_norm(known: Dependence, func: Any, args: dict[str, Any]) -> Tensor:
    """Mark all that shares its statistics with a marked element."""
    x = known.depends(args["input"])
    blocks = x.reshape(len(x), args["group"], -1)
    return blocks.any(-1, keepdim=True).expand_as(blocks).reshape(x.shape)


def _pool(known: Dependence, func: Any, args: dict[str, Any]) -> Tensor:
    """Mark a whole channel if any position of it is marked."""
    x = args["input"] if "input" in args else args["self"]
    axes = [-1 - k for k in range(POOLS[_name(func)])]
    return known.depends(x).any(dim=tuple(axes), keepdim=True)


def _embedding(known: Dependence, func: Any, args: dict[str, Any]) -> Tensor:
    """Mark rows that a marked index looks up, except in columns that all rows have equal."""
    table, varies = args["weight"].detach(), known.depends(args["weight"]).any(0)
    same = (table == table[:1]).all(0) & ~varies
    return known.depends(args["indices"])[..., None] & ~same | varies


def _copy(known: Dependence, func: Any, args: dict[str, Any]) -> Tensor:
    return known.depends(args["src"])


def _elementwise(known: Dependence, func: Any, args: dict[str, Any]) -> Tensor:
    """Mark where any operand is marked."""
    parts = [known.depends(t) for t in tensors_in(args.values())]
    shape = torch.broadcast_shapes(*(p.shape for p in parts))
    return torch.stack([p.expand(shape) for p in parts]).any(0)


def _along(known: Dependence, func: Any, args: dict[str, Any]) -> Tensor:
    """Mark all along the axis: each result there may depend on each value."""
    return known.depends(args["self"]).any(dim=args["dim"], keepdim=True)


def _reduce(known: Dependence, func: Any, args: dict[str, Any]) -> Any:
    """Mark a result if any value that was reduced to it is marked."""
    x, dim = known.depends(args["self"]), args.get("dim")
    axes = list(range(x.dim())) if dim is None or dim == [] else dim
    one = x.any(dim=axes if isinstance(axes, int) else tuple(axes), keepdim=True)
    return lambda out: [one.reshape(t.shape) for t in tensors_in([out])]


_MOVED = ("self", "tensors", "input", "src")


def _move(known: Dependence, func: Any, args: dict[str, Any]) -> Any:
    """Do to the marks what an operation that only moves values does to these.

    Not if the rows decide what is moved where, nor in place, as that would write into marks.
    """
    others = tensors_in(v for n, v in args.items() if n not in _MOVED)
    if any(bool(known.depends(t).any()) for t in others) or func._schema.is_mutable:
        return None
    moved = {n: tree_map_only(Tensor, known.depends, v) for n, v in args.items() if n in _MOVED}
    rest = {n: v for n, v in args.items() if n not in _MOVED}
    if "value" in rest:  # of padding, which is constant
        rest["value"] = 0
    out = func(**{**moved, **rest})
    return tensors_in([out])


_Rule = Callable[[Dependence, Any, dict[str, Any]], Any]
_BATCH_NORMS = (
    *("native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm"),
    *("_native_batch_norm_legit_no_training", "_batch_norm_no_update"),
)
_BY_NAME: dict[str, _Rule] = {
    **dict.fromkeys(PRODUCTS, _product),
    "convolution": _convolution,
    "mul": _times,
    **dict.fromkeys(_BATCH_NORMS, _batch_norm),
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
    **dict.fromkeys(POOLS, _pool),
    "embedding": _embedding,
    "copy": _copy,
}
# Other operations are classified by their rule in the tracer, as an operation that moves, reduces
# or combines units does so with marks. So a new operation is added to one table only.
_BY_KIND: dict[Any, _Rule] = {
    along: _along,
    reduce: _reduce,
    move: _move,
    elementwise: _elementwise,
}
