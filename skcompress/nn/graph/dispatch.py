"""What a module is called with, and what one of its operations is given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ..._torch import tree_leaves

__all__ = ["Inputs", "address_of", "bind", "is_alias", "tensors_in"]

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and named arguments of one call of a module."""


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """Every tensor among arguments, those in lists too."""
    return [leaf for leaf in tree_leaves(list(values)) if isinstance(leaf, Tensor)]


def address_of(tensor: Tensor) -> int:
    """Return a number for the memory block of a strided tensor, the same for all of its views.

    Another block may get it once this one is freed.
    """
    return tensor.untyped_storage()._cdata


def bind(func: Any, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call of an operation by their names in its schema."""
    bound = {a.name: v for a, v in zip(func._schema.arguments, args, strict=False)}
    return {**bound, **kwargs}


def is_alias(args: Any, out: Any) -> bool:
    """Whether a result lies in the memory of an argument, as of ``reshape`` where it can view."""
    if not isinstance(out, Tensor) or out.layout != torch.strided:
        return False
    tensors = [t for t in tensors_in(args) if t.layout == torch.strided]
    return any(address_of(t) == address_of(out) for t in tensors)
