"""How a module is run so that its products arrive as single operations of torch."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..._torch import TorchDispatchMode, get_mkldnn_enabled, set_mkldnn_enabled

__all__ = ["OperationMode", "decomposed"]

_switches = threading.RLock()  # they are global to the process


@contextmanager
def decomposed() -> Iterator[None]:
    """Let torch run what it would fuse (attention, recurrent layers) as single operations.

    Examples
    --------
    >>> with decomposed():
    ...     torch.backends.mha.get_fastpath_enabled()
    False
    """
    with _switches, torch.random.fork_rng([]), sdpa_kernel(SDPBackend.MATH):
        fast_path = torch.backends.mha.get_fastpath_enabled()
        onednn, cudnn = get_mkldnn_enabled(), torch.backends.cudnn.enabled
        torch.backends.mha.set_fastpath_enabled(False)
        set_mkldnn_enabled(False)
        torch.backends.cudnn.enabled = False
        try:
            yield
        finally:
            torch.backends.cudnn.enabled = cudnn
            set_mkldnn_enabled(onednn)
            torch.backends.mha.set_fastpath_enabled(fast_path)


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
