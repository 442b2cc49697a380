"""A bound on what a module may allocate while it is made with sizes that a file asks for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .._torch import TorchDispatchMode

# What may be allocated anyway, and for each byte of the file: weights may be zeros for the most
# part, and those that are there may take a few bits.
_FREE = 1 << 26
_TIMES = 1 << 12
_LEAST = 1 << 10  # what an allocation counts at least: none is for nothing


class _Limit(TorchDispatchMode):
    """Counts what is allocated and refuses before the bound is passed."""

    def __init__(self, n_bytes: int) -> None:
        super().__init__()
        self._left = n_bytes

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for size in args:
            if isinstance(size, list | tuple | torch.Size) and all(type(n) is int for n in size):
                self._left -= max(8 * math.prod(size), _LEAST)
        if self._left < 0:
            raise ValueError("it would take up far more memory than the file can fill")
        return func(*args, **(kwargs or {}))


@contextmanager
def limited_memory(n_bytes: int) -> Iterator[None]:
    """Raise ValueError in a block in which torch allocates what a file of `n_bytes` cannot fill."""
    with _Limit(_TIMES * n_bytes + _FREE):
        yield
