"""Whether numbers are finite, asked of every weight at every step of a sweep."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["all_finite"]


def all_finite(tensor: Tensor) -> bool:
    """Tell whether a floating-point tensor holds neither nan nor infinity.

    Examples
    --------
    >>> all_finite(torch.tensor([1.0, 2.0])), all_finite(torch.tensor([1.0, torch.nan]))
    (True, False)
    """
    # A sum is finite only if all of it is, and takes a tenth of the time. It may also overflow.
    values = tensor.detach()
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())
