"""How a module is run so that each operation can be watched, and what one operation is given."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..._torch import get_mkldnn_enabled, set_mkldnn_enabled, tree_leaves

__all__ = ["Inputs", "address_of", "bind", "decomposed", "is_alias", "tensors_in"]

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and named arguments of one call of a module."""


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """Every tensor among arguments, those in lists too."""
    return [leaf for leaf in tree_leaves(list(values)) if isinstance(leaf, Tensor)]


_switches = threading.RLock()  # they are global to the process


@contextmanager
def decomposed() -> Iterator[None]:
    """Let torch run what it would fuse (attention, recurrent layers) as single operations."""
    with _switches, torch.random.fork_rng([]), sdpa_kernel(SDPBackend.MATH):
        fast_path = torch.backends.mha.get_fastpath_enabled()
        onednn = get_mkldnn_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        set_mkldnn_enabled(False)
        try:
            yield
        finally:
            set_mkldnn_enabled(onednn)
            torch.backends.mha.set_fastpath_enabled(fast_path)


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
