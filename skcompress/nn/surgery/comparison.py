"""Run two modules in the same way, and compare their outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..._torch import tree_flatten
from ..graph.dispatch import Inputs
from ..modules.precision import call_in

__all__ = ["ProofError", "check_comparable", "check_same", "outputs"]


class ProofError(ValueError):
    """A pruned net does not compute what it should; the net it was made from is untouched."""


def check_comparable(expected: Any) -> None:
    """Raise ProofError if no output is finite: any two tensors of nan would count as equal."""
    leaves = [t for t in tree_flatten(expected)[0] if isinstance(t, Tensor) and t.numel()]
    if leaves and not any(bool(t.isfinite().any()) for t in leaves):
        raise ProofError("all outputs of the net itself are infinite or nan")


def outputs(module: nn.Module, call: Inputs, dtype: torch.dtype) -> Any:
    """Run a module in evaluation mode, in the given precision and with a fixed seed."""
    args, kwargs = call_in(dtype, call)
    module.eval()
    with torch.no_grad(), torch.random.fork_rng([]):
        torch.manual_seed(0)
        return module(*args, **kwargs)


def check_same(got: Any, expected: Any, tolerance: float, min_scale: float = 0.0) -> None:
    """Raise ProofError if the outputs of two modules differ.

    Parameters
    ----------
    got, expected : object
        Tensors, alone or in containers.
    tolerance : float
        How far numbers may be apart, as a share of the largest expected one of their tensor.
    min_scale : float
        Takes the place of that largest number where it is smaller.
    """
    got_leaves, got_spec = tree_flatten(got)
    leaves, spec = tree_flatten(expected)
    if got_spec != spec:
        raise ProofError(f"it returns {got_spec}, not {spec}")
    for one, other in zip(got_leaves, leaves, strict=True):
        if not isinstance(other, Tensor):
            if one != other:
                raise ProofError(f"it returns {one!r}, not {other!r}")
            continue
        if one.shape != other.shape:
            raise ProofError(
                f"an output has the shape {tuple(one.shape)}, not {tuple(other.shape)}"
            )
        a, b = (torch.view_as_real(t) if t.is_complex() else t for t in (one, other))
        a, b = a.double(), b.double()
        finite = b.isfinite()
        if not torch.equal(a[~finite].nan_to_num(), b[~finite].nan_to_num()):
            raise ProofError("other outputs are infinite or nan")
        a, b = a[finite], b[finite]
        if a.numel() == 0:
            continue
        error, scale = float((a - b).abs().max()), float(b.abs().max())
        if not error <= tolerance * max(scale, min_scale):
            raise ProofError(f"its outputs are off by {error:.2g}, at a scale of {scale:.2g}")
