"""The arguments that a net's module is called with when the net predicts."""

from __future__ import annotations

from typing import Any

import torch
from skorch import NeuralNet
from torch import Tensor, nn

from .._torch import tree_map_only
from .copying import copy_net
from .predicting import predict_raw
from .rows import n_rows, some_rows, take_rows
from .state import module_root

# Batch sizes of the recorded predictions, and how many rows are looked at.
_BATCHES = (1, 2, 16)
N_RECORDED = 16


def module_inputs(
    net: NeuralNet, X: Any, caller: str
) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Return the arguments of the net's module for batches of several sizes, on the CPU."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def record(module: nn.Module, args: Any, kwargs: Any) -> None:
        with torch.inference_mode(False):
            calls.append(tree_map_only(Tensor, lambda t: t.detach().cpu().clone(), (args, kwargs)))

    net = copy_net(net)  # a forward may change the module even when it only predicts
    module_root(net)["module"].register_forward_pre_hook(record, with_kwargs=True)
    for n in sorted({min(n, n_rows(X)) for n in _BATCHES}):
        try:
            predict_raw(net, take_rows(X, some_rows(X, n)))
        except Exception as error:
            raise ValueError(
                f"{caller} watches the net predict batches of several sizes, and it failed "
                f"on one of {n} rows with {type(error).__name__}: {error}"
            ) from error
    return calls
