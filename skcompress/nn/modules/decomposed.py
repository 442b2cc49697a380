"""How a module is run so that its products arrive as single operations of torch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..._torch import get_mkldnn_enabled, set_mkldnn_enabled

__all__ = ["decomposed"]

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
