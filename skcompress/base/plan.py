"""What a step has decided, in a form that prints in a few lines."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from typing import Any

import numpy as np
from torch import Tensor

_SHOWN = 40  # lines
_LONGEST = 60  # characters of a value


class Plan:
    """Base class of plans: a subclass prints as one line and a few more.

    Derive the object that ``_plan`` of a step returns from it, dataclass or not. By
    default each attribute has a line, with the shape of an array and the length of a
    container. A subclass may write ``_summary`` (what stands in the parentheses of
    the first line) and ``_lines`` (the lines that follow) instead.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import torch
    >>> from skcompress.base import Plan
    >>> @dataclass(frozen=True)
    ... class MaskPlan(Plan):
    ...     zeros: torch.Tensor
    ...     reasons: dict
    >>> MaskPlan(torch.zeros(3, 4, dtype=torch.bool), {"module.0": "ignored"})
    MaskPlan(...)
      zeros: Tensor of shape (3, 4)
      reasons: dict of length 1
    """

    # Weights outside of torch's layers that the step leaves alone, a line for each.
    _left_out: tuple[str, ...] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # The decorator `dataclass` gives a class a repr of all content, unless it has its own.
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = cls.__repr__  # type: ignore[method-assign]

    def _summary(self) -> str:
        """Return what stands in the parentheses of the first line."""
        return "..."

    def _lines(self) -> Iterable[str]:
        """Return the lines that follow the first, without indentation."""
        public = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return [f"{name}: {_described(value)}" for name, value in public.items()]

    def __repr__(self) -> str:
        lines = list(self._lines())
        if n_more := len(lines) - _SHOWN if len(lines) > _SHOWN + 1 else 0:
            lines = [*lines[:_SHOWN], f"... and {n_more} more"]
        first = f"{type(self).__name__}({self._summary()})"
        return "\n  ".join([first, *lines, *self._left_out])


def _described(value: Any) -> str:
    kind = type(value).__name__
    if isinstance(value, Tensor | np.ndarray):
        return f"{kind} of shape {tuple(value.shape)}"
    if isinstance(value, Sized) and not isinstance(value, str):
        return f"{kind} of length {len(value)}"
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
