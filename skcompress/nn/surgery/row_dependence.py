"""What an operation passes on of the rows, see `skcompress.nn.surgery.constants`.

Each rule tells which elements of a result depend on the rows, given that for the arguments.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from ..graph.calls import RULES
from ..graph.dispatch import tensors_in
from ..graph.layer_rules import POOLS, operands
from ..graph.rules import along, elementwise, move, reduce

__all__ = ["PRODUCTS", "marks_of"]

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")


class Dependence(Protocol):
    """What is known of the arguments."""

    def depends(self, tensor: Tensor) -> Tensor:
        """Which elements of a tensor depend on the rows."""

    def nonzero(self, tensor: Tensor) -> Tensor:
        """Which elements may be other than zero."""


_BATCH_NORMS = (
    *("native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm"),
    *("_native_batch_norm_legit_no_training", "_batch_norm_no_update"),
)


def marks_of(known: Dependence, func: Any, name: str, args: dict[str, Any]) -> Any:
    """Which elements of the result depend on the rows; None: all, for all that is known."""
    if "out" in args:
        return None
    rule = RULES.get(name)
    if name in PRODUCTS:
        return _product(known, name, args)
    if name == "convolution":
        return _convolution(known, func, args)
    if name == "mul":
        return _times(known, args)
    if name in _BATCH_NORMS:
        return None if args.get("training") else known.depends(args["input"])
    if name in ("native_layer_norm", "native_group_norm"):
        return _statistics(known, name, args)
    if name in POOLS:
        x = args["input"] if "input" in args else args["self"]
        axes = [-1 - k for k in range(POOLS[name])]
        return known.depends(x).any(dim=tuple(axes), keepdim=True)
    if name == "embedding":
        table = args["weight"].detach()
        same = (table == table[:1]).all(0) & ~known.depends(args["weight"]).any(0)
        return known.depends(args["indices"])[..., None] & ~same | known.depends(
            args["weight"]
        ).any(0)
    if name == "copy":
        return known.depends(args["src"])
    if rule is along:
        return known.depends(args["self"]).any(dim=args["dim"], keepdim=True)
    if rule is reduce and "other" not in args:
        return _reduce(known, args)
    if rule is move:
        return _move(known, func, args)
    if rule in (elementwise, reduce) or torch.Tag.pointwise in func.tags:
        parts = [known.depends(t) for t in tensors_in(args.values())]
        shape = torch.broadcast_shapes(*(p.shape for p in parts))
        return torch.stack([p.expand(shape) for p in parts]).any(0)
    return None


def _times(known: Dependence, args: dict[str, Any]) -> Tensor | None:
    """A product with a constant zero is zero."""
    a, b = args["self"], args["other"]
    if not isinstance(b, Tensor):
        return known.depends(a)
    return (known.depends(a) & known.nonzero(b)) | (known.depends(b) & known.nonzero(a))


def _product(known: Dependence, name: str, args: dict[str, Any]) -> Tensor:
    a, b = (args[n] for n in operands(args))
    passed = known.depends(a).float() @ known.nonzero(b).float()
    passed += known.nonzero(a).float() @ known.depends(b).float()
    marks = passed > 0
    return marks | known.depends(args["self"]) if name in ("addmm", "baddbmm") else marks


def _convolution(known: Dependence, func: Any, args: dict[str, Any]) -> Tensor:
    x, weight, bias = args["input"], args["weight"], args["bias"]

    def convolved(a: Tensor, b: Tensor) -> Tensor:
        return func(**{**args, "input": a.float(), "weight": b.float(), "bias": None}) > 0

    marks = convolved(known.depends(x), known.nonzero(weight))
    if bool(known.depends(weight).any()):
        marks = marks | convolved(known.nonzero(x), known.depends(weight))
    if bias is not None:
        marks = marks | known.depends(bias).view(1, -1, *[1] * (marks.dim() - 2))
    return marks


def _statistics(known: Dependence, name: str, args: dict[str, Any]) -> Any:
    """Statistics make all that they are taken over depend on the rows if some of it does."""
    x = known.depends(args["input"])
    if name == "native_layer_norm":
        axes = tuple(-1 - k for k in range(len(args["normalized_shape"])))
        return x.any(dim=axes, keepdim=True)
    blocks = x.reshape(len(x), args["group"], -1)
    return blocks.any(-1, keepdim=True).expand_as(blocks).reshape(x.shape)


def _reduce(known: Dependence, args: dict[str, Any]) -> Any:
    x, dim = known.depends(args["self"]), args.get("dim")
    axes = list(range(x.dim())) if dim is None or dim == [] else dim
    one = x.any(dim=axes if isinstance(axes, int) else tuple(axes), keepdim=True)
    return lambda out: [one.reshape(t.shape) for t in tensors_in([out])]


_MOVED = ("self", "tensors", "input", "src")


def _move(known: Dependence, func: Any, args: dict[str, Any]) -> Any:
    """What only moves values is done to the marks, too."""
    others = tensors_in(v for n, v in args.items() if n not in _MOVED)
    if any(bool(known.depends(t).any()) for t in others) or func._schema.is_mutable:
        return None
    moved = {n: tree_map_only(Tensor, known.depends, v) for n, v in args.items() if n in _MOVED}
    rest = {n: v for n, v in args.items() if n not in _MOVED}
    if "value" in rest:
        rest["value"] = 0
    out = func(**{**moved, **rest})
    return tensors_in([out])
