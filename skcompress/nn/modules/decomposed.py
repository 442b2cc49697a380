"""How a module is run so that its products arrive as single operations of torch."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ..._torch import TorchDispatchMode, attention_by_products, tree_leaves, tree_map_only

__all__ = ["OperationMode", "decomposed"]


@contextmanager
def decomposed() -> Iterator[None]:
    """Let torch run what it would fuse (attention, recurrent layers) as single operations.

    In this thread alone: torch's own switches are global to the process, and would change what
    other threads predict in their last bits.
    """
    with torch.random.fork_rng([]), _Unfused():
        yield


class OperationMode(TorchDispatchMode):
    """Base of modes that see single operations, in inference mode and behind `cond`, too."""

    supports_higher_order_operators = True

    @abstractmethod
    def see(self, name: str, func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        """Look at an operation that was executed: its name without overload, and the operator."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.higher_order.cond:
            condition, if_true, if_false, operands = args
            with self:
                return (if_true if condition else if_false)(*operands)
        if torch.is_inference_mode_enabled() and func.namespace == "aten":
            # There functions like `einsum` arrive whole.
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        self.see(func._overloadpacket.__name__, func, args, kwargs, out)
        return out


_RECURRENT = (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)


class _Unfused(TorchFunctionMode):
    """Replaces functions that torch fuses by others that compute the same.

    An LSTM in double precision is not one operation of oneDNN, and on the CPU no recurrent layer is
    one of cuDNN. Attention that returns its weights is not fused. Layers of attention and encoders
    take no fast path under any such mode.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            return _attention(*args, **kwargs)
        if func is functional.multi_head_attention_forward:
            given = inspect.signature(func).bind(*args, **kwargs).arguments
            out, weights = func(**{**given, "need_weights": True})
            return out, weights if given.get("need_weights", True) else None
        if func in _RECURRENT:
            leaves = [leaf for leaf in tree_leaves([args, kwargs]) if isinstance(leaf, Tensor)]
            first = next(t for t in leaves if t.is_floating_point())
            if func is torch.lstm or first.is_cuda:
                args, kwargs = tree_map_only(Tensor, _in_double, (args, kwargs))
                return tuple(out.to(first) for out in func(*args, **kwargs))
        return func(*args, **kwargs)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *args: Any,
    **kw: Any,
) -> Tensor:
    if attn_mask is not None and attn_mask.dtype == torch.bool:  # the operation below adds it
        zeros = torch.zeros_like(attn_mask, dtype=query.dtype)
        attn_mask = zeros.masked_fill(attn_mask.logical_not(), -torch.inf)
    return attention_by_products(query, key, value, attn_mask, *args, **kw)[0]


def _in_double(tensor: Tensor) -> Tensor:
    device = "cpu" if tensor.is_cuda else tensor.device
    return tensor.to(device, torch.float64) if tensor.is_floating_point() else tensor
