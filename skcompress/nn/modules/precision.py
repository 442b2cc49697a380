"""A module, and what it is called with, in another precision: real numbers and complex ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..._torch import tree_map_only

__all__ = ["call_in", "module_in"]


def module_in(dtype: torch.dtype, module: nn.Module) -> nn.Module:
    """Change the precision of a module in place, and return it; integers stay.

    `Module.to` would drop the imaginary parts of complex numbers.

    Examples
    --------
    >>> module_in(torch.float64, nn.Linear(2, 1, dtype=torch.complex64)).weight.dtype
    torch.complex128
    """
    return module._apply(lambda tensor: _cast(tensor, dtype))


def call_in(dtype: torch.dtype, call: Any) -> Any:
    """Return what a module is called with, in another precision."""
    return tree_map_only(Tensor, lambda tensor: _cast(tensor, dtype), call)


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if tensor.is_complex():
        return tensor.to(dtype.to_complex())
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
