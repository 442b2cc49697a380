"""Counting what a prediction costs: the multiply-accumulates that torch executes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .decomposed import OperationMode, decomposed

__all__ = ["count_macs"]


def count_macs(modules: nn.Module, run: Callable[[], object], n_rows: int) -> int:
    """Multiply-accumulates that one row costs.

    Counted are the matrix products and convolutions that torch executes, wherever they are
    written: in layers, recurrent ones and attention too, in functions, as ``a @ b`` or as an
    einsum, of weights or of two activations. A product of shapes (m, k) and (k, n) costs m k n.
    This is half of the floating point operations that `torch.utils.flop_counter` counts, which
    leaves out products with vectors and ``nn.Bilinear``.

    Structural: zeros count, since dense kernels execute them, and so do weights that are stored as
    codes. Additions, elementwise products, activations, norm layers and look-ups (embeddings)
    count none, nor does what is computed outside of torch.

    Parameters
    ----------
    modules : torch.nn.Module
        What `run` calls: it is in evaluation mode meanwhile.
    run : callable
        Does one forward pass over ``n_rows`` rows, in this thread. It runs without gradients.
        Training flags, torch's switches and the state of its random numbers are afterwards as
        before, whether or not it raises.
    n_rows : int
        By how many rows to divide.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 3))
    >>> count_macs(net, lambda: net(torch.zeros(5, 20)), n_rows=5)
    230
    """
    if n_rows < 1:
        raise ValueError(f"Got n_rows={n_rows!r}, but expected the number of rows, at least 1.")
    counter = _Counter()
    with _counting_mode(modules), counter:
        run()
    return round(counter.total / n_rows)


@contextmanager
def _counting_mode(modules: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients, nothing fused; all as before at the end.

    `no_grad` and not `inference_mode`: a module that keeps something it computes (positional
    codes, say) would keep an inference tensor, and could not be trained any more.
    """
    training = [(module, module.training) for module in modules.modules()]
    cuda = {p.device for p in modules.parameters() if p.device.type == "cuda"}
    with decomposed(), torch.random.fork_rng(list(cuda)), torch.no_grad():
        try:
            modules.eval()
            yield
        finally:
            for module, flag in training:
                module.training = flag


class _Counter(OperationMode):
    """Adds up the multiply-accumulates of all operations while the mode is active."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def see(self, name: str, func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        macs = _MACS.get(name)
        if macs is not None:
            self.total += macs(args, out)


def _product(a: Tensor, b: Tensor) -> int:
    """Of ``a @ b``, two matrices, two batches of them, or a vector among them."""
    return a.numel() * (b.shape[-1] if b.dim() > 1 else 1)


def _factors(position: int) -> Callable[[Any, Any], int]:
    """Return the count of a product of which the first factor is the argument at `position`."""
    return lambda args, out: _product(args[position], args[position + 1])


def _matmul(args: Any, out: Tensor) -> int:
    """Of a product that arrives whole, as those of nested tensors do."""
    if out.is_nested:
        return sum(_product(a, b) for a, b in zip(args[0], args[1], strict=True))
    return out.numel() * args[0].shape[-1]


def _linear(args: Any, out: Tensor) -> int:
    return sum(_product(x, args[1].mT) for x in args[0]) if out.is_nested else _matmul(args, out)


def _convolution(args: Any, out: Tensor) -> int:
    x, weight, transposed = args[0], args[1], args[6]
    return int((x if transposed else out).numel() * weight.shape[1:].numel())


def _trilinear(args: Any, out: Tensor) -> int:
    """Of the sum over products of three factors, of which each lacks some axes."""
    shapes = []
    for factor, missing in zip(args[:3], args[3:6], strict=True):
        for axis in missing:
            factor = factor.unsqueeze(axis)
        shapes.append(factor.shape)
    return torch.broadcast_shapes(*shapes).numel()


_MACS: dict[str, Callable[[Any, Any], int]] = {
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "vdot", "_int_mm", "_scaled_mm"), _factors(0)),
    **dict.fromkeys(("addmm", "_addmm_activation", "_sparse_addmm"), _factors(1)),
    **dict.fromkeys(("baddbmm", "addbmm", "addmv"), _factors(1)),
    "matmul": _matmul,
    "linear": _linear,
    "convolution": _convolution,
    "conv_tbc": lambda args, out: out.numel() * args[1].shape[:2].numel(),
    "_trilinear": _trilinear,
}
